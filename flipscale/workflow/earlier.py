"""Finished runs that belong to a study as its file was before, and the settings in which they differ from its plan now.

A study's file changes, and so does the recipe; what was trained before stays in the results folder under its ids.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flipscale.errors import RunFolderError
from flipscale.identity import RECIPE, identity, show_setting
from flipscale.plan import Run
from flipscale.run import Asked, RunFolder
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.plans import finished_here, ids_in_table, ids_of, planned_ids
from flipscale.workspace import Workspace

LIKE_SETTINGS = 3
"""A finished run that no plan here asks for counts as one of the study's earlier version if at most this number of its
settings, the recipe among them, have values that the study's plan does not have."""

RECIPE_NAME = "recipe"
"""The name of the recipe among settings."""


@dataclass(frozen=True)
class Change:
    """A setting in which finished runs differ from today's plan."""

    name: str
    then: tuple[str, ...]
    """Its values in the finished runs, as a person writes them; None of them is in the plan."""
    today: tuple[str, ...]
    """Its values in the plan."""


@dataclass(frozen=True)
class EarlierRuns:
    """Finished runs that the study's plan had, or may have had, and that differ from it in the same settings."""

    ids: tuple[str, ...]
    changes: tuple[Change, ...]
    """Empty where the plan has each of their values, but not together."""


def earlier_runs(opened: OpenStudy) -> list[EarlierRuns]:
    """The finished runs of the study as its file was, those that differ in the same settings together, most first.

    They are known by the plans and tables that the study had. Folders of versions that did not keep earlier plans count
    if no plan here asks for them and they differ from this study's plan in few settings.
    """
    planned = _Planned.of(opened.plan.runs)
    found: dict[tuple[str, ...], list[Asked]] = {}
    theirs = ids_of(opened.files)
    for asked in _finished_others(opened.workspace, planned.ids, theirs):
        with contextlib.suppress(RunFolderError):
            outside = planned.outside(asked)
            if asked.id in theirs or 0 < len(outside) <= LIKE_SETTINGS:
                found.setdefault(outside, []).append(asked)
    listed = sorted(found.items(), key=lambda item: -len(item[1]))
    return [EarlierRuns(tuple(run.id for run in runs), planned.changes(names, runs)) for names, runs in listed]


def rows_without_folder(opened: OpenStudy) -> list[str]:
    """The ids of rows of results.csv whose run folders are not here, as in a fresh clone with committed tables."""
    ids = ids_in_table(opened.files.results)
    return sorted(ids - finished_here(opened.workspace, ids))


# Runs


def _finished_others(workspace: Workspace, now: set[str], theirs: set[str]) -> Iterator[Asked]:
    """The requests for finished runs that are neither in the plan now nor in another study's."""
    others: set[str] = set()
    for plan in workspace.plans():
        others |= planned_ids(plan)
    if not workspace.runs.is_dir():
        return
    for path in sorted(workspace.runs.iterdir()):
        if path.name in now or path.name.startswith(".") or (path.name in others and path.name not in theirs):
            continue
        folder = RunFolder(path)
        with contextlib.suppress(RunFolderError, OSError):
            if "result.json" in folder.glance().files and (asked := folder.asked()) is not None:
                yield asked


# Differences


@dataclass(frozen=True)
class _Planned:
    """The values that the settings of a plan have."""

    ids: set[str]
    keys: Mapping[str, set[str]]
    """The values of each setting, in the form that makes ids."""
    words: Mapping[str, Sequence[str]]
    """The same as a person writes them, in the order of the plan."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "_Planned":
        keys: dict[str, set[str]] = {RECIPE_NAME: {str(RECIPE)}}
        words: dict[str, dict[str, None]] = {RECIPE_NAME: {str(RECIPE): None}}
        for run in runs:
            known = identity(run.settings)
            for name, value in vars(run.settings).items():
                keys.setdefault(name, set()).add(_key(known.get(name)))
                if run.cell is not None:  # That a parent has no tuning is not a value of the study.
                    words.setdefault(name, {})[show_setting(value)] = None
        return cls({run.id for run in runs}, keys, {name: [*shown] for name, shown in words.items()})

    def outside(self, asked: Asked) -> tuple[str, ...]:
        """The settings of a run whose values no run of the plan has. RunFolderError if they cannot be read."""
        known = identity(asked.settled)
        names = [] if asked.recipe == RECIPE else [RECIPE_NAME]
        names += [name for name in vars(asked.settled) if _key(known.get(name)) not in self.keys[name]]
        return tuple(names)

    def changes(self, names: Sequence[str], runs: Sequence[Asked]) -> tuple[Change, ...]:
        found = []
        for name in names:
            values = (
                str(run.recipe) if name == RECIPE_NAME else show_setting(getattr(run.settled, name)) for run in runs
            )
            found.append(Change(name, tuple(dict.fromkeys(values)), tuple(self.words[name])))
        return tuple(found)


def _key(value: object) -> str:
    return json.dumps(value, sort_keys=True)
