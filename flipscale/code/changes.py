"""Finished runs whose code differs from what would train them here and now."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.code.today import CodeToday, training_key
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

    @property
    def summary(self) -> str:
        """'12 of 36 finished runs were trained by other code than today's'; '' where none was."""
        number = len(self.differing)
        of_all = f"of {count(self.finished, 'finished run')}"
        return f"{number:,} {of_all} {_were(number)} trained by other code than today's" if number else ""

    def sentences(self) -> list[str]:
        """What a person should know of it; empty where all finished runs were trained by today's code."""
        said = []
        of_all = f"of {count(self.finished, 'finished run')}"
        ways = Counter(self.differing.values())
        for differences, number in ways.most_common(MOST_SENTENCES):
            said.append(f"{number:,} {of_all} {_were(number)} trained by other code: {'; '.join(differences)}.")
        if len(ways) > MOST_SENTENCES:
            rest = sum(number for _, number in ways.most_common()[MOST_SENTENCES:])
            said.append(f"{rest:,} more {of_all} {_were(rest)} trained by other code, in {len(ways)} ways in all.")
        if self.mixed:
            number = len(self.mixed)
            said.append(f"{number:,} {of_all} {_were(number)} resumed with other code than {_they(number)} began with.")
        if self.unrecorded and len(self.unrecorded) < self.finished:
            number = len(self.unrecorded)
            said.append(f"{number:,} {of_all} {'has' if number == 1 else 'have'} no record of the code.")
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
    recorded, today = _Recorded(), CodeToday(Workspace(results))
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.id in files:
            names = recorded.known_among(f"{results}/{RUNS_FOLDER}/{run.id}", code_files(files[run.id]))
            found.setdefault((*names, training_key(run.settings) if names else ""), []).append(run)
    return _sorted_out(found, recorded, today)


def _sorted_out(found: Mapping[tuple[str, ...], Sequence[Run]], recorded: "_Recorded", today: CodeToday) -> CodeChanges:
    """found: runs by the names of the files of their codes, and at the end their `training_key`."""
    differing: dict[str, tuple[str, ...]] = {}
    unrecorded, mixed = [], []
    numbers: Counter[str] = Counter()
    for (*names, _), alike in found.items():
        ids = [run.id for run in alike]
        if not names:
            unrecorded += ids
            continue
        codes = [recorded.codes[name] for name in names]
        numbers.update(dict.fromkeys(names, len(ids)))
        now = today.of(alike[0].settings)
        if differences := tuple(dict.fromkeys(phrase for code in codes for phrase in code.differences(now))):
            differing |= dict.fromkeys(ids, differences)
        if any(codes[0].differences(other) for other in codes[1:]):
            mixed += ids
    return CodeChanges(
        finished=sum(map(len, found.values())),
        differing=differing,
        unrecorded=tuple(unrecorded),
        mixed=tuple(mixed),
        codes=tuple((recorded.codes[name], number) for name, number in numbers.most_common()),
    )


class _Recorded:
    """The code identities that runs have written down, by file name: equal names hold the same code."""

    def __init__(self) -> None:
        self.codes: dict[str, CodeIdentity] = {}

    def known_among(self, folder: str, names: Iterable[str]) -> list[str]:
        """Those of the names whose file can be read, in this folder or in one before it."""
        for name in names:
            if name not in self.codes and (code := _read(folder, name)) is not None:
                self.codes[name] = code
        return [name for name in names if name in self.codes]


def _read(folder: str, name: str) -> CodeIdentity | None:
    """The code of a file; None where it cannot be read, as it then says nothing of any run."""
    try:
        return RunFolder(folder).code(name)
    except (RunFolderError, OSError):
        return None


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _they(number: int) -> str:
    return "it" if number == 1 else "they"
