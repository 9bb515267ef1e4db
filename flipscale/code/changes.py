"""Finished runs whose code differs from what would train them here and now."""

import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.code.today import CodeToday, training_key
from flipscale.errors import DamagedFile
from flipscale.plain_files import open_plain
from flipscale.plan import Run
from flipscale.run import CodeIdentity, RunFolder
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER, Workspace

MOST_SHARED_BYTES = 1 << 20
"""Runs with equal code.json share one record of the code if the file is shorter than this."""

MOST_SENTENCES = 6
"""At most this many different sets of differences are written out."""


@dataclass(frozen=True)
class CodeChanges:
    """Which code trained the finished runs of a study, and how it differs from today's."""

    finished: int = 0
    """How many finished runs there are."""
    differing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """How the code of a run differs from today's, a phrase each, by run id; runs of today's code are left out."""
    unrecorded: tuple[str, ...] = ()
    """Runs whose code is not known: an older version trained them, or what was written cannot be read."""
    mixed: tuple[str, ...] = ()
    """Runs that were resumed with other code than they began with."""
    codes: tuple[tuple[CodeIdentity, int], ...] = ()
    """Each code and how many runs it trained, wholly or in part; most runs first."""

    @property
    def summary(self) -> str:
        """'12 of 36 finished runs were trained by other code than today's'; '' where none was."""
        number = len(self.differing)
        of_all = f"of {count(self.finished, 'finished run')}"
        return f"{number:,} {of_all} {_were(number)} trained by other code than today's" if number else ""

    def sentences(self) -> list[str]:
        """Remarks for a person; empty if all finished runs were trained by today's code."""
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


def code_changes(runs: Iterable[Run], results: Path, files: Mapping[str, Container[str]] | None = None) -> CodeChanges:
    """How the code of those runs that are finished differs from today's.

    Git is asked once for thousands of runs, and each of their codes is parsed once.

    files: the names of the files in the folder of each finished run, by id, if a caller has listed them already.
    """
    runs = list(runs)
    if files is None:
        seen = {run.id: RunFolder(f"{results}/{RUNS_FOLDER}/{run.id}").glance().files for run in runs}
        files = {run_id: names for run_id, names in seen.items() if "result.json" in names}
    recorded, today = _Recorded(), CodeToday(Workspace(results))
    found: dict[tuple[bytes, str], list[Run]] = {}
    for run in runs:
        if run.id in files:
            text = recorded.read(f"{results}/{RUNS_FOLDER}/{run.id}") if "code.json" in files[run.id] else b""
            found.setdefault((text, training_key(run.settings) if text else ""), []).append(run)
    return _sorted_out(found, recorded, today)


def _sorted_out(
    found: Mapping[tuple[bytes, str], Sequence[Run]], recorded: "_Recorded", today: CodeToday
) -> CodeChanges:
    """found: runs by what `_Recorded.read` returned for them and by their `training_key`."""
    differing: dict[str, tuple[str, ...]] = {}
    unrecorded, mixed = [], []
    numbers: Counter[str] = Counter()
    codes_by_words: dict[str, CodeIdentity] = {}
    for (text, _), alike in found.items():
        ids = [run.id for run in alike]
        codes = recorded.codes.get(text)
        if not codes:
            unrecorded += ids
            continue
        now = today.of(alike[0].settings)
        if differences := tuple(dict.fromkeys(phrase for code in codes for phrase in code.differences(now))):
            differing |= dict.fromkeys(ids, differences)
        if any(codes[0].differences(other) for other in codes[1:]):
            mixed += ids
        words = {str(code): code for code in codes}
        codes_by_words |= words
        numbers.update(dict.fromkeys(words, len(ids)))
    return CodeChanges(
        finished=sum(map(len, found.values())),
        differing=differing,
        unrecorded=tuple(unrecorded),
        mixed=tuple(mixed),
        codes=tuple((codes_by_words[words], number) for words, number in numbers.most_common()),
    )


class _Recorded:
    """The codes that runs have recorded, by the bytes of code.json: thousands of runs share the same ones.

    A long code.json, of a run resumed thousands of times, is not shared, and its key is the run's folder."""

    def __init__(self) -> None:
        self.codes: dict[bytes, list[CodeIdentity]] = {}

    def read(self, folder: str) -> bytes:
        """A key of `codes`: the content of the folder's code.json, or the folder where that is long; b'' if it cannot
        be read, as it then says nothing about the run."""
        try:
            text = _beginning(f"{folder}/code.json")
            if len(text) == MOST_SHARED_BYTES:
                text = os.fsencode(folder)
            if text not in self.codes:
                self.codes[text] = RunFolder(folder).codes()
        except (DamagedFile, OSError):
            return b""
        return text


def _beginning(file: str) -> bytes:
    """The first MOST_SHARED_BYTES of a file: without Python's file object, 10,000 of them take half of the time."""
    descriptor = open_plain(file)
    try:
        return os.read(descriptor, MOST_SHARED_BYTES)
    finally:
        os.close(descriptor)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _they(number: int) -> str:
    return "it" if number == 1 else "they"
