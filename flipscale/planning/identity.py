"""The identity of a run: the settings that can change its result, its id, and the runs that it comes from."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from flipscale.kinds import Declared, JsonObject, options_of
from flipscale.scores import AVERAGED
from flipscale.settings.architecture import own_image_size
from flipscale.settings.declarations import (
    CommandSet,
    DataSet,
    EvaluationSet,
    FineTuning,
    FineTuningSet,
    FlipscaleTrainer,
    LabelledFolders,
    LabelledIdx,
    LabelledShards,
    Settings,
    Stage,
    Tuning,
    WebDataset,
    Weights,
    lengths,
    plain,
)
from flipscale.study import SETTINGS
from flipscale.study.settings import images_scored
from flipscale.words import exact

RECIPE = 2
"""Version of what training does with given settings. It is part of every id: raising it makes all runs new ones."""

_CANONICAL_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
"""What is hashed must stay the same, byte by byte."""


# Runs and those they come from


def parent_of(settings: Settings) -> Settings | None:
    """The settings of the run that this one starts from, or None: a tuning needs a trained model."""
    if settings.fine_tuning is not None:
        return replace(settings, fine_tuning=None)
    if settings.tuning is not None:
        return replace(settings, tuning=None)
    *before, last = stages_of(settings)
    if not before:
        return None
    # The mean of the last weights is the whole run's.
    reached = sum(each.samples for each in before)
    parent = replace(settings, stages=before, average=0.0)
    staged = stage(parent)
    if last.restart:
        parent = replace(parent, samples=reached)
    elif staged.schedule == "constant" and reached <= settings.samples - staged.cooldown:
        # Nothing in it depends on where the schedule ends.
        parent = replace(parent, samples=reached, cooldown=0)
    else:
        return parent
    return stage(parent) if len(before) == 1 else parent


def lineage(settings: Settings) -> list[Settings]:
    """The run and those it comes from, the earliest first."""
    line = [settings]
    while (parent := parent_of(line[0])) is not None:
        line.insert(0, parent)
    return line


def stages_of(settings: Settings) -> list[Stage]:
    """The stages of a run, each with a count of samples; a tuning is the last of them."""
    stages = [Stage(settings.samples)]
    if settings.stages is not None:
        counts = lengths(settings.stages, settings.samples)
        stages = [replace(each, samples=count) for each, count in zip(settings.stages, counts, strict=True)]
    return [*stages, _as_stage(settings.tuning, settings)] if settings.tuning else stages


def _as_stage(tuning: Tuning, settings: Settings) -> Stage:
    """FLIP's tuning (arXiv 2212.00794, section 4 and table 1e) has a hundredth of the learning rate and warms up over a
    fifth of its samples; both are the defaults."""
    return Stage(
        samples=tuning.samples,
        restart=True,
        lr=tuning.lr or settings.lr / 100,
        warmup=tuning.samples // 5 if tuning.warmup is None else tuning.warmup,
        **{name: getattr(tuning, name) for name in ("batch_size", "mask_ratio", *_SHAPE)},
    )


def goes_on(settings: Settings) -> bool:
    """Whether flipscale's trainer goes on with the schedule and optimizer of a run's parent, not just with its
    weights."""
    if settings.stages is None or settings.fine_tuning is not None:
        return False
    return len(settings.stages) > 1 and not settings.stages[-1].restart and settings.trainer == FlipscaleTrainer()


@dataclass(frozen=True)
class Course:
    """Where a run is in a schedule that its parent began, or that others go on with, in samples."""

    before: int = 0
    """Those of its parents."""
    end: int | None = None
    """All of the schedule; None: the whole batches of the run itself."""


WHOLE = Course()
"""That of a run which trains all of its schedule."""


def course_of(settings: Settings) -> Course:
    """The schedule of which the run itself trains a part."""
    if settings.fine_tuning is not None:
        return WHOLE
    *before, last = stages_of(settings)
    opening = _opening([*before, last])
    begins, seen = (sum(each.samples for each in some) for some in (before[:opening], before))
    end = settings.samples if settings.tuning is None else seen + last.samples
    return WHOLE if (begins, end) == (seen, seen + last.samples) else Course(seen - begins, end - begins)


def _opening(stages: Sequence[Stage]) -> int:
    """The number of the stage where the schedule of the last one begins."""
    return max((number for number, each in enumerate(stages) if each.restart), default=0)


def stage(settings: Settings) -> Settings:
    """The settings of what the run itself trains: those of its last stage, tuning or fine-tuning."""
    if settings.fine_tuning is not None:
        return _fine_tuning_stage(settings, settings.fine_tuning)
    if settings.stages is None and settings.tuning is None:
        return settings
    stages = stages_of(settings)
    last = stages[-1]
    opening = stages[_opening(stages)]
    lasting = ("lr", "warmup", "schedule") if opening.restart else ("warmup", "schedule")
    given = {name: value for name, value in opening.changes.items() if name in lasting} | last.changes
    staged = replace(settings, **given, samples=last.samples, stages=None)
    return replace(
        staged,
        # The decoder learns from what a mask leaves out; without one there is nothing to reconstruct.
        reconstruction=settings.reconstruction if staged.mask_ratio else None,
        cooldown=min(settings.cooldown, (course_of(settings).end or last.samples) - staged.warmup),
    )


_SHAPE = ("model", "image_size", "text_length")


def _changed_shape(tuning: Tuning, settings: Settings) -> JsonObject:
    """The model, image size and text length of a tuning, where these are not the run's own."""
    changes = _as_stage(tuning, settings).changes
    return {
        name: changes[name] for name in _SHAPE if changes.get(name, getattr(settings, name)) != getattr(settings, name)
    }


