"""The cells of a study: base, axes and couplings worked out, constraints applied, every setting settled."""

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flipscale.cost.arithmetic import PRICED, of_any_length, trunk_steps
from flipscale.door.statements import Values
from flipscale.errors import FlipscaleError
from flipscale.kinds import Compute, Faults, Option, PartOfRun, checked, holds, is_broken, options_of, show
from flipscale.settings.architecture import (
    Architecture,
    architecture,
    models_with_the_towers_of,
    resized_side,
    tower_difference,
)
from flipscale.settings.declarations import (
    NODE_GPUS,
    FineTuningSet,
    FlipscaleTrainer,
    OpenClipTrainer,
    Settings,
    Stage,
    Tuning,
    lengths,
)
from flipscale.study.document import Complaints, Place
from flipscale.study.expression import ExpressionError
from flipscale.study.study import Condition, Coupling, Study, samples_for

Unsettled = dict[str, Any]
"""Settings of a cell by name, while they are worked out."""

MOST_POINTS = 100_000
"""The most cells of a study before where and exclude: more take minutes to work out, and nobody trains them."""


def cells(study: Study, complaints: Complaints | None = None) -> list[Settings]:
    """The complete settings of every cell, once each, in the order of the grids and axes.

    A fault that only shows in a cell (a fractional batch, a text longer than the model reads) is reported once for each
    line of the study, with the first cell that shows it.
    """
    complaints = Complaints() if complaints is None else complaints
    points = sum(math.prod(len(axis.values) for axis in axes) for axes in study.grids.values())
    if points > MOST_POINTS:
        complaints.add(study.place("axes"), f"the axes have {points:,} cells; a study takes up to {MOST_POINTS:,}")
        return []
    settled = _Grid(study, complaints, {coupling.name for coupling in study.couplings}).cells()
    if not settled and not complaints.found:
        place = study.conditions[0].place if study.conditions else study.place("axes")
        complaints.add(place, "no cell of the grid is left; loosen where or exclude")
    return settled


