#!/bin/sh
# Trains in a Slurm job, a rank on each socket, and goes on where it was cut off:
#
#   sbatch examples/train/slurm_job.sh run.toml
#
# The configuration's batch is that of all ranks together and has to be a multiple of their number. Shards and the
# configuration have to be at the same path on all nodes; the output folder is rank 0's.
#SBATCH --job-name=krait
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
# Two minutes before the time is up all ranks stop after the same step, with a checkpoint; the job then comes again.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

config=${1:?usage: sbatch slurm_job.sh CONFIG}
tries=5

# The network that the nodes share, where it is not the one of their names.
# export GLOO_SOCKET_IFNAME=ib0
# On nodes of different processors: what all of them have.
# export KRAIT_TARGET=AVX2

again() {
  scancel --signal=INT "$SLURM_JOB_ID.$step"
  wait "$ranks"
  exec scontrol requeue "$SLURM_JOB_ID"
}
step=0
trap again USR1

while :; do
  # A step of the job counts from 0. --kill-on-bad-exit: a rank that is lost ends all, and all are started again.
  srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 krait train "$config" --resume &
  ranks=$!
  wait "$ranks"
  status=$?
  # 0: done. 2: the command line is wrong. 130: stopped.
  case $status in 0 | 2 | 130) exit "$status" ;; esac
  step=$((step + 1))
  if [ "$step" -ge "$tries" ]; then exit "$status"; fi
done
