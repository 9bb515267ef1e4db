"""Which code trains here and now, and which finished runs another code trained.

today.py    the code that would train a run on this machine
git.py      what git says about a folder
digests.py  sizes and digests of files, large ones read once
changes.py  finished runs whose code differs from today's
"""

from flipscale.code.changes import CodeChanges, code_changes
from flipscale.code.today import CodeToday

__all__ = ["CodeChanges", "CodeToday", "code_changes"]