@dataclass
class _Grid:
    """Works the cells of a study out, and complains once about each thing that goes wrong."""

    study: Study
    complaints: Complaints
    coupled: set[str]
    """The settings that follow from others."""
    complained: set[object] = field(default_factory=set)

    @functools.cached_property
    def _known(self) -> Mapping[str, Option]:
        return options_of(self.study.record)

    def cells(self) -> list[Settings]:
        """Those of each grid, its last axis varying fastest."""
        axes = [axis for axes in self.study.grids.values() for axis in axes]
        by_text: dict[str, Settings] = {}
        for grid in self.study.grids.values():
            for given in itertools.product(*([(axis.name, value) for value in axis.values] for axis in grid)):
                chosen = dict(given)
                values: Unsettled = {**dict.fromkeys(self.coupled), **self.study.base, **chosen}
                if self._work_out(values, chosen):
                    cell = self.study.record(**values)
                    by_text.setdefault(repr(cell), cell)
        cells = list(by_text.values())
        by_rule = any(coupling.name == "warmup" and coupling.place is None for coupling in self.study.couplings)
        return _warmed_up_alike(cells) if by_rule and all(axis.name != "warmup" for axis in axes) else cells

    def _work_out(self, values: Unsettled, chosen: Values) -> bool:
        """Complete the settings of a cell. Returns whether the study has it and nothing is wrong with it.

        Conditions that need no coupled setting come first: a coupling may fail in a cell that they leave out.
        """
        late = [condition for condition in self.study.conditions if condition.expression.names & self.coupled]
        early = [condition for condition in self.study.conditions if condition not in late]
        return (
            self._afford(values, chosen)
            and self._meets(values, early, chosen)
            and all(self._couple(values, coupling, chosen) for coupling in self.study.couplings)
            and self._meets(values, late, chosen)
            and self._settle(values, chosen)
        )

    def _complain_once(self, about: object, place: Place, what: str) -> None:
        if about not in self.complained:
            self.complained.add(about)
            self.complaints.add(place, what)

    def _afford(self, values: Unsettled, chosen: Values) -> bool:
        """Fill in the samples that a schedule given in FLOPs pays for, and those of a cooldown given as a share.
        Returns whether that worked.

        It comes before all else, as couplings and conditions depend on samples.
        """
        for name, needed in (("samples", PRICED), ("cooldown", ("samples",))):
            amount = values[name]
            if not isinstance(amount, Compute | PartOfRun):
                continue
            unknown = [other for other in needed if other in self.coupled and other not in chosen]
            if unknown:
                which = unknown[0]
                what = f"{name} {amount} depend on {which}, which follows from others; give {which} in base or axes"
            else:
                try:
                    values[name], what = _read(self._known[name].type, samples_for(amount, values))
                except FlipscaleError as error:
                    what = str(error)
                what = f"{name} {amount}{_at(chosen)}: {what}" if what else ""
            if what:
                self._complain_once(name, _place(self.study, name), what)
                return False
        return True

    def _meets(self, values: Values, conditions: list[Condition], chosen: Values) -> bool:
        for condition in conditions:
            try:
                if bool(condition.expression(values)) != condition.keep:
                    return False
            except ExpressionError as error:
                what = f"{show(condition.expression.text)} {error}{_at(chosen)}; every cell needs an answer"
                self._complain_once(condition.place, condition.place, what)
                return False
        return True

    def _couple(self, values: Unsettled, coupling: Coupling, chosen: Values) -> bool:
        """Fill in a setting that follows from others. Returns whether that worked."""
        if coupling.name in chosen:
            return True  # a grid varies it: a value written for a cell wins over a rule
        try:
            value = coupling.expression(values)
        except ExpressionError as error:
            problem = f"{show(coupling.expression.text)} {error}{_at(chosen)}; every cell needs a value"
        else:
            values[coupling.name], what = _read(self._known[coupling.name].type, value)
            if not what:
                return True
            problem = f"{coupling.name}{_at(chosen)}: {what}"
        assert coupling.place is not None, f"the rule of {coupling.name} fails: {problem}"
        self._complain_once(coupling.name, coupling.place, problem)
        return False

    def _settle(self, values: Unsettled, chosen: Values) -> bool:
        """Settle what the model decides, and check what must hold between settings."""
        if not self.study.record.is_clip:
            return self._settle_own(values)
        model = values["model"]
        size = values["image_size"]
        try:
            shape = architecture(model, size)
        except FlipscaleError as error:
            place = _place(self.study, "model" if size is None else "image_size")
            self._complain_once(("image_size", model, size), place, str(error))
            return False
        values["image_size"] = shape.image.image_size
        if values["text_length"] is None:
            values["text_length"] = shape.text.context_length
        problems = list(_problems(self.study, values, shape))
        at = f" ({_at(chosen).strip()})" if chosen else ""
        for setting, what, remedy in problems:
            self._complain_once(setting, _place(self.study, setting), f"{what}{at}; {remedy}")
        return not problems

    def _settle_own(self, values: Unsettled) -> bool:
        """Check the settings of a program that trains something other than a CLIP."""
        for name in ("stages", "tuning", "fine_tuning"):
            if values[name] is not None:
                what = f"{name} is for a CLIP, and this study lacks a model, samples or batch_size; add them"
                self._complain_once(name, _place(self.study, name), what)
                return False
        return True


def _warmed_up_alike(cells: list[Settings]) -> list[Settings]:
    """The cells, with the warm-up of the shortest length in all that can share a trunk: the setting's own rule depends
    on the length."""

    def trunk(cell: Settings) -> str:
        first = replace(cell, stages=None, tuning=None, fine_tuning=None)
        return repr(replace(of_any_length(first), warmup=0, seed=0)) if trunk_steps(first) else ""

    trunks = [trunk(cell) for cell in cells]
    least: dict[str, int] = {}
    for of, cell in zip(trunks, cells, strict=True):
        least[of] = min(cell.warmup, least.get(of, cell.warmup))
    return [replace(cell, warmup=least[of]) if of else cell for of, cell in zip(trunks, cells, strict=True)]


