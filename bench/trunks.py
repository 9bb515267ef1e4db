"""Whether intervals hold the truth where the lengths of a seed share a trunk, and how narrow they would be otherwise.

    python -m bench.trunks --out trunks
    python -m bench.trunks --studies 100 --only "one size"
    python -m bench.trunks --check --out trunks

Lengths double. On the logit, where .05 is a point at 70 %, a run has noise of its own (SD .03) and the luck of its
trunk (SD .05). Half of that variance is one offset for all lengths, half changes along the trunk (an autoregression
with a correlation of .5 between neighbours). Where sizes have trunks of their own, half of it is common to all sizes of
a seed. Speed-ups have a further .03 that both arms of a seed share.

Each study is read twice: as flipscale does, and as if no lengths shared a trunk. Printed are how often 95 % CIs hold
the truth in both, and the median width of the second over that of the first. --check exits 1 if a coverage is below
93 % less two standard errors.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from bench.comparison import CURVES, LENGTHS, effective, true_samples
from bench.parts import Part, digest, run_parts
from bench.report import leave, machine, out_path, table
from flipscale.cell import write_cell
from flipscale.comparing import curves
from flipscale.comparing.gains import judged, pairs_of
from flipscale.comparing.head import head_of
from flipscale.comparing.points import Point
from flipscale.fitting import LAWS, Options
from flipscale.fitting.rows import rows_of
from flipscale.fitting.table import fit_rows
from flipscale.stats import Array, ScoreKind

ACCURACY = ScoreKind(fraction=True, lower=False)
LEAST = 0.93
CODE = ("bench/trunks.py", "flipscale/comparing", "flipscale/fitting", "flipscale/stats")
RUN, TRUNK, NEIGHBOURS, OF_TWINS = 0.03, 0.05, 0.5, 0.03
BEYOND = 3.0

Ends = Mapping[str, tuple[float, float, float]]
"""Quantity -> the lower end, the truth, the upper end."""


@dataclass(frozen=True)
class Design:
    """A kind of study."""

    about: Literal["law", "speed-up", "gains"]
    seeds: int
    sizes: int = 1
    lengths: int = 5

    @property
    def name(self) -> str:
        sizes = "one size" if self.sizes == 1 else f"{self.sizes} sizes"
        return f"{self.about}, {sizes} x {self.lengths} lengths, {self.seeds} seeds"

    def noise(self, rng: np.random.Generator) -> Array:
        """What runs have beyond their level [sizes, seeds, lengths]."""
        shape = (self.sizes, self.seeds, self.lengths)
        own, common = self.along(rng, shape), self.along(rng, shape[1:])
        luck = own if self.sizes == 1 else math.sqrt(0.5) * (own + common)
        return np.asarray(TRUNK * luck + RUN * rng.standard_normal(shape))

    def along(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """The luck of trunks, of variance 1, along their lengths [..., lengths]."""
        steps = rng.standard_normal(shape)
        for at in range(1, shape[-1]):
            steps[..., at] = NEIGHBOURS * steps[..., at - 1] + math.sqrt(1 - NEIGHBOURS**2) * steps[..., at]
        return np.asarray(math.sqrt(0.5) * (rng.standard_normal((*shape[:-1], 1)) + steps))


SEEDS = (3, 5)
DESIGNS = tuple(
    replace(kind, seeds=seeds)
    for kind in (Design("law", 0), Design("law", 0, 4, 4), Design("speed-up", 0), Design("gains", 0, 3, 4))
    for seeds in SEEDS
)


def law_study(design: Design, rng: np.random.Generator, number: int) -> Iterator[Ends]:
    """Intervals of exponents, of the law and of a run of a new seed at BEYOND times the largest, by either reading."""
    form, theta = (
        ("odds-power", (math.log(30), 0.25)) if design.sizes == 1 else ("odds-product", (math.log(30), 0.1, 0.15))
    )
    law = LAWS[form]
    axes = [1e3 * 2.0 ** np.arange(design.lengths)]
    axes = axes if design.sizes == 1 else [1e9 * 3.0 ** np.arange(design.sizes), *axes]
    grid = np.meshgrid(np.arange(design.sizes), np.arange(design.seeds), np.arange(design.lengths), indexing="ij")
    size, seed, length = (places.ravel() for places in grid)
    places = [length] if design.sizes == 1 else [size, length]
    x = np.column_stack([axis[at] for axis, at in zip(axes, places, strict=True)])
    beyond = np.array([[BEYOND * axis[-1] for axis in axes]])
    level = law.evaluate(np.array(theta), np.vstack([x, beyond]))[0]
    runs = pd.DataFrame(dict(zip(law.roles, x.T, strict=True)))
    runs = runs.assign(y=expit(level[:-1] + design.noise(rng).ravel()), seed=seed, trunk=size * design.seeds + seed)
    luck = TRUNK * design.along(rng, (1, 1))[0, 0] + RUN * rng.standard_normal()
    truth = float(expit(level[-1])), float(expit(level[-1] + luck))
    options = Options(draws=200, starts=2, accuracy=False, seed=number)
    rows = rows_of(runs, law, law.roles, "y", accuracy=False)
    for read in (rows, replace(rows, trunks=None)):
        found = fit_rows(law, read, options, {}, hold_out=False)
        values, at = law.values(np.array(theta)), dict(zip(law.roles, beyond[0], strict=True))
        ends = {
            f"exponent {name}": (pair[0], values[name], pair[1])
            for name, pair in found.intervals.items()
            if name != "A" and pair
        }
        bands = {"law at 3x": found.band(at), "run at 3x": found.band(at, one_run=True)}
        ends |= {
            name: (float(band[0][0]), real, float(band[1][0]))
            for (name, band), real in zip(bands.items(), truth, strict=True)
        }
        yield ends


def speedup_study(design: Design, rng: np.random.Generator, number: int) -> Iterator[Ends]:
    """The interval of the speed-up to the baseline's mean at its last but one length, by either reading."""
    law = next(of for of in CURVES if of.name == "half the cost")
    shared = OF_TWINS * rng.standard_normal((design.seeds, 1))
    sides = []
    for arm, spends in enumerate((1.0, law.spends)):
        worth = effective(law, LENGTHS) if arm else LENGTHS
        scores = expit(logit(law.law(worth)) + shared + design.noise(rng)[0])
        sides.append(
            [
                Point(
                    f"{arm}{at}-{s}",
                    f"{at}",
                    "",
                    at,
                    at,
                    "arm" * arm,
                    s,
                    "",
                    float(y),
                    {"hours": at * spends},
                    10 * arm + s,
                )
                for s, of_seed in enumerate(scores)
                for at, y in zip(LENGTHS, of_seed, strict=True)
            ]
        )
    lines = curves.two_lines(*sides, "hours", ACCURACY)
    assert isinstance(lines, curves.TwoLines)
    truth = LENGTHS[-2] / true_samples(law, float(law.law(LENGTHS[-2:-1])[0])) / law.spends
    for read in (lines, replace(lines, trunks=False)):
        low, high = read.at_target().speedup.interval or (0.0, math.inf)
        yield {"speed-up": (low, truth, high)}


