"""The claims of a study: contrasts of its cells with a direction, stated before anybody looks at the results.

    claims:
      larger batches are better: {at: {mask_ratio: [0.5, 0.75]}, left: {batch_size: 256}, expect: better}

compares, at each of the two mask ratios, the runs with that batch (left) with those that have the base's (right, which
is left out). A list stands for several claims. A side may name its `score`, if not the one that is compared. With
`than: {mask_ratio: 0.5}` a claim is about a difference of differences: whether left differs from right more than it
does at that mask ratio.

    half masks are faster: {left: {mask_ratio: 0.5}, expect: faster, score: {mask_ratio: 0, samples: 16k}}

is about curves along the schedule: the cost of either side to the mean score of that cell. `than` may have a `score`
of its own there, so that a claim can be about the same two curves at two scores.

    the gain of a mask rises with compute: {left: {mask_ratio: 0.5}, best_of: model, along: samples, expect: rises}

compares both sides at their best model for each length, which the other seeds choose, and is about the slope of their
difference per doubling of the length, or of the FLOPs that the lengths of the axis are given in.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

from flipscale.door.statements import Contrast, Expectation, StatedClaim, Values
from flipscale.errors import did_you_mean
from flipscale.kinds import (
    INVALID,
    Among,
    By,
    Complain,
    Compute,
    Declared,
    Faults,
    JsonSchema,
    Number,
    Option,
    PartOfRun,
    Path_,
    Positive,
    Some,
    Text,
    checked,
    option,
    read,
    show,
    some,
)
from flipscale.scores import is_score
from flipscale.settings.declarations import Settings, plain
from flipscale.study.settings import SETTINGS
from flipscale.study.study import Study, agrees
from flipscale.study.values import ValueReader
from flipscale.words import short

_Choices = Mapping[str, tuple[Any, ...]]
"""Settings of one side of a claim, each with the values that it takes in turn: one, or those of a list."""

_known: ContextVar[Mapping[str, Option]] = ContextVar("known", default=SETTINGS)
"""The settings of the study whose claims are read: flipscale's, and its own parameters."""

SCORE = "score"
"""Beside settings, a side may name its score."""

_NO_COLUMN = {
    "seed": "a claim is about all seeds; leave 'seed' out",
    "evaluation": "'evaluation' has no column in the results, so no claim can use it; name another setting",
}


def _side(value: Any, *, several: bool = True, target: bool = False) -> _Choices:
    """One side of a claim: settings by name, each with a value or, if `several`, a list of them. With `target`, its
    `score` may also be the number or the cell at which curves are read."""
    if not isinstance(value, dict):
        raise ValueError(f"{show(value)} gives no settings; write them, for example {{mask_ratio: 0.5}}")
    faults: list[tuple[Path_, str]] = []
    choices = {}
    for name, item in value.items():
        try:
            choices[name] = _values(name, item, several, target)
        except Faults as error:
            faults += [((name, *path), what) for path, what in error.found]
    if faults:
        raise Faults(faults)
    return choices


def _values(name: str, value: Any, several: bool, target: bool) -> tuple[Any, ...]:
    """The values of a setting, or of `score`, in a side. Raises Faults."""
    if name == SCORE:
        if target and isinstance(value, dict | float | int):
            return (checked(_Target, value),)
        return tuple(checked(Some[_Column], value)) if several else (checked(_Column, value),)
    known = _known.get()
    if name not in known or name in _NO_COLUMN:
        raise _fault(_NO_COLUMN.get(name) or f"unknown setting '{name}'; {did_you_mean(name, known)}")
    kind = known[name].type
    if not isinstance(value, list):
        return (checked(kind, value),)
    if not several:
        raise _fault("'than' is one contrast; write one value, and one more claim for each further value")
    return tuple(checked(some(kind), value))


def _column(value: Any) -> str:
    if not isinstance(value, str) or not is_score(value):
        raise ValueError(f"{show(value)} is not a score; write a column of results.csv, such as masked.zero_shot_top1")
    return value


def _schema_of_side() -> JsonSchema:
    # The kinds of values are under base and axes; written out here as well, they would double the schema.
    names = {name: {"description": spec.says} for name, spec in SETTINGS.items() if name not in _NO_COLUMN}
    names[SCORE] = {"description": "a score of these runs, such as masked.zero_shot_top1; the study's if left out"}
    return {"type": "object", "additionalProperties": False, "properties": names}


def _setting(value: Any) -> str:
    if not isinstance(value, str) or value not in _known.get():
        raise ValueError(f"{show(value)} is not a setting; {did_you_mean(value, _known.get())}")
    return value


