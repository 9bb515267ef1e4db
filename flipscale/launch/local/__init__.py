"""This machine: launcher.py has the launcher, the workers of a submission, GPUs and cores; task.py is a worker."""

from flipscale.launch.local.launcher import LocalLauncher, gpus_here

__all__ = ["LocalLauncher", "gpus_here"]
