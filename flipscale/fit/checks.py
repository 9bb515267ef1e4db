"""Objections to a fit: points that cannot determine it are refused, and cautions are stated for the reader."""

from collections.abc import Mapping

import numpy as np

from flipscale.errors import ResultsError
from flipscale.fit.laws import LAWS, Law
from flipscale.fit.rows import Rows
from flipscale.fit.search import Solution
from flipscale.fit.uncertainty import LARGE, SharedSeedEffect
from flipscale.scores import lower_is_better
from flipscale.stats import Array
from flipscale.words import short

HELD_OUT_REASON = "held out"

FEW = 8
"""With fewer points only a power law is fitted unless another is asked for."""


def check_enough(law: Law, rows: Rows, held: int) -> None:
    """ResultsError where the points cannot determine the parameters: too few, or all along one line."""
    if rows.points < len(law.parameters) - held + 1:
        raise _too_few(law, rows, held)
    unique = np.unique(rows.x, axis=0)
    for i, name in enumerate(rows.columns):
        if len(np.unique(unique[:, i])) < 2:
            raise ResultsError(
                f"{name} is {unique[0, i]:.6g} in all {len(rows)} rows, so its effect cannot be seen: vary it, or fit "
                f"a law without it."
            )
    if len(law.roles) > 1 and len(law.parameters) - held > 2:
        _check_apart(rows, unique)


def _too_few(law: Law, rows: Rows, held: int) -> ResultsError:
    free, points = len(law.parameters) - held, rows.points
    out = {name: why for name, why in rows.left_out.items() if why != HELD_OUT_REASON}
    left = f"; {len(out)} left out: {_some(out)}" if out else ""
    enough = [
        name
        for name, other in LAWS.items()
        if (other.link, len(other.roles)) == (law.link, len(law.roles)) and len(other.parameters) < points
    ]
    instead = f" Fit {enough[0]}." if enough else ""
    return ResultsError(
        f"Cannot fit {law.name!r} ({free} parameters) to {points} different points: it takes {free + 1} or more"
        f"{left}.{instead}"
    )


def _check_apart(rows: Rows, unique: Array) -> None:
    """ResultsError where the variables move together, so that their exponents cannot be told apart."""
    logs = np.log(unique)
    logs = logs - logs.mean(axis=0)
    singular = np.linalg.svd(logs / np.linalg.norm(logs, axis=0), compute_uv=False)
    if singular[-1] < 1e-3 * singular[0]:
        raise ResultsError(
            f"{' and '.join(rows.columns)} move together in all rows (their ratio, or a power of it, is constant), "
            f"so their exponents cannot be told apart. Vary one while the other stays, or fit a law of one of them."
        )


def notes(law: Law, rows: Rows, solution: Solution, seeds: SharedSeedEffect | None = None) -> tuple[str, ...]:
    """Cautions that a reader needs before believing a fit."""
    column = rows.response.column
    ended = [name for name in solution.at_bounds if name != "E"]  # a floor of 0 is an answer
    found = (
        (bool(rows.unnamed), _unnamed_words(rows)),
        (seeds is not None and seeds.sd > LARGE, _seed_words(seeds, law)),
        (bool(ended), f"{', '.join(ended)} at the bound of the search: the rows do not determine it"),
        (
            rows.points < FEW and len(law.parameters) > 2,
            f"{rows.points} points: below {FEW} only a power law is advised",
        ),
        (
            solution.condition > 1e4,
            "parameters trade off against each other: their single values mean little, predictions may still",
        ),
        (
            _rises(law, rows),
            f"{column} rises with size, and this law {'has no upper end' if law.is_line else 'only falls'}: for an "
            f"accuracy fit 1 - y, or odds",
        ),
    )
    return tuple(note for applies, note in found if applies)


def _seed_words(seeds: SharedSeedEffect | None, law: Law) -> str:
    """A note that a seed moves the whole curve by a large amount."""
    if seeds is None:
        return ""
    scale = {"log": "log y", "logit": "the logit of the error", "linear": "y"}[law.link]
    return (
        f"a seed moves the whole curve: SD {seeds.sd:.2g} in {scale}, from {seeds.seeds} seeds. The law's level is "
        f"known only as well as so few seeds tell, exponents are not affected"
    )


def _unnamed_words(rows: Rows) -> str:
    """In which settings the rows of one law differ."""
    found = []
    for name, values in rows.unnamed.items():
        shown = ", ".join(map(short, values[:3])) + (", ..." if len(values) > 3 else "")
        found.append(f"{name} ({shown})")
    return (
        f"one law goes through rows that differ in {', '.join(found)}, which no option names; --group fits each value "
        f"separately, --where selects some"
    )


def _rises(law: Law, rows: Rows) -> bool:
    """Whether a law that only falls, or a power, is fitted to a score that rises with size."""
    if rows.response.link != "log" or (law.is_line and lower_is_better(rows.response.column) is not False):
        return False
    size = np.log(np.maximum(rows.size, 1e-300))
    return bool(np.ptp(size) and np.corrcoef(size, rows.z)[0, 1] > 0.5)


def _some(left_out: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for why in left_out.values():
        counts[why] = counts.get(why, 0) + 1
    return ", ".join(f"{n} with {why}" for why, n in list(counts.items())[:3])