_Setting = Annotated[str, By(_setting, lambda: {"type": "string"})]
_Column = Annotated[str, By(_column, {"type": "string"})]
_Side = Annotated[Mapping[str, tuple[Any, ...]], By(_side, _schema_of_side)]
_Target = Annotated[
    float | _Choices,
    By(
        lambda value: _side(value, several=False) if isinstance(value, dict) else checked(Number, value),
        lambda: {"anyOf": [{"type": "number"}, _schema_of_side()]},
    ),
]
"""A number, or a cell."""


@dataclass(frozen=True, kw_only=True)
class WrittenClaim(Declared):
    """A claim as the file has it; with lists, several claims in one."""

    called: ClassVar[str] = "claim"
    at: _Side = option("settings that both sides share; a list of values makes several claims", {})
    left: _Side = option("settings of the runs that the claim is about; all others are at the base", {})
    right: _Side = option("settings of the runs that they are compared with; if omitted, the runs at the base", {})
    than: Annotated[_Choices, By(partial(_side, several=False, target=True), _schema_of_side)] | None = option(
        "settings that replace those of `at`: the claim is about left - right at `at`, minus that at these, "
        "or about the ratio of two factors for faster and fewer_samples, where `score` may be one of them",
        None,
    )
    expect: Annotated[str, Among(Expectation)] = option(
        "the expected result of left: better, worse or level; rises or falls, of its lead along a setting; or, along "
        "the schedule, faster or fewer_samples"
    )
    best_of: _Setting | None = option(
        "a setting of which each side takes its best value, chosen on the other seeds, such as model", None
    )
    along: _Setting | None = option(
        "for rises and falls: the axis along which the difference changes; the claim is about its slope per doubling",
        None,
    )
    score: _Target | None = option(
        "for faster and fewer_samples: the score that both sides are read at, or the cell whose mean score it is", None
    )
    margin: Positive | None = option("for level: sides closer than this are level; null: the study's margin", None)
    family: Text = option(
        "the question it answers; claims of one family are corrected for each other, as one if omitted", ""
    )
    published: Some[Number | None] | None = option(
        "left - right as published, in points of accuracy or percent of a loss, positive where left is better, or "
        "the published factor along the schedule; a list if these are several claims",
        None,
    )


def read_claims(values: ValueReader) -> Mapping[str, WrittenClaim]:
    """The claims of a study file by name, before they are checked against its cells."""
    given = values.mapping("claims")
    _known.set(values.known)
    claims = {name: read(WrittenClaim, each, ("claims", name), values.complain) for name, each in given.items()}
    return {name: claim for name, claim in claims.items() if claim is not INVALID}


def settle_claims(written: Mapping[str, WrittenClaim], study: Study, complain: Complain) -> tuple[StatedClaim, ...]:
    """The claims, each between cells that the study has; a claim about other cells is a complaint."""
    cells = _StudyCells(study)
    claims: dict[str, StatedClaim] = {}
    for name, several in written.items():
        try:
            for claim in _each(name, several, cells):
                if claim.name in claims:
                    what = f"two claims are called '{claim.name}'; keep one, or give it another name"
                    complain(("claims", name), what)
                claims[claim.name] = claim
        except Faults as error:
            for path, what in error.found:
                complain(("claims", name, *path), what)
    return tuple(claims.values())


def claims_at_budgets(study: Study) -> tuple[StatedClaim, ...]:
    """What the arms of a study do at their best model for each budget, which it need not state: a contrast for each
    budget of FLOPs, then its slope, arm by arm. None where it varies no model, or gives no lengths in FLOPs."""
    axes = {axis.name: axis.values for axis in study.axes}
    budgets = [value for value in axes.get("samples", ()) if isinstance(value, Compute)]
    if len(budgets) < 2 or "model" not in axes:
        return ()
    cells = _StudyCells(study)
    shared = {
        name: values for name, values in axes.items() if name not in (*study.baseline, "model", "samples", "seed")
    }
    arms = {name: axes.get(name, (value,)) for name, value in study.baseline.items()}
    claims = []
    for at, arm in itertools.product(_combinations(shared), _combinations(arms)):
        if arm == study.baseline:
            continue
        sides = {**at, **arm}, {**at, **study.baseline}
        with contextlib.suppress(Faults):  # Not every combination has cells.
            slope = cells.slope(*sides, "model", "samples")
            for budget, contrast in zip(sorted(budgets, key=lambda each: each.flops), slope, strict=True):
                name = _words({"samples": budget, **at, **arm})
                claims.append(StatedClaim(name, contrast, None, Expectation.BETTER, None))
            name = _words({**at, **arm})
            claims.append(StatedClaim(name, slope[0], None, Expectation.RISES, None, along=slope))
    return tuple(claims)


