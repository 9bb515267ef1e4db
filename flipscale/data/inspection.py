"""What a check of inputs finds: each check runs once, and a problem is noted with the line of the study."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from flipscale.errors import DataError, FlipscaleError, reason_of
from flipscale.kinds import Path_, read
from flipscale.settings.declarations import Settings, plain
from flipscale.study import SETTINGS, Study
from flipscale.study.document import Place

_Found = TypeVar("_Found")


@dataclass
class Findings:
    """What was found so far in the inputs of all runs of a study."""

    problems: dict[tuple[Place, str], None] = field(default_factory=dict)
    looked_at: defaultdict[str, set[object]] = field(default_factory=lambda: defaultdict(set))
    """The inputs of each kind."""
    not_checked: dict[str, None] = field(default_factory=dict)
    results: dict[tuple[object, str], Any] = field(default_factory=dict)
    """What each check found in what it was given; None where it found a problem."""


@dataclass(frozen=True)
class Look:
    """A look at one input of a run, which notes what it finds."""

    study: Study
    findings: Findings
    settings: Settings
    """Those of the run."""
    path: Path_ = ()
    """Where the input stands in them."""
    noun: str = ""
    """What the input counts as, once a check has found nothing wrong with it; "": nothing."""

    def at(self, *path: str | int, noun: str = "") -> "Look":
        """A look at another input of the run."""
        return replace(self, path=path, noun=noun)

    def once(self, check: Callable[..., _Found], *given: object) -> _Found | None:
        """What a check returns. It runs once with what it is given, whichever look that has in it.

        None if the check raised FlipscaleError or OSError, which is noted as a problem of this input.
        """
        # Some records have lists, and no hash.
        key = check, repr([value for value in given if not isinstance(value, Look)])
        results = self.findings.results
        if key not in results:
            results[key] = None
            try:
                results[key] = check(*given)
            except FlipscaleError as error:
                self._note(str(error))
            except OSError as error:
                self._note(f"{error.filename}: cannot be read ({reason_of(error)}); fix its permissions.")
            else:
                if self.noun:
                    self.findings.looked_at[self.noun].add(key)
        found: _Found | None = results[key]
        return found

    def count(self, noun: str, *inputs: object) -> None:
        """Count inputs as looked at, each of them once."""
        self.findings.looked_at[noun].update(inputs)

    def leave(self, what: str) -> None:
        """Note what is not checked, and why."""
        self.findings.not_checked[what] = None

    def _note(self, what: str) -> None:
        where = ".".join(map(str, self.path if self.path[0] in ("evaluation", "fine_tuning") else self.path[:1]))
        what = what if what.startswith(where) else f"{where}: {what}"
        self.findings.problems[self._place(), what] = None

    def _place(self) -> Place:
        """The line on which the study gives the setting the value that it has in the run."""
        name = str(self.path[0])
        document = self.study.document.data
        for path, written in _axis_values(document, name):
            if plain(read(SETTINGS[name].type, written, (), lambda *_: None)) == plain(getattr(self.settings, name)):
                return self.study.place(*path, *self.path[1:])
        if name in (document.get("couple") or {}):
            return self.study.place("couple", name)
        return self.study.place(*(() if name == "evaluation" else ("base",)), *self.path)


def _axis_values(document: Mapping[str, Any], name: str) -> Iterator[tuple[Path_, Any]]:
    """The values that a study file gives a setting on its axes and in its grids, each with its line."""
    design = document.get("design")
    grids = design.get("grids") or {} if isinstance(design, dict) else {}
    varied: list[tuple[Path_, Any]] = [(("axes",), document.get("axes") or {})]
    varied += [(("design", "grids", grid), axes) for grid, axes in grids.items()]
    for path, axes in varied:
        values = axes.get(name)
        for number, written in enumerate(values if isinstance(values, list) else []):
            yield (*path, name, number), written


def check_batch(name: str, pairs: int, batch_size: int, remedy: str = "") -> None:
    """Raise DataError for data of less than one batch."""
    if pairs < batch_size:
        raise DataError(
            f"{name} has {pairs} pairs, less than one batch of {batch_size}, which would hold a pair twice; "
            f"{remedy}lower batch_size."
        )
