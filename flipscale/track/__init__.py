"""The results in MLflow: an experiment per study, a run for the study, one per cell, and under it one per row.

The collected tables stay the record; MLflow is a view of them that can be thrown away and mirrored again. A run is
found again by its tag `flipscale.id`, and its tag `flipscale.digest` identifies its mirrored content, so collecting
twice changes nothing. Every timestamp comes from the record (docs/design.md, decision 12).

source.py       the results to mirror, and which files may be sent
mirroring.py    bringing MLflow up to date
last_mirror.py  whether anything has changed, without MLflow
experiment.py   an experiment: its content, missing runs, changed runs
content.py      the content to write
rows.py         rows of the table, and names in MLflow
writing.py      writing by MLflow's client
tables.py       or into its database, for known versions of MLflow
models.py       the model and data sets of a run
live.py         curves while runs train
address.py      the address of MLflow, without secrets
other_trackers.py  the same rows in W&B or trackio
"""

from flipscale.track.address import settled, ui_command, without_secrets
from flipscale.track.mirroring import Mirrored, mirror
from flipscale.track.source import MirrorSource

__all__ = ["MirrorSource", "Mirrored", "mirror", "settled", "ui_command", "without_secrets"]
