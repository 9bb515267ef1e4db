"""Two groups of rows of any table: is the arm better than the baseline, or is it noise?

An arm is a value of the baseline's columns. Rows are twins only where a column says so; otherwise all rows of both
count (Welch). Rows of one arm are repeats, so a column in which they differ is refused by name until an option settles
it: `at` and `by` compare within its values, `ignore` takes its values for repeats.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import pandas as pd

from flipscale.analysis.comparing.any_table import checked_arms, numbers
from flipscale.analysis.comparing.estimates import Effect, Estimate, decided
from flipscale.analysis.comparing.roles import Baseline, labels, settings_words
from flipscale.analysis.fitting.chosen_rows import first_mixed, is_lower_better, may_be_settings, need
from flipscale.analysis.stats import ALPHA, TwoGroups, holm, provable_margin
from flipscale.errors import ResultsError
from flipscale.words import listed, short


class Method(StrEnum):
    """How two groups are compared."""

    TWINS = "twins"
    WELCH = "all rows (Welch)"
    ONE_RUN = "one run, prediction interval"
    ONE_EACH = "one run each"
    DATA_SETS = "mean of the rows above"


VERDICTS = {
    Effect.AHEAD: "better",
    Effect.BEHIND: "worse",
    Effect.LEVEL: "level",
    Effect.NOT_SIGNIFICANT: "undecided",
    Effect.ONE_SEED: "one run each",
}


@dataclass(frozen=True)
class MoreRuns:
    """What more runs in each group would do."""

    more: int | None
    """None: more than a thousand."""
    find: float
    """The difference that they find with a chance of 80 %, or the margin within which they show a difference of 0."""
    is_margin: bool = False


@dataclass(frozen=True)
class GroupGain:
    """An arm against the baseline, at one value of the columns that both share."""

    cell: str
    """Those values, as 'dataset=c4'; over all of them where `is_overall`."""
    arm: str
    method: Method
    runs: tuple[int, int]
    """Of the baseline and of the arm."""
    scores: tuple[float, float]
    """Their means."""
    gain: Estimate
    """Positive where the arm is better."""
    groups: TwoGroups
    """The runs that it stands on."""
    without_twin: tuple[str, ...] = ()
    """The seeds of rows without a twin, where a column declares twins."""
    is_overall: bool = False
    more: MoreRuns | None = None

    @property
    def verdict(self) -> str:
        return VERDICTS[self.gain.effect]


@dataclass(frozen=True)
class Groups:
    """The arms of a table against its baseline."""

    baseline: Baseline
    y: str
    lower_is_better: bool
    seed: str | None
    margin: float | None
    rows: int
    failed: Mapping[str, int]
    """Rows without a finite score, by arm; '' is the baseline."""
    gains: tuple[GroupGain, ...]
    runs: Mapping[tuple[str, str], tuple[float, ...]]
    """The scores of each cell and arm, with and without twins; the arm '' is the baseline."""
    confounded: tuple[str, ...] = ()
    """Columns beside the baseline's in which arms differ."""
    not_kept: int = 0
    """Rows that --where leaves out."""
    unfinished: tuple[str, int] | None = None
    """A column of states, and how many rows with a score it does not call finished."""

    @property
    def deciding(self) -> tuple[GroupGain, ...]:
        """The rows over all cells, or else all rows."""
        return tuple(gain for gain in self.gains if gain.is_overall) or self.gains

    @property
    def gate(self) -> dict[str, bool]:
        """Whether each arm is better or, with a margin, not worse by more than it; an arm without scores is neither."""
        arms = dict.fromkeys(arm for arm in [*(arm for _, arm in self.runs), *self.failed] if arm)
        gains = {arm: [each.gain for each in self.deciding if each.arm == arm] for arm in arms}
        return {arm: bool(found) and all(map(self._passes, found)) for arm, found in gains.items()}

    @property
    def passes(self) -> bool:
        return all(self.gate.values())

    def _passes(self, gain: Estimate) -> bool:
        if gain.effect in (Effect.AHEAD, Effect.LEVEL):
            return True
        ends = gain.decisive
        return self.margin is not None and ends is not None and ends.low > -self.margin


