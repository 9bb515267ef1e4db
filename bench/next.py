"""Forecasts of laws whose runs `flipscale next` chose, beside other designs of equal cost, over drawn laws.

    python -m bench.next --out next
    python -m bench.next --laws 50

Each law is drawn from a distribution around published exponents: Chinchilla's form (a loss), and odds with an exponent
around the sum (an accuracy). A grid of 6 sizes by 6 lengths, 32 times in each, has up to 5 seeds a cell; a design
spends a share of what the grid costs with one seed. The law is then fitted with a prior, and asked for a run 10 times
beyond the grid in both. The scores are the root mean square and the median of that forecast's error: the width that a
design predicts for itself says little (docs/next.md). The narrow prior is the distribution that laws are drawn from,
the wide one three times as wide. All designs are fitted with it.

next          cheap runs first, then one batch with the noise and the prior that the command takes from them
known noise   the same batch with the true noise and the prior of the fit
prior's mean  one batch for the law at the prior's mean, before any run
ladder        sizes and lengths that grow together, up to the largest affordable step
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import leave, limit, machine, out_path, table
from flipscale.analysis.fitting import LAWS
from flipscale.analysis.stats import Array
from flipscale.next_runs import Candidate, Quantity, choose
from flipscale.next_runs.quantities import PRIOR_WIDTHS

SIDE = 32 ** np.linspace(-0.5, 0.5, 6)
CELLS = np.array([(size, length) for size in SIDE for length in SIDE])
"""Size and length of each cell [cells, 2]."""

COSTS = CELLS.prod(axis=1)
TARGET = 10 * CELLS[-1:]
SEEDS = 5
START = 0.15
"""Share of the budget for the cheapest cells, from which a first law is fitted."""

MOST_LOSS = 0.15
"""How much worse than the best other design the choice may be, a fraction."""


@dataclass(frozen=True)
class Drawn:
    """A form with the distribution that its laws are drawn from."""

    law: str
    mean: Array
    """Of the parameters as they are fitted [parameters]."""
    sd: Array
    noise: float
    """Standard deviation of a run on the link scale."""

    def evaluate(self, theta: Array, cells: Array) -> tuple[Array, Array]:
        return LAWS[self.law].evaluate(theta, cells)


FORMS = (
    Drawn(
        "chinchilla",
        np.array([np.log(1.7), np.log(0.8), np.log(0.8), 0.34, 0.31]),
        np.array([0.15, 0.3, 0.3, 0.07, 0.07]),
        0.01,
    ),
    Drawn("odds", np.array([0.0, 0.0, 0.4, 0.35, 0.8]), np.array([0.3, 0.3, 0.08, 0.08, 0.2]), 0.04),
)

WIDER = {"narrow": 1.0, "wide": 3.0}


@dataclass
class Runs:
    """The runs of one drawn law, and those of them that a design has made."""

    form: Drawn
    results: Array
    """Of each run on the link scale [cells, seeds]."""
    prior: float
    """How much wider the prior is than the distribution of laws."""
    budget: float
    made: Array
    """Seeds run of each cell [cells]."""

    @property
    def left(self) -> float:
        return self.budget - float(self.made @ COSTS)

    def fit(self) -> tuple[Array, Array]:
        """The law by the runs made and the prior: its parameters and their covariance."""
        cells = np.repeat(CELLS, self.made, axis=0)
        z = np.concatenate([seeds[:n] for seeds, n in zip(self.results, self.made, strict=True)])
        precision = 1 / (self.prior * self.form.sd) ** 2
        theta, damping = self.form.mean.copy(), 1e-3
        best = np.inf
        for _ in range(60):
            predicted, jacobian = self.form.evaluate(theta, cells)
            residual, off = (z - predicted) / self.form.noise, theta - self.form.mean
            value = float(residual @ residual + precision @ off**2)
            if value < best:
                kept, stop = (theta, residual, jacobian, off), best - value < 1e-8 * value
                best, damping = value, max(damping / 10, 1e-9)
                if stop:
                    break
            else:
                damping *= 10
            theta, residual, jacobian, off = kept
            normal = jacobian.T @ jacobian / self.form.noise**2 + np.diag(precision)
            downhill = jacobian.T @ residual / self.form.noise - precision * off
            theta = theta + np.linalg.solve(normal + damping * np.diag(np.diag(normal)), downhill)
        theta, _, jacobian, _ = kept
        return theta, np.linalg.inv(jacobian.T @ jacobian / self.form.noise**2 + np.diag(precision))

    def as_the_command_has_it(self, theta: Array) -> tuple[Array, float]:
        """The covariance of the parameters, and the noise, by the scatter of the runs and the command's own prior."""
        cells = np.repeat(CELLS, self.made, axis=0)
        z = np.concatenate([seeds[:n] for seeds, n in zip(self.results, self.made, strict=True)])
        predicted, jacobian = self.form.evaluate(theta, cells)
        noise = float(np.sqrt(((z - predicted) ** 2).sum() / max(len(z) - len(theta), 1)))
        low, high = LAWS[self.form.law].bounds(cells, z)
        prior = np.diag(PRIOR_WIDTHS**2 / (high - low) ** 2)
        return np.asarray(np.linalg.inv(jacobian.T @ jacobian / noise**2 + prior)), noise


