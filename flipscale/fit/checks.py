"""What speaks against a fit: points that cannot settle it are refused, and what a reader must know is said."""

from collections.abc import Mapping

import numpy as np

from flipscale.errors import ResultsError
from flipscale.fit.law import Law
from flipscale.fit.laws import LAWS
from flipscale.fit.rows import Rows
from flipscale.fit.solver import Solution

HELD_OUT_REASON = "held out"

FEW = 8
"""Below as many points only a power law is fitted unless another is asked for."""


def check_enough(law: Law, rows: Rows, held: int) -> None:
    """ResultsError where the points cannot settle the parameters: too few, or all along one line."""
    free = len(law.parameters) - held
    points = rows.points
    if points < free + 1:
        out = {name: why for name, why in rows.left_out.items() if why != HELD_OUT_REASON}
        left = f"; {len(out)} left out: {_some(out)}" if out else ""
        enough = [
            name
            for name, other in LAWS.items()
            if (other.link, len(other.roles)) == (law.link, len(law.roles)) and len(other.parameters) < points
        ]
        instead = f" Fit {enough[0]}." if enough else ""
        raise ResultsError(
            f"Cannot fit {law.name!r} ({free} parameters) to {points} different points: it takes {free + 1} or more"
            f"{left}.{instead}"
        )
    unique = np.unique(rows.x, axis=0)
    masks = [i for i, role in enumerate(law.roles) if role == "m"]
    for i, name in enumerate(rows.columns):
        if len(np.unique(unique[:, i])) < 2:
            raise ResultsError(
                f"{name} is {unique[0, i]:.6g} in all {len(rows)} rows, so its effect cannot be seen: vary it, or fit "
                f"a law without it."
            )
    for i in masks:
        others = [j for j, role in enumerate(law.roles) if role == "S"]
        ratios, lengths = len(np.unique(unique[:, i])), len(np.unique(unique[:, others]))
        if ratios < 3 or lengths < 2:
            raise ResultsError(
                f"The law {law.name} takes at least 3 mask ratios crossed with 2 schedule lengths; here are "
                f"{ratios} of {rows.columns[i]} and {lengths} of {rows.columns[others[0]]}."
            )
    if len(law.roles) > 1 and len(law.parameters) - held > 2:
        logs = np.log(
            np.column_stack([1 - unique[:, i] if i in masks else unique[:, i] for i in range(unique.shape[1])])
        )
        logs = logs - logs.mean(axis=0)
        singular = np.linalg.svd(logs / np.linalg.norm(logs, axis=0), compute_uv=False)
        if singular[-1] < 1e-3 * singular[0]:
            raise ResultsError(
                f"{' and '.join(rows.columns)} move together in all rows (their ratio, or a power of it, is constant), "
                f"so their exponents cannot be told apart. Vary one while the other stays, or fit a law of one of them."
            )


def notes(law: Law, rows: Rows, solution: Solution) -> tuple[str, ...]:
    said = []
    if rows.points < FEW and len(law.parameters) > 2:
        said.append(f"{rows.points} points: below {FEW} only a power law is advised")
    if law.name in ("M4", "BNSL") and rows.points < 10 * 2:
        said.append(f"{rows.points} points on both sides of a break: below about 10 a side it is hardly found")
    if solution.agree < solution.starts / 3:
        said.append(f"only {solution.agree} of {solution.starts} starts agree, so there may be a better fit")
    if "c" in solution.at_bounds and law.link == "logit":
        said.append("c runs to the end of its range: hold it fast (c = 1), or fit odds-product, which it then is")
    if solution.condition > 1e4:
        said.append("parameters trade off against each other: their single values mean little, predictions may still")
    if rows.response.link == "log" and not rows.response.accuracy:
        size = np.log(np.maximum(rows.size, 1e-300))
        if np.ptp(size) and np.corrcoef(size, rows.z)[0, 1] > 0.5 and not law.is_line:
            said.append(
                f"{rows.response.column} rises with size, and this law only falls: for an accuracy fit 1 - y, or odds"
            )
    return tuple(said)


def _some(left_out: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for why in left_out.values():
        counts[why] = counts.get(why, 0) + 1
    return ", ".join(f"{n} with {why}" for why, n in list(counts.items())[:3])
