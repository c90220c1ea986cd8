#!/usr/bin/env bash
# Train on several GPUs, or CPU processes, of one or more machines:
#   tools/dist_train.sh CONFIG PROCESSES [options of train.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT are read from the environment, and
# MAX_RESTARTS: how often all processes may be started anew after one was lost,
# with --resume, to go on from the last checkpoint.
set -euo pipefail
fail() { echo "error: $1" >&2 && exit 2; }
[[ $# -ge 2 ]] || fail "$0 takes CONFIG PROCESSES, got $# words"
config=$1 processes=$2
shift 2
addr=${MASTER_ADDR:-127.0.0.1} port=${PORT:-29500}
if [[ ${MAX_RESTARTS:-0} == 0 ]]; then
  meet=(--node_rank="${NODE_RANK:-0}" --master_addr="$addr" --master_port="$port")
else
  [[ " $* " == *' --resume '* ]] ||
    fail 'MAX_RESTARTS needs --resume, or each restart would begin from nothing'
  # The one way to meet in which all machines hear of a restart; and torch must
  # not share its store with the processes, or they find the lost ones in it.
  export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
  meet=(--max_restarts="$MAX_RESTARTS" --rdzv_backend=c10d
    --rdzv_id="$port" --rdzv_endpoint="$addr:$port")
fi
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" "${meet[@]}" --nproc_per_node="$processes" \
  -m mmea.train "$config" --launcher pytorch "$@"
