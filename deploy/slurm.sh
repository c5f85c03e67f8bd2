#!/bin/bash
# A study on the nodes of one Slurm job: Ray starts on all of them, the study runs on the first, then all is ended.
#     sbatch --nodes=4 --gpus-per-node=4 deploy/slurm.sh study.yaml [options of `mtl-search search`]
# The environment that holds mtl_search must be active; `storage:` and an sqlite `tracking:` must lie on a file system
# that all nodes share. A job that reaches its time limit is gone on with by the same command and --resume.
#SBATCH --job-name=mtl-search
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
set -euo pipefail

study=${1:?"usage: sbatch deploy/slurm.sh STUDY.yaml [options of mtl-search search]"}
shift

read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r address _ < <(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address)
port=$((20000 + SLURM_JOB_ID % 10000))

# Nobody else on the network can talk to this Ray; its token lives as long as the job.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds; Python starts slowly from a shared file system

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" --disable-usage-stats -- \
    mtl-search search "$study" --address "$address:$port" "$@"
