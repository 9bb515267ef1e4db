"""What masking buys, against its baseline: paired at equal samples, and read off curves at equal accuracy and cost.

Three questions, each answered per seed first and then over seeds:

    at equal samples        a run against its twin: same cell, same seed, the baseline's settings
    at equal accuracy       the cost at which the baseline is best, over the cost at which the other first gets there
    at equal cost           the difference where both have spent the same hours or FLOPs

A curve is the finished runs of one series: cells that differ only in schedule length. Each point is a whole schedule,
never the middle of a longer one. Between points it is straight in hours (or FLOPs), as FLIP's 3.7x was read
(arXiv 2212.00794, Fig 1); outside the points nothing is read, and the reason is given in words.

Gains are positive where masking is better, also for a loss. Ratios are masked over baseline, speed-ups baseline over
masked. Data in, data out: nothing here touches a disk.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from flipscale.collect import SCORES, SETTINGS, is_score
from flipscale.compare.comparison import Comparison, Curve, Estimate, Level, Pair, seed_words, short, times
from flipscale.errors import ResultsError, did_you_mean

__all__ = [
    "Comparison",
    "Curve",
    "Estimate",
    "Level",
    "Pair",
    "arms_of",
    "compare",
    "compare_table",
    "first_reach",
    "is_baseline",
    "labels",
    "pick_score",
    "series_of",
    "short",
    "times",
    "varying_axes",
]

LOWER_IS_BETTER = ("held_out_loss", "final_loss")

PREFERRED_SCORES = ("zero_shot_top1", "image_retrieval_r1", "held_out_loss", *SCORES)
"""The score compared when none is named is the first of these that was measured."""

_LEVELS = 9  # accuracies at which the speed-up curve is read


def compare(
    results: pd.DataFrame,
    *,
    baseline: Mapping[str, Any],
    axes: Sequence[str] | None = None,
    score: str | None = None,
    time: str = "gpu_hours",
) -> Comparison:
    """Compare every arm of a table of results with the baseline, as {"mask_ratio": 0}.

    Twins share the column `cell` where there is one, else the values of `axes`, else of `varying_axes`.
    `time` is the column of time: gpu_hours (on a CPU, core-hours), train_seconds or cpu_seconds.
    Raises ResultsError for a column that is not there, a baseline that no run has, or two runs that are twins of one.
    """
    score = pick_score(results, score)
    _need(results, [*baseline, time, "train_flops"])
    table = results.reset_index(drop=True)
    if "cell" not in table:
        keys = varying_axes(table, baseline) if axes is None else [a for a in axes if a not in (*baseline, "seed")]
        _need(table, keys)
        table["cell"] = labels(table, keys)
    table["series"] = series_of(table)
    at = "samples" if "samples" in table else None
    costs = [time, "train_flops"]
    also = [name for name in ("peak_memory_bytes",) if name in table]
    lower = score.rpartition(".")[2] in LOWER_IS_BETTER
    fraction = is_score(score) and not lower
    return _compared(table, baseline, score, costs, also, at, lower, fraction)


def compare_table(
    table: pd.DataFrame,
    *,
    baseline: Mapping[str, Any],
    x: str,
    y: str,
    series: Sequence[str] = (),
    at: str | None = None,
    lower_is_better: bool = False,
) -> Comparison:
    """The same for any table: score `y` against cost `x`, a curve for each value of `series`.

    `at` is the column that twins share, such as epochs; without it there are curves and no pairs. A column `seed` is
    used if there is one, and a column `cell` is not.
    """
    _need(table, [*baseline, x, y, *series, *([at] if at else [])])
    table = table.reset_index(drop=True)
    table["series"] = labels(table, series)
    table["cell"] = labels(table, [*series, *([at] if at else [])])
    return _compared(table.drop(columns="device", errors="ignore"), baseline, y, [x], [], at, lower_is_better, False)


def pick_score(results: pd.DataFrame, score: str | None) -> str:
    """`score` if it is there, else the first of PREFERRED_SCORES that any run has. Raises ResultsError if none is."""
    if score is not None:
        if score not in results:
            near = did_you_mean(score, _measured(results)) if _measured(results) else "None was measured"
            raise ResultsError(f"No run has the score {score!r}; {near}.")
        if not pd.api.types.is_numeric_dtype(results[score]):
            raise ResultsError(f"{score!r} is no score. Measured: {', '.join(_measured(results)) or 'none'}.")
        if results[score].isna().all():
            raise ResultsError(f"No run has the score {score!r}. Measured: {', '.join(_measured(results)) or 'none'}.")
        return score
    measured = _measured(results)
    if not measured:
        raise ResultsError("No run of these results has a score, so there is nothing to compare.")
    return measured[0]


def varying_axes(results: pd.DataFrame, baseline: Mapping[str, Any]) -> list[str]:
    """The settings that make a cell: they vary, and the baseline's and the earlier of them do not settle them.

    A batch size coupled to the mask ratio is settled by it, and a warm-up by the schedule: neither makes a cell.
    """
    axes: list[str] = []
    for name in SETTINGS:
        if name in (*baseline, "seed") or name not in results or results[name].nunique(dropna=False) < 2:
            continue
        settled_by = [*(key for key in baseline if key in results), *axes]
        if (results.groupby(settled_by, dropna=False)[name].nunique(dropna=False) > 1).any():
            axes.append(name)
    return axes


def is_baseline(results: pd.DataFrame, baseline: Mapping[str, Any]) -> "pd.Series[bool]":
    """Which rows have the baseline's settings."""
    mask = pd.Series(True, index=results.index)
    for name, value in baseline.items():
        mask &= results[name].isna() if value is None else (results[name] == value).fillna(False).astype(bool)
    return mask


