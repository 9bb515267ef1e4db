"""docs/findings-details.md from docs/findings.yaml and the files that `compare` and `fit` wrote.

findings.yaml has an entry for each question: what the paper and its follow-ups found, where a miniature's answer
stands (`readings`), and one sentence on why they agree or not. Numbers and verdicts are read, never typed. A study
without results leaves its readings out, and a question without any says so.

A reading names a study and one of

    claims: [[SETTING, ...], ...]
                              every claim whose sides differ in just one of these sets of settings; of these, those of
                              `family:` and `expect:`, with `left:` values on their first side, and with `interaction:`
                              true or false those that compare two differences, or do not
    unstated: CLAIM           a claim on curves, as a study file writes it, that the study does not state, by the name
                              of `what:`
    gain: ARM                 an arm's gain at equal samples at the base cell, or at `cell:`
    slope: AXIS               how the gain of `arm:` changes for each doubling along an axis
    speedup: ARM              the speed-up of an arm in each series, to the baseline's mean at its last but one length
    exponent: NAME            a parameter of the `law:` of fits.json, of the runs in `group:`

`published` is the paper's effect in the unit of the reading, or only its direction: better, worse. `none` reports a
number that nothing was published about. A claim brings its own.
"""

import contextlib
import functools
import io
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from docs.parts.studies import committed
from flipscale.analysis.comparing.estimates import NOT_REACHED
from flipscale.analysis.comparing.study_comparison import judge_study
from flipscale.analysis.stats import ALPHA, Array, moments
from flipscale.cli import main
from flipscale.collecting import read_results
from flipscale.collecting.record import results_of
from flipscale.planning.runs import plan
from flipscale.study import read_study
from flipscale.words import bound, fixed, short, times

ROOT = Path(__file__).parents[2]
NOT_YET = "Not run in miniature"
NOTHING = "has nothing that findings.yaml asks for"


UNITS = {"points": " points", "slope": " points per doubling", "ratio": "x", "exponent": ""}


LEVEL = 0.5
"""A published difference of fewer points, of one run each, is read as none."""

REDRAWN = 10_000
"""Times that the means of cells are drawn again for the CI of a crossing."""

MARGIN = 1.0
"""Points within which a difference counts as none: the margin of every committed study."""


class Verdict(StrEnum):
    AGREES = "agrees"
    OTHER_SIZE = "same sign, other size"
    SAME_SIGN = "same sign"
    OTHER_SIGN = "other sign"
    NOT_LEVEL = "not level"
    SMALLER = "smaller than published"
    UNDECIDED = "undecided"
    NOTHING_PUBLISHED = "nothing published"


