"""The inputs of runs are checked before any of them starts, so that a fault is reported once and not by every run.

Each data set, set of classes, checkpoint and command is checked once, however many runs name it. A folder of tar shards
is listed, and the first and the last shard are opened. Inputs that are not on this machine's disks are not checked:
URLs and commands of shards are not fetched, and tags of weights are not downloaded.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flipscale.architecture import architecture
from flipscale.cost import parameters, steps_of
from flipscale.data import captions, fashion, idx, labelled, shards
from flipscale.data.classes import IMAGENET_CLASSES
from flipscale.data.open_clip_flags import check_webdataset, epochs_of, refuse, wishes
from flipscale.data.paths import reason_of
from flipscale.data.program import check_program
from flipscale.data.weights import check_weights
from flipscale.errors import DataError, FlipscaleError, InputsError
from flipscale.identity import labelled_set, scored_sets, stage, trains
from flipscale.kinds import Path_, read
from flipscale.planning import Run
from flipscale.settings import (
    CaptionSet,
    CommandSet,
    CommandTrainer,
    DataSet,
    EvaluationSet,
    Fashion,
    FineTuningSet,
    FolderSet,
    IdxSet,
    LabelledFolders,
    LabelledIdx,
    LabelledShards,
    OpenClipTrainer,
    Settings,
    Shapes,
    ShardSet,
    WebDataset,
    plain,
)
from flipscale.study import SETTINGS, Study
from flipscale.study.document import Place

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
    look = _Inspection(study)
    for run in runs:
        look.run(run, on_gpu)
    for run in to_score:
        look.evaluation(run.settings)
    problems = sorted(look.problems, key=lambda problem: (problem[0].file, problem[0].line))
    counts = {noun: len(names) for noun, names in look.looked_at.items()}
    return Checked(tuple(f"{place}: {what}" for place, what in problems), counts, tuple(look.not_checked))


class _Inspection:
    def __init__(self, study: Study):
        self.study = study
        self.problems: dict[tuple[Place, str], None] = {}
        self.looked_at: defaultdict[str, set[object]] = defaultdict(set)
        self.not_checked: dict[str, None] = {}
        self.passed: dict[tuple[object, str], bool] = {}
        """Whether each check, with what it was given, found nothing wrong."""
        self.shards: dict[WebDataset, tuple[list[shards.ShardSource], dict[shards.ShardSource, int]]] = {}
        """The shards of a set, and the declared counts of their pairs."""
        self.pairs: dict[tuple[object, ...], int | None] = {}
        """The pairs of a training set, counted up to a number of them; None where that is unknown."""
        self.classes: dict[str, int] = {}

    def run(self, run: Run, on_gpu: bool) -> None:
        settings = stage(run.settings)
        trainer = settings.trainer
        if settings.fine_tuning is not None:
            named = settings.fine_tuning.data
            data, where = labelled_set(settings), ("data",) if named is None else ("fine_tuning", "data")
            self._set((*where, data.kind), settings.fine_tuning if named else data, data, True, "labelled_sets")
            return
        if isinstance(trainer, CommandTrainer):
            if self._check(("trainer",), trainer, check_program, trainer.arguments, noun="commands"):
                self.not_checked["what a training command reads, as it finds its data itself"] = None
            self._sets(settings, CommandSet)  # They also score what a training command leaves.
            return
        if isinstance(trainer, OpenClipTrainer):
            self._open_clip(trainer, run, settings, "cuda" if run.resources.gpus or on_gpu else "cpu")
        if trains(settings):
            self._training(settings)
        if settings.init is not None and not run.parents:
            self._check(("init",), settings.init, self._weights, settings.init.path, settings.model)
        self.evaluation(settings)

    def _open_clip(self, trainer: OpenClipTrainer, run: Run, settings: Settings, device: str) -> None:
        at = ("trainer",)
        can_be_read = self._check(at, trainer, wishes, trainer.arguments, noun="commands")
        self._check(at, trainer, check_webdataset)
        # Each run is checked, as its settings decide what open_clip cannot do; equal complaints are reported once.
        self._check(at, trainer, refuse, settings, run.resources, device)
        if can_be_read and settings.schedule == "constant" and settings.cooldown:
            self._check(("cooldown",), settings.cooldown, _check_epochs, settings, trainer)

    def _weights(self, path: str, model: str) -> None:
        if check_weights(path, model, parameters(architecture(model))):
            self.looked_at["checkpoints"].add(path)
        else:
            self.not_checked[f"weights {path} of {model}, which are downloaded when a run starts"] = None

    # Data to train on

    def _training(self, settings: Settings) -> None:
        data, size, batch = settings.data, settings.data_size, settings.batch_size
        if isinstance(data, Shapes):
            return
        at, enough = ("data", data.kind), size or batch
        if isinstance(data, Fashion):
            is_good = self._check(at, data, self._fashion, data, "train")
        else:
            is_good = self._check(at, data, self._pairs, data)
            if isinstance(settings.trainer, OpenClipTrainer) and settings.crop is not None:
                self._check(at, data, self._first_shard, data)
            is_good = is_good and self._check(at, data, self._count, data, enough)
        if is_good:
            about, value = ("batch_size", batch) if size is None else ("data_size", size)
            self._check((about,), value, self._amount, data, size, batch)

    def _pairs(self, data: WebDataset) -> None:
        of_set = shards.sources(data.urls)
        self.shards[data] = of_set, shards.declared_counts(of_set, data.sizes)
        self._shards(of_set, shards.check_pairs)
        self.looked_at["data_sets"].add(data.urls)

    def _count(self, data: WebDataset, enough: int) -> None:
        self.pairs[data, enough] = shards.counted(*self.shards[data], enough)

    def _amount(self, data: Fashion | WebDataset, size: int | None, batch: int) -> None:
        """Check that there are as many pairs as the settings ask for."""
        if isinstance(data, Fashion):
            pairs, name, remedy = self.pairs[data, "train"], "Fashion-MNIST", ""
        else:
            pairs, name, remedy = self.pairs[data, size or batch], data.urls, "add shards, or "
        if pairs is None:
            return
        if size is not None and isinstance(data, Fashion):
            fashion.check_data_size(fashion.folder_of(data), size, pairs)
        elif size is not None and isinstance(data, WebDataset):
            shards.check_data_size(data.urls, len(self.shards[data][0]), size, pairs)
        elif pairs < batch:
            raise DataError(
                f"{name} has {pairs} pairs, less than one batch of {batch}, which would hold a pair twice; "
                f"{remedy}lower batch_size."
            )

    def _first_shard(self, data: WebDataset) -> None:
        first = shards.sources(data.urls)[0]
        if first.local:
            shards.check_own(first.url)

    def _shards(self, of_set: list[shards.ShardSource], look: Callable[..., object], *given: object) -> None:
        """Open and check the first and the last of the shards that are on this machine's disks."""
        local = [shard.url for shard in of_set if shard.local]
        away = [shard.url for shard in of_set if not shard.local]
        if away:
            more = f" and {len(away) - 1:,} more" if len(away) > 1 else ""
            self.not_checked[f"{away[0]}{more}, fetched when a run starts"] = None
        self.looked_at["shards"].update(local)
        for url in dict.fromkeys((*local[:1], *local[-1:])):
            look(url, *given)
            self.looked_at["shards_opened"].add(url)

    def _fashion(self, data: Fashion, split: str) -> None:
        folder, self.pairs[data, split] = fashion.check(data, split)
        self.looked_at["data_sets"].add(folder)

    # Data to score on, and to fine-tune on

    def evaluation(self, settings: Settings) -> None:
        evaluation, data = settings.evaluation, scored_sets(settings).get("")
        named = evaluation.data
        at: Path_ = ("evaluation", "data", named.kind) if named else ("data", settings.data.kind)
        if data is not None:
            value = evaluation if named else settings.data
            self._set(at, value, data, evaluation.linear_probe, "evaluation_sets")
        self._sets(settings)

    def _sets(self, settings: Settings, kind: type = object) -> None:
        evaluation = settings.evaluation
        for name, data in evaluation.sets.items():
            if isinstance(data, kind):
                at = ("evaluation", "sets", name, data.kind)
                self._set(at, evaluation, data, evaluation.linear_probe, "evaluation_sets")

    def _set(
        self, at: Path_, value: object, data: DataSet | EvaluationSet | FineTuningSet, probe: bool, noun: str
    ) -> None:
        """Check a set to score on or to fine-tune on. probe: whether its training part is read, too."""
        match data:
            case Fashion():
                for split in ("t10k", "train") if probe else ("t10k",):
                    self._check(at, value, self._fashion, data, split)
            case WebDataset():
                self._check(at, value, self._pairs, data)
            case ShardSet():
                if data.classes not in (None, "imagenet"):
                    self._check((*at, "classes"), value, self._names, data)
                self._check(at, value, self._tar_set, data, noun=noun)
            case LabelledShards():
                self._check(at, value, self._labelled_shards, data, noun=noun)
            case FolderSet():
                if self._check(at, value, labelled.check_set, data, probe, noun=noun):
                    self._count_names(data)
            case LabelledFolders():
                self._check(at, value, labelled.check_pair, data, noun=noun)
            case IdxSet():
                self._check(at, value, idx.check_set, data, probe, noun=noun)
            case LabelledIdx():
                self._check(at, value, idx.check_pair, data, noun=noun)
            case CaptionSet():
                self._check(at, value, captions.check, data, noun=noun)
            case CommandSet() if data.arguments is not None:
                where = f"{'.'.join(map(str, at))}.arguments"
                self._check(at, value, check_program, data.arguments, where, noun=noun)

    def _tar_set(self, data: ShardSet) -> None:
        if data.classes is None:
            self._shards(shards.sources(data.urls), shards.check_captioned)
            return
        count = IMAGENET_CLASSES if data.classes == "imagenet" else self.classes.get(repr(data), sys.maxsize)
        self._shards(shards.sources(data.urls), shards.check_labelled, count, data.metric == "map11")

    def _names(self, data: ShardSet) -> None:
        assert data.classes is not None
        names = labelled.names_in_order(data.classes, data.urls)
        labelled.check_choice(names, data.urls, data.metric)
        self.classes[repr(data)] = len(names)
        self._count_names(data)

    def _count_names(self, data: ShardSet | FolderSet) -> None:
        if isinstance(data.classes, str) and data.classes != "imagenet":
            self.looked_at["class_files"].add(data.classes)

    def _labelled_shards(self, data: LabelledShards) -> None:
        for urls in (data.train, data.test):
            self._shards(shards.sources(urls), shards.check_labelled, sys.maxsize)

    # How problems are recorded

    def _check(self, at: Path_, value: object, check: Callable[..., object], *given: object, noun: str = "") -> bool:
        """Whether a check finds nothing wrong; it runs once with what it is given.

        at: the place of the input under a run's settings; value: that of the whole setting. They lead to a line of the
        study. noun: what the input counts as in `looked_at`.
        """
        key = (check, repr(given))  # Some records have lists, and no hash.
        if key not in self.passed:
            self.passed[key] = False
            try:
                check(*given)
            except FlipscaleError as error:
                self._problem(at, value, str(error))
            except OSError as error:
                self._problem(at, value, f"{error.filename}: cannot be read ({reason_of(error)}); fix its permissions.")
            else:
                self.passed[key] = True
                if noun:
                    self.looked_at[noun].add(key)
        return self.passed[key]

    def _problem(self, at: Path_, value: object, what: str) -> None:
        where = ".".join(map(str, at if at[0] in ("evaluation", "fine_tuning") else at[:1]))
        what = what if what.startswith(where) else f"{where}: {what}"
        self.problems[self._place(at, value), what] = None

    def _place(self, at: Path_, value: object) -> Place:
        """The line on which the study gives a setting this value."""
        name, document = str(at[0]), self.study.document.data
        for path, written in _axis_values(document, name):
            if plain(read(SETTINGS[name].type, written, (), lambda *_: None)) == plain(value):
                return self.study.place(*path, *at[1:])
        if name in (document.get("couple") or {}):
            return self.study.place("couple", name)
        return self.study.place(*(() if name == "evaluation" else ("base",)), *at)


def _check_epochs(settings: Settings, trainer: OpenClipTrainer) -> None:
    """Raise FlipscaleError where open_clip's program cannot cool down as asked."""
    pairs = settings.data_size
    if pairs is None and isinstance(settings.data, Shapes):
        pairs = steps_of(settings) * settings.batch_size
    if pairs is not None:
        epochs_of(settings, pairs, wishes(trainer.arguments).get("epochs"))


def _axis_values(document: Mapping[str, Any], name: str) -> Iterator[tuple[Path_, Any]]:
    """The values that a study file gives a setting on its axes and in its grids, each with its line."""
    design = document.get("design")
    grids = design.get("grids") or {} if isinstance(design, dict) else {}
    varied: list[tuple[Path_, Any]] = [(("axes",), document.get("axes") or {})]
    varied += [(("design", "grids", grid), axes) for grid, axes in grids.items()]
    for path, axes in varied:
        values = axes.get(name) if isinstance(axes, dict) else None
        for number, written in enumerate(values if isinstance(values, list) else []):
            yield (*path, name, number), written