def _read(kind: Any, value: object) -> tuple[Any, str]:
    """A coupled value as its setting, of this type, has it, and its fault, if any."""
    try:
        read = checked(kind, value)
    except Faults as error:
        _, what = error.found[0]
        return None, what + (", or use round, floor or ceil" if holds(kind, int) and is_broken(value) else "")
    if isinstance(read, Compute | PartOfRun):
        return None, f"{read} can only be written in base or axes; an expression has to give samples"
    return read, ""


_Problem = tuple[str, str, str]
"""A conflict between settings: the setting or option to blame, the fault, and the remedy."""


def _problems(study: Study, values: Values, shape: Architecture) -> Iterator[_Problem]:
    yield from _wrong_lengths(values, shape)
    yield from _wrong_stages(values)
    for part in _parts(values):
        yield from _wrong_part(part, values, shape)
    yield from _wrong_fine_tuning(values)
    yield from _wrong_for_devices(study, values)
    yield from _wrong_reconstruction(values, shape)
    yield from _wrong_resizing(values, shape)


def _wrong_lengths(values: Values, shape: Architecture) -> Iterator[_Problem]:
    """Conflicts of texts, schedules and data."""
    batch, samples, unique, warmup = (values[name] for name in ("batch_size", "samples", "data_size", "warmup"))
    context = shape.text.context_length
    if values["text_length"] > context:
        what = f"text_length {values['text_length']} is more than {values['model']} reads"
        yield "text_length", what, f"write {context} or less"
    if not (samples or values["tuning"] or values["fine_tuning"]):
        evaluation = values["evaluation"]
        if not (evaluation.data or evaluation.sets):
            what = "samples 0 trains nothing, and evaluation names nothing to score"
            yield "samples", what, "add evaluation: {data: ...} or evaluation: {sets: ...}"
    if not samples:
        if not isinstance(values["trainer"], FlipscaleTrainer):
            yield "samples", "samples 0 leaves the trainer nothing to do", "leave trainer out"
        return
    if samples < batch:
        yield "samples", f"samples {samples} is less than one batch of {batch}", "write more samples"
    if unique is not None and unique < batch:
        what = f"data_size {unique} is less than one batch of {batch}, which would hold a pair twice"
        yield "data_size", what, "raise data_size, or lower batch_size"
    if warmup > samples:
        what = f"warmup {warmup} is longer than the schedule of {samples} samples"
        yield "warmup", what, "shorten it"
    if values["schedule"] == "constant" and warmup + values["cooldown"] > samples:
        what = (
            f"warmup and cooldown, {warmup} + {values['cooldown']}, are longer than the schedule of {samples} samples"
        )
        yield "cooldown", what, "shorten one"


@dataclass(frozen=True)
class _Part:
    """A stage of a run, or its tuning."""

    setting: str
    named: str
    """How its options are named: tuning.{}, or {} of stage 2."""
    of: Stage | Tuning
    samples: int

    def shape(self, values: Values) -> Architecture:
        """The shape of its model. FlipscaleError for an image size that its patches do not divide."""
        own_size = None if self.of.model else values["image_size"]
        return architecture(self.of.model or values["model"], self.of.image_size or own_size)


def _parts(values: Values) -> Iterator[_Part]:
    stages = values["stages"] or []
    for number, (each, samples) in enumerate(zip(stages, lengths(stages, values["samples"]), strict=True), 1):
        yield _Part("stages", f"{{}} of stage {number}", each, samples)
    if values["tuning"] is not None:
        yield _Part("tuning", "tuning.{}", values["tuning"], values["tuning"].samples)


