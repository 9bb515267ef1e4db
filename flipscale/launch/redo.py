"""Which runs are to be trained anew, and their folders set aside for it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flipscale.code import CodeChanges, code_changes
from flipscale.errors import LaunchError
from flipscale.launch.look import Look, run_folder
from flipscale.plan import Run
from flipscale.run import RunFolder, State

_BEGUN = frozenset({"result.json", "error.json", "metrics.jsonl", "checkpoint.pt", "open_clip"})
"""Files that show that a run has begun; it would continue from them."""


@dataclass(frozen=True)
class Redo:
    """The runs to train anew from their start: the old results are kept in each folder's `earlier`."""

    ids: frozenset[str] = frozenset()
    """These runs, whether they have finished, failed or only begun."""
    stale: bool = False
    """Finished runs whose code differs from today's."""


NO_REDO = Redo()


def changes_of(runs: Mapping[str, Run], found: Mapping[str, Look], results: Path) -> CodeChanges:
    """How the code of the finished ones among the runs differs from today's."""
    files = {run_id: look.files for run_id, look in found.items() if look.state is State.FINISHED}
    return code_changes(runs.values(), results, files)


def runs_to_redo(runs: Mapping[str, Run], found: Mapping[str, Look], redo: Redo, changes: CodeChanges) -> list[str]:
    """The ids of the runs that begin anew: those asked for, and those that started from the weights of one of them.

    `runs` has parents before children. LaunchError where one of them is waiting or running.
    """
    anew: dict[str, None] = {}  # in the order of the runs
    for run in runs.values():
        look = found[run.id]
        asked = run.id in redo.ids or (redo.stale and run.id in changes.differing)
        if not asked and anew.keys().isdisjoint(run.parents):
            continue
        if look.state in (State.RUNNING, State.WAITING):
            why = "" if asked else " It starts from the weights of a run that is to be retrained."
            raise LaunchError(f"{run.id} is {look.state}; cancel it before you retrain it.{why}")
        if look.files & _BEGUN:
            anew[run.id] = None
    return list(anew)


@contextlib.contextmanager
def set_aside(results: Path, ids: Sequence[str]) -> Iterator[None]:
    """Set the folders of these runs aside. If the block fails, those that no launcher took are restored.

    LaunchError if a living process holds one of them.
    """
    folders = [run_folder(results, run_id) for run_id in ids]
    for folder in folders:
        # A process that has written its result still tidies up in the folder.
        if _is_held(folder):
            raise LaunchError(f"{folder.id} is still held by the process that ended it; submit again in a moment.")
    done = []
    try:
        for folder in folders:
            folder.set_aside()
            done.append(folder)
        yield
    except Exception:
        for folder in done:
            if folder.job() is None and not _is_held(folder):
                folder.take_back()
        raise


def _is_held(folder: RunFolder) -> bool:
    """Whether a living process has the run in hand: a worker of this machine may begin before its job is written."""
    holder = folder.holder()
    return holder is not None and holder.alive
