"""The results in MLflow: an experiment per study, a run for the study, one per cell, and under it one per row.

The collected tables stay the record; MLflow is a view of them that can be thrown away and mirrored again. A run is
found again by its tag `flipscale.id`, and its tag `flipscale.digest` identifies its mirrored content, so collecting
twice changes nothing. Every timestamp comes from the record (docs/design.md).

source.py       what is mirrored, and which files may be sent
mirroring.py    whether anything has changed, without MLflow
experiment.py   an experiment brought up to date
content.py      the content to write
rows.py         rows of the table, and names in MLflow
live.py         curves while runs train
address.py      the address of MLflow, without secrets
other_trackers.py  the same rows in W&B or trackio
"""

from flipscale.track.address import runs_page, tracking_address, ui_command, without_secrets
from flipscale.track.mirroring import mirror
from flipscale.track.source import Mirrored, MirrorSource

__all__ = ["MirrorSource", "Mirrored", "mirror", "runs_page", "tracking_address", "ui_command", "without_secrets"]