def arms_of(results: pd.DataFrame, baseline: Mapping[str, Any]) -> "pd.Series[str]":
    """The arm of each row: in what it differs from the baseline, as 'mask_ratio=0.5'; '' for the baseline itself."""
    parts = pd.DataFrame(
        {
            name: labels(results, [name]).mask(is_baseline(results, {name: value}), "")
            for name, value in baseline.items()
            if name in results
        },
        index=results.index,
        dtype="str",
    )
    text = [", ".join(filter(None, row)) for row in parts.to_numpy().tolist()]
    return pd.Series(text, index=results.index, dtype="str")


def labels(table: pd.DataFrame, names: Sequence[str]) -> "pd.Series[str]":
    """'model=ViT-B-16, samples=400M' for each row."""
    text = [", ".join(f"{n}={short(v)}" for n, v in zip(names, row, strict=True)) for row in table[[*names]].values]
    return pd.Series(text, index=table.index, dtype="str")


def series_of(table: pd.DataFrame, along: str = "samples") -> "pd.Series[str]":
    """The cell of each row without the axis that its curve runs along: without its schedule length."""
    cells = ["" if pd.isna(cell) else str(cell) for cell in table["cell"]]
    kept = [", ".join(part for part in cell.split(", ") if not part.startswith(f"{along}=")) for cell in cells]
    return pd.Series(kept, index=table.index, dtype="str")


# From rows to points


@dataclass(frozen=True)
class _Point:
    id: str
    cell: str
    series: str
    at: float | None
    arm: str  # '' is the baseline
    seed: int
    device: str
    y: float
    costs: dict[str, float]  # NaN where it was not measured


def _compared(
    table: pd.DataFrame,
    baseline: Mapping[str, Any],
    score: str,
    costs: list[str],
    also: list[str],
    at: str | None,
    lower: bool,
    fraction: bool,
) -> Comparison:
    points, left_out = _points(table, baseline, score, [*costs, *also], at)
    arms = list(dict.fromkeys(point.arm for point in points if point.arm))
    pairs, unpaired = _pairs(points, arms, lower) if at else ([], {})
    curves = [
        _curve([p for p in points if p.series == series], series, arm, x, lower)
        for series in dict.fromkeys(point.series for point in points)
        for arm in arms
        if any(point.series == series and point.arm == arm for point in points)
        for x in costs
    ]
    return Comparison(dict(baseline), score, lower, fraction, at, tuple(pairs), tuple(curves), left_out, unpaired)