def gain_study(design: Design, rng: np.random.Generator, number: int) -> Iterator[Ends]:
    """Intervals of a gain and of its slopes along sizes and lengths, which are 0, by either reading."""
    noise = [0.21 * design.noise(rng) for _ in range(2)]
    cells = {
        (size, at): write_cell((("model", f"{size}"), ("samples", f"{at}")))
        for size in range(design.sizes)
        for at in range(design.lengths)
    }
    points = [
        Point(
            f"{arm}{cell}-{s}",
            cell,
            "",
            float(at),
            None,
            "arm" * arm,
            s,
            "",
            0.7 + 0.02 * arm + noise[arm][size, s, at],
            {"hours": 1.0},
            (arm * design.sizes + size) * design.seeds + s,
        )
        for arm in range(2)
        for (size, at), cell in cells.items()
        for s in range(design.seeds)
    ]
    values = {cell: {"model": 2.0**size, "samples": 2.0**at} for (size, at), cell in cells.items()}
    for read in (points, [replace(point, trunk=-1) for point in points]):
        pairs, _ = judged(pairs_of(read, ["arm"], ACCURACY)[0])
        head = head_of(pairs, values, None, None)
        assert head is not None
        slopes = {
            f"slope along {slope.axis}": (slope.interval.low, 0.0, slope.interval.high) for slope in head.arms[0].slopes
        }
        low, high = pairs[0].gain.interval or (-math.inf, math.inf)
        yield {**slopes, "gain of a cell": (low, 0.02, high)}