def compare_groups(
    table: pd.DataFrame,
    *,
    baseline: Baseline,
    y: str,
    seed: str | None = None,
    at: Sequence[str] = (),
    by: Sequence[str] = (),
    ignore: Sequence[str] = (),
    margin: float | None = None,
    effect: float | None = None,
    lower_is_better: bool | None = None,
) -> Groups:
    """Compare every arm with the baseline.

    `seed` is the column whose equal values make twins. Rows are compared within the values of `at` and `by`;
    over those of `by` each arm has a row more. Differences within `margin` count as level; `effect` is
    one that matters.

    Raises ResultsError for what the table does not have or leaves open.
    """
    shared = [*at, *by]
    need(table, [*baseline, y, *shared, *ignore, *([seed] if seed else [])])
    lower = is_lower_better(y, None if lower_is_better is None else not lower_is_better)
    table = table.reset_index(drop=True)
    table = table.assign(**{y: numbers(table, y)})
    arms = checked_arms(table, baseline, y)
    has_score = table[y].notna()
    scored = table[has_score]
    settings = may_be_settings(scored, [*baseline, y, *shared, *ignore, *([seed] if seed else [])])
    _check_repeats(scored, arms[has_score] + "\n" + labels(scored, shared), settings)
    keys = pd.DataFrame({"cell": labels(scored, shared), "at": labels(scored, at), "arm": arms[has_score]})
    keys["seed"] = scored[seed] if seed else None
    keys["y"] = scored[y]
    names = [str(arm) for arm in dict.fromkeys(arms) if arm]
    sign = -1 if lower else 1
    gains = _gains_in(keys, names, "cell", sign)
    if not gains:
        raise ResultsError(f"No arm has {y} where the baseline {settings_words(baseline)} has it.")
    gains = _judged(gains, margin, effect)
    if by and len({gain.cell for gain in gains}) > 1:
        gains += _judged(_overall(keys, gains, names, sign), margin, effect)
    failed = arms[~has_score].value_counts()
    return Groups(
        baseline=baseline,
        y=y,
        lower_is_better=lower,
        seed=seed,
        margin=margin,
        rows=len(table),
        failed={str(arm): int(n) for arm, n in failed.items()},
        gains=tuple(gains),
        runs={
            (str(cell), str(arm)): tuple(rows["y"]) for (cell, arm), rows in keys.groupby(["cell", "arm"], sort=False)
        },
        unfinished=_unfinished(scored),
        confounded=tuple(_confounded(scored, arms[has_score], settings)),
    )


def _check_repeats(table: pd.DataFrame, keys: "pd.Series[str]", settings: Sequence[str]) -> None:
    """Raise ResultsError where rows of one arm differ in a setting, so that they are no repeats."""
    if found := first_mixed(table, settings, [keys]):
        name, key = found
        arm = key.partition("\n")[0]
        values = [short(value) for value in table[name][keys == key].drop_duplicates()]
        raise ResultsError(
            f"Rows of {arm or 'the baseline'} differ in {name} ({listed(values, 3)}), so they are no repeats. "
            f"Write --at {name} to compare at equal {name}, --by {name} for a row each and one over all, or "
            f"--ignore {name} if it does not matter."
        )


def _unfinished(table: pd.DataFrame) -> tuple[str, int] | None:
    """Of a column of states as trackers export it."""
    for name in table:
        if str(name).lower() in ("state", "status"):
            is_finished = table[name].astype("str").str.lower() == "finished"
            if is_finished.any() and not is_finished.all():
                return str(name), int((~is_finished).sum())
    return None


def _confounded(table: pd.DataFrame, arms: "pd.Series[str]", settings: Sequence[str]) -> list[str]:
    """Settings with one value in each arm, not the same in all."""
    alike = {name: table[name].groupby(arms) for name in settings if table[name].nunique(dropna=False) > 1}
    return [name for name, values in alike.items() if (values.nunique(dropna=False) == 1).all()]


def _gains_in(keys: pd.DataFrame, arms: Sequence[str], cell: str, sign: int) -> list[GroupGain]:
    """The gain of each arm in each cell that has the baseline."""
    found = []
    for name, rows in keys.groupby(cell, sort=False):
        base = rows[rows["arm"] == ""]
        for arm in arms:
            ours = rows[rows["arm"] == arm]
            if len(base) and len(ours):
                found.append(_gain(str(name), arm, base, ours, sign))
    return found


def _gain(cell: str, arm: str, base: pd.DataFrame, ours: pd.DataFrame, sign: int) -> GroupGain:
    """Twins if every row of the arm has one, else all rows. A single pair has no scatter, so it is no pair."""
    has_twin = ours["seed"].isin(base["seed"]) & ours["seed"].notna()
    if has_twin.any():
        _check_seeds(arm, cell, base, ours)
    paired = bool(has_twin.all()) and len(ours) > 1
    lone = ours["seed"][~has_twin & bool(ours["seed"].notna().any())]
    if paired:
        lone = base["seed"][~base["seed"].isin(ours["seed"])]
        base = base.set_index("seed").loc[ours["seed"]]
    groups = TwoGroups(tuple(map(float, sign * base["y"])), tuple(map(float, sign * ours["y"])), paired)
    runs = (len(base), len(ours))
    if paired:
        method = Method.TWINS
    elif min(runs) > 1:
        method = Method.WELCH
    else:
        method = Method.ONE_EACH if max(runs) == 1 else Method.ONE_RUN
    return GroupGain(
        cell=cell,
        arm=arm,
        method=method,
        runs=runs,
        scores=(float(base["y"].mean()), float(ours["y"].mean())),
        gain=_estimate(groups, sign * float(ours["y"].mean() - base["y"].mean())),
        groups=groups,
        without_twin=tuple(map(short, lone)),
    )