Design = Callable[[Runs, np.random.Generator], None]
"""Spends the budget of these runs."""


def chosen(runs: Runs, rng: np.random.Generator) -> None:
    """By flipscale: the cheapest cells first, then one batch as the command has it."""
    start(runs)
    theta, _ = runs.fit()
    covariance, noise = runs.as_the_command_has_it(theta)
    batch(runs, theta, covariance, noise)


def with_known_noise(runs: Runs, rng: np.random.Generator) -> None:
    """The same with the noise and the prior of the fit."""
    start(runs)
    theta, covariance = runs.fit()
    batch(runs, theta, covariance, runs.form.noise)


def at_the_mean(runs: Runs, rng: np.random.Generator) -> None:
    """One batch for the law at the prior's mean."""
    batch(runs, runs.form.mean, np.diag((runs.prior * runs.form.sd) ** 2), runs.form.noise)


def start(runs: Runs) -> None:
    """The cheapest cells."""
    for cell in np.argsort(COSTS):
        if float(runs.made @ COSTS) + COSTS[cell] > START * runs.budget:
            break
        runs.made[cell] = 1


def batch(runs: Runs, theta: Array, covariance: Array, noise: float) -> None:
    """The rest of the budget, chosen at once for the law at theta."""
    jacobian = runs.form.evaluate(theta, CELLS)[1]
    target = runs.form.evaluate(theta, TARGET)[1][0]
    names = {f"{cell} {seed}": cell for cell in range(len(CELLS)) for seed in range(runs.made[cell], SEEDS)}
    candidates = [Candidate(0, jacobian[cell], noise**2, (name,)) for name, cell in names.items()]
    costs = {name: float(COSTS[cell]) for name, cell in names.items()}
    picks, _ = choose([Quantity(covariance, target)], candidates, costs, runs.left)
    for pick in picks:
        runs.made[names[pick.runs[0]]] += 1


def ladder(runs: Runs, rng: np.random.Generator) -> None:
    """A seed of each step from the smallest size and length, as far as the budget allows; then further seeds of all."""
    steps = [step * (len(SIDE) + 1) for step in range(len(SIDE))]
    affordable = [step for number, step in enumerate(steps) if COSTS[steps[: number + 1]].sum() <= runs.budget]
    for _ in range(SEEDS):
        for cell in affordable[::-1]:
            if COSTS[cell] <= runs.left:
                runs.made[cell] += 1


def even(runs: Runs, rng: np.random.Generator) -> None:
    """One seed of every cell of the dearest sub-grid from the smallest size and length that the budget allows."""
    grids = [(CELLS[:, 0] <= size) & (CELLS[:, 1] <= length) for size in SIDE[1:] for length in SIDE[1:]]
    runs.made[max((grid for grid in grids if COSTS[grid].sum() <= runs.budget), key=lambda grid: COSTS[grid].sum())] = 1


def at_random(runs: Runs, rng: np.random.Generator) -> None:
    """Cells and seeds at random, as long as one is affordable."""
    for cell in rng.permutation(np.repeat(np.arange(len(CELLS)), SEEDS)):
        if COSTS[cell] <= runs.left:
            runs.made[cell] += 1


def largest(runs: Runs, rng: np.random.Generator) -> None:
    """The dearest affordable cell, again and again."""
    for cell in np.argsort(-COSTS):
        if COSTS[cell] <= runs.left:
            runs.made[cell] = 1


DESIGNS: Mapping[str, Design] = {
    "next": chosen,
    "known noise": with_known_noise,
    "prior's mean": at_the_mean,
    "ladder": ladder,
    "even grid": even,
    "random": at_random,
    "largest": largest,
}

RIVALS = ("prior's mean", "ladder", "even grid", "random", "largest")
"""Designs that need no flipscale."""


