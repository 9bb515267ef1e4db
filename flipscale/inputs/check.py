"""What runs read is looked at before any of them starts, so that what is missing is told once and not by every run.

Each data set, set of classes, checkpoint and command is looked at once, however many runs name it. Of tar shards a
folder is listed, and the first and the last are opened. What is not on this machine's disks is not looked at: URLs and
commands of shards are not fetched, and tags of weights are not downloaded.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.architecture import architecture
from flipscale.cost import parameters, steps_of
from flipscale.errors import DataError, FlipscaleError, InputsError
from flipscale.identity import stage
from flipscale.inputs import captions, fashion, idx, labelled, shards
from flipscale.inputs.open_clip_flags import check_webdataset, epochs_of, refuse, wishes
from flipscale.inputs.paths import located, reason_of
from flipscale.inputs.program import check_program
from flipscale.inputs.weights import check_weights
from flipscale.plan import Run
from flipscale.settings import plain
from flipscale.study import SETTINGS, Study
from flipscale.study.document import Path_, Place

IMAGENET_CLASSES = 1000
"""How many classes `classes: imagenet` stands for, with open_clip's names."""

_CAPTION_ROWS = 20
"""How many images of a table of captions are looked for."""

_NOUNS = {
    "data_sets": ("data set", "data sets"),
    "evaluation_sets": ("evaluation set", "evaluation sets"),
    "shards": ("shard", "shards"),
    "shards_opened": ("of them opened", "of them opened"),
    "class_files": ("file of class names", "files of class names"),
    "checkpoints": ("checkpoint", "checkpoints"),
    "commands": ("training command", "training commands"),
}
"""What is counted, in this order, and how it is called: one of it, and several."""


@dataclass(frozen=True)
class Checked:
    """What came of looking."""

    problems: tuple[str, ...]
    """Each a line, `where: what; what would be right`, with the study's file and line."""
    looked_at: Mapping[str, int]
    """How many of which kind of thing were looked at."""
    not_checked: tuple[str, ...]
    """What was left alone, and why."""

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
        named = [
            f"{number:,} {words[number > 1]}" for key, words in _NOUNS.items() if (number := self.looked_at.get(key, 0))
        ]
        left = f". Not checked: {'; '.join(self.not_checked)}" if self.not_checked else ""
        return f"checked {', '.join(named) or 'nothing, as these runs read no files'}{left}."


def check(study: Study, runs: Iterable[Run], *, on_gpu: bool) -> Checked:
    """Look at all that `runs` of the study read. `on_gpu`: whether there is a GPU for runs that ask for none."""
    look = _Inspection(study)
    for run in runs:
        look.at_run(run, on_gpu)
    problems = sorted(look.problems, key=lambda problem: (problem[0].file, problem[0].line))
    return Checked(tuple(f"{place}: {what}" for place, what in problems), look.looked_at, tuple(look.not_checked))