def _fine_tuning_stage(settings: Settings, fine_tuning: FineTuning) -> Settings:
    """The settings of a fine-tuning: its own, and those of the model of the run that it starts from.

    flipscale trains it whatever trained that run, on a cosine, unmasked. FLIP's base learning rate and warm-up (arXiv
    2212.00794, table 12) are the defaults: 5e-5 at a batch of 256, and 5 of 50 epochs.
    """
    before = stage(replace(settings, fine_tuning=None))
    batch = fine_tuning.batch_size
    return replace(
        before,
        fine_tuning=fine_tuning,
        data_size=None,
        crop=fine_tuning.crop,
        flip=fine_tuning.flip,
        samples=fine_tuning.samples,
        mask_ratio=0.0,
        text_mask_ratio=0.0,
        reconstruction=None,
        batch_size=batch,
        lr=fine_tuning.lr or 5e-5 * batch / 256,
        warmup=fine_tuning.samples // 10 if fine_tuning.warmup is None else fine_tuning.warmup,
        schedule="cosine",
        cooldown=0,
        cooldown_shape="linear",
        average=0.0,
        weight_decay=fine_tuning.weight_decay,
        beta1=fine_tuning.beta1,
        beta2=fine_tuning.beta2,
        trainer=FlipscaleTrainer(),
    )


def labelled_set(settings: Settings) -> FineTuningSet:
    """The data of a run's fine_tuning. The study's reader has refused training data without classes."""
    assert settings.fine_tuning is not None
    data = settings.fine_tuning.data or settings.data
    assert isinstance(data, FineTuningSet)
    return data


def labelled_test_images(settings: Settings) -> int:
    """The most test images of the labelled set that are scored."""
    assert settings.fine_tuning is not None
    return settings.fine_tuning.images or images_scored(settings.evaluation, labelled_set(settings))


def trains(settings: Settings) -> bool:
    """Whether a run trains anything: with samples 0 it is the weights that it starts from, and is only scored."""
    return not settings.is_clip or bool(settings.samples or settings.tuning or settings.fine_tuning)


def is_evaluated(settings: Settings) -> bool:
    """Whether a run gets scores: shards have no held-out part of their own, and a command scores as it likes."""
    by_itself = settings.fine_tuning is not None or settings.trainer.kind == "command"
    return by_itself or bool(scored_sets(settings))


# Ids


