"""The inputs of runs are checked before any of them starts, so that a fault is reported once and not by every run.

Each data set, set of classes, checkpoint and command is checked once, however many runs name it. A folder of tar shards
is listed, and the first and the last shard are opened. Inputs that are not on this machine's disks are not checked:
URLs and commands of shards are not fetched, and tags of weights are not downloaded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flipscale.cost.arithmetic import parameters, steps_of
from flipscale.data import shards
from flipscale.data.command import check_program
from flipscale.data.formats import format_of
from flipscale.data.inspection import Findings, Look
from flipscale.data.open_clip_flags import check_webdataset, epochs_of, refuse, wishes
from flipscale.data.weights import check_weights
from flipscale.errors import InputsError
from flipscale.planning.identity import labelled_set, scored_sets, stage, trains
from flipscale.planning.runs import Run
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import (
    CommandSet,
    CommandTrainer,
    DataSet,
    EvaluationSet,
    FineTuningSet,
    OpenClipTrainer,
    Settings,
    Shapes,
    WebDataset,
)
from flipscale.study import Study

_NOUNS = {
    "data_sets": ("data set", "data sets"),
    "evaluation_sets": ("evaluation set", "evaluation sets"),
    "labelled_sets": ("labelled set", "labelled sets"),
    "shards": ("shard", "shards"),
    "shards_opened": ("of them opened", "of them opened"),
    "class_files": ("file of class names", "files of class names"),
    "checkpoints": ("checkpoint", "checkpoints"),
    "commands": ("training command", "training commands"),
}
"""The counted inputs, in this order, with their names in singular and plural."""


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    problems: tuple[str, ...]
    """One line each, `where: what; what would be right`, with the study's file and line."""
    looked_at: Mapping[str, int]
    """How many inputs of each kind were looked at."""
    not_checked: tuple[str, ...]
    """The inputs that were not checked, and why."""

    def raise_if_any(self, then: str = "") -> None:
        """Raise InputsError with every problem, and with `then` on a line of its own."""
        if self.problems:
            raise InputsError("\n".join([*self.problems, *filter(None, [then])]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "problems": list(self.problems),
            "looked_at": dict(self.looked_at),
            "not_checked": list(self.not_checked),
        }

    def __str__(self) -> str:
        """'checked 1 data set, 2 shards. Not checked: ...'."""
        numbers = [(self.looked_at.get(kind, 0), words) for kind, words in _NOUNS.items()]
        counts = ", ".join(f"{number:,} {words[number > 1]}" for number, words in numbers if number)
        left = f". Not checked: {'; '.join(self.not_checked)}" if self.not_checked else ""
        return f"checked {counts or 'nothing, as these runs read no files'}{left}."


def check(study: Study, runs: Iterable[Run], *, on_gpu: bool, to_score: Iterable[Run] = ()) -> Checked:
    """Look at all that `runs` of the study read, and at the sets that those `to_score` are scored on.

    on_gpu: whether there is a GPU for runs that ask for none.
    """
    findings = Findings()
    for run in runs:
        _check_run(Look(study, findings, stage(run.settings)), run, on_gpu)
    for run in to_score:
        _check_evaluation(Look(study, findings, run.settings))
    problems = sorted(findings.problems, key=lambda problem: (problem[0].file, problem[0].line))
    counts = {noun: len(inputs) for noun, inputs in findings.looked_at.items()}
    return Checked(tuple(f"{place}: {what}" for place, what in problems), counts, tuple(findings.not_checked))


def _check_run(look: Look, run: Run, on_gpu: bool) -> None:
    settings = look.settings
    trainer = look.settings.trainer
    data = look.settings.data
    if settings.fine_tuning is not None:
        path = ("data",) if settings.fine_tuning.data is None else ("fine_tuning", "data")
        _check_set(look, path, labelled_set(settings), True, "labelled_sets")
        return
    if isinstance(trainer, CommandTrainer):
        look.at("trainer", noun="commands").once(_check_command, trainer.arguments, look)
        _check_evaluation(look, CommandSet)  # They also score what a training command leaves.
        return
    if isinstance(trainer, OpenClipTrainer):
        _check_open_clip(look, trainer, run, "cuda" if run.resources.gpus or on_gpu else "cpu")
    if trains(settings):
        of_data = look.at("data", data.kind)
        batch_size = settings.batch_size
        format_of(data).check_training(data, of_data, data_size=settings.data_size, batch_size=batch_size)
        if isinstance(data, WebDataset) and isinstance(trainer, OpenClipTrainer) and settings.crop is not None:
            of_data.once(_check_first_shard, data)
    if settings.init is not None and not run.parents:
        look.at("init").once(_check_init, settings.init.path, settings.model, look)
    _check_evaluation(look)


def _check_command(arguments: Sequence[str], look: Look) -> None:
    check_program(arguments)
    look.leave("what a training command reads, as it finds its data itself")


def _check_open_clip(look: Look, trainer: OpenClipTrainer, run: Run, device: str) -> None:
    settings = look.settings
    of_trainer = look.at("trainer")
    can_be_read = look.at("trainer", noun="commands").once(wishes, trainer.arguments) is not None
    of_trainer.once(check_webdataset)
    # Each run is checked, as its settings decide what open_clip cannot do; equal complaints are reported once.
    of_trainer.once(refuse, settings, run.resources, device)
    if can_be_read and settings.schedule == "constant" and settings.cooldown:
        look.at("cooldown").once(_check_epochs, settings, trainer)


def _check_epochs(settings: Settings, trainer: OpenClipTrainer) -> None:
    """Raise FlipscaleError where open_clip's program cannot cool down as asked."""
    pairs = settings.data_size
    if pairs is None and isinstance(settings.data, Shapes):
        pairs = steps_of(settings) * settings.batch_size
    if pairs is not None:
        epochs_of(settings, pairs, wishes(trainer.arguments).get("epochs"))


def _check_first_shard(data: WebDataset) -> None:
    first = shards.sources(data.urls)[0]
    if first.local:
        shards.check_own(first.url)


def _check_init(path: str, model: str, look: Look) -> None:
    if check_weights(path, model, parameters(architecture(model))):
        look.count("checkpoints", path)
    else:
        look.leave(f"weights {path} of {model}, which are downloaded when a run starts")


def _check_evaluation(look: Look, kind: type = object) -> None:
    """Check the sets of a kind that a run is scored on."""
    evaluation = look.settings.evaluation
    main = ("evaluation", "data") if evaluation.data else ("data",)
    for name, data in scored_sets(look.settings).items():
        if isinstance(data, kind):
            path = ("evaluation", "sets", name) if name else main
            _check_set(look, path, data, evaluation.linear_probe, "evaluation_sets")


def _check_set(
    look: Look, path: tuple[str, ...], data: DataSet | EvaluationSet | FineTuningSet, probe: bool, noun: str
) -> None:
    """Check a set to score on or to fine-tune on. probe: whether its training part is read, too."""
    # A set that can be trained on counts once, as a data set, whichever of its parts are looked at.
    look = look.at(*path, data.kind, noun="" if isinstance(data, DataSet) else noun)
    format_of(data).check(data, look, probe)
