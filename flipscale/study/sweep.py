"""The sweep of a study that chooses a setting for each arm on seeds of its own: its cells, and the study with a choice.

An arm is a cell without its seed and the settings of `at`. Each tries the same values, as they are or as factors of
what the study's own rule gives.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from flipscale.door.statements import Values
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Settings
from flipscale.study.expression import Expression, ExpressionError
from flipscale.study.grid import cells
from flipscale.study.study import Arm, Axis, Study, Sweep, agrees


class SweptCell(NamedTuple):
    """A cell that tries a value for an arm."""

    arm: Arm
    value: float
    """Of the setting, or a factor of it."""
    settings: Settings


def arm_of(sweep: Sweep, settings: Values) -> Arm:
    """The arm of a cell, whether its image size is settled or not."""
    settled = dict(settings)
    if any(settings[name] is None for name in ("image_size", "text_length") if name in sweep.arm):
        shape = architecture(settings["model"], settings["image_size"])
        sizes = {"image_size": shape.image.image_size, "text_length": shape.text.context_length}
        settled |= {name: size for name, size in sizes.items() if settings[name] is None}
    return tuple(repr(settled[name]) for name in sweep.arm)


def tuned_rule(sweep: Sweep, value_of: Callable[[Arm], float]) -> Expression:
    """The rule of the setting that is chosen, where each arm has this value or factor."""
    rule = sweep.rule

    def evaluate(settings: Values) -> float:
        value = value_of(arm_of(sweep, settings))
        return value if rule is None else value * rule(settings)

    names = frozenset({*sweep.arm, "model", "image_size", *(rule.names if rule else ())})
    return Expression(f"tune.over.{sweep.over}", names, evaluate)


def always(value: float) -> Callable[[object], float]:
    """The function that gives this value for everything."""
    return lambda _: value


def with_rule(study: Study, value_of: Callable[[Arm], float]) -> Study:
    """The study with that rule, whose cells are still as they were."""
    assert study.sweep is not None
    rule = tuned_rule(study.sweep, value_of)
    return replace(
        study,
        couplings=tuple(
            replace(each, expression=rule) if each.name == study.sweep.over else each for each in study.couplings
        ),
    )


def with_choice(study: Study, chosen: Mapping[Arm, float]) -> Study:
    """The study with what its sweep chose for each arm. It has no cell of an arm without a choice."""

    def value_of(arm: Arm) -> float:
        if arm not in chosen:
            raise ExpressionError("chose no value for this arm")
        return chosen[arm]

    tuned = with_rule(study, value_of)
    return replace(tuned, cells=tuple(cells(tuned)), chosen=chosen)


def swept_cells(study: Study) -> Iterator[SweptCell]:
    """Each value of each arm on the seeds of the sweep; none for a study without one."""
    sweep = study.sweep
    if sweep is None:
        return
    seeds = Axis("seed", sweep.seeds)
    grids = {name: (*(axis for axis in axes if axis.name != "seed"), seeds) for name, axes in study.grids.items()}
    further = study.further
    for value in sorted({*sweep.values, *(value for values in further.values() for value in values)}):
        for cell in cells(with_rule(replace(study, grids=grids), always(value))):
            arm = arm_of(sweep, vars(cell))
            if agrees(vars(cell), sweep.at) and (value in sweep.values or value in further.get(arm, ())):
                yield SweptCell(arm, value, cell)
