"""The finished runs of a study as it stands, and the files that `compare` and `fit` make of them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flipscale.collecting import read_results
from flipscale.collecting.record import results_of
from flipscale.door.record import Results
from flipscale.errors import ResultsError
from flipscale.kinds import JsonObject
from flipscale.plain_files import or_none, parsed, read_json, read_text, replacing
from flipscale.run import as_json, write_json
from flipscale.words import count, joined
from flipscale.workflow.collected import collect_study
from flipscale.workflow.messages import say
from flipscale.workflow.opened import OpenStudy, check_choice, finished_here

NAMED = 3
"""The most missing runs that a message names."""

ROUNDING = 1e-3
"""The relative difference that another processor's rounding may make in what is fitted or drawn."""

SEARCH = {"agree", "checklist"}
"""What fits.json says of the search for a law: rounding may bring one start more or less to its end."""


@dataclass(frozen=True)
class StudyResults:
    """The finished runs of a study as it stands."""

    results: Results
    """Their rows of results.csv, and the study's record."""
    are_here: bool
    """Whether their folders are here. Without them, as in a fresh clone, files that were made with them stay."""

    @property
    def table(self) -> pd.DataFrame:
        """Their rows of results.csv."""
        return self.results.table


def study_results(opened: OpenStudy) -> StudyResults:
    """The rows of the study's finished runs. Those whose folders are here are collected first.

    A table without folders counts for the runs that the study asks for; those that it lacks are named. ResultsError
    where it has none.
    """
    check_choice(opened)
    path = opened.files.results
    runs = [run.id for run in opened.plan.cells]
    here = finished_here(opened.workspace, runs)
    if here:
        collect_study(opened, only_news=True)
    table = read_results(path)
    rows = table[table["id"].isin(runs)].reset_index(drop=True)
    if rows.empty and len(table):
        raise ResultsError(
            f"{path}: none of its {count(len(table), 'run')} is one of {opened.file} as it is now: its "
            "settings have changed since. `flipscale submit` trains what is missing."
        )
    are_here = here.issuperset(rows["id"])
    missing = [run for run in runs if run not in set(rows["id"])]
    if missing and not are_here:
        more = [f"{len(missing) - NAMED:,} more"] if len(missing) > NAMED else []
        say(f"{path} lacks {count(len(missing), 'run')} of {len(runs):,}: {joined([*missing[:NAMED], *more])}")
    return StudyResults(results_of(rows, opened.study, opened.plan, opened.files.record), are_here)


def write_analysis(
    path: Path,
    data: Mapping[str, Any],
    results: StudyResults | None,
    texts: Mapping[Path, str] = {},
    about: str = "",
) -> None:
    """Write what results say as JSON, and in words as `texts`; say so, with `about`.

    Files that are there stay where the folders of the runs are not here, and where they differ by rounding at most.
    results: None for what was found in another table.
    """
    names = joined(map(str, [path, *texts]))
    before = results if all(file.exists() for file in (path, *texts)) else None
    if before and not before.are_here:
        say(f"kept {names}: the folders of these runs are not here")
    elif before and _say_the_same(path, data, texts):
        say(f"up to date: {names}{about}")
    else:
        write_json(path, data)
        for file, text in texts.items():
            with replacing(file) as written:
                written.write(text.encode())
        say(f"wrote {names}{about}")


def _say_the_same(path: Path, data: Mapping[str, Any], texts: Mapping[Path, str]) -> bool:
    """Whether these files have these numbers, but for rounding, and the words around them."""
    before = {file: or_none(read_text, file) or "" for file in texts}
    words = all(_PRINTED.sub("", before[file]) == _PRINTED.sub("", text) for file, text in texts.items())
    return words and agree(or_none(read_json, path, JsonObject), parsed(as_json(data).encode()))


_PRINTED = re.compile(r"[\d.+-]+")


def agree(old: Any, new: Any) -> bool:
    """Whether two values of JSON differ at most by rounding."""
    if isinstance(new, dict):
        of_both = new.keys() - SEARCH
        return isinstance(old, dict) and old.keys() == new.keys() and all(agree(old[key], new[key]) for key in of_both)
    if isinstance(new, list):
        return isinstance(old, list) and len(old) == len(new) and all(map(agree, old, new))
    if isinstance(new, float) and isinstance(old, int | float):
        return math.isclose(old, new, rel_tol=ROUNDING, abs_tol=1e-9)
    return bool(old == new)
