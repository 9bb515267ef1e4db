"""The files of runs on the disk: archives that carry finished runs elsewhere, removable files, used space.

archive.py   finished runs in one file
merge.py     such files unpacked into a results folder
unneeded.py  removable files: runs that no study asks for, checkpoints and weights that nothing needs; used space
"""

from flipscale.storage.archive import Archive, write_archive
from flipscale.storage.merge import Merged, MergeOutcome, merge
from flipscale.storage.unneeded import Cleared, StudyRuns, Unneeded, find_unneeded, remove_unneeded, usage

__all__ = [
    "Archive",
    "Cleared",
    "MergeOutcome",
    "Merged",
    "StudyRuns",
    "Unneeded",
    "find_unneeded",
    "merge",
    "remove_unneeded",
    "usage",
    "write_archive",
]
