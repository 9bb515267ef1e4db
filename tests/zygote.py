"""Importing this loads what commands and trainings import. tests/commands.py forks processes from one that has done so.

MLflow is not among it: few commands use it, and it starts threads, which a forked process would be without.
"""

import gc
import importlib
import os

LOADED = (
    *("flipscale.cli", "flipscale.workflow", "flipscale.launch.local", "flipscale.collect", "flipscale.compare"),
    *("flipscale.fit", "flipscale.plot", "flipscale.report", "flipscale.workflow.drawn", "flipscale.cli.tables"),
    *("flipscale.train", "flipscale.train.trainers.builtin.pretrain", "flipscale.train.trainers.builtin.timing"),
)
"""What is imported only when it is needed."""

STARTED_WITH = dict(os.environ)
"""The environment in which they are loaded."""

gc.disable()
for name in LOADED:
    importlib.import_module(name)
gc.freeze()  # A search for garbage would copy the memory of all modules into the process that makes it.
gc.enable()