def _each(name: str, written: WrittenClaim, cells: "_StudyCells") -> Iterator[StatedClaim]:
    """The claims that stand under one name: one for each combination of the values that are lists. Raises Faults."""
    sides = (written.at, written.left, written.right)
    combinations = list(itertools.product(*map(_combinations, sides)))
    published = [None] * len(combinations) if written.published is None else written.published
    if len(published) != len(combinations):
        what = f"{len(published)} published values for {len(combinations)} claims; list one for each"
        raise _fault(f"{what}, null where none is known", "published")
    expect = Expectation(written.expect)
    along = expect.along_the_schedule
    _check_keys_of(expect, written)
    than, than_score = _than_of(expect, written)
    score = cells.target(written.score)
    than_score = cells.target(than_score)
    listed = dict.fromkeys(setting for side in sides for setting, choices in side.items() if len(choices) > 1)
    for (at, left, right), value in zip(combinations, published, strict=True):
        slope = cells.slope({**at, **left}, {**at, **right}, written.best_of, written.along)
        contrast = slope[0] if slope else cells.contrast({**at, **left}, {**at, **right}, written.best_of, along=along)
        other = None
        if than is not None:
            settings = {**at, **than, **left}, {**at, **than, **right}
            other = cells.contrast(*settings, written.best_of, along=along)
            if contrast == other and than_score in (None, score):
                raise _fault("'than' is the same contrast; give it other settings than `at`", "than")
        which = _words({setting: {**right, **left, **at}[setting] for setting in listed})
        title = f"{name} ({which})" if which else name
        yield StatedClaim(
            title, contrast, other, expect, value, written.family, score, than_score, written.margin, slope
        )


def _check_keys_of(expect: Expectation, written: WrittenClaim) -> None:
    """Raise Faults for a key that a claim of this expectation lacks or does not take."""
    along = expect.along_the_schedule
    if (written.score is not None) is not along:
        what = "needs `score`, at which both sides are read" if along else "takes no `score`"
        raise _fault(f"a claim of '{expect}' {what}", "expect")
    if (written.along is not None) is not expect.is_slope:
        what = "needs `along`, the axis along which it is" if expect.is_slope else "takes no `along`"
        raise _fault(f"a claim of '{expect}' {what}", "expect")
    fixed = {*written.at, *written.left, *written.right}
    for key, setting in (("best_of", written.best_of), ("along", written.along)):
        if setting is not None and along:
            raise _fault(f"a claim of '{expect}' takes no `{key}`", key)
        if setting in fixed:
            raise _fault(f"{key} is {setting}, which a side fixes; leave it out there", key)
    if expect.is_slope and written.than is not None:
        raise _fault("a claim about a slope takes no `than`", "than")


def _than_of(expect: Expectation, written: WrittenClaim) -> tuple[dict[str, Any] | None, Any]:
    """What `than` gives, without the score at which its curves are read, and that score."""
    if written.than is None:
        return None, None
    than = {setting: value for setting, (value,) in written.than.items()}
    along = expect.along_the_schedule
    if SCORE in than and isinstance(than[SCORE], str) is along:
        what = "a number or a cell, at which curves are read" if along else "a column"
        raise _fault(f"the score of 'than' is {what}, in a claim of '{expect}'", "than", SCORE)
    return than, than.pop(SCORE, None) if along else None


def _fault(what: str, *path: str) -> Faults:
    return Faults([(path, what)])


def _combinations(side: _Choices) -> Iterator[Values]:
    """Each combination of a side's values; the last setting varies fastest."""
    for values in itertools.product(*side.values()):
        yield dict(zip(side, values, strict=True))


def _word(value: object) -> str:
    """A value as it names one claim of several: no two values are written alike."""
    word = str(value) if isinstance(value, Compute | PartOfRun) else plain(value)
    if not isinstance(word, Mapping):
        return short(word)
    return f"({', '.join(f'{name}={_word(item)}' for name, item in word.items() if item is not None)})"


