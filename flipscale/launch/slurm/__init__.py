"""SLURM: one job array for many runs, sent by one sbatch, and one squeue for all of them.

A submission is a folder, results/slurm/NAME, and each of its arrays in it:

    K.json          the array: which runs each task does, the site, SLURM's number
    K.sh            the batch script
    K_TASK.log      the output of the task, over all its attempts
    stopped.json    why the whole submission stopped, if it did

A job is found by the name of its array, never by SLURM's number alone: a new cluster counts from 1 again. Any later
process can therefore rebuild all of it from these files, and nothing depends on accounting.

launcher.py is the launcher; arrays.py says which runs share a job, batch.py writes and sends the script, scheduler.py
asks SLURM, task.py is a job.
"""

from flipscale.launch.slurm.launcher import SlurmLauncher

__all__ = ["SlurmLauncher"]
