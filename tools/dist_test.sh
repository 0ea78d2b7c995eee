#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]; TOOL=eval_multiscale.py runs the sweep instead
set -euo pipefail
config=${1:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]}
checkpoint=${2:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]}
gpus=${3:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]}
python -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$gpus" \
    "$(dirname "$0")/${TOOL:-test.py}" "$config" "$checkpoint" --launcher pytorch "${@:4}"