class _StudyCells:
    """The cells of a study, to find those that a claim is about. Raises Faults, each with its path in the claim."""

    def __init__(self, study: Study):
        self.cells = study.cells
        seedless = (replace(cell, seed=0) for cell in study.cells)
        self.seedless = list({repr(cell): cell for cell in seedless}.values())
        self.grids = study.grids.values()
        coupled = {coupling.name for coupling in study.couplings}
        varied = dict.fromkeys(axis.name for axes in study.grids.values() for axis in axes)
        self.varied = [name for name in varied if name not in coupled]
        # Base values of settings that vary, which a claim need not repeat; coupled settings follow from others.
        self.unsaid = {
            name: {**study.baseline, **study.base}[name]
            for name in varied
            if name not in (*coupled, *_NO_COLUMN) and (name in study.base or name in study.baseline)
        }

    def slope(self, left: Values, right: Values, best_of: str | None, along: str | None) -> tuple[Contrast, ...]:
        """The contrasts at each value of an axis, ascending; none where the claim is about no slope."""
        if along is None:
            return ()
        values = dict.fromkeys(
            value for axes in self.grids for axis in axes if axis.name == along for value in axis.values
        )
        amounts = {value: value.flops if isinstance(value, Compute) else value for value in values}
        if len(amounts) < 2 or not all(isinstance(amount, int | float) and amount > 0 for amount in amounts.values()):
            raise _fault(f"'{along}' is no axis of two or more numbers above 0 in this study", "along")
        contrasts = []
        for value, amount in sorted(amounts.items(), key=lambda item: float(item[1])):
            sides = {along: value, **left}, {along: value, **right}
            contrasts.append(replace(self.contrast(*sides, best_of, along=False), amount=float(amount)))
        return tuple(contrasts)

    def contrast(self, left: Values, right: Values, best_of: str | None = None, *, along: bool) -> Contrast:
        """Two cells, or two curves; with `best_of`, each side has as many cells as that setting has values."""
        sides: list[Values] = []
        choices: list[tuple[Values, ...]] = []
        faults: list[tuple[Path_, str]] = []
        for side, said in (("left", left), ("right", right)):
            try:
                if best_of is None:
                    sides.append((self._curve if along else self.cell)(side, said))
                else:
                    choices.append(self._choices(side, said, best_of))
                    sides.append(_common(choices[-1]))
            except Faults as error:
                faults += error.found
        if faults:
            raise Faults(faults)
        if sides[0] == sides[1]:
            raise _fault("left and right are the same runs; give `left` a setting that differs")
        left, right = sides
        if best_of is None:
            return Contrast(left, right)
        return Contrast(left, right, best_of, choices[0], choices[1])

    def _choices(self, side: str, said: Values, best_of: str) -> tuple[Values, ...]:
        """The cells of a side that differ in that setting: each seed takes the best of them."""
        values = dict.fromkeys(getattr(cell, best_of) for cell in self.cells)
        found = []
        for value in values:
            with contextlib.suppress(Faults):
                found.append(self.cell(side, {**said, best_of: value}))
        if len(found) < 2:
            raise _fault(f"fewer than two values of {best_of} have such cells; leave best_of out", side)
        return tuple(found)

    def target(self, score: float | _Choices | None) -> float | Values | None:
        """The score at which curves are read: a number, or a cell of the study."""
        return self.cell(SCORE, *_combinations(score)) if isinstance(score, Mapping) else score

    def _curve(self, side: str, said: Values) -> Values:
        """The values that identify the curve of a side: its cells differ in their schedule alone."""
        for name, why in {
            "samples": "a curve runs along samples",
            SCORE: "curves are read at `score` of the claim",
        }.items():
            if name in said:
                raise _fault(f"{why}; leave '{name}' out", side)
        wanted = {name: value for name, value in {**self.unsaid, **said}.items() if name != "samples"}
        cells = [cell for cell in self.cells if agrees(vars(cell), wanted)]
        others = [name for name in self.varied if name not in ("samples", "seed")]
        if len({cell.samples for cell in cells}) < 2 or len({repr([getattr(c, n) for n in others]) for c in cells}) > 1:
            raise _fault(
                f"{_words(wanted)} is no curve: it takes cells that differ in samples alone, two or more", side
            )
        return wanted

    def cell(self, side: str, said: Values) -> Values:
        """The values that identify the cell of a side."""
        own_score = {name: value for name, value in said.items() if name == SCORE}
        wanted = {name: value for name, value in {**self.unsaid, **said}.items() if name != SCORE}
        cells = [cell for cell in self.seedless if agrees(vars(cell), wanted)]
        if len(cells) != 1:
            raise _fault(self._no_cell(wanted, said, cells), side)
        (cell,) = cells
        return {name: getattr(cell, name) for name in wanted} | own_score

    def _no_cell(self, wanted: Values, said: Values, cells: Sequence[Settings]) -> str:
        """Why these settings are not one cell of the study."""
        if cells:
            names = [name for name in vars(cells[0]) if any(getattr(c, name) != getattr(cells[0], name) for c in cells)]
            return f"{len(cells)} cells match {_words(wanted)}; give {names[0]} as well"
        for name, value in wanted.items():
            if not any(agrees(vars(cell), {name: value}) for cell in self.cells):
                values = list(dict.fromkeys(_word(getattr(cell, name)) for cell in self.cells))
                return f"no run of this study has {name} {_word(value)}; it has {', '.join(values)}"
        return f"no run of this study has {_words(said or wanted)} with all else at the base; add the cell to design"


def _common(cells: Sequence[Values]) -> Values:
    """The settings that these cells share."""
    first = cells[0]
    return {name: value for name, value in first.items() if all(cell[name] == value for cell in cells)}


def _words(values: Values) -> str:
    return ", ".join(f"{name}={_word(value)}" for name, value in values.items())
