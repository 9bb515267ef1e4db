"""Finished runs whose code differs from what would train them here and now."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.code.today import CodeToday
from flipscale.errors import RunFolderError
from flipscale.plan import Run
from flipscale.run import CodeIdentity, RunFolder, code_files
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER, Workspace

MOST_SENTENCES = 6
"""Different ways to differ that are written out."""


@dataclass(frozen=True)
class CodeChanges:
    """Which code trained the finished runs of a study, and how it differs from today's."""

    finished: int = 0
    """Runs that were looked at."""
    differing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """How the code of a run differs from today's, a phrase each, by run id; runs of the same code are not there."""
    unrecorded: tuple[str, ...] = ()
    """Runs whose code is not known: an older version trained them, or what was written cannot be read."""
    mixed: tuple[str, ...] = ()
    """Runs that were resumed with other code than they began with."""
    codes: tuple[tuple[CodeIdentity, int], ...] = ()
    """Each code and how many runs it trained, wholly or in part; that of most runs first."""

    def sentences(self) -> list[str]:
        """What a person should know of it; empty where all finished runs were trained by today's code."""
        said = []
        of_all = f"of {count(self.finished, 'finished run')}"
        ways = Counter(self.differing.values())
        for differences, number in ways.most_common(MOST_SENTENCES):
            said.append(f"{number} {of_all} {_were(number)} trained by other code: {'; '.join(differences)}.")
        if len(ways) > MOST_SENTENCES:
            rest = sum(number for _, number in ways.most_common()[MOST_SENTENCES:])
            said.append(f"{rest} more {of_all} {_were(rest)} trained by other code, in {len(ways)} ways in all.")
        if self.mixed:
            number = len(self.mixed)
            said.append(f"{number} {of_all} {_were(number)} resumed with other code than {_they(number)} began with.")
        if self.unrecorded and len(self.unrecorded) < self.finished:
            number = len(self.unrecorded)
            said.append(f"{number} {of_all} {'has' if number == 1 else 'have'} no record of the code.")
        return said


def code_changes(runs: Iterable[Run], results: Path, files: Mapping[str, Iterable[str]] | None = None) -> CodeChanges:
    """How the code of the finished ones among the runs differs from today's.

    Of thousands of runs that share their code one file is read, and git is asked once.

    files: the names of the files in the folder of each finished run, by id, where somebody has looked already.
    """
    runs = list(runs)
    if files is None:
        seen = {run.id: RunFolder(f"{results}/{RUNS_FOLDER}/{run.id}").glance().files for run in runs}
        files = {run_id: names for run_id, names in seen.items() if "result.json" in names}
    workspace = Workspace(results)
    today = CodeToday(workspace)
    known: dict[str, CodeIdentity] = {}

    def recorded(run: Run, name: str) -> CodeIdentity | None:
        if name not in known and (code := _read(workspace.run(run.id), name)) is not None:
            known[name] = code
        return known.get(name)

    compared: dict[tuple[str, ...], tuple[str, ...]] = {}
    differing, unrecorded, mixed = {}, [], []
    numbers: Counter[str] = Counter()
    finished = [run for run in runs if run.id in files]
    for run in finished:
        names = code_files(files[run.id])
        codes = [code for name in names if (code := recorded(run, name)) is not None]
        if not codes:
            unrecorded.append(run.id)
            continue
        numbers.update(names)
        now = today.of(run.settings)
        way = (*names, now.digest)
        if way not in compared:
            found = [difference for code in codes for difference in code.differences(now)]
            compared[way] = tuple(dict.fromkeys(found))
        if compared[way]:
            differing[run.id] = compared[way]
        if any(codes[0].differences(other) for other in codes[1:]):
            mixed.append(run.id)
    counted = tuple((known[name], number) for name, number in numbers.most_common() if name in known)
    return CodeChanges(
        finished=len(finished),
        differing=differing,
        unrecorded=tuple(unrecorded),
        mixed=tuple(mixed),
        codes=counted,
    )


def _read(folder: Path, name: str) -> CodeIdentity | None:
    """The code of a file; None where it cannot be read, as it then says nothing of any run."""
    try:
        return RunFolder(folder).code(name)
    except (RunFolderError, OSError):
        return None


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _they(number: int) -> str:
    return "it" if number == 1 else "they"
