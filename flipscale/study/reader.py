"""Reads a study file and checks it: every complaint says file:line and what would be right, and all come at once."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flipscale.cost import PRICED
from flipscale.errors import StudyError, did_you_mean, nearest
from flipscale.kinds import INVALID, Compute, PartOfRun, Path_, counts, show
from flipscale.scores import LOSS_BATCH, SCORES, set_and_score
from flipscale.settings import CommandSet, CommandTrainer, Settings, WebDataset, plain
from flipscale.study.claims import read_claims, settle_claims
from flipscale.study.design import Grids, read_design
from flipscale.study.document import MOST_COMPLAINTS, Complaints, Document, merge, read_document
from flipscale.study.expression import (
    CONDITION,
    Expression,
    ExpressionError,
    plain_value,
    read_expression,
    read_listed,
)
from flipscale.study.grid import MOST_POINTS, cells
from flipscale.study.keys import SCHEMA, TOP, Tune
from flipscale.study.named_sets import PAIRED, has_only_captions, scores_of
from flipscale.study.recipes import RECIPES, Recipe
from flipscale.study.settings import SETTINGS
from flipscale.study.study import SIZES, Axis, Condition, Coupling, Study, Sweep, Values, samples_for
from flipscale.study.sweep import always, arm_of, swept_cells, tuned_rule, with_rule
from flipscale.study.values import ValueReader, setting_meant
from flipscale.words import count
from flipscale.workspace import RESERVED

MOST_FILES = 100
"""The most files that a study may be made of: each may include two that include two, and so on."""


_NOT_IN_NAMES = "'\"`$\\"
"""Characters no name may have: MLflow cannot find a name with a quote, and figures take the others for mathematics."""

_RIGHT_NAMES = f"do not begin it with a dot, and leave out {' '.join(_NOT_IN_NAMES)}"


def read_study(path: str | Path) -> Study:
    """Read and check a study file. Raises StudyError with every complaint about it and the files it includes."""
    path = Path(path)
    complaints = Complaints()
    document = _with_includes(path, complaints, (), [])
    if not path.name.isprintable():
        what = "holds line breaks, direction marks or what is not UTF-8"
        complaints.add(document.place(), f"the file's name {what}, and a study is named after its file; rename it")
    if path.stem in RESERVED:
        what = f"{path.stem!r} is a name of flipscale's own in the results folder"
        complaints.add(document.place(), f"{what}, and a study is named after its file; rename it")
    if path.stem.startswith(".") or set(path.stem) & set(_NOT_IN_NAMES):
        complaints.add(
            document.place(), f"{path.stem!r} cannot be the name of a study, which is that of its file; {_RIGHT_NAMES}"
        )
    study = _Checker(document, complaints).study(path.stem)
    complaints.raise_if_any()
    assert study is not None, "a study is missing only where there are complaints"
    return study


def _with_includes(path: Path, complaints: Complaints, inside: tuple[Path, ...], read: list[Path]) -> Document:
    """The document at `path`, laid on what it includes. Paths in `include` are relative to the file that has it.

    inside: the files that include it. read: the files read so far, repeats included; this adds to it.
    """
    faults = Complaints()
    document = read_document(path, faults)
    if inside and not document.data.keys() & TOP.keys():  # No complaint quotes what is no study.
        raise StudyError([f"{path}:1: has none of a study's keys, such as base or axes, so it cannot be included"])
    for place, what in faults.found:
        complaints.add(place, what)
    complaints.trapped |= faults.trapped
    read.append(path)
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
        if _resolved(other) in inside:
            complaints.add(place, f"'{name}' would include itself; remove this include")
        elif not other.is_file():
            complaints.add(place, f"there is no file '{name}'; give its path from the folder of this file")
        else:
            if len(read) > MOST_FILES:
                raise StudyError([f"{place}: include leads to more than {MOST_FILES} files; include fewer"])
            found = _with_includes(other, complaints, inside, read)
            under = found if under is None else merge(under, found)
    return document if under is None else merge(under, document)


def _resolved(path: Path) -> Path | None:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a link in a loop, a NUL byte
        return None


LEAST_VALUES = 3
"""The fewest values of a sweep that can show a best one between others; five nearly always do."""

_OVER, _FACTORS = "{lr: [1e-3, 2e-3, 4e-3, 8e-3]}", "{lr: 'x[0.5, 1, 2, 4]'}"

_DEFAULTS = {name: spec.default for name, spec in SETTINGS.items() if not spec.required and not spec.rule}
"""The settings that a study need not give, and that no rule gives."""


class _Checker:
    """Reads a document into a Study, gathering every complaint on the way."""

    def __init__(self, document: Document, complaints: Complaints):
        self.document = document
        self.complaints = complaints
        self.values = ValueReader(document, complaints)
        self.complain = self.values.complain

    def study(self, name: str) -> Study | None:
        """The study; None where there is a complaint about it."""
        self._check_keys()
        self._schema()
        recipe_name, score, figures = (self.values.top(key) for key in ("recipe", "score", "figures"))
        recipe = RECIPES[recipe_name] if recipe_name else Recipe({}, {})
        base = self._base()
        axes = self._axes(self.values.top("seeds"))
        grids = read_design(self.values, base, axes)
        varied = _varied_in_all(grids)
        tune = self.values.top("tune")
        # What the study says about a setting, anywhere, replaces all that its recipe says about it.
        said = {*base, *varied, *self.values.mapping("couple")}
        sweep = self._sweep(tune, axes, grids, base) if tune else None
        base = {name: value for name, value in recipe.base.items() if name not in said} | dict(base)
        trained = {"samples", "tuning"} & {axis.name for grid in grids.values() for axis in grid} or base.get("tuning")
        if base.get("samples") == 0 and not trained:
            base = {"batch_size": LOSS_BATCH} | base
        self._check_required(recipe, {*varied, *base, *(tune.over if tune and isinstance(tune.over, dict) else ())})
        if score is not None and "evaluation" not in {*axes, *self._meant()}:
            self._check_score(score, base, said)
        if tune and "evaluation" not in {*axes, *self._meant()}:
            self._check_score(tune.by, base, said, ("tune", "by"))
        claims = read_claims(self.values)
        couplings, sweep = self._couplings(base, axes, varied, recipe, sweep)
        study = Study(
            name=name,
            question=self.values.top("question"),
            base=_DEFAULTS | base,
            axes=tuple(axes.values()),
            couplings=couplings,
            conditions=self._conditions(),
            grids=grids,
            baseline=self._baseline(axes),
            budget=self.values.top("budget"),
            resources=self.values.top("resources"),
            score=score,
            figures=None if figures is None else tuple(figures),
            document=self.document,
            margin=self.values.top("margin"),
            looks=self.values.top("looks"),
            caveats=tuple(self.values.top("caveats")),
            answer=self.values.top("answer"),
            labels=self._labels(),
            keep_weights=self.values.top("keep_weights"),
            sweep=sweep,
        )
        if self.complaints.found:
            return None
        # The grid is worked out here as well, so that faults that only show in a cell are reported with all others.
        found = cells(study, self.complaints)
        study = replace(study, cells=tuple(found))
        if sweep and not self.complaints.found:
            self._check_sweep(study, sweep)
        self._check_trainer_scores(study)
        if not self.complaints.found:
            study = replace(study, claims=settle_claims(claims, study, self.complain))
        return study if self.complaints.found else self._checked_baseline(study, found)

    def _labels(self) -> Mapping[str, Mapping[str, str]]:
        labels: Mapping[str, Mapping[str, str]] = self.values.top("labels")
        for name in labels:
            if name not in SETTINGS:
                self.complain(("labels", name), f"unknown setting '{name}'; {did_you_mean(name, SETTINGS)}")
        return labels

    def _check_keys(self) -> None:
        unknown = [key for key in self.document.data if key not in TOP]
        for key in unknown[MOST_COMPLAINTS:]:
            self.complain((key,), f"unknown key '{key}'")
        for key in unknown[:MOST_COMPLAINTS]:
            hint = f"did you mean it under base, as 'base: {{{key}: ...}}'?" if key in SETTINGS else ""
            if f"{key}s" in TOP:
                hint = f"did you mean '{key}s', or 'base: {{{key}: ...}}'?"
            self.complain((key,), f"unknown key '{key}'; {hint or did_you_mean(key, TOP)}")

    def _meant(self) -> set[str]:
        """What the unknown names in the study probably mean. Each is a complaint already; a second one, that the
        setting is missing, would not help."""
        keys = [key for key in self.document.data if key not in TOP]
        parts = [self.document.data.get(key) for key in ("base", "axes", "couple")]
        names = [name for part in parts if isinstance(part, dict) for name in part if name not in SETTINGS]
        misplaced = [key for key in keys if key in SETTINGS]
        meant = [nearest(key, TOP) for key in keys] + [nearest(name, SETTINGS) for name in names]
        return {*misplaced, *filter(None, meant)}

    def _base(self) -> Values:
        """The settings of base, and the evaluation, which has a key of its own."""
        data = self.document.data
        base = dict(self.values.settings("base", self.values.mapping("base")))
        if "evaluation" in data:
            if "evaluation" in base:
                self.complain(("evaluation",), "'evaluation' is given in base as well; keep one of them")
            base["evaluation"] = SETTINGS["evaluation"].read(data["evaluation"], ("evaluation",), self.complain)
        return base

    def _check_required(self, recipe: Recipe, varied: set[str]) -> None:
        """Complain about settings that a study must give and this one does not."""
        places = ("base", "axes", "couple")
        if any(not isinstance(self.document.data.get(key), dict | None) for key in places):
            return
        written = [name for key in places for name in self.values.mapping(key)]
        given = {*recipe.couple, *varied, *written, *self._meant()}
        for name, spec in SETTINGS.items():
            if spec.required and name not in given:
                self.complain(("base",), f"no '{name}' in base, axes or couple; add it to base: {spec.says}")

    def _check_score(self, score: str, base: Values, said: set[str], at: Path_ = ("score",)) -> None:
        """Complain about a score that the study cannot give: reported before anything trains, not after.

        said: the settings that the study gives a value anywhere. at: where the study names the score.
        """
        evaluation = base.get("evaluation", SETTINGS["evaluation"].default)
        if evaluation is INVALID:
            return
        self._check_declared_score(score, evaluation, at)
        if not said - set(base) & {"data", "trainer", "fine_tuning"}:
            self._check_own_score(score, evaluation, base, at)

    def _check_declared_score(self, score: str, evaluation: Any, at: Path_) -> None:
        """Complain about a score that this evaluation does not give."""
        of_set, name = set_and_score(score)
        named = [*evaluation.sets, *evaluation.means]
        if of_set and of_set not in named:
            what = f"'{score}' is a score of the set '{of_set}', and evaluation.sets has none of that name"
            self.complain(at, f"{what}; {did_you_mean(of_set, named) if named else 'add it there'}")
        elif of_set and name not in scores_of(evaluation, of_set):
            near = did_you_mean(name, scores_of(evaluation, of_set))
            if has_only_captions(evaluation, of_set) and name not in PAIRED:
                near = f"it names no classes, so its samples have captions; add classes: FILE for labels. {near}"
            self.complain(at, f"'{of_set}' gives no score '{name}'; {near}")
        elif name == "linear_probe_top1" and not evaluation.linear_probe:
            self.complain(at, "linear_probe_top1 is not measured; write linear_probe: true under evaluation")

    def _check_own_score(self, score: str, evaluation: Any, base: Values, at: Path_) -> None:
        """Complain about a score of the study's own evaluation where it has none: tar shards have no held-out part.

        base: where data, trainer and fine_tuning are given, if they are.
        """
        trainer = base.get("trainer", SETTINGS["trainer"].default)
        if score not in SCORES or base.get("fine_tuning") is not None:
            return
        if not isinstance(base.get("data"), WebDataset) or isinstance(trainer, CommandTrainer):
            return
        of_sets = [f"{name}.{score}" for name in evaluation.sets if score in scores_of(evaluation, name)]
        instead = f"write score: {of_sets[0]}, or give" if of_sets else "give"
        if evaluation.data is None:
            what = f"'{score}' is measured on the study's own evaluation data, and tar shards have no held-out part"
            self.complain(at, f"{what}; {instead} evaluation: {{data: ...}}")
        elif isinstance(evaluation.data, WebDataset) and score not in PAIRED:
            what = f"'{score}' needs classes, and evaluation.data has captions"
            self.complain(at, f"{what}; {instead} a set with classes under evaluation.sets")

    def _check_trainer_scores(self, study: Study) -> None:
        """Complain about sets that a training command scores in a study without one."""
        if any(isinstance(cell.trainer, CommandTrainer) for cell in study.cells):
            return
        for name, declared in study.base["evaluation"].sets.items():
            if isinstance(declared, CommandSet) and declared.arguments is None:
                what = "no program gives these scores, as no command trains; name one in arguments"
                self.complain(("evaluation", "sets", name, "command"), what)

    def _schema(self) -> None:
        version = self.document.data.get("schema")
        if version is None:
            self.complain((), f"no 'schema'; write schema: {SCHEMA} at the top")
        elif isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA:
            self.complain(
                ("schema",), f"schema {version} is newer than this flipscale, which reads {SCHEMA}; upgrade flipscale"
            )
        elif version != SCHEMA or isinstance(version, bool):
            self.complain(("schema",), f"{show(version)} is not a schema; write schema: {SCHEMA}")

    def _axes(self, seeds: Any) -> dict[str, Axis]:
        axes = {}
        for name, values in self.values.mapping("axes").items():
            if name not in SETTINGS:
                self.complain(("axes", name), f"unknown axis '{name}'; {setting_meant(name)}")
            elif name == "evaluation":
                what = "evaluation is no axis, as it changes no run; write one evaluation with all of their sets"
                self.complain(("axes", name), what)
            elif values == []:
                self.complain(("axes", name), f"the axis '{name}' has no values; write {name}: [first, second]")
                axes[name] = Axis(name, ())
            elif not isinstance(values, list):
                self.complain(("axes", name), f"{show(values)} is not a list of values; write {name}: [first, second]")
                axes[name] = Axis(name, ())
            else:
                axes[name] = Axis(name, self.values.distinct(name, values, ("axes", name)))
        if seeds is not None:
            listed = isinstance(self.document.data["seeds"], list)
            numbers = self.values.distinct("seed", seeds, ("seeds",)) if listed else range(seeds[0])
            if "seed" in axes:
                self.complain(("seeds",), "'seeds' and the axis 'seed' say the same thing; keep one of them")
            elif not numbers:
                self.complain(("seeds",), "0 seeds give no run; write seeds: 3, or a list of seeds")
            elif len(numbers) > MOST_POINTS:
                self.complain(("seeds",), f"{len(numbers)} seeds are too many; write seeds: 3, or a list of seeds")
            else:
                axes["seed"] = Axis("seed", tuple(numbers))
        return axes

    def _sweep(self, tune: Tune, axes: Mapping[str, Axis], grids: Grids, base: Values) -> Sweep | None:
        """The sweep that chooses a setting, without the study's own rule for it; None after complaints."""
        at = ("tune", "over")
        if not isinstance(tune.over, dict) or len(tune.over) != 1:
            self.complain(at, f"{show(tune.over)} is not one setting with its values; write over: {_OVER}")
            return None
        ((over, given),) = tune.over.items()
        if over not in SETTINGS:
            self.complain((*at, over), f"unknown setting '{over}'; {setting_meant(over)}")
            return None
        kept = len(self.complaints.found)
        varied = dict.fromkeys(axis.name for grid in grids.values() for axis in grid)
        factors = re.fullmatch(r"\s*x\s*\[(.*)\]\s*", given) if isinstance(given, str) else None
        listed = [plain_value(text.strip()) for text in factors[1].split(",")] if factors else given
        values = set()
        for number, value in enumerate(listed if isinstance(listed, list) else ()):
            path = (*at, over) if factors else (*at, over, number)
            found = value if factors else SETTINGS[over].read(value, path, self.complain)
            if isinstance(found, int | float) and not isinstance(found, bool) and found > 0:
                values.add(found)
            elif found is not INVALID:
                self.complain(path, f"{show(value)} is not a number above 0, and values are compared by their log2")
        if over in {*axes, *varied}:
            self.complain(at, f"'{over}' is also an axis; remove it from axes, or from tune")
        for key in ("base", "couple"):
            if not factors and over in self.values.mapping(key):
                self.complain(
                    (key, over), f"'{over}' is chosen by tune; remove it here, or tune factors of it: {_FACTORS}"
                )
        if len(self.complaints.found) == kept and len(values) < LEAST_VALUES:
            what = f"{count(len(values), 'value')} cannot show a best one between others; write {LEAST_VALUES} or more"
            self.complain((*at, over), f"{what}: {_OVER}")
        if tune.pick == "parabola" and counts(SETTINGS[over].type):
            self.complain(("tune", "pick"), f"a parabola's best {over} is not a whole number; write pick: grid")
        compared = {value for axes in grids.values() for axis in axes if axis.name == "seed" for value in axis.values}
        compared = compared or {base.get("seed", SETTINGS["seed"].default)}
        if both := sorted(compared & set(tune.seeds)):
            what = f"seed {both[0]} is also compared, and a choice made on it would flatter its arm"
            self.complain(("tune", "seeds"), f"{what}; write other seeds, such as [100, 101]")
        chosen_at = {}
        for name, value in self._at(tune).items():
            chosen_at[name] = SETTINGS[name].read(value, ("tune", "at", name), self.complain)
        if len(self.complaints.found) > kept:
            return None
        arm = tuple(name for name in varied if name != "seed" and name not in chosen_at)
        return Sweep(
            over,
            tuple(sorted(values)),
            None,
            tuple(dict.fromkeys(tune.seeds)),
            tune.by,
            tune.pick,
            tune.tie,
            tune.extend,
            chosen_at,
            arm,
            tuple(name for name in arm if tune.pool and name in SIZES),
        )

    def _at(self, tune: Tune) -> Values:
        """The settings under tune.at that exist."""
        if not isinstance(tune.at, dict):
            self.complain(("tune", "at"), f"{show(tune.at)} gives no settings; write at: {{samples: 128k}}")
            return {}
        for name in tune.at:
            if name not in SETTINGS:
                self.complain(("tune", "at", name), f"unknown setting '{name}'; {setting_meant(name)}")
        return {name: value for name, value in tune.at.items() if name in SETTINGS}

    def _check_sweep(self, study: Study, sweep: Sweep) -> None:
        """Complain about values that a cell cannot have, and about arms that `at` leaves without a cell."""
        for value in sweep.values:
            cells(with_rule(study, always(value)), self.complaints)
        swept = {cell.arm for cell in swept_cells(study)}
        for cell in study.cells:
            if (arm := arm_of(sweep, vars(cell))) not in swept:
                named = ", ".join(f"{name} {value}" for name, value in zip(sweep.arm, arm, strict=True)) or "the study"
                wanted = ", ".join(f"{name} {show(value)}" for name, value in sweep.at.items())
                self.complain(("tune", "at"), f"no cell of {named} has {wanted}; add it, or tune at another one")
                return

    def _couplings(
        self, base: Values, axes: Mapping[str, Axis], varied: set[str], recipe: Recipe, sweep: Sweep | None
    ) -> tuple[tuple[Coupling, ...], Sweep | None]:
        """The study's couplings, and the rules of its recipe and of settings, where the study says nothing itself.

        Each comes after those that it needs. The setting that a sweep chooses has a value in the middle of what it
        tries; the sweep gets the rule that its factors multiply.
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
        for name, source in self.values.mapping("couple").items():
            at = ("couple", name)
            if name not in SETTINGS:
                self.complain(at, f"unknown setting '{name}'; {setting_meant(name)}")
            elif name in axes:
                self.complain(at, f"'{name}' is also an axis; remove it from axes or from couple")
            else:
                try:
                    listed = name == "stages" and isinstance(source, list)
                    expression = (read_listed if listed else read_expression)(source, SETTINGS)
                except ExpressionError as error:
                    self.complain(at, f"{show(source)} {error}")
                else:
                    found[name] = Coupling(name, expression, self.document.place(*at))
        if sweep:
            over, place = sweep.over, self.document.place("tune", "over", sweep.over)
            if isinstance(self.document.data["tune"]["over"][over], str):
                rule = found[over].expression if over in found else None
                if over in base:
                    rule = Expression(show(base[over]), frozenset(), always(base[over]))
                if rule is None:
                    self.complain(("tune", "over", over), f"factors need a rule; give {over} in base or couple")
                sweep = replace(sweep, rule=rule)
            middle = sweep.values[(len(sweep.values) - 1) // 2]
            found[over] = Coupling(over, tuned_rule(sweep, always(middle)), place)
        return self._in_order(found), sweep

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
        while True:  # leave out what depends on the cycle without being in it
            needed = set().union(*(coupling.expression.names for coupling in waiting.values()))
            if needed >= waiting.keys():
                break
            waiting = {name: coupling for name, coupling in waiting.items() if name in needed}
        stuck = next(coupling for coupling in waiting.values() if coupling.place)
        through = f", through {', '.join(sorted(waiting))}" if len(waiting) > 1 else ""
        what = f"'{stuck.name}' depends on itself{through}; give {'one of them' if through else 'it'} in base or axes"
        self.complain(("couple", stuck.name), what)

    def _conditions(self) -> tuple[Condition, ...]:
        found = []
        for key, keep in (("where", True), ("exclude", False)):
            given = self.document.data.get(key)
            if given is None:
                continue
            for at, condition in enumerate(given) if isinstance(given, list) else [(None, given)]:
                path: Path_ = (key,) if at is None else (key, at)
                expression = self._condition(condition, path, key)
                if expression is not None:
                    found.append(Condition(expression, keep, self.document.place(*path)))
        return tuple(found)

    def _condition(self, condition: Any, path: Path_, key: str) -> Expression | None:
        if condition == {}:
            self.complain(path, f"an empty mapping names no setting; write {CONDITION}")
            return None
        if isinstance(condition, dict):  # {model: ViT-B-16, mask_ratio: 0.75} means all of these together
            wanted = {}
            for name, value in condition.items():
                if name not in SETTINGS:
                    self.complain((*path, name), f"unknown setting '{name}'; {setting_meant(name)}")
                    continue
                read = SETTINGS[name].read(value, (*path, name), self.complain)
                if read is not INVALID:
                    wanted[name] = read
            text = " and ".join(f"{name} == {plain(value)!r}" for name, value in wanted.items())
            of_flops = PRICED if any(isinstance(value, Compute) for value in wanted.values()) else ()
            of_run = ["samples"] if any(isinstance(value, PartOfRun) for value in wanted.values()) else ()
            return Expression(text, frozenset({*wanted, *of_flops, *of_run}), _all_equal(wanted))
        try:
            expression = read_expression(condition, SETTINGS, CONDITION)
        except ExpressionError as error:
            self.complain(path, f"{show(condition)} {error}")
            return None
        if not expression.names:
            self.complain(path, f"{show(condition)} names no setting; write {CONDITION}")
            return None
        return expression

    def _baseline(self, axes: Mapping[str, Axis]) -> Values:
        if "baseline" not in self.document.data and "mask_ratio" in axes and 0.0 in axes["mask_ratio"].values:
            return {"mask_ratio": 0.0}
        baseline = self.values.settings("baseline", self.values.mapping("baseline"))
        if "evaluation" in baseline:
            what = "'evaluation' has no column in the results, so it cannot mark the baseline; name another setting"
            self.complain(("baseline", "evaluation"), what)
        for name, value in baseline.items():
            if isinstance(value, Compute | PartOfRun):
                what = (
                    f"{value} are a different number of samples in each cell; name a setting that marks the runs to "
                    "compare with"
                )
                self.complain(("baseline", name), what)
        return baseline

    def _checked_baseline(self, study: Study, found: Sequence[Settings]) -> Study:
        """The study, with a complaint if no run has its baseline; a default baseline is dropped instead."""
        if any(_all_equal(study.baseline)(vars(settings)) for settings in found):
            return study
        if "baseline" not in self.document.data:
            return replace(study, baseline={})
        before = len(self.complaints.found)
        for name, value in study.baseline.items():
            values = list(dict.fromkeys(show(getattr(settings, name)) for settings in found))
            if not any(getattr(settings, name) == value for settings in found):
                what = f"no run of this study has {name} {show(value)}; it has {', '.join(values)}"
                self.complain(("baseline", name), what)
        if len(self.complaints.found) == before:
            what = f"no run of this study has this combination of {', '.join(study.baseline)}; loosen where or exclude"
            self.complain(("baseline",), what)
        return study


def _varied_in_all(grids: Grids) -> set[str]:
    """The settings that each grid varies."""
    names = [{axis.name for axis in grid} for grid in grids.values()]
    return set.intersection(*names) if names else set()


def _all_equal(wanted: Values) -> Callable[[Values], bool]:
    def equal(settings: Values) -> bool:
        return all(settings[name] == samples_for(value, settings) for name, value in wanted.items())

    return equal
