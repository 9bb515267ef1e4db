"""Chance level of a study's score: as its runs recorded it, else as far as its evaluation declares it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from flipscale.data.classes import classes_of, pairs_of
from flipscale.errors import FlipscaleError
from flipscale.identity import labelled_set
from flipscale.plan import Run
from flipscale.run import RunFolder, read_scores, set_of
from flipscale.scores import FINE_TUNED, LOSS_BATCH, SCORES, class_chance, is_score, set_and_score
from flipscale.settings import (
    CommandSet,
    DataSet,
    EvaluationSet,
    FineTuningSet,
    LabelledFolders,
    LabelledIdx,
    LabelledShards,
    Settings,
    ShardSet,
)
from flipscale.study.named_sets import MEAN, members
from flipscale.study.settings import images_scored
from flipscale.workspace import Workspace

RETRIEVALS = tuple(name for name in SCORES if "_retrieval_" in name)


def chance_level(runs: Sequence[Run], results_root: Path, score: str) -> float | None:
    """Chance level of `score`: a fraction, or nats of a loss. None if it is unknown, or differs among runs.

    runs: of the study's plan.

    Of runs with the same evaluation only one folder is read.
    """
    if not is_score(score):
        return None
    name, plain = set_and_score(score)
    if plain == MEAN:
        return _chance_of_mean(runs, results_root, name)
    workspace = Workspace(results_root)
    alike: dict[str, list[Run]] = {}
    for run in runs:
        settings = run.settings
        if (settings.fine_tuning is not None) != (score == FINE_TUNED):
            continue  # A fine-tuned run has this one score, which no other run has.
        same = (_data(settings, name), settings.evaluation.images, settings.trainer.kind)
        alike.setdefault(repr(same), []).append(run)
    levels = set()
    for group in alike.values():
        recorded = _recorded(group, workspace, score)
        levels.add(_declared(group[0].settings, score) if recorded is None else recorded)
    return levels.pop() if len(levels) == 1 else None


def _chance_of_mean(runs: Sequence[Run], results_root: Path, mean: str) -> float | None:
    """The mean of what guessing gives for each of the scores; None where one of them is not known."""
    wanted = {
        tuple(members(run.settings.evaluation, mean)) if mean in run.settings.evaluation.means else () for run in runs
    }
    if len(wanted) != 1 or not (columns := wanted.pop()):
        return None
    levels = [chance_level(runs, results_root, column) for column in columns]
    known = [level for level in levels if level is not None]
    return sum(known) / len(known) if len(known) == len(levels) else None


def _data(settings: Settings, name: str) -> DataSet | EvaluationSet | FineTuningSet | None:
    """The data on which the scores of a set, or of the study's own evaluation as '', are measured."""
    evaluation = settings.evaluation
    if settings.fine_tuning is not None:
        return labelled_set(settings)
    name = set_of(name, settings)
    return evaluation.sets.get(name) if name else evaluation.data or settings.data


def _recorded(runs: Iterable[Run], workspace: Workspace, score: str) -> float | None:
    """The chance level that the first finished run recorded."""
    for run in runs:
        try:
            folder = RunFolder(workspace.run(run.id))
            result = folder.result()
            later = {column: level for record in read_scores(folder.path) for column, level in record.chance.items()}
        except (FlipscaleError, OSError):
            continue
        if result is not None:
            return result.chance.get(score, later.get(score))
    return None


def _declared(settings: Settings, score: str) -> float | None:
    """The chance level by the declaration, for the scores of flipscale's own evaluation."""
    name, plain = set_and_score(score)
    data = _data(settings, name)
    if isinstance(data, LabelledFolders | LabelledShards | LabelledIdx):
        return None  # Their files say how many classes they have.
    if data is None or isinstance(data, CommandSet):
        return None
    if settings.trainer.kind == "command" and score != FINE_TUNED:
        return None
    if isinstance(data, ShardSet) and data.metric == "map11":
        return None  # An image may show several classes.
    if plain not in RETRIEVALS and plain != "held_out_loss":
        classes = classes_of(data)
        return None if classes is None else class_chance(plain, classes)
    return _declared_of_pairs(settings, data, score)


def _declared_of_pairs(settings: Settings, data: DataSet | EvaluationSet, score: str) -> float | None:
    """The same for retrieval and the loss."""
    plain = set_and_score(score)[1]
    choices = pairs_of(data, images_scored(settings.evaluation, data))
    if plain == "held_out_loss" and choices is not None:
        choices = min(LOSS_BATCH, choices)
    return None if choices is None else SCORES[plain].chance(choices)
