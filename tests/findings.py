"""docs/findings.md from docs/findings.yaml and the files that `compare` and `fit` wrote: `make docs` fills the table.

findings.yaml has an entry for each question: what the paper and its follow-ups found, where a miniature's answer
stands (`readings`), and one sentence on why they agree or not. Numbers and verdicts are read, never typed. A study
without results leaves its readings out, and a question without any says so.

A reading names a study and one of

    claims: [[SETTING, ...], ...]
                              every claim whose sides differ in just one of these sets of settings; of these, those with
                              `left:` values on their first side, and with `interaction:` true or false those that
                              compare two differences, or do not
    gain: ARM                 an arm's gain at equal samples at the base cell, or at `cell:`
    slope: AXIS               how the gain of `arm:` changes for each doubling along an axis
    speedup: ARM              the speed-up of an arm in each series, to the baseline's mean at its last but one length
    exponent: NAME            a parameter of the `law:` of fits.json, of the runs in `group:`

`published` is the paper's effect in the unit of the reading, or only its direction: better, worse. `none` reports a
number that nothing was published about. A claim brings its own.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from flipscale.words import count, fixed, short, times
from tests.studies import committed

ROOT = Path(__file__).parents[1]
NOT_YET = "not run in miniature yet"
NOTHING = "has nothing that findings.yaml asks for"


UNITS = {"points": " points", "slope": " points per doubling", "ratio": "x", "exponent": ""}


class Verdict(StrEnum):
    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNDECIDED = "undecided"
    NOTHING_PUBLISHED = "nothing published"
    NOT_RUN = "not run"


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
    level: Verdict | None = None
    """What a claim of being level came to."""
    at_least: bool = False
    """Whether the value is a lower bound."""

    @property
    def verdict(self) -> Verdict:
        """The sign of the paper's effect against the interval: the one rule."""
        null = 1.0 if self.unit == "ratio" else 0.0
        if self.level is not None:
            return self.level
        if self.published == "none":
            return Verdict.NOTHING_PUBLISHED
        paper = {"better": 1, "worse": -1}.get(str(self.published)) or _sign(float(self.published) - null)
        if self.interval is None or self.interval[0] <= null <= self.interval[1]:
            return Verdict.UNDECIDED
        return Verdict.AGREES if _sign(self.interval[0] - null) == paper else Verdict.DISAGREES

    @property
    def certainty(self) -> str:
        """'-5.5 to -3.3', '+0.1 to +0.3, uncorrected'; 'no CI' without an interval."""
        if self.interval is None:
            return "no CI"
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
        return f"{'at least ' if self.at_least else ''}{self._number(self.value)}{UNITS[self.unit]}"

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
            level=_LEVEL[claim["verdict"]] if claim["expect"] == "level" else None,
        )


_DIRECTION = {"faster": "better", "fewer_samples": "better"}

_LEVEL = {"holds": Verdict.AGREES, "contradicted": Verdict.DISAGREES, "undecided": Verdict.UNDECIDED}


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
                    what=f"how the gain of {arm['arm']} changes along {slope['axis']}",
                    value=100 * slope["slope"],
                    interval=_ends(ends, 100),
                    unit="slope",
                    seeds=None,
                    published=line["published"],
                    corrected=False,
                )


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


READERS = {"claims": _claims, "gain": _gain, "slope": _slope, "speedup": _speedups, "exponent": _exponents}


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
        """One word where all readings say it, else how often which is said."""
        counts = Counter(reading.verdict for reading in self.found)
        counts.pop(Verdict.NOTHING_PUBLISHED, None)
        if not counts:
            return Verdict.NOT_RUN
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{verdict} in {counts[verdict]}" for verdict in Verdict if counts[verdict])

    @property
    def miniature(self) -> str:
        """'recipe, 5 seeds: -4.4 (-5.5 to -3.3), ... points', a line each study."""
        lines = []
        for study in dict.fromkeys(reading.study for reading in self.found):
            of_study = [reading for reading in self.found if reading.study == study]
            seeds = next((f", {count(reading.seeds, 'seed')}" for reading in of_study if reading.seeds), "")
            said = ", ".join(f"{reading.number} ({reading.certainty})" for reading in of_study)
            lines.append(f"[{study}](../results/{study}/comparison.md){seeds}: {said}")
        return "<br>".join([*lines, *self.missing]) or NOT_YET


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


def findings(root: Path = ROOT) -> str:
    """The table: a row each question."""
    rows = [
        _row(number, one.name, one.paper, one.follow_ups, one.miniature, one.verdict, one.why)
        for number, one in enumerate(questions(root), 1)
    ]
    head = ("", "question", "the paper", "follow-ups", "the miniature (95 % CI)", "verdict", "why")
    return "\n".join([_row(*head), "|---:|---|---|---|---|---|---|", *rows]) + "\n"


def numbers(root: Path = ROOT) -> str:
    """Every reading: a row each."""
    rows = [
        _row(number, of.study, of.what, of.number, of.certainty, of.seeds or "", of.effect, of.verdict)
        for number, one in enumerate(questions(root), 1)
        for of in one.found
    ]
    head = ("", "study", "what", "miniature", "95 % CI", "seeds", "published", "verdict")
    return "\n".join([_row(*head), "|---:|---|---|---:|---|---:|---|---|", *rows]) + "\n"


def caveats(root: Path = ROOT) -> str:
    """What the studies say against their own numbers, a line each."""
    said = [(path.parent.name, _study(path.parent.name, root).get("caveats", [])) for path in committed(root=root)]
    return "\n".join(f"- **{name}.** {' '.join(sentences)}" for name, sentences in said if sentences) + "\n"


def _study(name: str, root: Path) -> Mapping[str, Any]:
    read: Mapping[str, Any] = yaml.safe_load((root / "studies" / f"{name}.yaml").read_text())
    return read


def _row(*cells: object) -> str:
    return f"| {' | '.join(' '.join(str(cell).split()) for cell in cells)} |"


def counts(root: Path = ROOT) -> str:
    """How many questions and numbers have which verdict, and which studies ask something else."""
    of_rows = questions(root)
    said = Counter("mixed" if " in " in one.verdict else one.verdict for one in of_rows)
    of_readings = Counter(reading.verdict for one in of_rows for reading in one.found)
    rows = ", ".join(f"{word} {said[word]}" for word in (*Verdict, "mixed") if said[word])
    each = ", ".join(f"{word} {of_readings[word]}" for word in Verdict if of_readings[word]) or "none"
    text = f"{len(of_rows)} questions: {rows}. {sum(of_readings.values())} numbers: {each}."
    return "\n\n".join([text, *_others(of_rows, root)]) + "\n"


def _others(of_rows: list[Question], root: Path) -> list[str]:
    """A line each committed study that no question reads: what it asks instead."""
    read = {reading.study for one in of_rows for reading in one.found}
    names = sorted({path.parent.name for path in committed(root=root)} - read)
    asked = [_study(name, root)["question"] for name in names]
    return [
        f"[{name}](../results/{name}/comparison.md) answers none of them. It asks: {question}"
        for name, question in zip(names, asked, strict=True)
    ]
