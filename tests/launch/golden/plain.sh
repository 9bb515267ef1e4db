#!/bin/bash

# Parameters
#SBATCH --array=0-2
#SBATCH --cpus-per-task=1
#SBATCH --gres=gpu:1
#SBATCH --job-name=flipscale-mask-12345678-20260101-120000-abc-0
#SBATCH --mem=4736M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=RESULTS/slurm/mask-12345678-20260101-120000-abc/0_%a.log
#SBATCH --requeue
#SBATCH --signal=B:USR2@120

# command
export SUBMITIT_EXECUTOR=slurm
trap 'kill -USR2 $attendant' USR2
trap 'kill -TERM $attendant' TERM
PYTHON -P -u -m flipscale.launch.slurm.task RESULTS/slurm/mask-12345678-20260101-120000-abc/0.json & attendant=$!
while wait $attendant; code=$?; [ $code -gt 128 ] && kill -0 $attendant 2>/dev/null; do :; done
[ $code -ne 137 ] || exec PYTHON -P -u -m flipscale.launch.slurm.task RESULTS/slurm/mask-12345678-20260101-120000-abc/0.json 137
exit $code
