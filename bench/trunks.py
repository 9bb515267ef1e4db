"""Whether intervals hold the truth where the lengths of a seed share a trunk, and how narrow they would be otherwise.

    python -m bench.trunks --out trunks
    python -m bench.trunks --studies 100 --only "one size"
    python -m bench.trunks --check --out trunks

Lengths double. On the logit, where .05 is a point at 70 %, a run has noise of its own (SD .03) and the luck of its
trunk (SD .05). Half of that variance is one offset for all lengths, half changes along the trunk (an autoregression
with a correlation of .5 between neighbours). Where sizes have trunks of their own, half of it is common to all sizes of
a seed. Speed-ups have a further .03 that both arms of a seed share. Losses of fronts and IsoFLOP curves scatter by .4
of that on the logarithm.

Each study is read twice: as flipscale does, and as if no lengths shared a trunk. Printed are how often 95 % CIs hold
the truth in both, and the median width of the second over that of the first. --check exits 1 if a coverage is below
93 % less two standard errors.

`--only trunk.yaml` simulates what studies/trunk.yaml can find: how often its claims of level hold where they are true.
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
from bench.parts import ROOT, Part, digest, run_parts
from bench.report import leave, machine, out_path, table
from flipscale.analysis.comparing import Verdict, judge_claims, speedups
from flipscale.analysis.comparing.head import head_of
from flipscale.analysis.comparing.points import Point
from flipscale.analysis.comparing.twins import judged, pairs_of
from flipscale.analysis.fitting import LAWS, Options, isoflop
from flipscale.analysis.fitting.chosen_rows import rows_of
from flipscale.analysis.fitting.table import fit_rows
from flipscale.analysis.stats import Array, ScoreKind
from flipscale.cell import write_cell
from flipscale.collecting import read_results, setting_value
from flipscale.collecting.record import as_in_tables
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.door.statements import Expectation
from flipscale.next_runs.quantities import parameter_of
from flipscale.study import read_study

ACCURACY = ScoreKind(fraction=True, lower=False)
LEAST = 0.93
CODE = ("bench/trunks.py", "flipscale/analysis/comparing", "flipscale/analysis/fitting", "flipscale/analysis/stats")
RUN, TRUNK, NEIGHBOURS, OF_TWINS = 0.03, 0.05, 0.5, 0.03
BEYOND, LOSSES = 3.0, 0.4

Ends = Mapping[str, tuple[float, float, float]]
"""Quantity -> the lower end, the truth, the upper end."""


@dataclass(frozen=True)
class Design:
    """A kind of study."""

    about: Literal["law", "front", "isoflop", "next", "speed-up", "gains"]
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
    for kind in (
        Design("law", 0),
        Design("law", 0, 4, 4),
        Design("front", 0),
        Design("front", 0, 4),
        Design("isoflop", 0, 7, 4),
        Design("next", 0, 4, 4),
        Design("speed-up", 0),
        Design("gains", 0, 3, 4),
    )
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
        if design.about == "next":
            asked = {name: parameter_of(found, name, "") for name in law.parameters if name != "A"}
            each = zip(asked.items(), theta[1:], strict=True)
            yield {f"exponent {name}": (of.value - of.half, true, of.value + of.half) for (name, of), true in each}
            continue
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


def front_study(design: Design, rng: np.random.Generator, number: int) -> Iterator[Ends]:
    """The interval of the exponent of the front of sizes that quadruple, each best at other costs, by either reading.

    The truth is the exponent of the front without noise.
    """
    runs = _sizes_and_lengths(design)
    spent = runs["N"] * runs["D"]
    level = -0.2 * np.log(spent) + 0.03 * (np.log(runs["N"]) - 0.5 * np.log(spent) + 1) ** 2
    law, options = LAWS["power"], Options(frontier="pareto", accuracy=False, draws=200, starts=2)
    ends = []
    for noise in (np.zeros(len(runs)), LOSSES * design.noise(rng).ravel()):
        table = runs.assign(C=1e3 * spent, loss=np.exp(level + noise))
        ends.append(rows_of(table, law, ["C"], "loss", accuracy=False))
    exact, rows = ends
    truth = fit_rows(law, exact, replace(options, draws=0), {}, hold_out=False).parameters["a"]
    for read in (rows, replace(rows, trunks=None)):
        low, high = fit_rows(law, read, options, {}, hold_out=False).intervals["a"] or (-math.inf, math.inf)
        yield {"exponent a": (low, truth, high)}


def isoflop_study(design: Design, rng: np.random.Generator, number: int) -> Iterator[Ends]:
    """The interval of how the best size grows with the budget, by either reading. A trunk is in all budgets."""
    runs = _sizes_and_lengths(design, sizes=2.5)
    budget = 4.0 ** np.log2(runs["D"])
    away = np.log(runs["N"]) - 0.6 * np.log(budget) - 1.5
    level = np.log(2 + 0.3 * (np.cosh(0.7 * away) - 1))
    table = runs.assign(C=budget, samples=budget / runs["N"], loss=np.exp(level + LOSSES * design.noise(rng).ravel()))
    for read in (table, table.drop(columns="trunk")):
        found = isoflop(read, x="N", y="loss", budget="C", options=Options(draws=200))
        low, high = found.intervals["a"] or (-math.inf, math.inf)
        yield {"exponent a": (low, 0.6, high)}


def _sizes_and_lengths(design: Design, sizes: float = 4.0) -> pd.DataFrame:
    """The runs of a study, without their measurements: sizes that grow by a factor, and lengths that double."""
    places = np.meshgrid(*map(np.arange, (design.sizes, design.seeds, design.lengths)), indexing="ij")
    size, seed, length = (at.ravel() for at in places)
    trunk = size * design.seeds + seed
    columns = {"model": size.astype(str), "samples": 2.0**length, "N": sizes**size, "D": 2.0**length}
    return pd.DataFrame({**columns, "seed": seed, "trunk": trunk})


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
    lines = speedups.two_lines(*sides, "hours", ACCURACY)
    assert isinstance(lines, speedups.TwoLines)
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


STUDIES = {
    "law": law_study,
    "front": front_study,
    "isoflop": isoflop_study,
    "next": law_study,
    "speed-up": speedup_study,
    "gains": gain_study,
}


def power_of_trunk_yaml(studies: int) -> dict[str, Any]:
    """How often each claim of level of studies/trunk.yaml is found to hold, where the truth is 0 and where it is the
    margin. All claims of the study are judged together.

    Runs scatter as those of results/flip with a mask of 75 % at the same length, each by itself. The mean of a run's
    weights scores as its last weights, but for a fifth of that scatter.
    """
    study, flip = read_study(ROOT / "studies" / "trunk.yaml"), read_results(ROOT / "results" / "flip" / "results.csv")
    alike = flip[(flip["mask_ratio"] == 0.75) & flip["tuning"].isna()].groupby("samples")["zero_shot_top1"]
    level, scatter = alike.mean(), alike.std()
    cells = [cell for cell in study.cells if cell.samples in (64_000, 128_000)]
    names = [name for name in SETTING_COLUMNS if hasattr(cells[0], name)]
    rows = pd.DataFrame([{name: setting_value(getattr(cell, name)) for name in names} for cell in cells])
    rows = rows.assign(id=[f"{number}" for number in range(len(rows))])
    means, sds = (rows["samples"].map(of).to_numpy() for of in (level, scatter))
    claims = [claim for claim in study.claims if claim.expect is Expectation.LEVEL]
    margins = rows["samples"].map({claim.contrast.left["samples"]: claim.margin for claim in claims}).to_numpy()
    shift = np.where((rows["schedule"] == "constant") & (rows["average"] == 0), margins / 100, 0.0)
    found: dict[str, dict[str, float]] = {claim.name: {} for claim in claims}
    for truth, moved in (("level", 0.0), ("apart", shift)):
        held = dict.fromkeys(found, 0)
        for number in range(studies):
            last, mean = means + moved + sds * np.random.default_rng([8, number]).standard_normal((2, len(rows)))
            mean = last + 0.2 * (mean - means - moved)
            table = rows.assign(**{"zero_shot_top1": last, "averaged.zero_shot_top1": mean})
            judged = judge_claims(
                table, list(map(as_in_tables, study.claims)), score="zero_shot_top1", margin=study.margin
            )
            assert judged is not None
            for each in judged.claims:
                if each.claim.name in held:
                    held[each.claim.name] += each.verdict is Verdict.HOLDS
        for name, often in held.items():
            found[name][truth] = often / studies
    scatters = {f"{at}": 100 * float(scatter[at]) for at in (64_000, 128_000)}
    return {"level": {"studies": studies, "scatter": scatters, "found": found}}


def fares(design: Design, studies: int, also: int, draws: int) -> dict[str, Any]:
    """Coverage and width of each quantity as flipscale reads it, and otherwise in the first `also` studies."""
    speedups.CURVE_DRAWS = draws
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
        kind = row["design"].rpartition(" x ")[0]
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


def power_words(level: Mapping[str, Any]) -> str:
    """How often claims of level hold, in a sentence."""
    often = [f"{100 * of['level']:.0f}" for of in level["found"].values()]
    wrong = 100 * max(of["apart"] for of in level["found"].values())
    return (
        f"studies/trunk.yaml finds a true difference of 0 level in {' and '.join(often[:2])} % of {level['studies']} "
        f"such studies at 128k, without and with a mask, and in {' and '.join(often[2:])} % at 64k; one of the margin "
        f"in at most {wrong:.0f} %."
    )


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
    if args.only in "trunk.yaml":
        parts.append(Part("trunk.yaml", power_of_trunk_yaml, (args.studies // 2,)))
    folder = out_path(args.out).with_suffix(".parts") if args.out else None
    done = list(run_parts(parts, folder=folder, code=digest(*CODE), jobs=args.jobs))
    read = [row for found in done for row in found.get("read", ())]
    limit = LEAST - 2 * math.sqrt(0.95 * 0.05 / args.studies)
    below = [f"{row['quantity']}, {row['design']}: {row['cover']:.3f}" for row in read if row["cover"] < limit]
    facts = {"studies": args.studies, "also": args.also, "read": read, "limit": limit, "below_limit": below}
    facts["level"] = next((found["level"] for found in done if "level" in found), None)
    facts["machine"] = machine()
    leave(args.out, facts, as_text(facts))
    if facts["level"]:
        print(power_words(facts["level"]))
    if folder:
        shutil.rmtree(folder)
    if args.check and below:
        sys.exit(1)
    return facts


if __name__ == "__main__":
    main()