@dataclass(frozen=True)
class Reading:
    """A number of a miniature study beside the paper's."""

    study: str
    what: str
    value: float
    interval: tuple[float, float] | None
    """95 % CI; an open end is infinite, or 0 of a ratio. None where there is none."""
    unit: str
    """One of UNITS."""
    seeds: int | None
    published: float | str
    """The paper's effect, or its direction: better, worse, level, none."""
    corrected: bool = True
    """Whether the interval is corrected for all comparisons of the study."""
    expected: bool = False
    """Whether that is what the study expects, as the paper has no number."""
    at_least: bool = False
    """Whether the value is a lower bound."""
    exact: bool = False
    """Whether an exact test, which gives no interval, decides its sign."""

    @property
    def verdict(self) -> Verdict:
        """The published effect against the interval: the one rule, which docs/findings-details.md states."""
        if self.published == "none":
            return Verdict.NOTHING_PUBLISHED
        if self.interval is None and not self.exact:
            return Verdict.UNDECIDED
        low, high = self.interval or (-math.inf, math.inf)
        size = self.published if isinstance(self.published, float | int) else None
        if self.published == "level" or (self.unit == "points" and size is not None and abs(size) < LEVEL):
            if low > MARGIN or high < -MARGIN:
                return Verdict.NOT_LEVEL
            return Verdict.AGREES if low >= -MARGIN and high <= MARGIN else Verdict.UNDECIDED
        null = 1.0 if self.unit == "ratio" else 0.0
        if low <= null <= high and not self.exact:
            return Verdict.UNDECIDED if size is None or low <= size <= high else Verdict.SMALLER
        paper = {"better": 1, "worse": -1}[str(self.published)] if size is None else _sign(size - null)
        if _sign((self.value if self.exact else low) - null) != paper:
            return Verdict.OTHER_SIGN
        if size is None or self.exact:
            return Verdict.SAME_SIGN
        return Verdict.AGREES if low <= size <= high else Verdict.OTHER_SIZE

    @property
    def ratio(self) -> str:
        """'75 %: ' of a number about a mask of 75 %, the first that it names; else nothing."""
        named = re.search(r"\b(50|75) %|mask_ratio=(0\.5|0\.75)\b", self.what)
        return f"{named[1] or round(100 * float(named[2]))} %: " if named else ""

    @property
    def certainty(self) -> str:
        """'-5.5 to -3.3', '+0.1 to +0.3, uncorrected'; 'exact test' or 'no CI' without an interval."""
        if self.interval is None:
            return "exact test" if self.exact else "no CI"
        low, high = self.interval
        if math.isinf(high):
            ends = f"above {self._number(low)}"
        elif self.unit == "ratio" and low == 0:
            ends = f"below {self._number(high)}"
        else:
            ends = f"{self._number(low)} to {self._number(high)}"
        return ends if self.corrected else f"{ends}, uncorrected"

    @property
    def number(self) -> str:
        """The value with its unit: '-4.4 points', '1.48x', '+0.41'."""
        number = f"at least {bound(self.value)}" if self.at_least else self._number(self.value)
        return f"{number}{UNITS[self.unit]}"

    @property
    def effect(self) -> str:
        """The paper's effect, in the same unit."""
        words = self.published if isinstance(self.published, str) else self._number(self.published)
        return "" if words == "none" else f"{'expected ' if self.expected else ''}{words}"

    def _number(self, value: float) -> str:
        if self.unit == "ratio":
            return times(value)
        return fixed(value, 2 if self.unit == "exponent" else 1, sign=True)


def _sign(value: float) -> int:
    assert value, "an effect of 0 has no direction"
    return 1 if value > 0 else -1


# What a study's files say


def readings(line: Mapping[str, Any], root: Path = ROOT) -> list[Reading]:
    """The numbers that one line of findings.yaml names; none where the study has no results, or none of that kind."""
    kind = next(kind for kind in READERS if kind in line)
    path = _results(line, root)
    return list(READERS[kind](line, json.loads(path.read_text()))) if path.is_file() else []


def _results(line: Mapping[str, Any], root: Path) -> Path:
    return root / "results" / line["study"] / ("fits.json" if "exponent" in line else "comparison.json")


def _claims(line: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Reading]:
    for claim in (data["claims"] or {"claims": []})["claims"]:
        left, right = claim["left"], claim["right"]
        if {name for name in {*left, *right} if left.get(name) != right.get(name)} not in map(set, line["claims"]):
            continue
        if any(line.get(name, claim[name]) != claim[name] for name in ("family", "expect")):
            continue
        if any(left[name] != value for name, value in line.get("left", {}).items()):
            continue
        if line.get("interaction", claim["than"] is not None) != (claim["than"] is not None):
            continue
        found = claim["difference"]
        if found is None:
            continue
        ratio = claim["unit"] == "x"
        assert ratio or claim["unit"] == "points", "only points and factors are shown"
        yield Reading(
            study=line["study"],
            what=claim["claim"],
            value=found["value"],
            interval=_ends(found["interval_corrected"]),
            unit="ratio" if ratio else "points",
            seeds=len(claim["seeds"]),
            published=line.get("published", claim["published"] or _DIRECTION.get(claim["expect"], claim["expect"])),
            expected="published" not in line and not claim["published"],
            exact=found["interval_corrected"] is None and claim["verdict"] in ("holds", "contradicted"),
        )


