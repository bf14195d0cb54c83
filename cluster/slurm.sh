#!/usr/bin/env bash
#SBATCH --job-name=glr-dist
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# From the project's folder, on a file system that all nodes share:
#   sbatch cluster/slurm.sh RUN PRESET [OPTIONS of glr-dist train]
# Submitting the same line again, or Slurm's own requeue, continues the run. Whole nodes (--exclusive), since
# `ray symmetric-run` ends by stopping every Ray of this user on its node.
set -euo pipefail

cd "$SLURM_SUBMIT_DIR"
run=${1:-runs/mnist} preset=${2:-mnist-threshold}
shift $(($# < 2 ? $# : 2))
export PATH="$PWD/.venv/bin:$PWD/cluster:$PATH"

# A token for this job alone, in a file that only its owner reads; Ray compares it on every call between the nodes.
state=$(mktemp -d "$HOME/.glr-dist-$SLURM_JOB_ID-XXXXXX")
trap 'rm -rf "$state"' EXIT
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$state/token"
(umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
export RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=180 # seconds; Python starts slowly from a shared file system

# The address, not the name: where a node's name means 127.0.1.1 on the node itself, none would take itself for the head.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | awk 'NR == 1')
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --all-ip-addresses | awk 'NR == 1 { print $1 }'):6379
workers=$((SLURM_JOB_NUM_NODES * SLURM_CPUS_PER_TASK - 1)) # one CPU is the driver's

# symmetric-run exits with 0 when Ray itself could not start, hence the mark that the command began.
status=0
# shellcheck disable=SC2016 # expanded by the inner shell
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --dashboard-host=127.0.0.1 \
    -- sh -c 'touch "$0" && exec "$@"' "$state/began" \
    env RAY_ADDRESS="$address" train-or-resume "$run" "$preset" --workers "$workers" "$@" || status=$?
if [ ! -e "$state/began" ] && [ "$status" = 0 ]; then
    echo "Error: Ray did not start on $head; its reason is above" >&2
    status=1
fi
exit "$status"
