"""The cells of a study: base, axes and couplings worked out, constraints applied, every setting settled."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from flipscale.architecture import Architecture, architecture
from flipscale.cost import PRICED
from flipscale.errors import FlipscaleError
from flipscale.study.document import Complaints
from flipscale.study.expression import ExpressionError
from flipscale.study.kinds import Compute, show
from flipscale.study.settings import SETTINGS
from flipscale.study.study import Condition, Coupling, Study

Settings = dict[str, Any]

MOST_POINTS = 1_000_000
"""Cells a grid may have before where and exclude: more take minutes to work out, and nobody trains them."""


def cells(study: Study, complaints: Complaints | None = None) -> list[Settings]:
    """The complete settings of every cell, once each, in the order of the grids and axes.

    What only shows in a cell (a batch that comes out broken, a text longer than the model reads) is complained about
    once a line of the study, naming the first cell that shows it.
    """
    complaints = Complaints() if complaints is None else complaints
    points = sum(math.prod(len(axis.values) for axis in axes) for axes in study.grids.values())
    if points > MOST_POINTS:
        complaints.add(study.place("axes"), f"the axes have {points:,} cells; a study takes up to {MOST_POINTS:,}")
        return []
    coupled = {coupling.name for coupling in study.couplings}
    varied = sorted(coupled | {axis.name for axes in study.grids.values() for axis in axes})
    early = [condition for condition in study.conditions if not condition.expression.names & coupled]
    late = [condition for condition in study.conditions if condition.expression.names & coupled]
    found: dict[str, Settings] = {}
    told: set[object] = set()
    for chosen in _points(study):
        settings = dict.fromkeys(coupled) | {**study.base, **chosen}
        if not _afford(study, settings, coupled, chosen, complaints, told):
            continue
        if not _meets(settings, early, chosen, complaints, told):
            continue
        if not _couple(settings, study.couplings, chosen, complaints, told):
            continue
        if not _meets(settings, late, chosen, complaints, told):
            continue
        if _settle(study, settings, chosen, complaints, told):
            # What no axis and no coupling gives is the same in all cells.
            key = repr([settings[name] for name in varied])
            found.setdefault(key, {name: settings[name] for name in SETTINGS})
    if not found and not complaints.found:
        place = study.conditions[0].place if study.conditions else study.place("axes")
        complaints.add(place, "no cell of the grid is left; loosen where or exclude")
    return list(found.values())


def _points(study: Study) -> Iterator[Settings]:
    """The axis values of every cell: each grid's product, with the last axis turning fastest."""
    for axes in study.grids.values():
        names = [axis.name for axis in axes]
        for values in itertools.product(*(axis.values for axis in axes)):
            yield dict(zip(names, values, strict=True))


def _afford(
    study: Study, settings: Settings, coupled: set[str], chosen: Settings, complaints: Complaints, told: set[object]
) -> bool:
    """Fill in the samples that a schedule given in FLOPs pays for. Answers whether that came out.

    It comes before all else, as couplings and conditions go by samples.
    """
    budget = settings["samples"]
    if not isinstance(budget, Compute):
        return True
    unknown = [name for name in PRICED if name in coupled and name not in chosen]
    if unknown:
        what = f"samples {budget} depend on {unknown[0]}, which follows from others; give {unknown[0]} in base or axes"
    else:
        try:
            settings["samples"], what = _read("samples", budget.samples(settings))
        except FlipscaleError as error:
            what = str(error)
        what = f"samples {budget}{_at(chosen)}: {what}" if what else ""
    if what and "samples" not in told:
        told.add("samples")
        complaints.add(_place(study, "samples"), what)
    return not what


def _meets(
    settings: Settings, conditions: list[Condition], chosen: Settings, complaints: Complaints, told: set[object]
) -> bool:
    for condition in conditions:
        try:
            if bool(condition.expression(settings)) != condition.keep:
                return False
        except ExpressionError as error:
            if condition.place not in told:
                told.add(condition.place)
                what = f"{show(condition.expression.text)} {error}{_at(chosen)}; every cell needs an answer"
                complaints.add(condition.place, what)
            return False
    return True


def _couple(
    settings: Settings, couplings: tuple[Coupling, ...], chosen: Settings, complaints: Complaints, told: set[object]
) -> bool:
    """Fill in what follows from other settings. Answers whether all of it came out."""
    for coupling in couplings:
        if coupling.name in chosen:
            continue  # a grid varies it: what is written for a cell wins over a rule
        problem = ""
        try:
            value = coupling.expression(settings)
        except ExpressionError as error:
            problem = f"{show(coupling.expression.text)} {error}{_at(chosen)}; every cell needs a value"
        else:
            settings[coupling.name], what = _read(coupling.name, value)
            problem = f"{coupling.name}{_at(chosen)}: {what}" if what else ""
        if problem:
            if coupling.name not in told:
                told.add(coupling.name)
                assert coupling.place is not None, f"the rule of {coupling.name} fails: {problem}"
                complaints.add(coupling.place, problem)
            return False
    return True


