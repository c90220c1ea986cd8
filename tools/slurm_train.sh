#!/usr/bin/env bash
# Train on a Slurm cluster:
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py]
# GPUS (8), GPUS_PER_NODE (8, or GPUS if that is less), CPUS_PER_TASK (5) and
# SRUN_ARGS are read from the environment.
set -euo pipefail
fail() { echo "error: $1" >&2 && exit 2; }
[[ $# -ge 3 ]] || fail "$0 takes PARTITION JOB_NAME CONFIG, got $# words"
partition=$1 job=$2 config=$3
shift 3
for name in GPUS GPUS_PER_NODE CPUS_PER_TASK; do
  [[ ${!name:-1} =~ ^[1-9][0-9]*$ ]] ||
    fail "$name must be a number >= 1, got ${!name}"
done
command -v srun >/dev/null ||
  fail 'no srun here: a cluster of Slurm has it; else take tools/dist_train.sh'
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# shellcheck disable=SC2086  # SRUN_ARGS holds several words
exec srun --partition="$partition" --job-name="$job" \
  --gres=gpu:"$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u -m mmea.train "$config" --launcher slurm "$@"
