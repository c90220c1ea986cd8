#!/usr/bin/env bash
# Evaluate on several GPUs, or CPU processes, of one or more machines:
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of test.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT are read from the environment.
set -euo pipefail
fail() { echo "error: $1" >&2 && exit 2; }
[[ $# -ge 3 ]] || fail "$0 takes CONFIG CHECKPOINT PROCESSES, got $# words"
config=$1 checkpoint=$2 processes=$3
shift 3
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$processes" \
  -m mmea.test "$config" "$checkpoint" --launcher pytorch "$@"