def _points(
    table: pd.DataFrame, baseline: Mapping[str, Any], score: str, costs: list[str], at: str | None
) -> tuple[list[_Point], dict[str, str]]:
    base = is_baseline(table, baseline)
    if not base.any():
        there = ", ".join(sorted(set(labels(table, list(baseline))))) or "no run"
        wanted = ", ".join(f"{name}={short(value)}" for name, value in baseline.items())
        raise ResultsError(f"No finished run is the baseline {wanted}; there is {there}.")
    arms = arms_of(table, baseline)
    table = table.assign(arm=arms).sort_values([*baseline], kind="stable")
    points: list[_Point] = []
    left_out: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for row in table.to_dict("records"):
        run = str(row.get("id", f"row {len(points) + len(left_out) + 1}"))
        if pd.isna(row[score]):
            left_out[run] = f"no {score}"
            continue
        seed = row.get("seed")
        point = _Point(
            id=run,
            cell="" if pd.isna(row["cell"]) else row["cell"],
            series=row["series"],
            at=float(row[at]) if at and not pd.isna(row[at]) else None,
            arm=row["arm"],
            seed=0 if seed is None or pd.isna(seed) else int(seed),
            device="" if pd.isna(row.get("device")) else str(row.get("device")),
            y=float(row[score]),
            costs={name: math.nan if pd.isna(row[name]) else float(row[name]) for name in costs},
        )
        twin = seen.setdefault((point.cell, point.arm, point.seed), run)
        if at and twin != run:
            raise ResultsError(
                f"{twin} and {run} are both {point.arm or 'the baseline'} at seed {point.seed} of cell "
                f"{point.cell or '(the only one)'!r}. Name the axis that tells them apart."
            )
        points.append(point)
    return points, left_out


def _pairs(points: list[_Point], arms: list[str], lower: bool) -> tuple[list[Pair], dict[str, str]]:
    twins = {(point.cell, point.seed): point for point in points if not point.arm}
    runs: dict[tuple[str, str], list[_Point]] = {}
    for point in points:
        runs.setdefault((point.cell, point.arm), []).append(point)
    pairs: list[Pair] = []
    unpaired: dict[str, str] = {}
    for cell in dict.fromkeys(point.cell for point in points):
        for arm in arms:
            paired = []
            for point in sorted(runs.get((cell, arm), []), key=lambda p: p.seed):
                if twin := twins.get((cell, point.seed)):
                    paired.append((twin, point))
                else:
                    unpaired[point.id] = f"no baseline at seed {point.seed} of cell {cell or '(the only one)'!r}"
            if paired:
                pairs.append(_pair(paired, lower))
    return pairs, unpaired


def _pair(paired: list[tuple[_Point, _Point]], lower: bool) -> Pair:
    sign = -1 if lower else 1
    point = paired[0][1]
    return Pair(
        cell=point.cell,
        series=point.series,
        at=point.at,
        arm=point.arm,
        seeds=tuple(point.seed for _, point in paired),
        baseline_score=float(np.mean([twin.y for twin, _ in paired])),
        score=float(np.mean([point.y for _, point in paired])),
        gain=_mean([sign * (point.y - twin.y) for twin, point in paired]),
        ratios={name: _ratio_of_costs(paired, name) for name in point.costs},
    )


def _ratio_of_costs(paired: list[tuple[_Point, _Point]], name: str) -> Estimate:
    if why := _different_devices((point for pair in paired for point in pair), name):
        return _nothing(why)
    ratios = [
        point.costs[name] / twin.costs[name] for twin, point in paired if twin.costs[name] > 0 and point.costs[name] > 0
    ]
    return _ratio(ratios) if ratios else _nothing(f"no pair has {name}")


def _different_devices(points: Iterable[_Point], cost: str) -> str | None:
    """Why the costs of these points cannot be compared. FLOPs can always be."""
    devices = sorted({point.device for point in points})
    if cost == "train_flops" or len(devices) < 2:
        return None
    return f"{cost} was measured on different devices ({', '.join(device or 'unknown' for device in devices)})"


# Curves


def _curve(points: list[_Point], series: str, arm: str, x: str, lower: bool) -> Curve:
    sign = -1 if lower else 1
    points = [point for point in points if point.arm in ("", arm) and not math.isnan(point.costs[x])]
    polylines = {
        (key, seed): _polyline([p for p in points if (p.arm, p.seed) == (key, seed)], x, sign)
        for key in ("", arm)
        for seed in {p.seed for p in points if p.arm == key}
    }
    seeds = sorted(seed for key, seed in polylines if key == arm and ("", seed) in polylines)

    why = _different_devices(points, x)
    if not seeds:
        why = f"no seed has {x} of both the baseline and this arm"
    elif max(len(polylines[arm, seed][0]) for seed in seeds) < 2:
        why = "one schedule length here, and a curve takes two"
    if why:
        return Curve(series, arm, x, tuple(seeds), None, _nothing(why), (), None, _nothing(why))
    base = [polylines["", seed] for seed in seeds]
    ours = [polylines[arm, seed] for seed in seeds]
    target = sign * float(np.mean([max(ys) for _, ys in base]))
    equal, gain = _gain_at_equal_cost(base, ours, x)
    speedup, levels = _speedup(base, ours, seeds, arm), tuple(_levels(base, ours, sign))
    return Curve(series, arm, x, tuple(seeds), target, speedup, levels, equal, gain)


