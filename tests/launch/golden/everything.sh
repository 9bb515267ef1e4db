#!/bin/bash

# Parameters
#SBATCH --account=flip-0042
#SBATCH --array=0-1,4,7-9%50
#SBATCH --comment='a study of masks'
#SBATCH --constraint='ib&rocky9'
#SBATCH --cpus-per-task=12
#SBATCH --dependency='aftercorr:4242?afterany:4242'
#SBATCH --exclude='gpu-001,gpu-[014-016],gpu-007'
#SBATCH --exclusive
#SBATCH --gres=gpu:a100:4,lustre:1,nvme:100G
#SBATCH --job-name=flipscale-mask-12345678-20260101-120000-abc-12
#SBATCH --mail-type=END
#SBATCH --mem=960G
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=RESULTS/slurm/mask-12345678-20260101-120000-abc/12_%a.log
#SBATCH --partition=gpu,gpu-long
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --reservation=maintenance
#SBATCH --signal=B:USR2@300
#SBATCH --time=1-12:00:00

# setup
trap 'PYTHON -P -u -m flipscale.launch.slurm.task RESULTS/slurm/mask-12345678-20260101-120000-abc/12.json $?' EXIT
trap 'exit 140' USR2
trap 'exit 143' TERM
module load cuda/12.4
export NCCL_DEBUG="WARN"
trap - EXIT USR2 TERM

# command
export SUBMITIT_EXECUTOR=slurm
trap 'kill -USR2 $attendant' USR2
trap 'kill -TERM $attendant' TERM
PYTHON -P -u -m flipscale.launch.slurm.task RESULTS/slurm/mask-12345678-20260101-120000-abc/12.json & attendant=$!
while wait $attendant; code=$?; [ $code -gt 128 ] && kill -0 $attendant 2>/dev/null; do :; done
[ $code -ne 137 ] || exec PYTHON -P -u -m flipscale.launch.slurm.task RESULTS/slurm/mask-12345678-20260101-120000-abc/12.json 137
exit $code
