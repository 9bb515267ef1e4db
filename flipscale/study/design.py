"""The design of a study: which cells of the grid are run, as named grids of axes."""

from collections.abc import Mapping
from typing import Any

from flipscale.door.statements import Values
from flipscale.errors import did_you_mean
from flipscale.kinds import Path_, show
from flipscale.study.keys import DESIGN_ALL
from flipscale.study.study import Axis
from flipscale.study.values import ValueReader

Grids = dict[str, tuple[Axis, ...]]


def read_design(values: ValueReader, base: Values, axes: Mapping[str, Axis]) -> Grids:
    """The grids of a study by name; a faulty design is a complaint, and counts as the full grid."""
    full = {"full": tuple(axes.values())}
    match values.document.data.get("design", "full"):
        case "full":
            return full
        case "one_at_a_time":
            return _one_at_a_time(values, base, axes, []) or full
        case {"one_at_a_time": {"cross": list() as cross, **others}, **more} if not others and not more:
            return _one_at_a_time(values, base, axes, cross) or full
        case {"grids": dict() | None as grids, **more} if not more:
            if grids:
                return {name: _grid(values, base, axes, name, grid) for name, grid in grids.items()}
            values.complain(("design", "grids"), "holds no grid; write grids: {name: {axis: [values]}}")
        case design:
            right = "full, one_at_a_time, one_at_a_time: {cross: [axis]}, or grids: {name: {axis: [values]}}"
            values.complain(("design",), f"{show(design)} is not a design; write {right}")
    return full


def _one_at_a_time(values: ValueReader, base: Values, axes: Mapping[str, Axis], cross: list[Any]) -> Grids:
    """One grid per axis: that axis and the crossed ones vary, the others stay at the base, which must give them."""
    for at, name in enumerate(cross):
        if not isinstance(name, str) or name not in axes:
            path = ("design", "one_at_a_time", "cross", at)
            values.complain(path, f"{show(name)} is not an axis of this study; {did_you_mean(name, axes)}")
    alone = [name for name in axes if name not in (*cross, "seed")]
    for name in alone:
        if name not in base and values.known[name].required:
            what = f"one_at_a_time starts from the base, which has no '{name}'; add it there"
            values.complain(("axes", name), what)
    return {
        name: tuple(axis for axis in axes.values() if axis.name == name or axis.name not in alone) for name in alone
    }


def _grid(values: ValueReader, base: Values, axes: Mapping[str, Axis], name: str, grid: Any) -> tuple[Axis, ...]:
    at: Path_ = ("design", "grids", name)
    if not isinstance(grid, dict):
        values.complain(at, f"{show(grid)} gives no axes; write {name}: {{axis: [values]}}, or axis: all")
        return ()
    varied = []
    for setting, given in grid.items():
        here = (*at, setting)
        if setting not in values.known:
            values.complain(here, f"unknown axis '{setting}'; {did_you_mean(setting, values.known)}")
        elif given == DESIGN_ALL and setting in axes:
            varied.append(axes[setting])
        elif given == DESIGN_ALL:
            values.complain(here, f"'all' takes the values of axes, which has no '{setting}'; list the values")
        elif given == []:
            values.complain(here, f"'{setting}' has no values here; list some, or leave it out")
        else:
            varied.append(Axis(setting, values.distinct(setting, given, here)))
    if "seed" in axes and "seed" not in grid:
        varied.append(axes["seed"])
    for setting in axes:
        if values.known[setting].required and not any(
            setting in said for said in (grid, base, values.mapping("couple"))
        ):
            values.complain(at, f"'{name}' has no '{setting}', and neither has base; add it to one of them")
    return tuple(varied)
