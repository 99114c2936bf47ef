#!/bin/bash
#SBATCH --job-name=harness
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=harness-%A_%a.log

# A job array without Ray: each job runs one part of the suite, one trial after the other.
#     sbatch docs/clusters/slurm-array.sh
# Adapt the lines until 'srun'. docs/clusters.md says what must be shared.

suite=${SUITE:-suites/toy.yaml}
# As in --array above, and not SLURM_ARRAY_TASK_COUNT: that is 2 when jobs 3 and 5 are sent again.
shards=8
export HARNESS_ROOT=${HARNESS_ROOT:-$HOME/harness/runs}
export HARNESS_DATA_DIR=${HARNESS_DATA_DIR:-$HOME/harness/data}
export HARNESS_CACHE_DIR=${HARNESS_CACHE_DIR:-$HOME/harness/cache}

# A step, because --signal reaches steps and not this shell. Slurm does not hand it the cores of the
# job unless it is asked.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-2}" \
    harness run "$suite" --shard "$SLURM_ARRAY_TASK_ID/$shards" --executor inline
code=$?

# 130: stopped in time, with checkpoints. The job goes on when Slurm starts it again.
if [ "$code" -eq 130 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
