"""The keys of a study file, each with its type and a sentence: the reader, the JSON Schema and the docs agree on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from flipscale.door.statements import LOOKS, MARGIN
from flipscale.errors import did_you_mean
from flipscale.kinds import (
    Among,
    By,
    Count,
    Declared,
    Named,
    NotNegative,
    Option,
    Positive,
    Some,
    Text,
    Whole,
    option,
    options_of,
    show,
)
from flipscale.scores import SCORES, is_score, set_and_score
from flipscale.settings.declarations import Budget, Resources
from flipscale.study.recipes import RECIPES

SCHEMA = 1
"""Version of the study file."""

DESIGN_ALL = "all"
"""In a named grid, the word for 'the values that axes gives'."""

FIGURE_NAMES = {
    "accuracy_vs_samples": "lines",
    "accuracy_vs_hours": "lines",
    "speedup": "speedup",
    "scaling_axes": "scaling",
    "gains": "gains",
    "claims": "claims",
    "tune": "tune",
    "mask_ratios": "masks",
    "accuracy_vs_flops": "lines",
    "scaling_curves": "curves",
    "ablations": "ablations",
    "repeats": "masks",
    "error_vs_compute": "compute",
    "isoflop": "compute",
    "learning_curves": "curves",
}
"""Each figure, in the order of drawing, and the module of analysis/plotting that has its FigureKind in capitals."""


def _score(value: Any) -> str:
    """One of the scores of the main evaluation or, after a name and a dot, of another set."""
    if not isinstance(value, str) or not is_score(value):
        near = did_you_mean(set_and_score(value)[1] if isinstance(value, str) else value, SCORES)
        raise ValueError(f"{show(value)} is not a score; {near}")
    return value


_OF_SETS = {"type": "string", "pattern": r"^[A-Za-z]\w*\.[A-Za-z]\w*$"}
ScoreName = Annotated[str, By(_score, {"anyOf": [{"enum": list(SCORES)}, _OF_SETS]})]


@dataclass(frozen=True, kw_only=True)
class Tune(Declared):
    """A setting that is chosen for each arm before the study's own runs start."""

    over: Any = option(
        "the setting, and the values to try: {lr: [1e-3, 2e-3, 4e-3, 8e-3]}, or factors of the study's "
        "own rule, {lr: 'x[0.5, 1, 2, 4]'}"
    )
    seeds: Some[Whole] = option("the seeds of these runs, a list: none of the study's own")
    by: ScoreName = option("the score that chooses, by its mean over the seeds", "held_out_loss")
    pick: Literal["parabola", "grid"] = option(
        "parabola: the vertex through the best value and its neighbours, over log2 of the value; grid: the best value",
        "parabola",
    )
    tie: NotNegative = option(
        "with pick: grid, of values this close to the best the lowest: points of accuracy, or percent of a loss", 0.0
    )
    extend: Whole = option("the most values that may be added to an arm whose best is the lowest or highest tried", 0)
    pool: Literal["budgets"] | None = option(
        "budgets: all models, data sizes and lengths of an arm share a value, by a parabola with an intercept for each",
        None,
    )
    at: Any = option("the cell of each arm that tries the values for all: {samples: 128k}; without it, each does", {})


@dataclass(frozen=True, kw_only=True)
class CostKeys(Declared):
    """What a run costs whose program is the user's own."""

    called: ClassVar[str] = "cost"
    flops: str | float | None = option(
        "training FLOPs of a run, as an expression of its settings: 6 * params * tokens; null: unknown", None
    )


@dataclass(frozen=True, kw_only=True)
class StudyKeys(Declared):
    """A study file. Keys of type Any hold settings; reader.py reads them."""

    schema: Any = option("version of the study file")
    question: Text = option("what the study asks, in a sentence", "")
    parameters: Any = option("settings of the study's own program, each with its default: {depth: 8, norm: layer}", {})
    include: Any = option("other study files that this one extends, key by key", None)
    recipe: Annotated[str, Among(RECIPES)] | None = option(
        "named settings that base and couple extend: flip or openclip", None
    )
    base: Any = option("settings of every run, unless an axis or a coupling says otherwise", {})
    axes: Any = option("settings that vary, each with the list of its values", {})
    couple: Any = option("settings that follow from others, each as an expression", {})
    where: Any = option("conditions that every cell must meet", None)
    exclude: Any = option("conditions that no cell may meet, or settings it may not have together", None)
    seeds: Some[Whole] | None = option("how many seeds each cell is run with, or a list of them", None)
    tune: Tune | None = option("a setting that is chosen for each arm, on other seeds than those compared", None)
    design: Any = option("which cells of the grid are run: full, one_at_a_time, or named grids", "full")
    baseline: Any = option("settings that mark the runs that the others are compared with", {})
    evaluation: Any = option("what is measured, and when", {})
    score: ScoreName | None = option("the score of curves and comparisons; a set's score is NAME.score", None)
    scores: Named[Literal["higher", "lower"]] = option(
        "scores that the training command gives, each with which is better, the study's own first: {val_loss: lower}",
        {},
    )
    cost: CostKeys = option("what a run of the study's own program costs", CostKeys())
    budget: Budget = option("limits that `submit` refuses to exceed", Budget())
    resources: Resources = option("what one run needs, and how it is priced", Resources())
    keep_weights: Literal["all", "last", "none"] = option(
        "which finished weights stay: all, last (of runs that no other run starts from) or none", "all"
    )
    claims: Any = option("contrasts between cells, each with the direction that it is expected to have", {})
    margin: Positive = option("sides closer than this are level: points of accuracy, or percent of a loss", MARGIN)
    looks: Count = option("planned looks at the results, the last among them; each is judged at 5 % / looks", LOOKS)
    caveats: Some[Text] = option(
        "what to hold against the study's numbers, a sentence each: shown wherever its claims are", []
    )
    answer: Literal["speedup", "gain", "law", "claims"] | None = option(
        "what heads the answer of `compare`: speedup, gain, law or claims; null is claims where there are any, else "
        "the speed-up where curves allow one, else the gain",
        None,
    )
    x: Text | None = option("the setting along which curves are drawn: tokens; null: samples, FLOPs and hours", None)
    labels: Named[dict[str, Text]] = option(
        "words for values of settings, which tables then use: {image_size: {14: small images}}", {}
    )
    figures: Some[Annotated[str, Among(FIGURE_NAMES)]] | None = option(
        "figures to draw; null draws those that apply", None
    )


TOP: Mapping[str, Option] = options_of(StudyKeys)