def forecast_error(form: Drawn, number: int, prior: float, share: float, design: Design) -> tuple[float, int]:
    """The error of the forecast on the link scale for drawn law `number`, and how many runs it took."""
    rng = np.random.default_rng([number, len(form.law)])
    truth = form.mean + form.sd * rng.standard_normal(len(form.mean))
    results = form.evaluate(truth, CELLS)[0][:, None] + form.noise * rng.standard_normal((len(CELLS), SEEDS))
    runs = Runs(form, results, prior, share * float(COSTS.sum()), np.zeros(len(CELLS), dtype=int))
    design(runs, rng)
    says, is_ = (float(form.evaluate(theta, TARGET)[0][0]) for theta in (runs.fit()[0], truth))
    return says - is_, int(runs.made.sum())


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned. --check exits with 1 if a limit does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laws", type=int, default=400, help="of each form (400)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit does not hold")
    parser.add_argument("--out", metavar="NAME", help="write bench/results/NAME.json and its figure")
    asked = parser.parse_args(arguments)
    rows = []
    for form in FORMS:
        for prior, wider in WIDER.items():
            for share in (0.03, 0.1):
                row: dict[str, Any] = {
                    "form": form.law,
                    "prior": prior,
                    "share": share,
                    "rms": {},
                    "median": {},
                    "runs": {},
                }
                for name, design in DESIGNS.items():
                    found = [forecast_error(form, number, wider, share, design) for number in range(asked.laws)]
                    row["rms"][name] = float(np.sqrt(np.mean([error**2 for error, _ in found])))
                    row["median"][name] = float(np.median([abs(error) for error, _ in found]))
                    row["runs"][name] = float(np.mean([runs for _, runs in found]))
                row["better"] = 1 - row["rms"]["next"] / min(row["rms"][name] for name in RIVALS)
                rows.append(row)
    limits = [
        limit(
            f"{row['form']}, {row['prior']} prior, {100 * row['share']:g} % of the grid",
            f"at most {100 * MOST_LOSS:g} % worse than the best other design",
            f"{-100 * row['better']:+.0f} %",
            row["better"] >= -MOST_LOSS,
        )
        for row in rows
    ]
    facts = {"benchmark": "next", "machine": machine(), "laws": asked.laws, "rows": rows, "limits": limits}
    leave(asked.out, facts, _as_markdown(facts))
    if asked.out:
        draw(facts, out_path(asked.out).with_suffix(".svg"))
    if asked.check and any(one["verdict"] == "DOES NOT HOLD" for one in limits):
        raise SystemExit(1)
    return facts


def _as_markdown(facts: Mapping[str, Any]) -> str:
    head = ("law", "prior", "share of the grid's cost", *DESIGNS, "next against the best other", "runs of next")
    rows = [
        (
            row["form"],
            row["prior"],
            f"{100 * row['share']:g} %",
            *(f"{100 * row['rms'][name]:.2f} ({100 * row['median'][name]:.2f})" for name in DESIGNS),
            f"{-100 * row['better']:+.0f} %",
            f"{row['runs']['next']:.0f}",
        )
        for row in facts["rows"]
    ]
    limits = [[one[key] for key in ("what", "limit", "measured", "verdict")] for one in facts["limits"]]
    return (
        "Root mean square error of the forecast (in brackets the median error), in hundredths of the log of a loss or "
        "the log odds of an error, "
        f"{facts['laws']} drawn laws\n\n"
        + table(head, rows)
        + "\n"
        + table(("what", "limit", "measured", "verdict"), limits)
    )


def draw(facts: Mapping[str, Any], path: Path) -> None:
    """The error of each design over that of `next`, a row for each law, prior and share of the cost."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = facts["rows"]
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "next", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        colors = ("#0072B2", "#56B4E9", "#CC79A7", "#D55E00", "#999999", "#E69F00", "#009E73")
        for name, marker, color in zip(DESIGNS, "oPv*s^D", colors, strict=True):
            errors = [row["rms"][name] / row["rms"]["next"] for row in rows]
            ax.plot(errors, range(len(rows)), marker, color=color, markersize=5, label=name)
        names = [f"{row['form']}, {row['prior']} prior, {100 * row['share']:g} % of the cost" for row in rows]
        ax.set_yticks(range(len(rows)), names)
        ax.invert_yaxis()
        ax.set_xlabel(f"error of the forecast over that of next (root mean square, {facts['laws']} drawn laws)")
        ax.grid(axis="x", color="#e4e4e4")
        ax.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1))
        figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