def run_id(settings: Settings) -> str:
    """A run's name: what a person wants to know of it, then a hash of everything that can change its training."""
    hashed = _CANONICAL_JSON.encode({"recipe": RECIPE, **identity(settings)})
    digest = hashlib.sha256(hashed.encode()).hexdigest()[:10]
    if not settings.is_clip:
        return f"{_own_words(settings)}_s{settings.seed}_{digest}"
    first, *_ = views = _views(settings)
    trained = sum(each.samples for each in views)
    readable = (
        first.model,
        dataset_name(settings.data) if trains(settings) else _start_name(settings.init) if settings.init else "random",
        show_setting(first.samples) + (f"-of-{show_setting(settings.samples)}" if trained < settings.samples else ""),
        f"m{first.mask_ratio:g}",
        *(_then(each, {name: getattr(each, name) for name in _SHAPE}, before) for before, each in pairwise(views)),
        *([_then(settings.tuning, _changed_shape(settings.tuning, settings), first)] if settings.tuning else []),
        *([f"f{show_setting(settings.fine_tuning.samples)}"] if settings.fine_tuning else []),
        f"s{settings.seed}",
    )
    # Letters that a path and a shell take as they are.
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in readable]
    return "_".join([*words, digest])


_LONGEST_WORDS = 60
"""The most characters of an id's readable part where a study's own parameters make it."""


def _own_words(settings: Settings) -> str:
    """The parameters of a run in its id: 'depth-8_norm-rms'."""
    parts = [f"{name}-{show_setting(getattr(settings, name))}" for name in settings.parameter_names]
    words = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)
    return words[:_LONGEST_WORDS].rstrip("-_.")


def _then(part: Settings | Tuning, shape: JsonObject, before: Settings) -> str:
    """A stage or tuning in an id: 't1.6k', 't1.6k-28px' at another image size."""
    units = {"model": "", "image_size": "px", "text_length": "tokens"}
    changed = [f"{value}{units[name]}" for name, value in shape.items() if value != getattr(before, name)]
    return "-".join([f"t{show_setting(part.samples)}", *changed])


def dataset_name(data: DataSet | EvaluationSet) -> str:
    """The short name of a data set: its kind, or the name of a webdataset."""
    if not isinstance(data, WebDataset):
        return data.kind
    # Moving shards must not make new runs, so the name is the pattern's last folder, not the whole path.
    return data.name or "/".join(data.urls.split("/")[-2:]).rpartition("/")[0] or data.urls


def differences(first: Settings, second: Settings) -> dict[str, tuple[Any, Any]]:
    """The settings, with both values, in which two runs' identities differ."""
    first_identity = identity(first)
    second_identity = identity(second)
    return {
        name: (plain(getattr(first, name, None)), plain(getattr(second, name, None)))
        for name in {**vars(first), **vars(second)}
        if _of_name(first_identity, name) != _of_name(second_identity, name)
    }


def _of_name(known: JsonObject, name: str) -> Any:
    """What an identity has of a setting or parameter."""
    return known.get("parameters", {}).get(name, known.get(name))


# Identity


def identity(settings: Settings) -> JsonObject:
    """The settings that make an id, as JSON: those that differ from their defaults, and neither paths nor evaluation.

    Leaving out defaults is what keeps old ids when a setting is added whose default means 'as before'. Stages are known
    by what they train, however a study says it: as the first of them, and what differs from it in each.
    """
    if settings.stages is not None:
        return _of_stages(settings)
    known: JsonObject = {}
    if settings.parameter_names:
        # All of them: a default belongs to the study, which may change it.
        known["parameters"] = {name: _canonical(getattr(settings, name)) for name in settings.parameter_names}
    for name, setting in options_of(type(settings)).items():
        if (
            name == "evaluation"
            or name in settings.parameter_names
            or (setting.needs and not _takes_part(setting.needs, settings))
        ):
            continue
        value, default = _value_and_default(name, settings)
        if setting.required or setting.rule or (value != default and _canonical(value) != _canonical(default)):
            known[name] = _canonical(value)
    return known


def _of_stages(settings: Settings) -> JsonObject:
    views = [replace(each, samples=settings.samples) for each in _views(settings)]
    first, *others = map(identity, views)
    stages = []
    for each, known in zip(stages_of(settings), (first, *others), strict=True):
        differing = {name: known.get(name) for name in {**first, **known} if known.get(name) != first.get(name)}
        stages.append({"samples": each.samples} | ({"restart": True} if each.restart else {}) | differing)
    return identity(replace(views[0], fine_tuning=settings.fine_tuning)) | {"stages": stages}


def _views(settings: Settings) -> list[Settings]:
    """The settings of each stage; the run's where it has none."""
    if settings.stages is None:
        return [settings]
    numbers = range(1, len(settings.stages) + 1)
    counted = stages_of(settings)
    return [stage(replace(settings, stages=counted[:number], fine_tuning=None)) for number in numbers]