_Polyline = tuple[list[float], list[float]]  # costs, rising; and scores, signed so that higher is better


def _polyline(points: list[_Point], x: str, sign: int) -> _Polyline:
    ordered = sorted((point.costs[x], sign * point.y) for point in points)
    return [cost for cost, _ in ordered], [score for _, score in ordered]


def first_reach(xs: Sequence[float], ys: Sequence[float], target: float) -> float | None:
    """The x at which the polyline first has the target; None where that is before its first point, or never."""
    if ys[0] >= target:
        return xs[0] if ys[0] == target else None
    for i in range(1, len(xs)):
        if ys[i] >= target:
            return xs[i - 1] + (xs[i] - xs[i - 1]) * (target - ys[i - 1]) / (ys[i] - ys[i - 1])
    return None


def _speedup(base: list[_Polyline], ours: list[_Polyline], seeds: list[int], arm: str) -> Estimate:
    """At the baseline's best, seed by seed."""
    speedups: list[float] = []
    reasons: dict[str, list[int]] = {}
    for (base_xs, base_ys), line, seed in zip(base, ours, seeds, strict=True):
        target = max(base_ys)
        reached = first_reach(*line, target)
        if reached:
            speedups.append(base_xs[base_ys.index(target)] / reached)
            continue
        always = line[1][0] > target
        reason = "is above it already at its shortest schedule" if always else "stays below it"
        reasons.setdefault(reason, []).append(seed)
    why = "; ".join(f"{arm} {reason} in {seed_words(of)}" for reason, of in reasons.items()) or None
    if not speedups:
        return _nothing(why or "no seed")
    estimate = _ratio(speedups)
    if why is None:
        return estimate
    # Seeds that reach the target are the lucky ones: their interval would not hold the others.
    return Estimate(estimate.n, estimate.mean, estimate.sd, None, None, estimate.values, why)


def _levels(base: list[_Polyline], ours: list[_Polyline], sign: int) -> list[Level]:
    """The speed-up at the scores that every seed of both arms passes through, from the lowest to the best."""
    low = max(ys[0] for _, ys in (*base, *ours))
    high = min(max(ys) for _, ys in (*base, *ours))
    if not low < high:
        return []
    levels = []
    for target in map(float, np.linspace(low, high, _LEVELS)):
        costs = [(first_reach(*b, target), first_reach(*o, target)) for b, o in zip(base, ours, strict=True)]
        speedups = [spent / reached for spent, reached in costs if spent and reached]
        if len(speedups) == len(base):
            levels.append(Level(sign * target, _ratio(speedups)))
    return levels


def _gain_at_equal_cost(base: list[_Polyline], ours: list[_Polyline], x: str) -> tuple[float | None, Estimate]:
    low = max(xs[0] for xs, _ in (*base, *ours))
    high = min(xs[-1] for xs, _ in (*base, *ours))
    if high < low:
        return None, _nothing(
            f"the two arms have no {x} in common: the one ends at {short(high)}, the other begins at {short(low)}"
        )
    gains = [float(np.interp(high, *o) - np.interp(high, *b)) for b, o in zip(base, ours, strict=True)]
    return high, _mean(gains)


# Seeds to estimates


def _mean(values: list[float]) -> Estimate:
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Estimate(n, mean, None, None, None, tuple(values), "one seed gives no interval")
    sd = float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half, tuple(values))


def _ratio(values: list[float]) -> Estimate:
    logs = _mean([math.log(value) for value in values])
    mean, low, high = (None if log is None else math.exp(log) for log in (logs.mean, logs.low, logs.high))
    return Estimate(logs.n, mean, logs.sd, low, high, tuple(values), logs.why)


def _nothing(why: str) -> Estimate:
    return Estimate(0, None, None, None, None, (), why)


def _measured(results: pd.DataFrame) -> list[str]:
    names = dict.fromkeys((*PREFERRED_SCORES, *filter(is_score, map(str, results.columns))))
    return [name for name in names if name in results and results[name].notna().any()]


def _need(table: pd.DataFrame, names: Iterable[str]) -> None:
    for name in names:
        if name not in table:
            raise ResultsError(f"The table has no column {name!r}: {did_you_mean(name, map(str, table.columns))}.")
