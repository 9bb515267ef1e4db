"""The cells of a study: base, axes and couplings worked out, constraints applied, every setting settled."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from flipscale.architecture import architecture
from flipscale.errors import FlipscaleError
from flipscale.study.document import Complaints
from flipscale.study.expression import ExpressionError
from flipscale.study.kinds import show
from flipscale.study.settings import SETTINGS
from flipscale.study.study import Condition, Coupling, Study

Settings = dict[str, Any]


def cells(study: Study, complaints: Complaints | None = None) -> list[Settings]:
    """The complete settings of every cell, once each, in the order of the grids and axes.

    What only shows in a cell (a batch that comes out broken, a text longer than the model reads) is complained about
    once a line of the study, naming the first cell that shows it.
    """
    complaints = Complaints() if complaints is None else complaints
    coupled = {coupling.name for coupling in study.couplings}
    early = [condition for condition in study.conditions if not condition.expression.names & coupled]
    late = [condition for condition in study.conditions if condition.expression.names & coupled]
    found: dict[str, Settings] = {}
    told: set[object] = set()
    for chosen in _points(study):
        settings = {name: None for name in coupled} | {**study.base, **chosen}
        if not _meets(settings, early, complaints, told):
            continue
        if not _couple(settings, study.couplings, chosen, complaints, told):
            continue
        if not _meets(settings, late, complaints, told):
            continue
        if _settle(study, settings, chosen, complaints, told):
            found.setdefault(repr(sorted(settings.items())), {name: settings[name] for name in SETTINGS})
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


def _meets(settings: Settings, conditions: list[Condition], complaints: Complaints, told: set[object]) -> bool:
    for condition in conditions:
        try:
            if bool(condition.expression(settings)) != condition.keep:
                return False
        except ExpressionError as error:
            if condition.place not in told:
                told.add(condition.place)
                complaints.add(condition.place, f"'{condition.expression.text}' {error}; write it for every cell")
            return False
    return True


def _couple(
    settings: Settings, couplings: tuple[Coupling, ...], chosen: Settings, complaints: Complaints, told: set[object]
) -> bool:
    """Fill in what follows from other settings. Answers whether all of it came out."""
    for coupling in couplings:
        if coupling.name in chosen:
            continue  # a named grid varies it: what is written for a cell wins over a rule
        problems: list[str] = []
        try:
            value = coupling.expression(settings)
        except ExpressionError as error:
            problems.append(f"'{coupling.expression.text}' {error}")
        else:
            value = SETTINGS[coupling.name].kind.read(value, (), lambda _, what: problems.append(what))
        if problems:
            if coupling.name not in told:
                told.add(coupling.name)
                assert coupling.place is not None, f"the rule of {coupling.name} fails: {problems[0]}"
                complaints.add(coupling.place, f"{coupling.name} {_at(chosen)}: {problems[0]}")
            return False
        settings[coupling.name] = value
    return True


def _settle(study: Study, settings: Settings, chosen: Settings, complaints: Complaints, told: set[object]) -> bool:
    """Check what must hold between settings, and settle those that the model decides."""
    model, size = settings["model"], settings["image_size"]
    try:
        shape = architecture(model, size)
    except FlipscaleError as error:
        if ("image_size", model, size) not in told:
            told.add(("image_size", model, size))
            complaints.add(_place(study, "image_size"), str(error))
        return False
    settings["image_size"] = shape.image.image_size
    batch, samples, unique = settings["batch_size"], settings["samples"], settings["data_size"]
    checks = (
        (
            "text_length",
            settings["text_length"] > shape.text.context_length,
            f"text_length {settings['text_length']} is more than {model} reads; write {shape.text.context_length} or less",
        ),
        ("samples", samples < batch, f"samples {samples} is less than one batch of {batch}; write more samples"),
        (
            "data_size",
            unique is not None and unique < batch,
            f"data_size {unique} is less than one batch of {batch}, so a batch would hold a pair twice; raise it",
        ),
        (
            "warmup",
            settings["warmup"] > samples,
            f"warmup {settings['warmup']} is longer than the schedule of {samples} samples; shorten it",
        ),
    )
    good = True
    for name, wrong, what in checks:
        if wrong:
            good = False
            if name not in told:
                told.add(name)
                complaints.add(_place(study, name), f"{what} ({_at(chosen)})" if chosen else what)
    return good


def _place(study: Study, name: str) -> Any:
    """Where a study says the value of a setting: its axis, its coupling, or its base."""
    for key in ("axes", "couple", "base"):
        if isinstance(study.document.data.get(key), Mapping) and name in study.document.data[key]:
            return study.place(key, name)
    return study.place("base")


def _at(chosen: Settings) -> str:
    return "at " + ", ".join(f"{name} {show(value).strip(chr(39))}" for name, value in chosen.items() if name != "seed")

