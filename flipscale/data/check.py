"""The inputs of runs are checked before any of them starts, so that a fault is reported once and not by every run.

Each data set, set of classes, checkpoint and command is checked once, however many runs name it. A folder of tar shards
is listed, and the first and the last shard are opened. Inputs that are not on this machine's disks are not checked:
URLs and commands of shards are not fetched, and tags of weights are not downloaded.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flipscale.architecture import architecture
from flipscale.cost import parameters, steps_of
from flipscale.data import captions, fashion, idx, labelled, shards
from flipscale.data.classes import IMAGENET_CLASSES
from flipscale.data.open_clip_flags import check_webdataset, epochs_of, refuse, wishes
from flipscale.data.paths import located, reason_of
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
    Evaluation,
    EvaluationSet,
    Fashion,
    FolderSet,
    IdxSet,
    LabelledFolders,
    LabelledIdx,
    LabelledShards,
    OpenClipTrainer,
    Resources,
    Settings,
    Shapes,
    ShardSet,
    WebDataset,
    Weights,
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
    settings: tuple[str, ...] = ()
    """The setting that each problem concerns, such as 'data' or 'init'."""

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
        left = f". Not checked: {'; '.join(self.not_checked)}" if self.not_checked else ""
        return f"checked {self.counted(*_NOUNS) or 'nothing, as these runs read no files'}{left}."

    def counted(self, *kinds: str) -> str:
        """'1 data set, 2 shards' of these kinds of `looked_at`; '' where none was looked at."""
        found = [(self.looked_at.get(kind, 0), words) for kind, words in _NOUNS.items() if kind in kinds]
        return ", ".join(f"{number:,} {words[number > 1]}" for number, words in found if number)


_CAPTION_ROWS = 20
"""At most this many images of a table of captions are looked for."""


def check(study: Study, runs: Iterable[Run], *, on_gpu: bool, to_score: Iterable[Run] = ()) -> Checked:
    """Look at all that `runs` of the study read, and at the sets that those `to_score` are scored on.

    on_gpu: whether there is a GPU for runs that ask for none.
    """
    look = _Inspection(study)
    for run in runs:
        look.at_run(run, on_gpu)
    for run in to_score:
        look.evaluations(run.settings)
    problems = sorted(look.problems, key=lambda problem: (problem[0].file, problem[0].line))
    lines = tuple(f"{place}: {what}" for place, what in problems)
    settings = tuple(look.problems[problem] for problem in problems)
    return Checked(lines, look.looked_at, tuple(look.not_checked), settings)


class _Inspection:
    def __init__(self, study: Study):
        self.study = study
        self.problems: dict[tuple[Place, str], str] = {}
        """Each problem, with the setting that it concerns."""
        self.looked_at: Counter[str] = Counter()
        self.not_checked: dict[str, None] = {}
        self.done: set[tuple[str, ...]] = set()
        self.sizes: dict[str, tuple[int, int] | None] = {}
        """How many files and pairs each training set has, by its declaration, if that is known."""
        self.uncounted: dict[str, tuple[list[shards.ShardSource], dict[shards.ShardSource, int]]] = {}
        """The shards of a training set whose pairs are not all declared, and the declared counts."""

    def at_run(self, run: Run, on_gpu: bool) -> None:
        settings = stage(run.settings)
        if settings.fine_tuning is not None:
            self._fine_tuning(settings)
            return
        if isinstance(settings.trainer, CommandTrainer):
            self._command(settings.trainer)
            self._programs(settings.evaluation)
            return
        own_shards = False
        if isinstance(settings.trainer, OpenClipTrainer):
            device = "cuda" if run.resources.gpus or on_gpu else "cpu"
            self._open_clip(settings.trainer, settings, run.resources, device)
            own_shards = settings.crop is not None
        if trains(settings):
            self._training(settings, own_shards=own_shards)
        if settings.init is not None and not run.parents:
            self._init(settings.init, settings.model)
        self.evaluations(settings)

    # What trains

    def _command(self, trainer: CommandTrainer) -> None:
        arguments, at = trainer.arguments, ("trainer",)
        if self._once(at, trainer, lambda: check_program(arguments), key=("program", *arguments)):
            self.looked_at["commands"] += 1
            self.not_checked.setdefault("what a training command reads, as it finds its data itself")

    def _open_clip(self, trainer: OpenClipTrainer, settings: Settings, resources: Resources, device: str) -> None:
        arguments, at = trainer.arguments, ("trainer",)

        def is_expressed() -> None:
            refuse(settings, resources, device)

        def ends_epochs() -> None:
            pairs = settings.data_size
            if pairs is None and isinstance(settings.data, Shapes):
                pairs = steps_of(settings) * settings.batch_size
            if pairs is not None:
                epochs_of(settings, pairs, wishes(arguments).get("epochs"))

        if self._once(at, trainer, lambda: wishes(arguments), key=("wishes", *arguments)):
            self.looked_at["commands"] += 1
        self._once(at, trainer, check_webdataset, key=("webdataset",))
        # Each run is checked, as its settings decide what open_clip cannot do; equal complaints are reported once.
        self._once(at, trainer, is_expressed, key=("refuse", repr(settings), device))
        if settings.schedule == "constant" and settings.cooldown:
            self._once(("cooldown",), settings.cooldown, ends_epochs, key=("epochs", repr(settings)))

    def _init(self, init: Weights, model: str) -> None:
        path = init.path

        def is_there() -> None:
            if check_weights(path, model, parameters(architecture(model))):
                self.looked_at["checkpoints"] += 1
            else:
                self.not_checked.setdefault(f"weights {path} of {model}, which are downloaded when a run starts")

        self._once(("init",), init, is_there, key=("init", path, model))

    # Data to train on

    def _training(self, settings: Settings, *, own_shards: bool) -> None:
        data = settings.data
        if isinstance(data, Shapes):
            return
        at: Path_ = ("data", data.kind)
        declared = repr(data)
        if declared not in self.sizes:
            self.sizes[declared] = None
            self._once(at, data, partial(self._count_pairs, declared, data, at), key=("training", declared))
        if isinstance(data, WebDataset) and own_shards:
            self._once(at, data, partial(self._first_shard, data.urls), key=("own", data.urls))
        if declared in self.uncounted and self.sizes[declared] is None:
            self._count_shards(declared, settings.data_size or settings.batch_size, at, data)
        if (known := self.sizes[declared]) is not None:
            self._amount(data, *known, settings)

    def _count_shards(self, declared: str, enough: int, at: Path_, value: object) -> None:
        """Count the pairs of shards without declared counts, to find out soon whether there are too few."""
        found, counts = self.uncounted[declared]

        def are_enough() -> None:
            pairs = shards.counted(found, counts, enough)
            if pairs is not None and pairs < enough:
                self.sizes[declared] = len(found), pairs

        self._once(at, value, are_enough, key=("counted", declared, str(enough)))

    def _amount(self, data: Fashion | WebDataset, files: int, pairs: int, settings: Settings) -> None:
        """Check that there are as many pairs as the settings ask for."""
        size, batch = settings.data_size, settings.batch_size

        def is_enough() -> None:
            if size is not None and isinstance(data, Fashion):
                fashion.check_data_size(fashion.folder_of(data), size, pairs)
            elif size is not None and isinstance(data, WebDataset):
                shards.check_data_size(data.urls, files, size, pairs)
            elif pairs < batch:
                name, remedy = ("Fashion-MNIST", "") if isinstance(data, Fashion) else (data.urls, "add shards, or ")
                raise DataError(
                    f"{name} has {pairs} pairs, less than one batch of {batch}, which would hold a pair twice; "
                    f"{remedy}lower batch_size."
                )

        about, value = ("batch_size", batch) if size is None else ("data_size", size)
        self._once((about,), value, is_enough, key=("pairs", repr(data), str(size), str(batch)))

    def _count_pairs(self, declared: str, data: Fashion | WebDataset, at: Path_) -> None:
        if isinstance(data, Fashion):
            self.sizes[declared] = 1, self._fashion(data, "train")
        else:
            self._pairs(declared, data, at, data)

    def _fashion(self, data: Fashion, split: str) -> int:
        """Check a split, and return its number of images."""
        folder = fashion.folder_of(data)
        images, labels = fashion.files_of(folder, split)
        found = idx.shape_of(images, idx.IMAGES)[0]
        fashion.check_split(folder, split, found, idx.shape_of(labels, idx.LABELS)[0])
        self._count("data_sets", str(folder))
        return found

    def _pairs(self, declared: str, data: WebDataset, at: Path_, value: object) -> None:
        before = len(self.problems)
        found = self._shards(data.urls, at, value, shards.check_pairs, "pairs")
        are_right = len(self.problems) == before
        self._count("data_sets", data.urls)

        def are_declared() -> None:
            counts = shards.declared_counts(found, data.sizes)
            if len(counts) == len(found):
                self.sizes[declared] = len(found), sum(counts.values())
            elif are_right:
                self.uncounted[declared] = found, counts

        self._once((*at, "sizes"), value, are_declared, key=("sizes", declared))

    def _first_shard(self, urls: str) -> None:
        first = shards.sources(urls)[0]
        if first.local:
            shards.check_own(first.url)

    def _shards(
        self, urls: str, at: Path_, value: object, look: Callable[[str], None], for_what: str
    ) -> list[shards.ShardSource]:
        """The shards of a pattern; the first and the last on this machine's disks are opened and checked."""
        found = shards.sources(urls)
        local = [shard.url for shard in found if shard.local]
        for url in dict.fromkeys((*local[:1], *local[-1:])):
            if self._once(at, value, lambda url=url: look(url), key=(for_what, url)):  # type: ignore[misc]
                self._count("shards_opened", url)
        if len(local) < len(found):
            away = [shard.url for shard in found if not shard.local]
            self.not_checked.setdefault(
                f"{away[0]}{f' and {len(away) - 1:,} more' if len(away) > 1 else ''}, fetched when a run starts"
            )
        self._count_up("shards", urls, len(local))
        return found

    # Data to score on

    def evaluations(self, settings: Settings) -> None:
        evaluation = settings.evaluation
        probe, named = evaluation.linear_probe, evaluation.data
        data = scored_sets(settings).get("")
        at: Path_ = ("evaluation", "data", named.kind) if named else ("data", settings.data.kind)
        value = evaluation if named else settings.data
        if isinstance(data, Fashion):
            self._scored_on_fashion(data, at, value, probe)
        elif isinstance(data, WebDataset):
            declared = repr(("scored", data))
            self._once(at, value, partial(self._pairs, declared, data, at, value), key=("scored", declared))
        for name, declared_set in evaluation.sets.items():
            self._set(declared_set, ("evaluation", "sets", name, declared_set.kind), evaluation)

    def _programs(self, evaluation: Evaluation) -> None:
        """Check the sets that are programs: they also score what a training command leaves."""
        for name, declared_set in evaluation.sets.items():
            if isinstance(declared_set, CommandSet):
                self._set(declared_set, ("evaluation", "sets", name, declared_set.kind), evaluation)

    def _scored_on_fashion(self, data: Fashion, at: Path_, value: object, probe: bool) -> None:
        for split in ("t10k", "train") if probe else ("t10k",):
            self._once(at, value, partial(self._fashion, data, split), key=("fashion", repr(data), split))

    def _set(self, data: EvaluationSet, at: Path_, evaluation: Evaluation) -> None:
        probe = evaluation.linear_probe
        match data:
            case Shapes():
                return
            case Fashion():
                self._scored_on_fashion(data, at, evaluation, probe)
                return
            case ShardSet():
                look = partial(self._tar_set, data, at, evaluation)
            case FolderSet():
                look = partial(self._folder, data, probe)
            case IdxSet():
                look = partial(self._idx, data, probe)
            case CaptionSet():
                look = partial(self._captions, data)
            case CommandSet():
                if data.arguments is None:
                    return
                look = partial(check_program, data.arguments, f"{'.'.join(map(str, at))}.arguments")
        if self._once(at, evaluation, look, key=("set", repr(data), str(probe))):
            self.looked_at["evaluation_sets"] += 1

    def _tar_set(self, data: ShardSet, at: Path_, evaluation: Evaluation) -> None:
        urls, classes = data.urls, data.classes
        if classes is None:
            self._shards(urls, at, evaluation, shards.check_captioned, "captions")
            return
        count = IMAGENET_CLASSES if classes == "imagenet" else sys.maxsize

        def have_names() -> None:
            nonlocal count
            names = labelled.names_in_order(classes, urls)
            labelled.check_choice(names, urls, data.metric)
            count = len(names)
            self._count_names(classes)

        def is_labelled(url: str) -> None:
            shards.check_labelled(url, count, several=data.metric == "map11")

        if classes != "imagenet":
            self._once((*at, "classes"), evaluation, have_names, key=("classes", repr(data)))
        self._shards(urls, at, evaluation, is_labelled, f"labels of {count} for {data.metric}")

    def _folder(self, data: FolderSet, probe: bool) -> None:
        folders = self._class_folders(data.path)
        classes = [""] * IMAGENET_CLASSES if data.classes == "imagenet" else data.classes
        labelled.check_choice(labelled.names_of_folders(folders, classes, data.path), data.path, data.metric)
        self._count_names(classes)
        if probe and data.train is not None:
            labelled.same_folders(data.path, folders, data.train, self._class_folders(data.train))

    def _class_folders(self, path: str) -> tuple[str, ...]:
        _, folders = labelled.class_folders(path)
        for folder in folders:
            if not labelled.has_images(folder):
                raise labelled.no_images(folder)
        return tuple(folder.name for folder in folders)

    def _idx(self, data: IdxSet, probe: bool) -> None:
        classes = tuple(data.classes)
        labelled.check_choice(classes, data.images)
        self._labelled_idx(data.images, data.labels, classes)
        if probe and data.train_images is not None:
            self._labelled_idx(data.train_images, idx.train_labels_of(data), classes)

    def _labelled_idx(self, images: str, labels: str, classes: tuple[str, ...]) -> None:
        labelled.check_labels(0, self._idx_labels(images, labels), len(classes), labels)

    def _idx_labels(self, images: str, labels: str) -> int:
        """The largest label of a set of IDX files; bytes are never below 0."""
        found = idx.shape_of(located(images), idx.IMAGES)[0]
        (count,), numbers = idx.content(located(labels), idx.LABELS)
        idx.check_counts(images, found, labels, count)
        return max(numbers)

    def _captions(self, data: CaptionSet) -> None:
        file = located(data.file)
        root = file.parent if data.root is None else located(data.root)
        images: dict[Path, None] = {}
        for _, name, texts in captions.rows(file, data.image, data.caption):
            if isinstance(name, str) and name and any(isinstance(text, str) and text.strip() for text in texts):
                images.setdefault(root / name)
            if len(images) == _CAPTION_ROWS:
                break
        if not images:
            raise captions.no_rows(file, data.image, data.caption)
        if not any(path.is_file() for path in images):
            raise DataError(
                f"{next(iter(images))}: there is no such image, nor any of the first {len(images)} of {file}; correct "
                f"root, the folder that paths in the table start from."
            )

    # Data to fine-tune on

    def _fine_tuning(self, settings: Settings) -> None:
        data, named = labelled_set(settings), settings.fine_tuning
        assert named is not None
        is_own_data = named.data is None
        at: Path_ = ("data", data.kind) if is_own_data else ("fine_tuning", "data", data.kind)
        value = settings.data if is_own_data else named
        match data:
            case Shapes():
                return
            case Fashion():
                self._scored_on_fashion(data, at, value, probe=True)
                return
            case LabelledFolders():
                look = partial(self._labelled_folders, data)
            case LabelledShards():
                look = partial(self._labelled_shards, data, at, value)
            case LabelledIdx():
                look = partial(self._two_idx, data)
        if self._once(at, value, look, key=("fine-tuning", repr(data))):
            self.looked_at["labelled_sets"] += 1

    def _labelled_folders(self, data: LabelledFolders) -> None:
        classes = self._class_folders(data.train)
        labelled.check_choice(classes, data.train)
        labelled.same_folders(data.test, self._class_folders(data.test), data.train, classes)

    def _labelled_shards(self, data: LabelledShards, at: Path_, value: object) -> None:
        def is_labelled(url: str) -> None:
            shards.check_labelled(url, sys.maxsize)

        for urls in (data.train, data.test):
            self._shards(urls, at, value, is_labelled, "labels")

    def _two_idx(self, data: LabelledIdx) -> None:
        largest = self._idx_labels(data.train_images, data.train_labels)
        classes = tuple(map(str, range(largest + 1)))
        labelled.check_choice(classes, data.train_labels)
        self._labelled_idx(data.test_images, data.test_labels, classes)

    # How problems are recorded

    def _once(self, at: Path_, value: object, act: Callable[[], object], *, key: tuple[str, ...]) -> bool:
        """Run a check unless it was run before. True if it ran and found nothing wrong.

        key: the input, and the kind of check.
        at: its place under a run's settings; value: that of the whole setting. They lead to a line of the study.
        """
        if key in self.done:
            return False
        self.done.add(key)
        try:
            act()
        except FlipscaleError as error:
            self._problem(at, value, str(error))
        except OSError as error:
            self._problem(at, value, f"{error.filename}: cannot be read ({reason_of(error)}); fix its permissions.")
        else:
            return True
        return False

    def _problem(self, at: Path_, value: object, what: str) -> None:
        where = ".".join(map(str, at if at[0] in ("evaluation", "fine_tuning") else at[:1]))
        what = what if what.startswith(where) else f"{where}: {what}"
        self.problems.setdefault((self._place(at, value), what), str(at[0]))

    def _place(self, at: Path_, value: object) -> Place:
        """The line on which the study gives a setting this value."""
        name, document = str(at[0]), self.study.document.data
        for path, written in _axis_values(document, name):
            if plain(read(SETTINGS[name].type, written, (), lambda *_: None)) == plain(value):
                return self.study.place(*path, *at[1:])
        if name in (document.get("couple") or {}):
            return self.study.place("couple", name)
        return self.study.place(*(() if name == "evaluation" else ("base",)), *at)

    def _count(self, noun: str, what: str) -> None:
        self._count_up(noun, what, 1)

    def _count_up(self, noun: str, what: str, number: int) -> None:
        if number and (noun, what) not in self.done:
            self.done.add((noun, what))
            self.looked_at[noun] += number

    def _count_names(self, classes: str | Sequence[str] | None) -> None:
        if isinstance(classes, str):
            self._count("class_files", classes)


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
