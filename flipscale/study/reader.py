"""Reads a study file and checks it: every complaint says file:line and what would be right, and all come at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flipscale.cost import PRICED
from flipscale.errors import did_you_mean, printable
from flipscale.scores import set_and_score
from flipscale.settings import Settings, plain
from flipscale.study.document import Complaints, Document, Path_, merge, read_document
from flipscale.study.expression import CONDITION, Expression, ExpressionError, read_expression
from flipscale.study.grid import MOST_POINTS, cells
from flipscale.study.keys import DESIGN_ALL, SCHEMA, TOP
from flipscale.study.kinds import INVALID, Compute, show
from flipscale.study.recipes import RECIPES, Recipe
from flipscale.study.settings import SETTINGS
from flipscale.study.study import Axis, Condition, Coupling, Study, Values


def read_study(path: str | Path) -> Study:
    """Read and check a study file. Raises StudyError with every complaint about it and the files it includes."""
    path = Path(path)
    complaints = Complaints()
    document = _with_includes(path, complaints, ())
    if printable(path.name) != path.name:
        complaints.add(document.place(), "the file's name is not UTF-8, and a study is called as its file; rename it")
    study = _Checker(document, complaints).study(path.stem)
    complaints.raise_if_any()
    assert study is not None, "a study is missing only where there are complaints"
    return study


def _with_includes(path: Path, complaints: Complaints, inside: tuple[Path, ...]) -> Document:
    """The document at `path`, laid on what it includes. Paths in `include` are relative to the file that says so."""
    document = read_document(path, complaints)
    included = document.data.pop("include", None)
    if included is None:
        return document
    under: Document | None = None
    inside = (*inside, path.resolve())
    for at, name in enumerate(included if isinstance(included, list) else [included]):
        place = document.place("include", at) if isinstance(included, list) else document.place("include")
        if not isinstance(name, str):
            complaints.add(place, f"{show(name)} is not a file's name; write include: other.yaml")
            continue
        other = path.parent / name
        if other.resolve() in inside:
            complaints.add(place, f"'{name}' would include itself; remove this include")
        elif not other.is_file():
            complaints.add(place, f"there is no file '{name}'; give its path from the folder of this file")
        else:
            found = _with_includes(other, complaints, inside)
            under = found if under is None else merge(under, found)
    return document if under is None else merge(under, document)


class _Checker:
    """Reads a document into a Study, gathering every complaint on the way."""

    def __init__(self, document: Document, complaints: Complaints):
        self.document = document
        self.complaints = complaints

    def complain(self, at: Path_, what: str) -> None:
        self.complaints.add(self.document.place(*at), what)

    def study(self, name: str) -> Study | None:
        data = self.document.data
        for key in data:
            if key not in TOP:
                hint = f"did you mean it under base, as 'base: {{{key}: ...}}'?" if key in SETTINGS else ""
                self.complain((key,), f"unknown key '{key}'; {hint or did_you_mean(key, TOP)}")
        self._schema()
        top = {
            key: self._top(key) for key in ("question", "recipe", "budget", "resources", "score", "figures", "seeds")
        }
        recipe = RECIPES[top["recipe"]] if top["recipe"] else Recipe({}, {})
        base = self._settings("base", self._mapping("base"))
        if "evaluation" in data:
            if "evaluation" in base:
                self.complain(("evaluation",), "'evaluation' is given in base as well; keep one of them")
            base["evaluation"] = SETTINGS["evaluation"].kind.read(data["evaluation"], ("evaluation",), self.complain)
        axes = self._axes(top["seeds"])
        grids = self._design(base, axes)
        varied = set.intersection(*({axis.name for axis in grid} for grid in grids.values())) if grids else set()
        # What the study says of a setting, anywhere, takes the place of all that its recipe says of it.
        own = {*base, *varied, *self._mapping("couple")}
        base = {name: value for name, value in recipe.base.items() if name not in own} | base
        couplings = self._couplings(base, axes, varied, recipe)
        conditions = self._conditions()
        places = ("base", "axes", "couple")
        unreadable = any(not isinstance(data.get(key), dict | None) for key in places)
        for setting, spec in {} if unreadable else SETTINGS.items():
            said = setting in recipe.couple or any(setting in self._mapping(key) for key in places)
            if spec.required and not said and setting not in varied:
                self.complain(("base",), f"no '{setting}' in base, axes or couple; add it to base: {spec.says}")
        baseline = self._baseline(axes)
        if "evaluation" not in axes and top["score"] is not None:
            self._check_score(top["score"], base.get("evaluation", SETTINGS["evaluation"].default))
        if self.complaints.found:
            return None
        study = Study(
            name=name,
            question=top["question"],
            base={
                **{setting: spec.default for setting, spec in SETTINGS.items() if not spec.required and not spec.rule},
                **base,
            },
            axes=tuple(axes.values()),
            couplings=couplings,
            conditions=conditions,
            grids=grids,
            baseline=baseline,
            budget=top["budget"],
            resources=top["resources"],
            score=top["score"],
            figures=tuple(top["figures"]) if top["figures"] is not None else None,
            document=self.document,
        )
        # The grid is worked out here as well, so that what only shows in a cell is told with everything else.
        found = cells(study, self.complaints)
        study = replace(study, cells=tuple(found))
        return study if self.complaints.found else self._checked_baseline(study, found)

    def _check_score(self, score: str, evaluation: Any) -> None:
        """Complain about a score that this evaluation cannot give: told before anything trains, not after."""
        if evaluation is INVALID:
            return
        of_set, name = set_and_score(score)
        if of_set and of_set not in evaluation.sets:
            what = f"'{score}' is a score of the set '{of_set}', and evaluation.sets has none of that name"
            self.complain(("score",), f"{what}; {did_you_mean(of_set, evaluation.sets)}")
        elif name == "linear_probe_top1" and not evaluation.linear_probe:
            self.complain(("score",), "linear_probe_top1 is not measured; write linear_probe: true under evaluation")

    def _schema(self) -> None:
        version = self.document.data.get("schema")
        if version is None:
            self.complain((), f"no 'schema'; write schema: {SCHEMA} at the top")
        elif isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA:
            self.complain(
                ("schema",), f"schema {version} is newer than this flipscale, which reads {SCHEMA}; upgrade flipscale"
            )
        elif version != SCHEMA or isinstance(version, bool):
            self.complain(("schema",), f"{show(version)} is no schema; write schema: {SCHEMA}")

    def _top(self, key: str) -> Any:
        option = TOP[key]
        if key not in self.document.data:
            return option.default
        value = option.kind.read(self.document.data[key], (key,), self.complain)
        return option.default if value is INVALID else value

    def _mapping(self, key: str) -> Values:
        value = self.document.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.complain((key,), f"{show(value)} gives no keys; {key} takes settings, as in model: ViT-B-16")
            return {}
        return value

    def _settings(self, key: str, given: Values) -> Values:
        """The settings in the mapping under `key`, read by their kinds."""
        read = {}
        for name, value in given.items():
            if name not in SETTINGS:
                self.complain((key, name), f"unknown setting '{name}'; {did_you_mean(name, SETTINGS)}")
                continue
            one = SETTINGS[name].kind.read(value, (key, name), self.complain)
            if one is not INVALID:
                read[name] = one
        return read

    def _axes(self, seeds: Any) -> dict[str, Axis]:
        axes = {}
        for name, values in self._mapping("axes").items():
            if name not in SETTINGS:
                self.complain(("axes", name), f"unknown axis '{name}'; {did_you_mean(name, SETTINGS)}")
            elif values == []:
                self.complain(("axes", name), f"the axis '{name}' has no values; write {name}: [first, second]")
                axes[name] = Axis(name, ())
            elif not isinstance(values, list):
                self.complain(("axes", name), f"{show(values)} is no list of values; write {name}: [first, second]")
                axes[name] = Axis(name, ())
            else:
                axes[name] = Axis(name, self._distinct(name, values, ("axes", name)))
        if seeds is not None:
            listed = isinstance(self.document.data["seeds"], list)
            numbers = self._distinct("seed", seeds, ("seeds",)) if listed else range(seeds[0])
            if "seed" in axes:
                self.complain(("seeds",), "'seeds' and the axis 'seed' say the same thing; keep one of them")
            elif not numbers:
                self.complain(("seeds",), "0 seeds give no run; write seeds: 3, or a list of seeds")
            elif len(numbers) > MOST_POINTS:
                self.complain(("seeds",), f"{len(numbers)} seeds are too many; write seeds: 3, or a list of seeds")
            else:
                axes["seed"] = Axis("seed", tuple(numbers))
        return axes

    def _distinct(self, name: str, values: list[Any], at: Path_) -> tuple[Any, ...]:
        read: list[Any] = []
        for index, value in enumerate(values):
            one = SETTINGS[name].kind.read(value, (*at, index), self.complain)
            if one is INVALID:
                continue
            if one in read:
                self.complain((*at, index), f"{show(value)} is given twice on the axis '{name}'; keep one")
            else:
                read.append(one)
        return tuple(read)

    def _couplings(
        self, base: Values, axes: Mapping[str, Axis], varied: set[str], recipe: Recipe
    ) -> tuple[Coupling, ...]:
        """The study's couplings, and the rules of its recipe and of settings, where the study says nothing itself.

        Each stands after what it needs.
        """
        rules = {name: spec.rule for name, spec in SETTINGS.items() if spec.rule} | dict(recipe.couple)
        found = {
            name: Coupling(
                name,
                read_expression(rule, SETTINGS),
                self.document.place("recipe") if name in recipe.couple else None,
            )
            for name, rule in rules.items()
            if name not in base and name not in varied
        }
        for name, source in self._mapping("couple").items():
            at = ("couple", name)
            if name not in SETTINGS:
                self.complain(at, f"unknown setting '{name}'; {did_you_mean(name, SETTINGS)}")
            elif name in axes:
                self.complain(at, f"'{name}' is an axis too; take it from axes or from couple")
            else:
                try:
                    expression = read_expression(source, SETTINGS)
                except ExpressionError as error:
                    self.complain(at, f"{show(source)} {error}")
                else:
                    found[name] = Coupling(name, expression, self.document.place(*at))
        return self._in_order(found)

    def _in_order(self, couplings: dict[str, Coupling]) -> tuple[Coupling, ...]:
        ordered: list[Coupling] = []
        waiting = dict(couplings)
        while waiting:
            ready = [coupling for coupling in waiting.values() if not coupling.expression.names & waiting.keys()]
            if not ready:
                self._complain_of_cycle(waiting)
                break
            ordered += ready
            for coupling in ready:
                del waiting[coupling.name]
        return tuple(ordered)

    def _complain_of_cycle(self, waiting: dict[str, Coupling]) -> None:
        while True:  # what only follows from the cycle is not in it
            needed = set().union(*(coupling.expression.names for coupling in waiting.values()))
            if needed >= waiting.keys():
                break
            waiting = {name: coupling for name, coupling in waiting.items() if name in needed}
        stuck = next(coupling for coupling in waiting.values() if coupling.place)
        through = f", through {', '.join(sorted(waiting))}" if len(waiting) > 1 else ""
        what = f"'{stuck.name}' follows from itself{through}; give {'one of them' if through else 'it'} in base or axes"
        self.complain(("couple", stuck.name), what)

    def _conditions(self) -> tuple[Condition, ...]:
        found = []
        for key, keep in (("where", True), ("exclude", False)):
            given = self.document.data.get(key)
            if given is None:
                continue
            for at, one in enumerate(given) if isinstance(given, list) else [(None, given)]:
                path: Path_ = (key,) if at is None else (key, at)
                expression = self._condition(one, path, key)
                if expression is not None:
                    found.append(Condition(expression, keep, self.document.place(*path)))
        return tuple(found)

    def _condition(self, one: Any, path: Path_, key: str) -> Expression | None:
        if one == {}:
            self.complain(path, f"an empty mapping names no setting; write {CONDITION}")
            return None
        if isinstance(one, dict):  # {model: ViT-B-16, mask_ratio: 0.75} means all of these together
            wanted = {}
            for name, value in one.items():
                if name not in SETTINGS:
                    self.complain((*path, name), f"unknown setting '{name}'; {did_you_mean(name, SETTINGS)}")
                    continue
                read = SETTINGS[name].kind.read(value, (*path, name), self.complain)
                if read is not INVALID:
                    wanted[name] = read
            text = " and ".join(f"{name} == {plain(value)!r}" for name, value in wanted.items())
            of_flops = PRICED if any(isinstance(value, Compute) for value in wanted.values()) else ()
            return Expression(text, frozenset({*wanted, *of_flops}), _all_equal(wanted))
        try:
            expression = read_expression(one, SETTINGS, CONDITION)
        except ExpressionError as error:
            self.complain(path, f"{show(one)} {error}")
            return None
        if not expression.names:
            self.complain(path, f"{show(one)} names no setting; write {CONDITION}")
            return None
        return expression

    def _design(self, base: Values, axes: Mapping[str, Axis]) -> dict[str, tuple[Axis, ...]]:
        full = {"full": tuple(axes.values())}
        design = self.document.data.get("design", "full")
        if design == "full":
            return full
        if design == "one_at_a_time":
            return self._one_at_a_time(base, axes, [])
        if isinstance(design, dict) and set(design) == {"one_at_a_time"} and isinstance(design["one_at_a_time"], dict):
            cross = design["one_at_a_time"].get("cross")
            if set(design["one_at_a_time"]) == {"cross"} and isinstance(cross, list):
                for at, name in enumerate(cross):
                    if not isinstance(name, str) or name not in axes:
                        path = ("design", "one_at_a_time", "cross", at)
                        self.complain(path, f"{show(name)} is no axis of this study; {did_you_mean(name, axes)}")
                return self._one_at_a_time(base, axes, cross)
        if isinstance(design, dict) and set(design) == {"grids"} and isinstance(design["grids"], dict | None):
            if not design["grids"]:
                self.complain(("design", "grids"), "holds no grid; write grids: {name: {axis: [values]}}")
                return full
            return {str(name): self._grid(str(name), grid, base, axes) for name, grid in design["grids"].items()}
        self.complain(
            ("design",),
            f"{show(design)} is no design; write full, one_at_a_time, one_at_a_time: {{cross: [axis]}}, "
            f"or grids: {{name: {{axis: [values]}}}}",
        )
        return full

    def _one_at_a_time(self, base: Values, axes: Mapping[str, Axis], cross: list[Any]) -> dict[str, tuple[Axis, ...]]:
        """A grid an axis: that axis and the crossed ones vary, the others stay at the base, which must say where."""
        crossed = [name for name in axes if name in (*cross, "seed")]
        for name in axes:
            if name not in crossed and name not in base and SETTINGS[name].required:
                what = f"one_at_a_time starts from the base, which has no '{name}'; add it there"
                self.complain(("axes", name), what)
        alone = [name for name in axes if name not in crossed]
        return {name: tuple(axes[one] for one in axes if one == name or one in crossed) for name in alone} or {
            "full": tuple(axes.values())
        }

    def _grid(self, name: str, grid: Any, base: Values, axes: Mapping[str, Axis]) -> tuple[Axis, ...]:
        at: Path_ = ("design", "grids", name)
        if not isinstance(grid, dict):
            self.complain(at, f"{show(grid)} gives no axes; write {name}: {{axis: [values]}}, or axis: all")
            return ()
        found = []
        for axis, values in grid.items():
            if axis not in SETTINGS:
                self.complain((*at, axis), f"unknown axis '{axis}'; {did_you_mean(axis, SETTINGS)}")
            elif values == DESIGN_ALL:
                if axis in axes:
                    found.append(axes[axis])
                else:
                    what = f"'all' takes the values of axes, which has no '{axis}'; list the values"
                    self.complain((*at, axis), what)
            elif values == []:
                self.complain((*at, axis), f"'{axis}' has no values here; list some, or leave it out")
            else:
                listed = values if isinstance(values, list) else [values]
                found.append(Axis(axis, self._distinct(axis, listed, (*at, axis) if listed is values else at)))
        if "seed" in axes and "seed" not in grid:
            found.append(axes["seed"])
        couple = self._mapping("couple")
        for axis in axes:
            if SETTINGS[axis].required and not any(axis in given for given in (grid, base, couple)):
                self.complain(at, f"'{name}' has no '{axis}', and neither has base; add it to one of them")
        return tuple(found)

    def _baseline(self, axes: Mapping[str, Axis]) -> Values:
        if "baseline" not in self.document.data and "mask_ratio" in axes and 0.0 in axes["mask_ratio"].values:
            return {"mask_ratio": 0.0}
        baseline = self._settings("baseline", self._mapping("baseline"))
        if isinstance(baseline.get("samples"), Compute):
            what = f"{baseline['samples']} are other samples in each cell; name what marks the runs to compare with"
            self.complain(("baseline", "samples"), what)
        return baseline

    def _checked_baseline(self, study: Study, found: Sequence[Settings]) -> Study:
        """The study, whose baseline is that of some run; one that was not written but lost its runs is dropped."""
        if any(_all_equal(study.baseline)(vars(settings)) for settings in found):
            return study
        if "baseline" not in self.document.data:
            return replace(study, baseline={})
        before = len(self.complaints.found)
        for name, value in study.baseline.items():
            values = list(dict.fromkeys(show(getattr(settings, name)) for settings in found))
            if not any(getattr(settings, name) == value for settings in found):
                what = f"no run of this study has {name} {show(value)}; it takes {', '.join(values)}"
                self.complain(("baseline", name), what)
        if len(self.complaints.found) == before:
            what = f"no run of this study has all of {', '.join(study.baseline)} as here; loosen where or exclude"
            self.complain(("baseline",), what)
        return study


def _all_equal(wanted: Values) -> Callable[[Values], bool]:
    def equal(settings: Values) -> bool:
        return all(
            settings[name] == (value.samples(settings) if isinstance(value, Compute) else value)
            for name, value in wanted.items()
        )

    return equal
