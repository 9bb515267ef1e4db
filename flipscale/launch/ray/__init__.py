"""Ray: one Ray job for a submission, and in it one Ray Tune experiment with a trial for each run.

A submission is a folder, results/ray/NAME:

    submission.json  the runs of each trial, the site, where Ray is; touched every few seconds while its driver lives
    driver.log       what Ray Tune said
    K.log            what trial K said, over all its attempts; K-RANK.log for its other processes
    K.starts         its attempts, one a line
    K.waits          the cores and GPUs that it waits for, while it does
    stopped.json     why the whole submission stopped, if it did

The driver lives in the cluster, so nobody has to wait for it. Tune's own folder is a scratch one: what happened is in
the run folders, and all else can be rebuilt from these files by any later process. The launcher alone runs where
commands are typed; it imports Ray when a cluster is talked to.

launcher.py is the launcher; trials.py says which runs share a trial, cluster.py asks Ray, driver.py is the job and
trial.py a trial.
"""

from flipscale.launch.ray.launcher import RayLauncher

__all__ = ["RayLauncher"]
