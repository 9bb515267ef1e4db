"""The results in MLflow: an experiment per study, a run for the study, one per cell, and under it one per row.

What was collected stays the record; MLflow is a view of it that can be thrown away and mirrored again. A run is
found again by its tag `flipscale.id`, and its tag `flipscale.digest` says what was mirrored of it, so collecting
twice changes nothing. Every timestamp comes from the record (docs/design.md, decision 12).

source.py       what is mirrored, and what may be sent of it
mirroring.py    bringing MLflow up to date
last_mirror.py  whether anything is to be done, without MLflow
experiment.py   an experiment: what it has, what it lacks, what has changed
content.py      what is written
writing.py      how it gets there: by MLflow's client
live.py         curves while runs run
tables.py       or into its database, of the versions of MLflow that are known here
address.py      where MLflow is, and what may be said of it
"""

from flipscale.track.address import settled, ui_command, without_secrets
from flipscale.track.mirroring import Mirrored, mirror
from flipscale.track.source import MirrorSource

__all__ = ["MirrorSource", "Mirrored", "mirror", "settled", "ui_command", "without_secrets"]
