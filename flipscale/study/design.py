"""The design of a study: which cells of the grid are run, as named grids of axes."""

from collections.abc import Mapping
from typing import Any

from flipscale.errors import did_you_mean
from flipscale.kinds import Path_, show
from flipscale.study.keys import DESIGN_ALL
from flipscale.study.settings import SETTINGS
from flipscale.study.study import Axis, Values
from flipscale.study.values import ValueReader

Grids = dict[str, tuple[Axis, ...]]


def read_design(values: ValueReader, base: Values, axes: Mapping[str, Axis]) -> Grids:
    """The grids of a study by name; a faulty design is a complaint, and counts as the full grid."""
    return _Design(values, base, axes).grids()


class _Design:
    def __init__(self, values: ValueReader, base: Values, axes: Mapping[str, Axis]):
        self.values = values
        self.base = base
        self.axes = axes
        self.full = {"full": tuple(axes.values())}

    def grids(self) -> Grids:
        design = self.values.document.data.get("design", "full")
        if design == "full":
            return self.full
        if design == "one_at_a_time":
            return self._one_at_a_time([])
        match design:
            case {"one_at_a_time": {"cross": list() as cross, **others}, **more} if not others and not more:
                return self._one_at_a_time(cross)
            case {"grids": dict() | None as grids, **more} if not more:
                return self._named(grids)
        self.values.complain(
            ("design",),
            f"{show(design)} is not a design; write full, one_at_a_time, one_at_a_time: {{cross: [axis]}}, "
            f"or grids: {{name: {{axis: [values]}}}}",
        )
        return self.full

    def _named(self, grids: Mapping[str, object] | None) -> Grids:
        if not grids:
            self.values.complain(("design", "grids"), "holds no grid; write grids: {name: {axis: [values]}}")
            return self.full
        return {str(name): self._grid(str(name), grid) for name, grid in grids.items()}

    def _one_at_a_time(self, cross: list[Any]) -> Grids:
        """One grid per axis: that axis and the crossed ones vary, the others stay at the base, which must give them."""
        for at, name in enumerate(cross):
            if not isinstance(name, str) or name not in self.axes:
                path = ("design", "one_at_a_time", "cross", at)
                self.values.complain(
                    path, f"{show(name)} is not an axis of this study; {did_you_mean(name, self.axes)}"
                )
        alone = [name for name in self.axes if name not in (*cross, "seed")]
        for name in alone:
            if name not in self.base and SETTINGS[name].required:
                what = f"one_at_a_time starts from the base, which has no '{name}'; add it there"
                self.values.complain(("axes", name), what)
        return {name: self._without(set(alone) - {name}) for name in alone} or self.full

    def _without(self, names: set[str]) -> tuple[Axis, ...]:
        return tuple(axis for name, axis in self.axes.items() if name not in names)

    def _grid(self, name: str, grid: Any) -> tuple[Axis, ...]:
        at: Path_ = ("design", "grids", name)
        if not isinstance(grid, dict):
            self.values.complain(at, f"{show(grid)} gives no axes; write {name}: {{axis: [values]}}, or axis: all")
            return ()
        found = [axis for setting, values in grid.items() if (axis := self._axis(setting, values, at))]
        if "seed" in self.axes and "seed" not in grid:
            found.append(self.axes["seed"])
        couple = self.values.mapping("couple")
        for setting in self.axes:
            if SETTINGS[setting].required and not any(setting in given for given in (grid, self.base, couple)):
                self.values.complain(at, f"'{name}' has no '{setting}', and neither has base; add it to one of them")
        return tuple(found)

    def _axis(self, setting: str, values: Any, at: Path_) -> Axis | None:
        """The axis of a grid: values of its own, or those that the study's axes give."""
        if setting not in SETTINGS:
            self.values.complain((*at, setting), f"unknown axis '{setting}'; {did_you_mean(setting, SETTINGS)}")
        elif values == DESIGN_ALL and setting in self.axes:
            return self.axes[setting]
        elif values == DESIGN_ALL:
            what = f"'all' takes the values of axes, which has no '{setting}'; list the values"
            self.values.complain((*at, setting), what)
        elif values == []:
            self.values.complain((*at, setting), f"'{setting}' has no values here; list some, or leave it out")
        elif isinstance(values, list):
            return Axis(setting, self.values.distinct(setting, values, (*at, setting)))
        else:
            return Axis(setting, self.values.distinct(setting, [values], at))
        return None