def _takes_part(name: str, settings: Settings) -> bool:
    """Whether a setting that others need is not at its default, in the run or in its tuning."""
    if name == "samples":
        return trains(settings)
    needs = SETTINGS[name].needs
    if needs and not _takes_part(needs, settings):
        return False
    tuned = name == "mask_ratio" and settings.tuning is not None and settings.tuning.mask_ratio != 0
    return tuned or getattr(settings, name) != SETTINGS[name].default


def _value_and_default(name: str, settings: Settings) -> tuple[Any, Any]:
    """The part of a setting that can change a result, as JSON, and its default."""
    if name == "image_size" and settings.is_clip:
        return settings.image_size, own_image_size(settings.model)
    if name == "data":
        return _of_data(settings.data), _of_data(SETTINGS["data"].default)
    if name == "init" and settings.init is not None:
        return _start_name(settings.init), None
    if name == "trainer" and getattr(settings.trainer, "name", None):
        return settings.trainer.name, None  # type: ignore[union-attr]
    value = getattr(settings, name)
    if isinstance(value, Tuning):
        return _of_tuning(value, settings), None
    if isinstance(value, FineTuning):
        return _of_fine_tuning(value, settings.data), None
    return plain(value), plain(SETTINGS[name].default)


def _start_name(init: Weights) -> str:
    # Every run's weights are called model.pt, so the folder is part of the name.
    return init.name or "/".join(init.path.split("/")[-2:])


def _options(record: Declared) -> JsonObject:
    """The options of a record that can change a result and differ from their defaults."""
    options = options_of(type(record))
    values = {name: plain(getattr(record, name)) for name, option in options.items() if not option.place}
    return {name: value for name, value in values.items() if value != options[name].default}


def _of_kind(record: Declared) -> JsonObject:
    """A value of one kind, without its paths and without defaults."""
    return {str(record.kind): _options(record)}


def _of_fine_tuning(fine_tuning: FineTuning, data: DataSet) -> JsonObject:
    """A fine-tuning without defaults. The training data's classes are the default, stated or not."""
    options = _options(fine_tuning)
    options.pop("data", None)
    if fine_tuning.data is not None and _of_data(fine_tuning.data) != _of_data(data):
        options["data"] = _of_data(fine_tuning.data)
    return options


def _of_data(data: DataSet | EvaluationSet | FineTuningSet) -> JsonObject:
    if isinstance(data, LabelledFolders | LabelledShards):
        return {data.kind: data.name or _last_two(data.train)}
    if isinstance(data, LabelledIdx):
        return {data.kind: data.name or _last_two(data.train_images)}
    if isinstance(data, WebDataset):
        return {data.kind: data.name or f"{dataset_name(data)}/{data.urls.rpartition('/')[2]}"}
    return _of_kind(data)


def _last_two(path: str) -> str:
    """The last two parts of a path, as every set's folders may be called train and test."""
    return "/".join(path.rstrip("/").split("/")[-2:])


def _of_tuning(tuning: Tuning, settings: Settings) -> JsonObject:
    """A tuning with the model and sizes that it changes: ids from before tunings could change them stay valid."""
    others = {name: value for name, value in plain(tuning).items() if name not in _SHAPE}
    return others | _changed_shape(tuning, settings)


# Scores


def inferences(settings: Settings) -> list[str]:
    """How evaluation shows images of a run beside whole ones: no other way without a mask, and no ensemble of images
    that are resized."""
    if not settings.mask_ratio:
        return []
    return [name for name in settings.evaluation.inference if name == "masked" or settings.mask_shape != "resize"]


def scored(settings: Settings) -> Settings:
    """The stage as evaluation sees it: with the mask of its pre-training, whatever it was tuned with afterwards."""
    return replace(stage(settings), mask_ratio=settings.mask_ratio)