_DIRECTION = {"faster": "better", "fewer_samples": "better"}


def _gain(line: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Reading]:
    wanted = line.get("cell", data["head"]["base_cell"])
    for pair in data["pairs"]:
        if pair["cell"] == wanted and pair["arm"] == line["gain"]:
            gain = pair["gain"]
            yield Reading(
                study=line["study"],
                what=f"{line['gain']} at {wanted}, {data['y']}",
                value=100 * gain["value"],
                interval=_ends(gain["interval_corrected"] or gain["interval"], 100),
                unit="points",
                seeds=len(pair["seeds"]),
                published=line["published"],
            )


def _slope(line: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Reading]:
    for arm in data["head"]["arms"]:
        for slope in arm["slopes"]:
            if arm["arm"] == line["arm"] and slope["axis"] == line["slope"]:
                ends = slope["interval"]["low"], slope["interval"]["high"]
                yield Reading(
                    study=line["study"],
                    what=f"how the gain of {arm['arm']} changes along {_axis(slope)}",
                    value=100 * slope["slope"],
                    interval=_ends(ends, 100),
                    unit="slope",
                    seeds=None,
                    published=line["published"],
                    corrected=False,
                )


def _axis(slope: Mapping[str, Any]) -> str:
    """The axis in words: models lie along it by their FLOPs per sample."""
    name = "FLOPs per sample" if slope["axis"] == "model" else slope["axis"]
    return name + (" (not a line)" if slope["bends_p"] < ALPHA else "")


def _speedups(line: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Reading]:
    x = data["x"][0]
    for series in data["series"]:
        curve = series["costs"][x]
        found = curve["speedup"]
        if _arm(series) != line["speedup"] or found is None or found["value"] is None:
            continue
        score = f"{fixed(100 * curve['target'])} %" if data["fraction"] else f"{curve['target']:.4g}"
        yield Reading(
            study=line["study"],
            what=f"speed-up of {series['name']} to {score} in {x}",
            value=found["value"],
            interval=_ends(found["interval_corrected"]),
            unit="ratio",
            seeds=len(curve["seeds"]),
            published=line["published"],
            at_least=found.get("at_least", False),
        )


def _exponents(line: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Reading]:
    name = line["exponent"]
    for fit in data["fits"]:
        group = {key: fit["group"].get(key) for key in line["group"]}
        if fit["law"] == line["law"] and group == line["group"] and fit["x"] == line["x"]:
            of = ", ".join(f"{key}={short(value)}" for key, value in line["group"].items())
            yield Reading(
                study=line["study"],
                what=f"exponent {name} of {fit['formula'].replace('|', ' ')} ({fit['y']}) at {of}",
                value=fit["parameters"][name],
                interval=_ends(fit["intervals"].get(name)),
                unit="exponent",
                seeds=fit["seed_effect"] and fit["seed_effect"]["seeds"],
                published=line["published"],
                corrected=False,
            )