def _estimate(groups: TwoGroups, mean: float) -> Estimate:
    known = groups.moments
    if known is None:
        return Estimate(1, mean, why=Method.ONE_EACH)
    return Estimate(len(groups.arm), mean, known.interval(), p=known.p, df=known.df)


def _check_seeds(arm: str, cell: str, base: pd.DataFrame, ours: pd.DataFrame) -> None:
    for name, rows in (("The baseline", base), (arm, ours)):
        twice = rows[rows["seed"].duplicated()]
        if len(twice):
            where = f" at {cell}" if cell else ""
            raise ResultsError(
                f"{name} has several rows of {short(twice['seed'].iloc[0])}{where}, so none is the twin. Name the "
                "column that tells them apart with --at or --by, or leave out --seed."
            )


def _overall(keys: pd.DataFrame, gains: Sequence[GroupGain], arms: Sequence[str], sign: int) -> list[GroupGain]:
    """Each arm over all cells. A run's scores in them belong together where seeds are declared."""
    complete = keys.groupby(["at", "arm", "seed"])["y"].agg(["mean", "count"]).reset_index()
    if not complete.empty:
        cells = keys.groupby("at")["cell"].nunique()
        runs = complete[complete["count"] == complete["at"].map(cells)].rename(columns={"mean": "y"})
        found = _gains_in(runs, arms, "at", sign)
        if found:
            return [replace(gain, is_overall=True) for gain in found]
    places = keys.drop_duplicates("cell").set_index("cell")["at"]
    found = []
    for at in dict.fromkeys(places):
        for arm in arms:
            cells_of_arm = [gain for gain in gains if gain.arm == arm and places[gain.cell] == at]
            if len(cells_of_arm) > 1:
                found.append(_mean_of_cells(str(at), arm, cells_of_arm, sign))
    return found


def _mean_of_cells(at: str, arm: str, gains: Sequence[GroupGain], sign: int) -> GroupGain:
    """The mean over cells, each of which counts once; its interval is over cells."""
    base = tuple(sign * gain.scores[0] for gain in gains)
    ours = tuple(sign * gain.scores[1] for gain in gains)
    groups = TwoGroups(base, ours, True)
    means = (sign * sum(base) / len(base), sign * sum(ours) / len(ours))
    runs = (sum(gain.runs[0] for gain in gains), sum(gain.runs[1] for gain in gains))
    gain = _estimate(groups, sign * (means[1] - means[0]))
    return GroupGain(at, arm, Method.DATA_SETS, runs, means, gain, groups, is_overall=True)


def _judged(gains: Sequence[GroupGain], margin: float | None, effect: float | None) -> list[GroupGain]:
    """The gains of a family, corrected by Holm's procedure, with what more runs would do about the undecided."""
    in_family = sum(each.gain.interval is not None for each in gains) > 1
    gains = [replace(each, groups=replace(each.groups, in_family=in_family)) for each in gains]
    known = [each.groups.moments for each in gains]
    tests = holm([each.p if each else None for each in known])
    levels = holm([each.p_within(-margin, margin) if each and margin else None for each in known])
    done = []
    for each, found, test, level in zip(gains, known, tests, levels, strict=True):
        if test is None:
            done.append(each)
            continue
        alone = each.gain
        gain = decided(alone, test, found, looks=1)
        gain = replace(gain, interval=alone.interval, df=alone.df, p_level=level.p if level else None)
        each = replace(each, gain=gain)
        undecided = gain.effect is Effect.NOT_SIGNIFICANT and each.method is not Method.DATA_SETS
        more = _more_runs(each.groups, margin, effect, ALPHA / test.family) if undecided else None
        done.append(replace(each, more=more))
    return done


def _more_runs(groups: TwoGroups, margin: float | None, effect: float | None, level: float) -> MoreRuns | None:
    if effect:
        return MoreRuns(groups.more_for(effect, level), effect)
    if margin:
        return MoreRuns(groups.more_for(margin, level, provable_margin), margin, is_margin=True)
    more = max(len(groups.arm), len(groups.baseline))
    size = groups.smallest_found(more, level)
    return None if size is None or math.isnan(size) else MoreRuns(more, size)