STUDIES = {"law": law_study, "speed-up": speedup_study, "gains": gain_study}


def fares(design: Design, studies: int, also: int, draws: int) -> dict[str, Any]:
    """Coverage and width of each quantity as flipscale reads it, and otherwise in the first `also` studies."""
    curves.CURVE_DRAWS = draws
    read: list[list[Ends]] = [[], []]
    for number in range(studies):
        both = STUDIES[design.about](design, np.random.default_rng([7, number]), number)
        for ends, _ in zip(read, range(2 if number < also else 1), strict=False):
            ends.append(next(both))
    found = []
    for name in read[0][0]:
        held, widths = ([[f(each[name]) for each in ends] for ends in read] for f in (_holds, _width))
        found.append(
            {
                "design": design.name,
                "quantity": name,
                "cover": float(np.mean(held[0])),
                "otherwise": float(np.mean(held[1])),
                "narrow": float(np.median(widths[1]) / np.median(widths[0][: len(widths[1])])),
                "open": float(np.mean(np.isinf(widths[0]))),
            }
        )
    return {"read": found}


def _holds(ends: tuple[float, float, float]) -> bool:
    return ends[0] <= ends[1] <= ends[2]


def _width(ends: tuple[float, float, float]) -> float:
    return ends[2] - ends[0]


def as_text(facts: Mapping[str, Any]) -> str:
    """A row for each quantity, with a cell for each number of seeds."""
    rows: dict[str, list[str]] = {}
    for row in facts["read"]:
        kind = row["design"].rpartition(", ")[0]
        cells = rows.setdefault(row["quantity"] if row["quantity"] in kind else f"{kind}: {row['quantity']}", [])
        cells.append(f"{row['cover']:.3f} ({row['otherwise']:.2f}, {row['narrow']:.2f}x)")
    below = [f"- {what}" for what in facts["below_limit"]]
    many = [
        f"{facts[name]} studies (standard error {100 * math.sqrt(0.05 * 0.95 / facts[name]):.1f} % at 95)"
        for name in ("studies", "also")
    ]
    head = ["95 % CI of", *(f"{seeds} seeds" for seeds in SEEDS)]
    cells_of = [[name, *cells] for name, cells in rows.items()]
    return "\n".join([table(head, cells_of), f"Of {many[0]}; in brackets of {many[1]}.", *below])


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=800, help="of each design (800)")
    parser.add_argument("--also", type=int, default=100, help="of them, also read as if none shared a trunk (100)")
    parser.add_argument("--draws", type=int, default=600, help="of each pair of curves (600)")
    parser.add_argument("--only", default="", metavar="TEXT", help="designs whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="designs at once (1)")
    parser.add_argument("--out", help="write bench/results/OUT.json")
    parser.add_argument("--check", action="store_true", help="exit 1 if a coverage is below its limit")
    args = parser.parse_args(argv)
    arguments = args.studies, args.also, args.draws
    parts = [Part(one.name, fares, (one, *arguments)) for one in DESIGNS if args.only in one.name]
    folder = out_path(args.out).with_suffix(".parts") if args.out else None
    read = [
        row for found in run_parts(parts, folder=folder, code=digest(*CODE), jobs=args.jobs) for row in found["read"]
    ]
    limit = LEAST - 2 * math.sqrt(0.95 * 0.05 / args.studies)
    below = [f"{row['quantity']}, {row['design']}: {row['cover']:.3f}" for row in read if row["cover"] < limit]
    facts = {"studies": args.studies, "also": args.also, "read": read, "limit": limit, "below_limit": below}
    facts["machine"] = machine()
    leave(args.out, facts, as_text(facts))
    if folder:
        shutil.rmtree(folder)
    if args.check and below:
        sys.exit(1)
    return facts


if __name__ == "__main__":
    main()
