#!/usr/bin/env bash
# tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]; TOOL=eval_multiscale.py runs the sweep instead
set -euo pipefail
partition=${1:?usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]}
job_name=${2:?usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]}
config=${3:?usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]}
checkpoint=${4:?usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]}
gpus=${GPUS:-4}
# shellcheck disable=SC2086  # SRUN_ARGS is a list of words
srun -p "$partition" --job-name="$job_name" --gres=gpu:"${GPUS_PER_NODE:-4}" --ntasks="$gpus" \
    --ntasks-per-node="${GPUS_PER_NODE:-4}" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/${TOOL:-test.py}" "$config" "$checkpoint" --launcher slurm "${@:5}"
