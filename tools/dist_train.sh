#!/usr/bin/env bash
# Train on several GPUs, or CPU processes, of one or more machines:
#   tools/dist_train.sh CONFIG PROCESSES [options of train.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT are read from the environment.
set -euo pipefail
fail() { echo "error: $1" >&2 && exit 2; }
[[ $# -ge 2 ]] || fail "$0 takes CONFIG PROCESSES, got $# words"
config=$1 processes=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$processes" \
  -m mmea.train "$config" --launcher pytorch "$@"
