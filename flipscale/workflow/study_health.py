"""Whether a study has what it needs: data, classes, checkpoints, commands, scores, and room for what it writes.

Files are looked at by the check that `plan --check` and a local `submit` make: one rule for all of them.
"""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from flipscale.collect import chance_level
from flipscale.data.classes import classes_of
from flipscale.errors import FlipscaleError, PlanError, StudyError
from flipscale.launch import gpus_here
from flipscale.plan import Run, far_too_large
from flipscale.scores import FINE_TUNED, PREFERRED, is_fraction
from flipscale.settings import CommandTrainer, Settings, WebDataset
from flipscale.study.named_sets import PAIRED, members, own_score, scores_of
from flipscale.words import count, fixed, memory, percent
from flipscale.workflow.diagnosis import Diagnosis, ok, problem, warning
from flipscale.workflow.opened import OpenStudy, cost_in_words, open_study
from flipscale.workflow.submitted import check_runs
from flipscale.workspace import Workspace

if TYPE_CHECKING:
    from flipscale.data.check import Checked

_SUBJECTS = (
    ("data", ("data_sets", "shards", "shards_opened"), ("data", "data_size", "batch_size")),
    ("evaluation data", ("evaluation_sets", "class_files"), ("evaluation",)),
    ("labelled data", ("labelled_sets",), ("fine_tuning",)),
    ("checkpoint", ("checkpoints",), ("init",)),
    ("command", ("commands",), ("trainer", "cooldown")),
)
"""The lines on a study's inputs: their name, the parts of the check that they count, the settings of their problems."""

WEIGHT_BYTES, CHECKPOINT_BYTES = 4, 12
"""Per parameter: in finished weights, and in a checkpoint with the optimizer's two moments."""


def study_health(file: str, workspace: Workspace) -> Iterator[Diagnosis]:
    """The health of a study. Each complaint about a file that cannot be read is a problem of its own."""
    try:
        opened = open_study(file, workspace)
        planned = opened.plan
    except StudyError as error:
        for complaint in error.complaints:
            yield problem("study", complaint)
        return
    except FlipscaleError as error:
        yield problem("study", str(error))
        return
    yield ok("study", f"{file}: {cost_in_words(planned)}")
    yield from _budget(opened)
    yield from _inputs(check_runs(opened.study, planned.runs))
    yield from _scores(opened)
    yield from _devices(opened)
    yield _room(opened)


def _budget(opened: OpenStudy) -> Iterator[Diagnosis]:
    """What `plan` warns of, and what `submit` refuses: too small a budget, and runs that are far too large."""
    try:
        opened.plan.check_budget()
    except PlanError as error:
        yield problem("budget", str(error))
        return
    too_large = far_too_large(opened.plan.runs)
    for sentence in opened.plan.warnings:
        yield problem("memory", sentence) if sentence in too_large else warning("plan", sentence)


def _inputs(checked: "Checked") -> Iterator[Diagnosis]:
    problems = list(zip(checked.settings, checked.problems, strict=True))
    for setting, line in problems:
        yield problem(_subject_of(setting), line)
    wrong = {_subject_of(setting) for setting, _ in problems}
    for name, kinds, _ in _SUBJECTS:
        if name not in wrong and (counted := checked.counted(*kinds)):
            yield ok(name, counted)
    for left in checked.not_checked:
        yield ok("not checked", left)
    if not problems and not checked.looked_at:
        yield ok("data", "drawn by flipscale; these runs read no files")


def _subject_of(setting: str) -> str:
    return next((name for name, _, settings in _SUBJECTS if setting in settings), "inputs")


# Scores


def _scores(opened: OpenStudy) -> Iterator[Diagnosis]:
    cells = opened.plan.cells
    found = list(dict.fromkeys(score for run in cells for score in declared_scores_of(run.settings)))
    if not found:
        if any(isinstance(run.settings.trainer, CommandTrainer) for run in cells):
            yield ok("scores", "those that the training command writes")
        else:
            yield warning("scores", "none are measured", "declare evaluation (docs/study.md)")
        return
    yield ok("scores", ", ".join(found))
    default = opened.study.score or next(score for score in (*PREFERRED, *found) if score in found)
    if opened.study.score is None:
        yield ok("default score", f"{default}, the first of those measured", "score: NAME in the study names another")
    else:
        yield ok("default score", default)
    yield ok("chance level", _chance(opened, default))


def _chance(opened: OpenStudy, score: str) -> str:
    level = chance_level(opened.plan.runs, opened.workspace.results, pd.DataFrame(), score)
    if level is None:
        return f"guessing gives a {score} that the first finished run records"
    return f"guessing gives a {score} of {percent(level) if is_fraction(score) else fixed(level, 2)}"


def declared_scores_of(settings: Settings) -> list[str]:
    """The scores that a run of these settings will have, as far as its declaration says them."""
    if settings.fine_tuning is not None:
        return [FINE_TUNED]
    evaluation = settings.evaluation
    found = [] if isinstance(settings.trainer, CommandTrainer) else _own_scores(settings)
    for name, declared in evaluation.sets.items():
        metric = own_score(name, declared)
        found += [metric] if metric else [f"{name}.{score}" for score in scores_of(evaluation, name)]
    return [*found, *(f"{name}.mean" for name in evaluation.means if members(evaluation, name))]


def _own_scores(settings: Settings) -> list[str]:
    """Those of the study's own evaluation."""
    evaluation = settings.evaluation
    data = evaluation.data or settings.data
    if isinstance(data, WebDataset) and evaluation.data is None:
        return []
    of_classes = ["zero_shot_top1", "zero_shot_top5"] if classes_of(data) else []
    probe = ["linear_probe_top1"] if of_classes and evaluation.linear_probe else []
    return [*of_classes, *probe, *PAIRED]


# The machine


def _devices(opened: OpenStudy) -> Iterator[Diagnosis]:
    runs = opened.plan.runs
    gpus, here = max(run.resources.gpus for run in runs), len(gpus_here())
    if gpus > here:
        yield warning(
            "devices",
            f"a run needs {count(gpus, 'GPU')}, and this machine has {here}",
            "submit it with --on slurm or --on ray",
        )


def _room(opened: OpenStudy) -> Diagnosis:
    """Whether the disk has room for the largest checkpoint and all finished weights."""
    results = opened.workspace.results.absolute()
    while not results.exists():
        results = results.parent
    free = shutil.disk_usage(results).free
    runs: tuple[Run, ...] = tuple(opened.plan.runs)
    weights = WEIGHT_BYTES * sum(run.cost.params for run in runs)
    checkpoint = CHECKPOINT_BYTES * max(run.cost.params for run in runs)
    found = f"{memory(free)} free; at most {memory(weights)} of weights and {memory(checkpoint)} a checkpoint"
    if checkpoint > free:
        return problem("room", found, "free space (flipscale gc), or name another folder with --results")
    if weights + checkpoint > free:
        return warning("room", found, "write keep_weights: none, or free space (flipscale gc)")
    return ok("room", found)
