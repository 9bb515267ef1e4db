"""Synthetic studies whose laws are known, and how often the intervals of their fits hold the truth.

A study draws its runs from a law with noise on the link scale (log y of a loss, logit of an error) and an effect of
each seed on the whole curve; an IsoFLOP study draws a curve for each budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.scatter import Spread, even, falling, gamma, wild
from flipscale.analysis.fitting import LAWS, Options, isoflop
from flipscale.analysis.fitting.chosen_rows import rows_of
from flipscale.analysis.fitting.table import fit_rows
from flipscale.analysis.stats import Array
from flipscale.errors import ResultsError

BEYOND = (3.0, 10.0)
"""The law is predicted at this many times the largest value of every variable."""

WRONG = 10.0
"""A run that went wrong scatters by this many standard deviations."""

Noise = Literal["normal", "heavy tails"]


@dataclass(frozen=True)
class Design:
    """A kind of study."""

    law: str
    theta: tuple[float, ...]
    """Its true parameters, as they are fitted."""
    axes: tuple[tuple[float, float, int], ...]
    """First, last and number of values of each variable."""
    scatter: float
    """Standard deviation of a run about the law, on its link scale."""
    seeds: int = 3
    effect: float = 0.0
    """Standard deviation of what a seed adds to every run, on the link scale."""
    shared: bool = True
    """Whether all settings are run with the same seeds; else every run has its own."""
    noise: Noise = "normal"
    spread: Spread = even
    """How the scatter differs between settings, from the smallest to the largest."""
    lost: float = 0.0
    """Share of the runs that are missing at random."""
    wrong: float = 0.0
    """Share of the runs that went wrong."""

    @property
    def name(self) -> str:
        settings = " x ".join(str(n) for _, _, n in self.axes)
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}{'' if self.shared else ' of its own'}"
        parts = [f"{self.law}, {settings} settings, {seeds}, effect {self.effect:g}"]
        parts += [self.noise] if self.noise != "normal" else []
        parts += [SPREADS[self.spread]] if self.spread is not even else []
        parts += [f"{100 * self.lost:g} % of runs lost"] if self.lost else []
        parts += [f"{100 * self.wrong:g} % of runs wrong"] if self.wrong else []
        return ", ".join(parts)

    @property
    def roles(self) -> tuple[str, ...]:
        return LAWS[self.law].roles

    def draw(self, rng: np.random.Generator) -> pd.DataFrame:
        """The runs of a study."""
        columns = np.meshgrid(*(np.geomspace(*axis) for axis in self.axes), indexing="ij")
        settings = np.column_stack([column.ravel() for column in columns])
        x = np.repeat(settings, self.seeds, axis=0)
        seed = np.tile(np.arange(self.seeds), len(settings)) if self.shared else np.arange(len(x))
        effects = rng.normal(0, self.effect, seed.max() + 1)
        wide = np.repeat(self.spread(rng, np.linspace(0, 1, len(settings))), self.seeds)
        runs = pd.DataFrame(
            {
                **dict(zip(self.roles, x.T, strict=True)),
                "y": self.at(x, wide * self._scatter(rng, len(x)) + effects[seed]),
            }
        )
        return runs.assign(seed=seed)[rng.random(len(x)) >= self.lost]

    def beyond(self, times: float) -> dict[str, list[float]]:
        """The variables of a run at this many times the largest value of each."""
        return {role: [times * last] for role, (_, last, _) in zip(self.roles, self.axes, strict=True)}

    def at(self, x: Array, above: Array | float = 0.0) -> Array:
        """y at x [n, roles], with `above` added on the link scale."""
        z = LAWS[self.law].evaluate(np.array(self.theta), x)[0] + above
        return np.exp(z) if LAWS[self.law].link == "log" else 1 / (1 + np.exp(z))

    def new_run(self, x: Array, rng: np.random.Generator) -> Array:
        """y of a run of a new seed at x [1, roles], which scatters as the largest setting does."""
        wide = self.spread(rng, np.linspace(0, 1, 20))[-1:]
        return self.at(x, wide * self._scatter(rng, 1) + rng.normal(0, self.effect))

    def _scatter(self, rng: np.random.Generator, n: int) -> Array:
        """Student's t of 3 degrees of freedom, scaled to the same variance, has heavy tails."""
        drawn = rng.standard_normal(n) if self.noise == "normal" else rng.standard_t(3, n) / np.sqrt(3)
        went_wrong = rng.random(n) < self.wrong if n > 1 else False
        return self.scatter * np.where(went_wrong, WRONG, 1.0) * np.asarray(drawn, dtype=np.float64)


@dataclass(frozen=True)
class Budgets:
    """A kind of IsoFLOP study: curves whose best size grows as the budget to the power 0.6."""

    seeds: int
    effect: float
    scatter: float
    sizes: int = 7
    budgets: tuple[float, ...] = (1e17, 10**17.75, 10**18.5, 10**19.25, 1e20)

    @property
    def name(self) -> str:
        runs = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        noise = f"effect {self.effect:g}" if self.scatter else "noise-free"
        return f"isoflop, {len(self.budgets)} budgets x {self.sizes} sizes, {runs}, {noise}"

    def draw(self, rng: np.random.Generator) -> pd.DataFrame:
        """The runs of a study; the sizes of each budget are shifted at random about its best one."""
        effects = rng.normal(0, self.effect, self.seeds)
        rows = []
        for budget in self.budgets:
            for u in np.linspace(-3, 3, self.sizes) + rng.uniform(-0.4, 0.4):
                level = np.log(2 + 0.3 * (np.cosh(0.7 * u) - 1))
                for seed in range(self.seeds):
                    noise = effects[seed] + rng.normal(0, self.scatter)
                    rows.append((budget, budget**0.6 / 1e3 * np.exp(u), np.exp(level + noise), seed))
        return pd.DataFrame(rows, columns=["C", "N", "loss", "seed"])