def _wrong_stages(values: Values) -> Iterator[_Problem]:
    """Stages that are not those of one run."""
    stages = values["stages"]
    samples = values["samples"]
    if stages is None:
        return
    counts = lengths(stages, samples)
    if sum(counts) != samples:
        what = f"the stages have {sum(counts)} samples together, and the run has {samples}"
        yield "stages", what, "let them add up to samples, or to 100 %"
    if stages[0].restart:
        yield "stages", "restart of stage 1 has nothing to begin again", "leave it out"
    for number, each in enumerate(stages[1:], 2):
        given = [name for name in ("warmup", "schedule") if getattr(each, name) is not None]
        if given and not each.restart:
            what = f"{given[0]} of stage {number} belongs to a new schedule"
            yield "stages", what, "add restart: true, or leave it out"
        if isinstance(values["trainer"], OpenClipTrainer) and not each.restart:
            what = f"open_clip's program cannot go on with a schedule and an optimizer, as stage {number} does"
            yield "stages", what, "add restart: true, or use flipscale's own trainer"
    if values["tuning"] is not None:
        yield "tuning", "a tuning is a last stage with restart: true", "write it as one of the stages"
    opens = [number for number, each in enumerate(stages) if each.restart or not number]
    for start, end in zip(opens, [*opens[1:], len(stages)], strict=True):
        warmup = values["warmup"] if stages[start].warmup is None else stages[start].warmup
        if warmup > (scheduled := sum(counts[start:end])):
            what = (
                f"warmup {warmup} is longer than the schedule of {scheduled} samples that begins with stage {start + 1}"
            )
            yield "stages", what, "give that stage a shorter warmup"


def _wrong_part(part: _Part, values: Values, shape: Architecture) -> Iterator[_Problem]:
    """A stage that is too short, at another image size, with other patches, or on longer texts."""
    model = values["model"]
    batch = part.of.batch_size or values["batch_size"]
    if part.samples < batch:
        what = f"{part.named.format('samples')} {part.samples} is less than one batch of {batch}"
        yield part.setting, what, "write more samples"
    if part.setting == "tuning" and (part.of.warmup or 0) > part.samples:
        what = f"tuning.warmup {part.of.warmup} is longer than the tuning of {part.samples} samples"
        yield "tuning", what, "shorten it"
    if part.of.model is not None and (difference := tower_difference(part.of.model, model)):
        what = f"{part.named.format('model')} {part.of.model} has other towers than {model}: {difference}"
        models = models_with_the_towers_of(model)
        remedy = f"leave {part.named.format('model')} out, as no other model has these towers"
        if models:
            remedy = f"write one that differs in its patches alone: {', '.join(models)}"
        yield f"{part.setting}.model", what, remedy
    try:
        part.shape(values)
    except FlipscaleError as error:
        what, _, remedy = str(error).partition("; ")
        yield f"{part.setting}.image_size", f"{part.setting}: {what}", remedy
    context = shape.text.context_length
    if (part.of.text_length or 0) > context:
        what = f"{part.named.format('text_length')} {part.of.text_length} is more than {model} reads"
        yield f"{part.setting}.text_length", what, f"write {context} or less"


def _wrong_fine_tuning(values: Values) -> Iterator[_Problem]:
    fine_tuning = values["fine_tuning"]
    if fine_tuning is None:
        return
    if fine_tuning.data is None and not isinstance(values["data"], FineTuningSet):
        what = "fine_tuning needs images with classes, and the training data have captions"
        yield "fine_tuning", what, "give data: {folder: {train: DIR, test: DIR}}, or another labelled set"
    if fine_tuning.samples < fine_tuning.batch_size:
        what = f"fine_tuning.samples {fine_tuning.samples} is less than one batch of {fine_tuning.batch_size}"
        yield "fine_tuning", what, "write more samples, or a smaller batch_size"
    if (fine_tuning.warmup or 0) > fine_tuning.samples:
        what = f"fine_tuning.warmup {fine_tuning.warmup} is longer than its {fine_tuning.samples} samples"
        yield "fine_tuning", what, "shorten it"