class _Inspection:
    def __init__(self, study: Study):
        self.study = study
        self.problems: dict[tuple[Place, str], None] = {}
        self.looked_at: Counter[str] = Counter()
        self.not_checked: dict[str, None] = {}
        self.done: set[tuple[str, ...]] = set()
        self.sizes: dict[str, tuple[int, int] | None] = {}
        """How many files and pairs each training set has, by its declaration, if that is known without counting."""

    def at_run(self, run: Run, on_gpu: bool) -> None:
        settings = stage(run.settings)
        (trainer,) = settings["trainer"]
        if settings["inference"] == "full" and trainer == "command":
            self._command(settings)
            return
        if settings["inference"] == "full":
            if trainer == "open_clip":
                device = "cuda" if run.resources.get("gpus") or on_gpu else "cpu"
                self._open_clip(settings, run.resources, device)
            self._training(settings, own_shards=trainer == "open_clip" and settings["crop"] is not None)
            if settings["init"] is not None and not run.parents:
                self._init(settings)
        self._evaluations(settings)

    # What trains

    def _command(self, settings: Mapping[str, Any]) -> None:
        arguments = settings["trainer"]["command"]["arguments"]
        at = ("trainer",)
        if self._once(at, settings["trainer"], lambda: check_program(arguments), key=("program", *arguments)):
            self.looked_at["commands"] += 1
            self.not_checked.setdefault("what a training command reads, as it finds its data itself")

    def _open_clip(self, settings: Mapping[str, Any], resources: Mapping[str, Any], device: str) -> None:
        at, trainer = ("trainer",), settings["trainer"]
        arguments = trainer["open_clip"]["arguments"] or []

        def is_expressed() -> None:
            refuse(settings, resources, device)

        def ends_epochs() -> None:
            pairs = settings["data_size"]
            if pairs is None and "shapes" in settings["data"]:
                pairs = steps_of(settings) * settings["batch_size"]
            if pairs is not None:
                epochs_of(settings, pairs, wishes(arguments).get("epochs"))

        if self._once(at, trainer, lambda: wishes(arguments), key=("wishes", *arguments)):
            self.looked_at["commands"] += 1
        self._once(at, trainer, check_webdataset, key=("webdataset",))
        # Which settings it is that cannot be had tells each run from the others; what is said is said once.
        self._once(at, trainer, is_expressed, key=("refuse", repr(settings), device))
        if settings["schedule"] == "constant" and settings["cooldown"]:
            self._once(("cooldown",), settings["cooldown"], ends_epochs, key=("epochs", repr(settings)))

    def _init(self, settings: Mapping[str, Any]) -> None:
        path, model = settings["init"]["path"], settings["model"]

        def is_there() -> None:
            if check_weights(path, model, parameters(architecture(model))):
                self.looked_at["checkpoints"] += 1
            else:
                self.not_checked.setdefault(f"weights {path} of {model}, which are downloaded when a run starts")

        self._once(("init",), settings["init"], is_there, key=("init", path, model))

    # Data to train on

    def _training(self, settings: Mapping[str, Any], *, own_shards: bool) -> None:
        data = settings["data"]
        ((kind, options),) = data.items()
        at: Path_ = ("data", kind)
        declared = repr(data)
        if declared not in self.sizes:
            self.sizes[declared] = None
            if kind == "fashion":
                self._once(at, data, lambda: self._fashion_training(declared, options), key=("training", declared))
            elif kind == "webdataset":
                self._once(at, data, lambda: self._pairs(declared, options, at, data), key=("training", declared))
        if kind == "webdataset" and own_shards:
            self._once(at, data, lambda: self._first_shard(options["urls"]), key=("own", options["urls"]))
        if (known := self.sizes[declared]) is None:
            return
        files, pairs = known
        size, batch = settings["data_size"], settings["batch_size"]

        def is_enough() -> None:
            if size is not None and kind == "fashion":
                fashion.check_data_size(fashion.folder_of(options), size, pairs)
            elif size is not None:
                shards.check_data_size(options["urls"], files, size, pairs)
            elif pairs < batch:
                raise DataError(
                    f"{options.get('urls') or kind} has {pairs} pairs, less than one batch of {batch}, which would "
                    f"hold a pair twice; add shards, or lower batch_size."
                )

        about = "batch_size" if size is None else "data_size"
        self._once((about,), settings[about], is_enough, key=("pairs", declared, str(size), str(batch)))

    def _fashion_training(self, declared: str, options: dict[str, Any]) -> None:
        self.sizes[declared] = 1, self._fashion(options, "train")

    def _fashion(self, options: dict[str, Any], split: str) -> int:
        """How many images a split has."""
        folder = fashion.folder_of(options)
        images, labels = fashion.files_of(folder, split)
        found = idx.shape_of(images, idx.IMAGES)[0]
        fashion.check_split(folder, split, found, idx.shape_of(labels, idx.LABELS)[0])
        self._count("data_sets", str(folder))
        return found

    def _pairs(self, declared: str, options: dict[str, Any], at: Path_, data: Any) -> None:
        found = self._shards(options["urls"], at, data, shards.check_pairs, "pairs")
        self._count("data_sets", options["urls"])

        def are_declared() -> None:
            counts = shards.declared_counts(found, options.get("sizes"))
            if len(counts) == len(found):
                self.sizes[declared] = len(found), sum(counts.values())

        self._once((*at, "sizes"), data, are_declared, key=("sizes", declared))

    def _first_shard(self, urls: str) -> None:
        first = shards.sources(urls)[0]
        if first.local:
            shards.check_own(first.url)

    def _shards(
        self, urls: str, at: Path_, value: Any, look: Callable[[str], None], for_what: str
    ) -> list[shards.ShardSource]:
        """The shards of a pattern, of which the first and the last that are on a disk are looked into."""
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

    def _evaluations(self, settings: Mapping[str, Any]) -> None:
        evaluation = settings["evaluation"]
        probe = bool(evaluation.get("linear_probe"))
        ((kind, options),) = (evaluation["data"] or settings["data"]).items()
        at: Path_ = ("evaluation", "data", kind) if evaluation["data"] else ("data", kind)
        value = evaluation if evaluation["data"] else settings["data"]
        if kind == "fashion":
            self._scored_on_fashion(options, at, value, probe)
        elif kind == "webdataset" and evaluation["data"]:
            declared = repr(("scored", options))
            self._once(at, value, lambda: self._pairs(declared, options, at, value), key=("scored", declared))
        for name, declaration in evaluation.get("sets", {}).items():
            ((kind, options),) = declaration.items()
            self._set(kind, options, ("evaluation", "sets", name, kind), evaluation, probe)

    def _scored_on_fashion(self, options: dict[str, Any], at: Path_, value: Any, probe: bool) -> None:
        for split in ("t10k", "train") if probe else ("t10k",):
            key = ("fashion", repr(options), split)
            self._once(at, value, lambda split=split: self._fashion(options, split), key=key)  # type: ignore[misc]

    def _set(self, kind: str, options: dict[str, Any], at: Path_, evaluation: Any, probe: bool) -> None:
        if kind == "fashion":
            self._scored_on_fashion(options, at, evaluation, probe)
            return
        looks: dict[str, Callable[[], None]] = {
            "webdataset": lambda: self._tar_set(options, at, evaluation),
            "folder": lambda: self._folder(options, probe),
            "idx": lambda: self._idx(options, probe),
            "captions": lambda: self._captions(options),
        }
        if kind in looks and self._once(at, evaluation, looks[kind], key=("set", kind, repr(options), str(probe))):
            self.looked_at["evaluation_sets"] += 1

    def _tar_set(self, options: dict[str, Any], at: Path_, evaluation: Any) -> None:
        urls, classes = options["urls"], options["classes"]
        if classes is None:
            self._shards(urls, at, evaluation, shards.check_captioned, "captions")
            return
        count = IMAGENET_CLASSES if classes == "imagenet" else sys.maxsize

        def have_names() -> None:
            nonlocal count
            names = labelled.names_in_order(classes, urls)
            labelled.check_choice(names, urls)
            count = len(names)
            self._count_names(classes)

        def is_labelled(url: str) -> None:
            shards.check_labelled(url, count)

        if classes != "imagenet":
            self._once((*at, "classes"), evaluation, have_names, key=("classes", repr(options)))
        self._shards(urls, at, evaluation, is_labelled, f"labels of {count}")

    def _folder(self, options: dict[str, Any], probe: bool) -> None:
        folders = self._class_folders(options["path"])
        classes = options["classes"]
        if classes == "imagenet":
            classes = [""] * IMAGENET_CLASSES
        labelled.check_choice(labelled.names_of_folders(folders, classes, options["path"]), options["path"])
        self._count_names(classes)
        if probe and options["train"] is not None:
            labelled.same_folders(options["path"], folders, options["train"], self._class_folders(options["train"]))

    def _class_folders(self, path: str) -> tuple[str, ...]:
        _, folders = labelled.class_folders(path)
        for folder in folders:
            if not labelled.has_images(folder):
                raise labelled.no_images(folder)
        return tuple(folder.name for folder in folders)

    def _idx(self, options: dict[str, Any], probe: bool) -> None:
        classes = tuple(options["classes"])
        labelled.check_choice(classes, options["images"])
        self._labelled_idx(options["images"], options["labels"], classes)
        if probe and options["train_images"] is not None:
            idx.check_train_labels(options)
            self._labelled_idx(options["train_images"], options["train_labels"], classes)

    def _labelled_idx(self, images: str, labels: str, classes: tuple[str, ...]) -> None:
        found = idx.shape_of(located(images), idx.IMAGES)[0]
        (count,), numbers = idx.content(located(labels), idx.LABELS)
        idx.check_counts(images, found, labels, count)
        labelled.check_labels(min(numbers), max(numbers), len(classes), labels)

    def _captions(self, options: dict[str, Any]) -> None:
        file = located(options["file"])
        root = file.parent if options["root"] is None else located(options["root"])
        images: dict[Path, None] = {}
        for _, name, texts in captions.rows(file, options["image"], options["caption"]):
            if isinstance(name, str) and name and any(isinstance(text, str) and text.strip() for text in texts):
                images.setdefault(root / name)
            if len(images) == _CAPTION_ROWS:
                break
        if not images:
            raise captions.no_rows(file, options["image"], options["caption"])
        if not any(path.is_file() for path in images):
            raise DataError(
                f"{next(iter(images))}: there is no such image, nor any of the first {len(images)} of {file}; correct "
                f"root, the folder that paths in the table start from."
            )

    # How it is told

    def _once(self, at: Path_, value: Any, act: Callable[[], object], *, key: tuple[str, ...]) -> bool:
        """Do it unless that was done before; whether it was, and found nothing wrong.

        key: what is looked at, and for what.
        at: where under a run's settings it is declared; value: the whole setting's. They lead to a line of the study.
        """
        if key in self.done:
            return False
        self.done.add(key)
        try:
            act()
        except FlipscaleError as error:
            self._problem(at, value, str(error))
        except OSError as error:
            self._problem(at, value, f"{error.filename}: cannot be read ({reason_of(error)}); mend its permissions.")
        else:
            return True
        return False

    def _problem(self, at: Path_, value: Any, what: str) -> None:
        where = ".".join(map(str, at if at[0] == "evaluation" else at[:1]))
        what = what if what.startswith(where) else f"{where}: {what}"
        self.problems.setdefault((self._place(at, value), what))

    def _place(self, at: Path_, value: Any) -> Place:
        """Where the study gives a setting this value."""
        name, document = str(at[0]), self.study.document.data
        kind = SETTINGS[name].kind
        for path, written in _axis_values(document, name):
            if plain(kind.read(written, (), lambda _, what: None)) == plain(value):
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

    def _count_names(self, classes: Any) -> None:
        if isinstance(classes, str):
            self._count("class_files", classes)


def _axis_values(document: Mapping[str, Any], name: str) -> Iterator[tuple[Path_, Any]]:
    """What a study file gives a setting on its axes and in its grids, each with where it stands."""
    design = document.get("design")
    grids = design.get("grids") or {} if isinstance(design, dict) else {}
    varied: list[tuple[Path_, Any]] = [(("axes",), document.get("axes") or {})]
    varied += [(("design", "grids", grid), axes) for grid, axes in grids.items()]
    for path, axes in varied:
        values = axes.get(name) if isinstance(axes, dict) else None
        for number, written in enumerate(values if isinstance(values, list) else []):
            yield (*path, name, number), written