SPREADS: Mapping[Spread, str] = {falling: "noise falls with size", wild: "one wild setting", gamma: "gamma variances"}

POWER = Design("power", (np.log(12.0), 0.3), ((1e3, 1e7, 12),), 0.02)
FLOOR = Design("power+floor", (np.log(1.7), np.log(3000.0), 0.2), ((1e17, 1e21, 12),), 0.01)
CHINCHILLA = Design(
    "chinchilla", (np.log(1.69), np.log(406.4), np.log(410.7), 0.34, 0.28), ((1e7, 1e10, 7), (1e9, 3e11, 5)), 0.01
)
ODDS = Design("odds", (np.log(30.0), np.log(200.0), 0.25, 0.3, 0.9), ((1e9, 1e12, 7), (1e8, 3e10, 5)), 0.03)
PRODUCT = Design("odds-product", (np.log(30.0), 0.1, 0.15), ((1e9, 1e12, 4), (1e8, 3e10, 4)), 0.03)

DESIGNS: tuple[Design, ...] = (
    *(replace(POWER, seeds=seeds, effect=0.03) for seeds in (2, 3, 5)),
    *(replace(POWER, effect=effect) for effect in (0, 0.08)),
    *(replace(PRODUCT, effect=effect) for effect in (0, 0.03)),
    *(replace(FLOOR, effect=0.03, seeds=seeds) for seeds in (2, 3)),
    *(replace(CHINCHILLA, effect=effect) for effect in (0, 0.03)),
    *(replace(ODDS, effect=effect) for effect in (0, 0.03)),
    *(replace(law, effect=0.03, wrong=0.1) for law in (POWER, FLOOR, CHINCHILLA, ODDS)),
    replace(FLOOR, axes=((1e17, 1e21, 30),), seeds=1),
    replace(FLOOR, axes=((1e17, 1e21, 30),), seeds=1, wrong=0.1),
    replace(POWER, effect=0.03, shared=False),
    replace(POWER, effect=0.03, noise="heavy tails"),
    replace(POWER, effect=0.03, lost=0.15),
    *(replace(POWER, effect=0.03, spread=spread) for spread in SPREADS),
)

BUDGETS = (
    *(Budgets(seeds, 0.03, 0.01) for seeds in (1, 2, 3, 5)),
    Budgets(3, 0.03, 0.0),
)


def covered(design: Design, studies: int, draws: int) -> dict[str, Any]:
    """The share of studies in which each interval held the truth."""
    law = LAWS[design.law]
    truth = law.values(np.array(design.theta))
    beyond = {f"law at {times:g}x": design.beyond(times) for times in BEYOND}
    held: dict[str, list[bool]] = {name: [] for name in (*truth, *beyond, f"run at {BEYOND[0]:g}x")}
    runs = refused = 0
    for number in range(studies):
        rng = np.random.default_rng(1000 + number)
        drawn = design.draw(rng)
        options = Options(draws=draws, starts=6, accuracy=law.link == "logit", seed=number)
        rows = rows_of(drawn, law, design.roles, "y", accuracy=options.accuracy)
        try:
            # As `fit`, without the error on the largest runs, which takes a second fit and is not needed here.
            found = fit_rows(law, rows, options, {}, hold_out=False)
        except ResultsError:  # few starts agree
            refused += 1
            continue
        runs = len(found.rows)
        for name, value in truth.items():
            if ends := found.intervals[name]:  # what is not determined is not printed
                held[name].append(ends[0] <= value <= ends[1])
        for name, point in beyond.items():
            here = np.array([[float(column[0]) for column in point.values()]])
            low, high = found.band(point)
            held[name].append(bool(low[0] <= design.at(here)[0] <= high[0]))
            if name == f"law at {BEYOND[0]:g}x":
                low, high = found.band(point, one_run=True)
                held[f"run at {BEYOND[0]:g}x"].append(bool(low[0] <= design.new_run(here, rng)[0] <= high[0]))
    return _facts(design, held, runs, studies, refused)


def covered_isoflop(design: Budgets, studies: int, draws: int) -> dict[str, Any]:
    """The same for IsoFLOP studies; without noise it measures the width of the exponent's interval."""
    beyond = 10 * max(design.budgets)
    held: dict[str, list[bool]] = {"a": [], "law at 10x": []}
    width = 0.0
    drawn = design.draw(np.random.default_rng(0))
    for number in range(studies if design.scatter else 1):
        drawn = design.draw(np.random.default_rng(number))
        found = isoflop(drawn, x="N", y="loss", budget="C", options=Options(draws=draws, seed=number))
        if ends := found.intervals["a"]:
            width = max(width, ends[1] - ends[0])
            held["a"].append(ends[0] <= 0.6 <= ends[1])
        if found.stretch is not None:
            low, high = found.band({"C": [beyond]})
            held["law at 10x"].append(bool(low[0] <= beyond**0.6 / 1e3 <= high[0]))
    if not design.scatter:
        return {"design": design.name, "runs": len(drawn), "width": width}
    return _facts(design, held, len(drawn), studies, 0)


def _facts(
    design: Design | Budgets, held: Mapping[str, list[bool]], runs: int, studies: int, refused: int
) -> dict[str, Any]:
    return {
        "design": design.name,
        "runs": runs,
        "covered": {name: sum(found) / len(found) for name, found in held.items() if len(found) > studies / 2},
        "printed": {name: len(found) / studies for name, found in held.items()},
        "refused": refused / studies,
    }