def measures(settings: Settings) -> dict[str, JsonObject]:
    """What the evaluation of a run measures, as JSON without places: '' is its own data's held-out part, 'v2' a set,
    'v2.masked' that set under masks, 'v2.averaged' that set by the mean of the last weights. A score belongs to a run,
    one of these and the content of the set's data.

    A head's score is part of its training, and a training command scores as it likes: both have none.
    """
    if settings.fine_tuning is not None or settings.trainer.kind == "command":
        return {}
    evaluation = settings.evaluation
    common: JsonObject = {"linear_probe": evaluation.linear_probe} if evaluation.linear_probe else {}
    measured = {}
    for name, declared in scored_sets(settings).items():
        what = {"set": _of_set(declared, evaluation.linear_probe), "images": images_scored(evaluation, declared)}
        if isinstance(declared, CommandSet):
            if declared.arguments is not None:
                measured[name] = {"set": {declared.kind: {"scores": dict(declared.scores)}}}
            continue
        if evaluation.templates:
            common["templates"] = list(evaluation.templates)
        measured[name] = _canonical(what | common)
        for shown in inferences(settings):
            measured[measure_of(name, shown)] = _canonical(what | common | {"inference": shown})
        if settings.average:
            measured[measure_of(name, AVERAGED)] = _canonical(what | common | {"inference": AVERAGED})
    return measured


def measure_of(of_set: str, shown: str) -> str:
    """The key of a set and how its images are shown, and the part of a score's column before its last dot."""
    return ".".join(filter(None, (of_set, shown)))


def scored_sets(settings: Settings) -> dict[str, DataSet | EvaluationSet]:
    """The sets of an evaluation by name: '' is its main one, by default the held-out part of what is trained on. Shards
    have none."""
    evaluation = settings.evaluation
    has_held_out = trains(settings) and not isinstance(settings.data, WebDataset)
    main = evaluation.data or (settings.data if has_held_out else None)
    return ({} if main is None else {"": main}) | dict(evaluation.sets)


def evaluation_identity(settings: Settings) -> JsonObject:
    """An evaluation without defaults; the end of the schedule is always evaluated, stated or not."""
    evaluation = settings.evaluation
    data = settings.data
    options = _options(evaluation)
    if options.pop("at", None) and (at := sorted({*evaluation.at, 1.0})) != [1.0]:
        options["at"] = at
    options.pop("scores", None)  # Their names say nothing of how they are measured.
    options.pop("means", None)  # They are computed from the sets' scores whenever runs are collected.
    by_default = replace(evaluation, images=None)
    scored = [evaluation.data or data, *evaluation.sets.values()]
    if all(images_scored(by_default, each) == images_scored(evaluation, each) for each in scored):
        options.pop("images", None)
    if evaluation.data is not None:
        options["data"] = _of_data(evaluation.data)
        if options["data"] == _of_data(data) and not isinstance(data, WebDataset):
            del options["data"]
    if "sets" in options:
        # A set is known by its name: where its files lie is the machine's affair.
        options["sets"] = {name: _of_set(each, evaluation.linear_probe) for name, each in evaluation.sets.items()}
    return options


def _of_set(evaluated: DataSet | EvaluationSet, probed: bool) -> JsonObject:
    options = _options(evaluated)
    for place in ("urls", "name"):
        options.pop(place, None)
    if probed and (getattr(evaluated, "train", None) or getattr(evaluated, "train_images", None)):
        options["train"] = True  # Where these images lie does not matter, but that they are there does.
    return {evaluated.kind: options}


def _canonical(value: Any) -> Any:
    """Numbers to 12 digits, so that 4e-6 * 64 / 256 and 1e-6 are one value on every machine; 2.0 and 2 are one."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.12g}")
    return value


# As a person writes it


def show_setting(value: object) -> str:
    """A setting's value as a person writes it: 12.8B, 16k, 0.5, shapes(pairs=0.5). Two values never look the same."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return exact(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return " ".join(map(show_setting, value))
    if isinstance(value, Declared) and value.kind:
        named = WebDataset | LabelledFolders | LabelledShards | LabelledIdx
        ((kind, options),) = (_of_data(value) if isinstance(value, named) else _of_kind(value)).items()
        return kind + (_show_options(options) if options else "")
    if isinstance(value, Declared):
        known = options_of(type(value))
        options = {name: given for name in known if (given := getattr(value, name)) != known[name].default}
        # A value alone stands for its one option.
        return show_setting(options[value.short]) if list(options) == [value.short] else _show_options(options) or "on"
    if isinstance(value, Mapping):
        return _show_options(value) or "on"
    return str(value)


def _show_options(options: object) -> str:
    """'(samples=1.6k, lr=0.001)'; '' for none."""
    if isinstance(options, Mapping):
        options = ", ".join(f"{name}={show_setting(option)}" for name, option in options.items())
    return f"({options})" if options else ""