def unstated(study: str, claims: Mapping[str, Any], root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """What a study's runs say of claims on curves that it does not state: factors, with uncorrected CIs.

    A factor is how many times as fast the first side is, or how many times as many samples it takes.
    """
    written = yaml.safe_load((root / f"studies/{study}.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{study}.yaml"
        file.write_text(yaml.safe_dump({**written, "claims": dict(claims)}))
        asked = read_study(file)
    assert asked.score is not None
    results = results_of(read_results(root / f"results/{study}/results.csv"), asked, plan(asked))
    judged = judge_study(results, asked.score)
    assert judged is not None
    found = {}
    for each in judged.claims:
        said = each.difference
        assert said is not None
        assert said.interval is not None
        high = None if math.isinf(said.interval.high) else said.interval.high
        entry = {"value": said.mean, "interval": (said.interval.low, high), "why": said.why, "at_least": said.at_least}
        name = each.claim.name
        found[name] = entry | {"interval_corrected": None}
        if claims[name]["expect"] == "fewer_samples":
            found[name] |= many(entry, "interval") | {"why": said.why}
    return found


def _unstated(line: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Reading]:
    found = unstated(line["study"], {line["what"]: line["unstated"]})[line["what"]]
    yield Reading(
        study=line["study"],
        what=line["what"],
        value=found["value"],
        interval=_ends(found["interval"]),
        unit="ratio",
        seeds=len(next(iter(data["series"]))["costs"]["gpu_hours"]["seeds"]),
        published=line["published"],
        corrected=False,
    )


READERS = {
    "claims": _claims,
    "unstated": _unstated,
    "gain": _gain,
    "slope": _slope,
    "speedup": _speedups,
    "exponent": _exponents,
}


def _arm(series: Mapping[str, Any]) -> str:
    """What differs from the baseline, as 'mask_ratio=0.5'."""
    name: str = series["name"]
    return name.removeprefix(series["series"]).removeprefix(", ")


def _ends(interval: Any, factor: float = 1) -> tuple[float, float] | None:
    """An interval as numbers; null is an open end."""
    if interval is None:
        return None
    low, high = interval
    return (-math.inf if low is None else factor * low), (math.inf if high is None else factor * high)


# The document


@dataclass(frozen=True)
class Question:
    """A question of the paper or its follow-ups, with every answer there is."""

    name: str
    paper: str
    follow_ups: str
    why: str
    found: tuple[Reading, ...]
    missing: tuple[str, ...]
    """Studies that it names and that say nothing of it, with the reason."""

    @property
    def verdict(self) -> str:
        """The verdicts of its numbers; where they are several each with its studies, and a line a mask ratio."""
        told = [reading for reading in self.found if reading.verdict is not Verdict.NOTHING_PUBLISHED]
        if not told:
            return "uninformative" if self.found else "not run"
        if len({reading.verdict for reading in told}) == 1:
            return told[0].verdict
        ratios: dict[str, list[Reading]] = {}
        for reading in told:
            ratios.setdefault(reading.ratio, []).append(reading)
        return "<br>".join(f"{ratio}{_verdicts(ratios[ratio])}" for ratio in sorted(ratios))


def _verdicts(told: Sequence[Reading]) -> str:
    """'agrees (flip); undecided (fashion)'."""
    studies: dict[Verdict, dict[str, None]] = {}
    for reading in told:
        studies.setdefault(reading.verdict, {})[reading.study] = None
    return "; ".join(f"{verdict} ({', '.join(studies[verdict])})" for verdict in Verdict if verdict in studies)


def questions(root: Path = ROOT) -> list[Question]:
    """All of them, in the order of docs/findings.yaml."""
    return [_question(entry, root) for entry in yaml.safe_load((ROOT / "docs" / "findings.yaml").read_text())]


def _question(entry: Mapping[str, Any], root: Path) -> Question:
    found: list[Reading] = []
    missing: dict[str, None] = {}
    for line in entry.get("readings", []):
        of_line = readings(line, root)
        found += of_line
        if not of_line:
            missing[f"{line['study']}: {NOTHING if _results(line, root).is_file() else NOT_YET}"] = None
    return Question(
        name=entry["question"],
        paper=entry["paper"],
        follow_ups=entry["follow_ups"],
        why=entry["why"],
        found=tuple(found),
        missing=tuple(missing),
    )


MASKS = ("mask_ratio=0.5", "mask_ratio=0.75")
LARGER = ("mask_ratio=0.5, batch_size=128", "mask_ratio=0.75, batch_size=256")
"""With the batch that grows as the mask does, in plateau.yaml."""

SEEN = {"60k": "half of the pairs once", "1k": "pairs 32 times", "250": "pairs 128 times"}
"""What 32k samples show, by fashion's numbers of pairs."""


def trade(root: Path = ROOT) -> str:
    """What a mask costs and buys, the miniature beside the paper: a row each kind of number.

    Both are read to the unmasked score of the last but one length. The paper's are Fig 3 and Table 1b.
    """
    names = "plateau", "flip", "fashion", "augmentation"
    plateau, flip, fashion, augmentation = (_comparison(name, root) for name in names)
    nothing = ("", "")
    there, there_tuned = ([f"tuning_samples={tuned}, {arm}" for arm in MASKS] for tuned in ("0", "128M"))
    costs = [
        [cost_of_a_sample(data, arm, x) for arm in arms]
        for data, arms, x in ((plateau, LARGER, "gpu_hours"), (figure_3(), there, "hours"))
    ]
    rows: list[tuple[str, Sequence[str], Sequence[str]]] = [("cost of a sample", costs[0], costs[1])]
    for what, name, expect in (("samples", "samples", "fewer_samples"), ("speed-up", "speedup", "faster")):
        stated = [_stated(plateau, arm, expect) for arm in LARGER]
        rows += [
            (f"{what} to the score after 128k", _factors(plateau, LARGER, name), _factors(figure_3(), there, name)),
            (f"{what}, after 64k (the paper: first length)", stated, _first(figure_3(), there, name)),
        ]
    rows.append(("speed-up, after 16k, equal batch (flip)", _factors(flip, MASKS, "speedup"), nothing))
    tuned = [f"{arm}, tuning=1.6k" for arm in MASKS]
    both = _factors(flip, tuned, "samples"), _factors(figure_3(), there_tuned, "samples")
    rows.append(("samples, after 16k, tuned (flip)", *both))
    small = _factors(plateau, ["image_size=14"], "speedup")
    rows.append(("speed-up of small images, as few patches", ("", *small), nothing))
    published = ("-0.1", "-2.8")
    rows.append(("gain, half of the pairs seen once (flip)", _gains(flip, "samples=32k"), nothing))
    rows.append(("gain, pairs seen 4.3 times (the paper: 6.4)", _gains(plateau, "samples=256k"), published))
    for pairs, seen in SEEN.items():
        cell = f"model=ViT-w48d3-4, data_size={pairs}, samples=32k"
        rows.append((f"gain, 49 patches, {seen} (fashion)", _gains(fashion, cell), nothing))
    rows.append(
        ("the same with crops and mirroring (augmentation)", _gains(augmentation, "crop=0.5, flip=true"), nothing)
    )
    icons = read_results(root / "results/icons/results.csv")
    repeats = [_repeats(crossing(icons, mask)) for mask in (0.5, 0.75)]
    rows.append(("repeats from which held-out loss is lower (icons)", repeats, nothing))
    head = ("at equal accuracy, then equal samples", "mask 50 %: here", "the paper", "mask 75 %: here", "the paper")
    cells = [_row(what, half, paper_half, most, paper_most) for what, (half, most), (paper_half, paper_most) in rows]
    return "\n".join([_row(*head), "|---|---:|---:|---:|---:|", *cells]) + "\n"


def cost_of_a_sample(data: Mapping[str, Any], name: str, x: str) -> str:
    """'1/4.7'; of an arm that never reaches the score, by its runs at equal samples."""
    found = curve(data, name, x)["cheaper_a_sample"]["value"]
    ratios = [pair["ratios"][x]["value"] for pair in data["pairs"] if pair["arm"] == name]
    return f"1/{times(found or len(ratios) / sum(ratios))}"


def _factors(data: Mapping[str, Any], arms: Sequence[str], name: str) -> list[str]:
    """The samples or speed-ups of arms, to the score at which their curves are read."""
    return [factor(curve(data, arm, "hours" if data is figure_3() else "gpu_hours")[name]) for arm in arms]


def _stated(data: Mapping[str, Any], arm: str, expect: str) -> str:
    """The speed-up of a claim to the unmasked score after 64k samples, or how many samples the arm takes to it."""
    mask, batch = (float(part.partition("=")[2]) for part in arm.split(", "))
    (claim,) = (
        claim
        for claim in data["claims"]["claims"]
        if claim["family"] == "after 64k samples"
        and (claim["expect"], claim["left"]["mask_ratio"], claim["left"]["batch_size"]) == (expect, mask, batch)
    )
    found = claim["difference"]
    if not found:
        return _unread(claim["why"])
    return factor(many(found, "interval") if expect == "fewer_samples" else found)


def many(found: Mapping[str, Any], ends: str) -> dict[str, Any]:
    """How many samples the first side takes: a claim's factor is what the other side takes over that."""
    low, high = found[ends]
    corrected = (1 / high if high else 0.0, 1 / low if low else None)
    return {"value": 1 / found["value"], "interval_corrected": corrected, "why": None}


def _first(data: Mapping[str, Any], arms: Sequence[str], name: str) -> list[str]:
    """The samples or speed-ups of arms to the score of the baseline's first length; a bound if an arm's passes it."""
    curves = [curve(data, arm, "hours") for arm in arms]
    lowest = min(of["speedup_curve"][0]["score"] for of in curves)
    said = []
    for of in curves:
        begins = of["speedup_curve"][0]
        cheaper = bound(of["cheaper_a_sample"]["value"])
        beyond = "at most 1.00x" if name == "samples" else f"at least {cheaper}x"
        said.append(f"{times(begins[name])}x" if begins["score"] == lowest else beyond)
    return said


def _unread(why: object) -> str:
    return "not reached" if why == NOT_REACHED else str(why)


def _comparison(name: str, root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "results" / name / "comparison.json").read_text()))


@functools.cache
def figure_3() -> dict[str, Any]:
    """What `compare` says of the runs of FLIP's Fig 3. Samples count those of tuning, as in the miniature."""
    said = io.StringIO()
    table = pd.read_csv(ROOT / "studies/references/flip.csv")
    table["samples_seen"] = table["samples"] + table["tuning_samples"]
    asked = ["--where", "table == 'Fig 3'", "--baseline", "mask_ratio=0", "--x", "hours", "--series", "tuning_samples"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        file = Path(folder) / "flip.csv"
        table.to_csv(file, index=False)
        main(["compare", str(file), "--y", "score", *asked, "--at", "samples", "--json"])
    return dict(json.loads(said.getvalue()))


def curve(data: Mapping[str, Any], name: str, x: str) -> dict[str, Any]:
    """The accuracy of an arm against its cost."""
    return next(dict(series["costs"][x]) for series in data["series"] if series["name"] == name)


def factor(found: Mapping[str, Any]) -> str:
    """'1.97x (1.30 to 2.5)', or the reason for having no value."""
    if found["value"] is None:
        return _unread(found["why"])
    if found["why"] == "the shortest schedule passes the score":
        return f"at most {times(found['value'])}x"
    interval = _ends(found["interval_corrected"] or found["interval"])
    of = Reading("", "", found["value"], interval, "ratio", None, "none", at_least=bool(found.get("at_least")))
    return f"{of.number} ({of.certainty})" if interval and times(interval[0]) != times(of.value) else of.number


def _gains(data: Mapping[str, Any], cell: str) -> list[str]:
    found = [_gain({"study": "", "gain": arm, "cell": cell, "published": "none"}, data) for arm in MASKS]
    return [f"{of.number.removesuffix(' points')} ({of.certainty})" for (of,) in found]


def crossing(table: pd.DataFrame, mask: float) -> tuple[float, float, float]:
    """How often pairs are seen where a mask and none have the same held-out loss, with its 95 % CI.

    The mean difference over seeds is a straight line between sizes over the logarithm of repeats. For the CI the means
    of all sizes are drawn again, each by its own seeds, so that the crossing may leave its two sizes; it ends
    at those that ran.
    """
    losses = table.pivot_table(index="seed", columns=["mask_ratio", "data_size"], values="held_out_loss")
    gaps = losses[mask] - losses[0.0]
    repeats = np.log2(table.groupby("data_size")["repeats"].mean()[gaps.columns].to_numpy(float))
    order = np.argsort(repeats)
    cells = [moments(gaps[size].tolist()) for size in gaps.columns[order]]
    means = np.array([each.mean for each in cells if each])
    rng = np.random.default_rng(0)
    drawn = means + np.array([each.error * rng.standard_t(each.df, REDRAWN) for each in cells if each]).T
    low, high = np.quantile([_turns(repeats[order], each) for each in drawn], (0.025, 0.975))
    return 2 ** _turns(repeats[order], means), 2**low, 2**high


def _turns(xs: Array, gaps: Array) -> float:
    """The last place from which gaps are below 0; an end where they have one sign."""
    above = np.flatnonzero(gaps > 0)
    if not len(above):
        return float(xs[0])
    last = above[-1]
    if last == len(xs) - 1:
        return float(xs[-1])
    return float(xs[last] + (xs[last + 1] - xs[last]) * gaps[last] / (gaps[last] - gaps[last + 1]))


def _repeats(found: tuple[float, float, float]) -> str:
    return "{} times ({} to {})".format(*map(fixed, found))


def index(root: Path = ROOT) -> str:
    """The questions, a line each, with the paper's effect and the verdict."""
    rows = [
        _row(f"[{number} {of.name}](#{_slug(number, of)})", of.paper, of.verdict)
        for number, of in enumerate(questions(root), 1)
    ]
    return "\n".join([_row("question", "the paper", "the miniature"), "|---|---|---|", *rows]) + "\n"


def _slug(number: int, of: Question) -> str:
    """The anchor of a question's heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w -]", "", f"{number} {of.name}".lower()).replace(" ", "-")


def details(root: Path = ROOT) -> str:
    """Every question with its numbers."""
    parts = []
    for number, of in enumerate(questions(root), 1):
        follow_ups = "" if of.follow_ups == "none found" else f" Later work: {of.follow_ups}."
        parts += [f"### {number} {of.name}", f"The paper: {of.paper}.{follow_ups}", of.why]
        rows = [
            _row(_link(each.study), each.what, each.number, each.certainty, each.seeds or "", each.effect, each.verdict)
            for each in of.found
        ]
        head = ("study", "what", "miniature", "95 % CI", "seeds", "published", "verdict")
        parts.append("\n".join([_row(*head), "|---|---|---:|---|---:|---|---|", *rows]) if rows else f"{NOT_YET}.")
        parts += [f"{missing}." for missing in of.missing]
    return "\n\n".join([*parts, *_others(questions(root), root)]) + "\n"


def _link(study: str) -> str:
    return f"[{study}](../results/{study}/comparison.md)"


def caveats(root: Path = ROOT) -> str:
    """What the studies say against their own numbers, a line each."""
    said = [(path.parent.name, _study(path.parent.name, root).get("caveats", [])) for path in committed(root=root)]
    return "\n".join(f"- **{name}.** {' '.join(sentences)}" for name, sentences in said if sentences) + "\n"


def _study(name: str, root: Path) -> Mapping[str, Any]:
    read: Mapping[str, Any] = yaml.safe_load((root / "studies" / f"{name}.yaml").read_text())
    return read


def _row(*cells: object) -> str:
    return f"| {' | '.join(' '.join(str(cell).split()) for cell in cells)} |"


def _others(of_rows: list[Question], root: Path) -> list[str]:
    """A line each committed study that no question reads: what it asks instead."""
    read = {reading.study for one in of_rows for reading in one.found}
    names = sorted({path.parent.name for path in committed(root=root)} - read)
    asked = [_study(name, root)["question"] for name in names]
    return [
        f"{_link(name)} answers none of them. It asks: {question}" for name, question in zip(names, asked, strict=True)
    ]
