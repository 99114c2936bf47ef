#!/bin/bash
#SBATCH --job-name=harness-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=harness-ray-%j.log

# One Ray cluster over all nodes of a job.
#     sbatch docs/clusters/slurm-ray.sh
# Adapt the lines until 'srun'. docs/clusters.md says what must be shared.

suite=${SUITE:-suites/toy.yaml}
# Ten minutes before --time. Not --signal, which would reach Ray's own processes too.
stop_after=${STOP_AFTER:-230m}
export HARNESS_ROOT=${HARNESS_ROOT:-$HOME/harness/runs}
export HARNESS_DATA_DIR=${HARNESS_DATA_DIR:-$HOME/harness/data}
export HARNESS_CACHE_DIR=${HARNESS_CACHE_DIR:-$HOME/harness/cache}
# Read by Ray's processes on every node.
export RAY_USAGE_STATS_ENABLED=0 RAY_task_oom_retries=0
# Seconds in which all nodes must have joined; Ray's own limit is 30.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=180

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$head:6379

# Starts Ray on each node, the command on the head alone, and at its end stops every Ray of yours on
# these nodes: therefore --exclusive. --foreground, because timeout sends its signal twice otherwise,
# and a second one is a request to kill the trials.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-16}" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="${SLURM_CPUS_PER_TASK:-16}" -- \
    timeout --foreground --preserve-status --signal=USR1 --kill-after=300 "$stop_after" \
    harness run "$suite" --address "$address"
code=$?

# 130: stopped in time, with checkpoints. The job goes on when Slurm starts it again.
if [ "$code" -eq 130 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
