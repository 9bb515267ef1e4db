"""Scores of an evaluation's sets: those of each, its own metric, and the means over several of them."""

from collections.abc import Iterator

from flipscale.errors import did_you_mean
from flipscale.kinds import Path_
from flipscale.scores import AVERAGED, INFERENCES, METRICS, SCORES, is_fraction, lower_is_better, metric_score
from flipscale.settings.declarations import (
    CaptionSet,
    CommandSet,
    Evaluation,
    EvaluationSet,
    IdxSet,
    LabelledSet,
    ShardSet,
)

MEAN = "mean"
"""The score of a mean over sets: vtab.mean."""

_LOWER_WORDS = "loss, error, perplexity, nll, bpb, fid, wer, cer, ece, mce, mse, rmse, brier, distance or seconds"

PAIRED = (*(name for name in SCORES if "_retrieval_" in name), "held_out_loss")
"""The scores of pairs of images and captions."""


def own_score(name: str, declared: EvaluationSet) -> str | None:
    """The column of the metric that a set is judged by; None for a set of captions or of a program's scores."""
    if isinstance(declared, CaptionSet | CommandSet) or (isinstance(declared, ShardSet) and declared.classes is None):
        return None
    return f"{name}.{metric_score(declared.metric if isinstance(declared, LabelledSet) else METRICS[0])}"


def scores_of(evaluation: Evaluation, name: str) -> list[str]:
    """The scores that a set, or a mean, can have, without its name before them."""
    if name in evaluation.means:
        return [MEAN]
    declared = evaluation.sets[name]
    if isinstance(declared, CommandSet):
        return list(declared.scores)
    column = own_score(name, declared)
    if column is None:
        return list(PAIRED)
    metric = column.rpartition(".")[2]
    pairs = [] if isinstance(declared, LabelledSet) else PAIRED
    return list(dict.fromkeys(("zero_shot_top1", "zero_shot_top5", "linear_probe_top1", metric, *pairs)))


def has_only_captions(evaluation: Evaluation, name: str) -> bool:
    """Whether a set is of shards that could have labels, and names no classes for them."""
    declared = evaluation.sets.get(name)
    return isinstance(declared, ShardSet) and declared.classes is None


def declared_scores(evaluation: Evaluation) -> set[str]:
    """The columns of the scores that programs give."""
    return set(evaluation.scores) | {
        f"{name}.{score}"
        for name, declared in evaluation.sets.items()
        if isinstance(declared, CommandSet)
        for score in declared.scores
    }


def members(evaluation: Evaluation, mean: str) -> list[str]:
    """The columns that a mean averages, in the order in which the study names them."""
    return [
        own_score(member, evaluation.sets[member]) or member if member in evaluation.sets else member
        for member in evaluation.means[mean]
    ]


def unsuited(metric: str, classes: int) -> str:
    """Why a metric cannot be used with this number of classes; '' where it can."""
    if metric == "roc_auc" and classes != 2:
        return f"roc_auc takes two classes, and this set has {classes}; name another metric"
    if metric == "mean_top1_top5" and classes < 6:
        return f"mean_top1_top5 takes six classes or more, and this set has {classes}; name another metric"
    return ""


def faults_of_evaluation(evaluation: Evaluation) -> Iterator[tuple[Path_, str]]:
    """Names of programs' scores that do not say which way is better, means of what no set gives, unsuited metrics."""
    yield from _of_programs(evaluation)
    yield from _of_means(evaluation)
    for name, declared in evaluation.sets.items():
        if isinstance(declared, IdxSet) and (wrong := unsuited(declared.metric, len(declared.classes))):
            yield ("sets", name, "idx", "metric"), wrong
    for name in (*evaluation.sets, *evaluation.means):
        if name in (*INFERENCES, AVERAGED):
            of = f"{name} weights" if name == AVERAGED else f"{name} inference"
            yield (), f"'{name}' names the scores of {of}; give the set another name"


def _of_programs(evaluation: Evaluation) -> Iterator[tuple[Path_, str]]:
    """Faults of the scores of programs. A table shows only a column's name, so that has to be clear."""
    for name, declared in evaluation.sets.items():
        if not isinstance(declared, CommandSet):
            continue
        at: Path_ = ("sets", name, "command", "scores")
        if name == "open_clip":
            yield ("sets", name), "'open_clip' names the scores of open_clip's own program; give the set another name"
        if not declared.scores:
            yield at, "no score is named; write, for example, {cider: higher}"
        for score, better in declared.scores.items():
            lower = bool(lower_is_better(f"{name}.{score}"))
            if lower != (better == "lower"):
                yield (*at, score), _other_name(f"{name}.{score}", lower)


def _other_name(column: str, lower: bool) -> str:
    score = column.rpartition(".")[2]
    if lower:
        return (
            f"the name '{column}' says that lower is better, as it contains one of {_LOWER_WORDS}; choose another name"
        )
    return f"the name '{column}' does not say that lower is better; name it {score}_error, or use one of {_LOWER_WORDS}"


def _of_means(evaluation: Evaluation) -> Iterator[tuple[Path_, str]]:
    for mean, named in evaluation.means.items():
        at: Path_ = ("means", mean)
        if mean in evaluation.sets:
            yield at, f"'{mean}' is also the name of a set; give the mean another name"
        for number, member in enumerate(named):
            if wrong := _why_no_member(evaluation, member):
                yield (*at, number), wrong
        columns = members(evaluation, mean)
        if twice := next((column for column in columns if columns.count(column) > 1), None):
            yield at, f"'{twice}' is listed twice; keep one"


def _why_no_member(evaluation: Evaluation, member: str) -> str:
    """Why a mean cannot include this; '' if it can."""
    name, dot, score = member.partition(".")
    if name not in evaluation.sets:
        return f"evaluation.sets has no '{name}'; {did_you_mean(name, evaluation.sets)}"
    if not dot:
        if own_score(name, evaluation.sets[name]) is None:
            given = scores_of(evaluation, name)
            return f"'{name}' has no metric of its own; name one of its scores, such as {name}.{given[0]}"
        return ""
    if score not in scores_of(evaluation, name):
        return f"'{member}' is not measured; {did_you_mean(score, scores_of(evaluation, name))}"
    if not is_fraction(member):
        return f"'{member}' is not a fraction, so a mean with others is meaningless; remove it"
    return ""