def _wrong_for_devices(study: Study, values: Values) -> Iterator[_Problem]:
    """Batches that processes cannot share, and open_clip's program on more GPUs than a node has: one process starts
    it, on its own node."""
    processes = study.resources.devices
    parts = study.resources.accumulate
    share = processes * parts
    fine_tuning = values["fine_tuning"]
    batches = [
        ("batch_size", values["samples"] and values["batch_size"]),
        *((part.setting, part.of.batch_size) for part in _parts(values)),
        ("fine_tuning", fine_tuning and fine_tuning.batch_size),
    ]
    for name, batch in batches:
        if batch is not None and batch % share > 0:
            what = f"a batch of {batch} does not divide into {processes} processes x {parts} parts, set in resources"
            yield name, what, f"write a multiple of {share}"
    gpus = study.resources.gpus
    if isinstance(values["trainer"], OpenClipTrainer) and gpus > NODE_GPUS:
        what = f"open_clip's program trains on one node, and resources.gpus {gpus} take several"
        yield "trainer", what, f"write gpus: {NODE_GPUS} or fewer, or use flipscale's own trainer"


def _wrong_reconstruction(values: Values, shape: Architecture) -> Iterator[_Problem]:
    if (decoder := values["reconstruction"]) is None:
        return
    unit = math.lcm(shape.image.width // shape.image.heads, 4)
    if decoder.width is not None and decoder.width % unit > 0:
        needed = f"a multiple of {unit}, as the heads and positions of {values['model']} require"
        what = f"reconstruction.width {decoder.width} is not {needed}"
        yield "reconstruction", what, f"write {max(unit, round(decoder.width / unit) * unit)}"
    if not values["mask_ratio"]:
        what = "reconstruction needs patches that were dropped, and mask_ratio is 0"
        yield "reconstruction", what, "exclude this combination"


def _wrong_resizing(values: Values, shape: Architecture) -> Iterator[_Problem]:
    """Settings that do not go with images that are resized instead of masked."""
    masks = [("mask_ratio", values["mask_ratio"], values["mask_shape"], shape.image.side)]
    for part in _parts(values):
        with contextlib.suppress(FlipscaleError):  # _wrong_part says it.
            changed = part.of.changes if isinstance(part.of, Stage) else {"mask_ratio": part.of.mask_ratio}
            given = {**values, **changed}
            masks.append((part.setting, given["mask_ratio"], given["mask_shape"], part.shape(values).image.side))
    for name, ratio, mask_shape, side in masks:
        if not ratio or mask_shape != "resize":
            continue
        if values["reconstruction"] is not None:
            what = "reconstruction needs patches that were dropped, and mask_shape resize drops none"
            yield "reconstruction", what, "exclude this combination"
        if resized_side(side, ratio) == side:
            what = f"a mask_ratio of {ratio:g} resizes no image of {side} x {side} patches, with mask_shape resize"
            yield name, what, f"write {math.ceil(100 / side) / 100:g} or more" if side > 1 else "write 0"


def _place(study: Study, name: str) -> Place:
    """The place of a setting's value in a study, or of an option such as `tuning.model`: its axis, coupling or base.

    A value that is one of several on an axis has the axis's place.
    """
    setting, *option = name.split(".")
    for key in ("axes", "couple", "base"):
        if isinstance(study.document.data.get(key), Mapping) and setting in study.document.data[key]:
            return study.place(key, setting, *option)
    return study.place("base")


def _at(chosen: Values) -> str:
    """The words that name a cell, after its fault."""
    named = ", ".join(f"{name} {show(value).strip(chr(39))}" for name, value in chosen.items() if name != "seed")
    return f" at {named}" if named else ""