def _read(name: str, value: Any) -> tuple[Any, str]:
    """A coupled value as its setting's kind reads it, and what is wrong with it, or nothing."""
    problems: list[str] = []
    read = SETTINGS[name].kind.read(value, (), lambda _, what: problems.append(what))
    what = "".join(problems[:1])
    if isinstance(value, float) and "whole number" in what:
        what += ", or use round, floor or ceil"
    if isinstance(read, Compute):
        what = f"{read} stand in base or axes; an expression gives samples"
    return read, what


def _settle(study: Study, settings: Settings, chosen: Settings, complaints: Complaints, told: set[object]) -> bool:
    """Check what must hold between settings, and settle those that the model decides."""
    model, size = settings["model"], settings["image_size"]
    try:
        shape = architecture(model, size)
    except FlipscaleError as error:
        if ("image_size", model, size) not in told:
            told.add(("image_size", model, size))
            complaints.add(_place(study, "model" if size is None else "image_size"), str(error))
        return False
    settings["image_size"] = shape.image.image_size
    if settings["text_length"] is None:
        settings["text_length"] = shape.text.context_length
    good = True
    for name, wrong, what, remedy in _checks(study, settings, shape):
        if wrong:
            good = False
            if name not in told:
                told.add(name)
                complaints.add(
                    _place(study, name), f"{what} ({_at(chosen).strip()}); {remedy}" if chosen else f"{what}; {remedy}"
                )
    return good


def _checks(study: Study, settings: Settings, shape: Architecture) -> tuple[tuple[str, bool, str, str], ...]:
    """What may be wrong between settings: the setting to blame, whether it is, what is, and what to do about it."""
    model = settings["model"]
    batch, samples, unique = settings["batch_size"], settings["samples"], settings["data_size"]
    processes = study.resources["processes"] or max(1, study.resources["gpus"])
    parts = study.resources["accumulate"]
    share = processes * parts
    decoder = (settings["reconstruction"] or {}).get("width")
    unit = math.lcm(shape.image.width // shape.image.heads, 4)
    tuning = settings["tuning"] or {"samples": math.inf, "batch_size": None, "warmup": None}
    tuned = tuning["samples"]
    return (
        (
            "text_length",
            settings["text_length"] > shape.text.context_length,
            f"text_length {settings['text_length']} is more than {model} reads",
            f"write {shape.text.context_length} or less",
        ),
        ("samples", samples < batch, f"samples {samples} is less than one batch of {batch}", "write more samples"),
        (
            "data_size",
            unique is not None and unique < batch,
            f"data_size {unique} is less than one batch of {batch}, which would hold a pair twice",
            "raise data_size, or lower batch_size",
        ),
        (
            "warmup",
            settings["warmup"] > samples,
            f"warmup {settings['warmup']} is longer than the schedule of {samples} samples",
            "shorten it",
        ),
        (
            "cooldown",
            settings["schedule"] == "constant" and settings["warmup"] + settings["cooldown"] > samples,
            f"warmup and cooldown, {settings['warmup']} + {settings['cooldown']}, are longer than the schedule of "
            f"{samples} samples",
            "shorten one",
        ),
        (
            "tuning",
            tuned < (tuning["batch_size"] or batch),
            f"tuning.samples {tuned} is less than one batch of {tuning['batch_size'] or batch}",
            "write more samples",
        ),
        (
            "tuning",
            (tuning["warmup"] or 0) > tuned,
            f"tuning.warmup {tuning['warmup']} is longer than the tuning of {tuned} samples",
            "shorten it",
        ),
        *(
            (
                name,
                rows is not None and rows % share > 0,
                f"a batch of {rows} does not divide into {processes} processes x {parts} parts, as resources say",
                f"write a multiple of {share}",
            )
            for name, rows in (("batch_size", batch), ("tuning", tuning["batch_size"]))
        ),
        (
            "reconstruction",
            decoder is not None and decoder % unit > 0,
            f"reconstruction.width {decoder} is no multiple of {unit}, which heads and positions of {model} take",
            f"write {max(unit, round((decoder or 0) / unit) * unit)}",
        ),
        (
            "inference",
            settings["inference"] != "full" and not settings["mask_ratio"],
            f"inference {settings['inference']} needs a mask, and mask_ratio is 0",
            "exclude these together",
        ),
        (
            "reconstruction",
            settings["reconstruction"] is not None and not settings["mask_ratio"],
            "reconstruction needs patches that were dropped, and mask_ratio is 0",
            "exclude these together",
        ),
    )


def _place(study: Study, name: str) -> Any:
    """Where a study says the value of a setting: its axis, its coupling, or its base."""
    for key in ("axes", "couple", "base"):
        if isinstance(study.document.data.get(key), Mapping) and name in study.document.data[key]:
            return study.place(key, name)
    return study.place("base")


def _at(chosen: Settings) -> str:
    """The words that name a cell, after what is wrong with it."""
    named = ", ".join(f"{name} {show(value).strip(chr(39))}" for name, value in chosen.items() if name != "seed")
    return f" at {named}" if named else ""
