"""Reads a study file and checks it: every complaint says file:line and what would be right, and all come at once."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from flipscale.cost.arithmetic import PRICED
from flipscale.door.statements import SIZES, Values
from flipscale.door.sweep import Sweep
from flipscale.errors import StudyError, did_you_mean, nearest
from flipscale.kinds import INVALID, Compute, PartOfRun, Path_, holds, read, show
from flipscale.scores import LOSS_BATCH, SCORES, declare, fault_of_score, set_and_score
from flipscale.settings.declarations import CommandSet, CommandTrainer, WebDataset, plain
from flipscale.settings.parameters import CLIP, faults_of_parameters, record_for
from flipscale.study.claims import read_claims, settle_claims
from flipscale.study.command import named_in
from flipscale.study.design import Grids, read_design
from flipscale.study.document import MOST_COMPLAINTS, Complaints, Document, merge, read_document
from flipscale.study.expression import (
    ARITHMETIC,
    CONDITION,
    Expression,
    ExpressionError,
    plain_value,
    read_expression,
    read_listed,
)
from flipscale.study.grid import MOST_POINTS, cells
from flipscale.study.keys import SCHEMA, TOP, StudyKeys, Tune
from flipscale.study.named_sets import PAIRED, has_only_captions, scores_of
from flipscale.study.recipes import RECIPES, Recipe
from flipscale.study.study import Axis, Condition, Coupling, Study, agrees
from flipscale.study.sweep import always, arm_of, swept_cells, tuned_rule, with_rule
from flipscale.study.values import ValueReader, setting_meant
from flipscale.words import count
from flipscale.workspace import RESERVED

MOST_FILES = 100
"""The most files that a study may be made of: each may include two that include two, and so on."""


_NOT_IN_NAMES = "'\"`$\\"
"""Characters no name may have: MLflow cannot find a name with a quote, and shells read the others."""


def read_study(path: str | Path) -> Study:
    """Read and check a study file. Raises StudyError with every complaint about it and the files it includes."""
    path = Path(path)
    name = path.stem
    complaints = Complaints()
    document = _with_includes(path, complaints, (), [])
    after_file = "and a study is named after its file; rename it"
    if name in RESERVED:
        complaints.add(document.place(), f"{name!r} is a name of flipscale's own in the results folder, {after_file}")
    if name.startswith(".") or not name.isprintable() or set(name) & set(_NOT_IN_NAMES):
        right = f"do not begin it with a dot, write it in UTF-8, and leave out {' '.join(_NOT_IN_NAMES)}"
        complaints.add(document.place(), f"{name!r} cannot be the name of a study, which is that of its file; {right}")
    return _Checker(document, complaints).study(name)


def _with_includes(path: Path, complaints: Complaints, inside: tuple[str, ...], read: list[Path]) -> Document:
    """The document at `path`, laid on what it includes. Paths in `include` are relative to the file that has it.

    inside: the files that include it. read: the files read so far, repeats included; this adds to it.
    """
    faults = Complaints()
    document = read_document(path, faults)
    if inside and not document.data.keys() & TOP.keys():
        raise StudyError([f"{path}:1: has none of a study's keys, such as base or axes, so it cannot be included"])
    complaints.found |= faults.found
    complaints.trapped |= faults.trapped
    read.append(path)
    included = document.data.pop("include", None)
    if included is None:
        return document
    under: Document | None = None
    inside = (*inside, os.path.normpath(path))
    for at, name in enumerate(included if isinstance(included, list) else [included]):
        place = document.place("include", at) if isinstance(included, list) else document.place("include")
        if not isinstance(name, str):
            complaints.add(place, f"{show(name)} is not a file's name; write include: other.yaml")
            continue
        other = path.parent / name
        if os.path.normpath(other) in inside:
            complaints.add(place, f"'{name}' would include itself; remove this include")
        elif not other.is_file():
            complaints.add(place, f"there is no file '{name}'; give its path from the folder of this file")
        else:
            if len(read) > MOST_FILES:
                raise StudyError([f"{place}: include leads to more than {MOST_FILES} files; include fewer"])
            more = _with_includes(other, complaints, inside, read)
            under = more if under is None else merge(under, more)
    return document if under is None else merge(under, document)


_OTHER_COLUMNS = (
    *("id", "study", "cell", "recipe", "parent", "samples_seen", "steps", "unique_pairs", "repeats", "params"),
    *("patches", "flops_per_sample", "train_flops", "train_seconds", "cpu_seconds", "evaluation_seconds"),
    *("images_per_second", "devices", "device", "gpu_hours", "gpu_hours_predicted", "gpu_hours_probed"),
    *("memory_bytes_predicted", "peak_memory_bytes", "final_loss", "chance", "items", "attempts", "corrupt_samples"),
    *("started", "finished", "own_samples_seen", "own_gpu_hours"),
)
"""Columns of results.csv that are no settings: a parameter of one of these names would hide it."""

LEAST_VALUES = 3
"""The fewest values of a sweep that can show a best one between others; five nearly always do."""

_OVER = "{lr: [1e-3, 2e-3, 4e-3, 8e-3]}"
_FACTORS = "{lr: 'x[0.5, 1, 2, 4]'}"

_AS_WRITTEN = (
    *("question", "budget", "resources", "score", "figures", "margin", "looks", "caveats", "answer", "labels"),
    *("keep_weights", "x"),
)
"""The keys whose values a study has as the file gives them."""


class _Checker(ValueReader):
    """Reads a document into a Study, gathering every complaint on the way."""

    def study(self, name: str) -> Study:
        """The study. Raises StudyError with every complaint about it."""
        parameters = self._parameters()
        scores = self._scores()
        self._check_keys()
        keys = self.keys()
        recipe = RECIPES[keys.recipe] if keys.recipe else Recipe({}, {})
        base = {**parameters, **self._base(scores)}
        axes = self._axes(keys.seeds)
        grids = read_design(self, base, axes)
        varied = set.intersection(*({axis.name for axis in grid} for grid in grids.values()))
        tune = keys.tune
        if scores:
            first = next(iter(scores))
            keys = replace(keys, score=keys.score or first)
            if tune and "by" not in self.mapping("tune"):
                tune = replace(tune, by=first)
        # What the study says about a setting, anywhere, replaces all that its recipe says about it.
        said = {*base, *varied, *self.mapping("couple")}
        base = {name: value for name, value in recipe.base.items() if name not in said} | dict(base)
        trained = {"samples", "tuning"} & {axis.name for grid in grids.values() for axis in grid} or base.get("tuning")
        if base.get("samples") == 0 and not trained:
            base = {"batch_size": LOSS_BATCH} | base
        self._check_required(recipe, {*varied, *base, *(tune.over if tune and isinstance(tune.over, dict) else ())})
        if "evaluation" not in {*axes, *self._meant()}:
            if keys.score is not None:
                self._check_score(keys.score, base, said, "score")
            if tune:
                self._check_score(tune.by, base, said, "tune", "by")
        claims = read_claims(self)
        defaults = {name: spec.default for name, spec in self.known.items() if not spec.required and not spec.rule}
        couplings = self._couplings(base, axes, varied, recipe)
        sweep = self._sweep(tune, axes, grids, base, couplings) if tune else None
        self._check_named_settings(keys)
        study = Study(
            name=name,
            base=defaults | base,
            axes=tuple(axes.values()),
            couplings=self._in_order(couplings),
            conditions=self._conditions(),
            grids=grids,
            baseline=self._baseline(axes),
            document=self.document,
            sweep=sweep,
            record=self.record,
            flops=self._flops(keys),
            **{key: getattr(keys, key) for key in _AS_WRITTEN},
        )
        self.complaints.raise_if_any()
        # The grid is worked out here as well, so that faults that only show in a cell are reported with all others.
        study = replace(study, cells=tuple(cells(study, self.complaints)))
        if sweep and not self.complaints.found:
            self._check_sweep(study, sweep)
        self._check_command(study)
        self._check_trainer_scores(study)
        self.complaints.raise_if_any()
        study = replace(study, claims=settle_claims(claims, study, self.complain))
        self.complaints.raise_if_any()
        study = self._checked_baseline(study)
        self.complaints.raise_if_any()
        return study

    def _check_named_settings(self, keys: StudyKeys) -> None:
        """Complain about labels and an `x` that name no setting."""
        for label in keys.labels:
            if label not in self.known:
                self.complain(("labels", label), f"unknown setting '{label}'; {did_you_mean(label, self.known)}")
        if keys.x is not None and not holds(getattr(self.known.get(keys.x), "type", None), float):
            self.complain(("x",), f"'{keys.x}' is no setting with numbers; {did_you_mean(keys.x, self.known)}")

    def _parameters(self) -> Values:
        """The study's own parameters with their defaults; from here on they are settings like flipscale's."""
        given = self.mapping("parameters")
        faults = dict(faults_of_parameters(given, _OTHER_COLUMNS))
        for name, what in faults.items():
            self.complain(("parameters", name), what)
        given = {name: value for name, value in given.items() if name not in faults}
        if faults:
            given.setdefault("unread", 0)  # Faulty parameters still replace settings of CLIP.
        named = [name for key in ("base", "axes", "couple") for name in self.mapping(key)]
        recipe = RECIPES.get(str(self.document.data.get("recipe")))
        if given and recipe:
            named += [*recipe.base, *recipe.couple]
            if lacking := [name for name in CLIP if name not in named]:
                what = f"its settings are those of a CLIP, and {', '.join(lacking)} have no value"
                self.complain(("recipe",), f"{what}; give them in base, or remove recipe")
        self.record = record_for(given, named)
        return self.settings(given, "parameters")

    def _scores(self) -> Mapping[str, Any]:
        """The scores that the study's program gives, each with which is better."""
        kind = TOP["scores"].type
        value = read(kind, self.document.data.get("scores", {}), ("scores",), self.complain)
        scores: Mapping[str, Any] = {} if value is INVALID else value
        for name, better in scores.items():
            if fault := fault_of_score(name, better):
                self.complain(("scores", name), fault)
            elif name in self.known or name in _OTHER_COLUMNS:
                self.complain(("scores", name), f"'{name}' is another column of results.csv; choose another name")
        declare(scores)
        return scores

    def _flops(self, keys: StudyKeys) -> Expression | None:
        """The expression of a cell's training FLOPs, if the study gives one."""
        return self._expression(keys.cost.flops, ("cost", "flops"), ARITHMETIC) if keys.cost.flops else None

    def _check_keys(self) -> None:
        unknown = [key for key in self.document.data if key not in TOP]
        for key in unknown[MOST_COMPLAINTS:]:
            self.complain((key,), f"unknown key '{key}'")
        for key in unknown[:MOST_COMPLAINTS]:
            hint = f"did you mean it under base, as 'base: {{{key}: ...}}'?" if key in self.known else ""
            if f"{key}s" in TOP:
                hint = f"did you mean '{key}s', or 'base: {{{key}: ...}}'?"
            self.complain((key,), f"unknown key '{key}'; {hint or did_you_mean(key, TOP)}")
        version = self.document.data.get("schema")
        if version is None:
            self.complain((), f"no 'schema'; write schema: {SCHEMA} at the top")
        elif type(version) is int and version > SCHEMA:
            what = f"schema {version} is newer than this flipscale, which reads {SCHEMA}"
            self.complain(("schema",), f"{what}; upgrade flipscale")
        elif version is True or version != SCHEMA:
            self.complain(("schema",), f"{show(version)} is not a schema; write schema: {SCHEMA}")

    def _meant(self) -> set[str]:
        """What the unknown names in the study probably mean. Each is a complaint already; a second one, that the
        setting is missing, would not help."""
        data = self.document.data
        keys = [key for key in data if key not in TOP]
        parts = [data.get(key) for key in ("base", "axes", "couple")]
        names = [name for part in parts if isinstance(part, dict) for name in part if name not in self.known]
        near = [*(nearest(key, TOP) for key in keys), *(nearest(name, self.known) for name in names)]
        return {*filter(None, near), *(key for key in keys if key in self.known)}

    def _base(self, scores: Mapping[str, str]) -> Values:
        """The settings of base, and the evaluation, which has a key of its own."""
        data = self.document.data
        given = dict(self.mapping("base"))
        for name, value in self.mapping("base").items():
            if isinstance(value, list) and len(value) > 1 and name in self.known and name != "stages":
                what = f"{show(given.pop(name))} is several values"
                self.complain(("base", name), f"{what}; put them under axes: {{{name}: [...]}}")
        base = dict(self.settings(given, "base"))
        if "evaluation" in data:
            if "evaluation" in base:
                self.complain(("evaluation",), "'evaluation' is given in base as well; keep one of them")
            base["evaluation"] = self.setting("evaluation", data["evaluation"], ("evaluation",))
        if scores:
            evaluation = base.get("evaluation", self.known["evaluation"].default)
            if evaluation is not INVALID:
                base["evaluation"] = replace(evaluation, scores={**evaluation.scores, **scores})
        return base

    def _check_required(self, recipe: Recipe, varied: set[str]) -> None:
        """Complain about settings that a study must give and this one does not."""
        places = ("base", "axes", "couple")
        if any(not isinstance(self.document.data.get(key), dict | None) for key in places):
            return
        written = [name for key in places for name in self.mapping(key)]
        given = {*recipe.couple, *varied, *written, *self._meant()}
        for name, spec in self.known.items():
            if spec.required and name not in given:
                self.complain(("base",), f"no '{name}' in base, axes or couple; add it to base: {spec.says}")

    def _check_score(self, score: str, base: Values, said: set[str], *at: str) -> None:
        """Complain about a score that the study cannot give: reported before anything trains, not after.

        said: the settings that the study gives a value anywhere. at: where the study names the score.
        """
        evaluation = base.get("evaluation", self.known["evaluation"].default)
        if evaluation is INVALID:
            return
        of_set, name = set_and_score(score)
        named = [*evaluation.sets, *evaluation.means]
        if of_set and of_set not in named:
            what = f"'{score}' is a score of the set '{of_set}', and evaluation.sets has none of that name"
            self.complain(at, f"{what}; {did_you_mean(of_set, named) if named else 'add it there'}")
        elif of_set and name not in scores_of(evaluation, of_set):
            near = did_you_mean(name, scores_of(evaluation, of_set))
            if has_only_captions(evaluation, of_set) and name not in PAIRED:
                near = f"it names no classes, so its samples have captions; add classes: FILE for labels; {near}"
            self.complain(at, f"'{of_set}' gives no score '{name}'; {near}")
        elif name == "linear_probe_top1" and not evaluation.linear_probe:
            self.complain(at, "linear_probe_top1 is not measured; write linear_probe: true under evaluation")
        if not (said - set(base)) & {"data", "trainer", "fine_tuning"}:
            self._check_own_score(score, evaluation, base, at)

    def _check_own_score(self, score: str, evaluation: Any, base: Values, at: Path_) -> None:
        """Complain about a score of the study's own evaluation where it has none: tar shards have no held-out part.

        base: where data, trainer and fine_tuning are given, if they are.
        """
        if score not in SCORES or base.get("fine_tuning") is not None:
            return
        if not isinstance(base.get("data"), WebDataset) or isinstance(base.get("trainer"), CommandTrainer):
            return
        of_sets = [f"{name}.{score}" for name in evaluation.sets if score in scores_of(evaluation, name)]
        instead = f"write score: {of_sets[0]}, or give" if of_sets else "give"
        if evaluation.data is None:
            what = f"'{score}' is measured on the study's own evaluation data, and tar shards have no held-out part"
            self.complain(at, f"{what}; {instead} evaluation: {{data: ...}}")
        elif isinstance(evaluation.data, WebDataset) and score not in PAIRED:
            what = f"'{score}' needs classes, and evaluation.data has captions"
            self.complain(at, f"{what}; {instead} a set with classes under evaluation.sets")

    def _check_command(self, study: Study) -> None:
        """Complain about parameters without a program, and about words of its command that name no setting."""
        if not self.record.parameter_names:
            return
        for cell in study.cells:
            if not isinstance(cell.trainer, CommandTrainer):
                what = 'parameters are those of a command; write base: {trainer: {command: "python train.py"}}'
                self.complain(("parameters",), what)
                return
            for name in named_in(cell.trainer.arguments):
                if name not in self.known:
                    what = f"the command names '{{{name}}}', which is no parameter; {did_you_mean(name, self.known)}"
                    self.complain(("base", "trainer"), what)

    def _check_trainer_scores(self, study: Study) -> None:
        """Complain about sets that a training command scores in a study without one."""
        if any(isinstance(cell.trainer, CommandTrainer) for cell in study.cells):
            return
        for name, declared in study.base["evaluation"].sets.items():
            if isinstance(declared, CommandSet) and declared.arguments is None:
                what = "no program gives these scores, as no command trains; name one in arguments"
                self.complain(("evaluation", "sets", name, "command"), what)

    def _axes(self, seeds: Sequence[int] | None) -> dict[str, Axis]:
        axes = {}
        for name, values in self.mapping("axes").items():
            at = ("axes", name)
            right = f"write {name}: [first, second]"
            if name not in self.known:
                self.complain(at, f"unknown axis '{name}'; {setting_meant(name, self.known)}")
                continue
            if name == "evaluation":
                what = "evaluation is no axis, as it changes no run; write one evaluation with all of their sets"
                self.complain(at, what)
                continue
            if values == []:
                self.complain(at, f"the axis '{name}' has no values; {right}")
            elif not isinstance(values, list):
                self.complain(at, f"{show(values)} is not a list of values; {right}")
            axes[name] = Axis(name, self.distinct(name, values, at) if isinstance(values, list) else ())
        if seeds is not None:
            listed = isinstance(self.document.data["seeds"], list)
            numbers = self.distinct("seed", seeds, ("seeds",)) if listed else range(seeds[0])
            if "seed" in axes:
                self.complain(("seeds",), "'seeds' and the axis 'seed' say the same thing; keep one of them")
            elif not numbers:
                self.complain(("seeds",), "0 seeds give no run; write seeds: 3, or a list of seeds")
            elif len(numbers) > MOST_POINTS:
                self.complain(("seeds",), f"{len(numbers)} seeds are too many; write seeds: 3, or a list of seeds")
            else:
                axes["seed"] = Axis("seed", tuple(numbers))
        return axes

    def _sweep(
        self, tune: Tune, axes: Mapping[str, Axis], grids: Grids, base: Values, couplings: dict[str, Coupling]
    ) -> Sweep | None:
        """The sweep that chooses a setting; None after complaints. The setting gets a coupling to the middle of what is
        tried."""
        over = self._setting_to_tune(tune)
        if over is None:
            return None
        before = len(self.complaints.found)
        varied = dict.fromkeys(axis.name for grid in grids.values() for axis in grid)
        values, are_factors = self._values_to_try(over, tune.over[over])
        self._check_not_set(over, {*axes, *varied}, are_factors=are_factors)
        if len(self.complaints.found) == before and len(values) < LEAST_VALUES:
            what = f"{count(len(values), 'value')} cannot show a best one between others; write {LEAST_VALUES} or more"
            self.complain(("tune", "over", over), f"{what}: {_OVER}")
        if tune.pick == "parabola" and holds(self.known[over].type, int):
            self.complain(("tune", "pick"), f"a parabola's best {over} is not a whole number; write pick: grid")
        self._check_seeds_apart(tune, grids, base)
        tried_at: Values = {}
        if isinstance(tune.at, dict):
            tried_at = self.settings(tune.at, "tune", "at")
        else:
            self.complain(("tune", "at"), f"{show(tune.at)} gives no settings; write at: {{samples: 128k}}")
        if len(self.complaints.found) > before:
            return None
        rule = self._rule_of(over, base, couplings) if are_factors else None
        arm = tuple(name for name in varied if name != "seed" and name not in tried_at)
        sweep = Sweep(
            over=over,
            values=values,
            rule=rule,
            seeds=tuple(dict.fromkeys(tune.seeds)),
            by=tune.by,
            pick=tune.pick,
            tie=tune.tie,
            extend=tune.extend,
            at=tried_at,
            arm=arm,
            pooled=tuple(name for name in arm if tune.pool and name in SIZES),
        )
        place = self.document.place("tune", "over", over)
        couplings[over] = Coupling(over, tuned_rule(sweep, always(sweep.middle)), place)
        return sweep

    def _setting_to_tune(self, tune: Tune) -> str | None:
        """The name of the setting that is chosen; None after a complaint."""
        if not isinstance(tune.over, dict) or len(tune.over) != 1:
            what = f"{show(tune.over)} is not one setting with its values; write over: {_OVER}"
            self.complain(("tune", "over"), what)
            return None
        over = str(next(iter(tune.over)))
        if over in self.known:
            return over
        self.complain(("tune", "over", over), f"unknown setting '{over}'; {setting_meant(over, self.known)}")
        return None

    def _values_to_try(self, over: str, given: object) -> tuple[tuple[float, ...], bool]:
        """The values, ascending, and whether they are factors of a rule, written x[0.5, 1, 2]."""
        factors = re.fullmatch(r"\s*x\s*\[(.*)\]\s*", given) if isinstance(given, str) else None
        listed = [plain_value(text.strip()) for text in factors[1].split(",")] if factors else given
        values = set()
        for number, written in enumerate(listed if isinstance(listed, list) else ()):
            path = ("tune", "over", over, number)
            value = written if factors else self.setting(over, written, path)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                values.add(value)
            elif value is not INVALID:
                self.complain(path, f"{show(written)} is not a number above 0, and values are compared by their log2")
        return tuple(sorted(values)), factors is not None

    def _check_not_set(self, over: str, axes: Collection[str], *, are_factors: bool) -> None:
        """Complain where the study itself gives the setting that its sweep chooses."""
        if over in axes:
            self.complain(("tune", "over"), f"'{over}' is also an axis; remove it from axes, or from tune")
        for key in ("base", "couple"):
            if not are_factors and over in self.mapping(key):
                what = f"'{over}' is chosen by tune; remove it here, or tune factors of it: {_FACTORS}"
                self.complain((key, over), what)

    def _check_seeds_apart(self, tune: Tune, grids: Grids, base: Values) -> None:
        """Complain about a seed that both chooses and is compared."""
        compared = {value for axes in grids.values() for axis in axes if axis.name == "seed" for value in axis.values}
        compared = compared or {base.get("seed", self.known["seed"].default)}
        if both := sorted(compared & set(tune.seeds)):
            what = f"seed {both[0]} is also compared, and a choice made on it would flatter its arm"
            self.complain(("tune", "seeds"), f"{what}; write other seeds, such as [100, 101]")

    def _rule_of(self, over: str, base: Values, couplings: Mapping[str, Coupling]) -> Expression | None:
        """What factors of the setting are factors of; None after a complaint."""
        if over in base:
            return Expression(show(base[over]), frozenset(), always(base[over]))
        if over in couplings:
            return couplings[over].expression
        self.complain(("tune", "over", over), f"factors need a rule; give {over} in base or couple")
        return None

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
        self, base: Values, axes: Mapping[str, Axis], varied: set[str], recipe: Recipe
    ) -> dict[str, Coupling]:
        """The study's couplings, and the rules of its recipe and of settings, where the study says nothing itself."""
        couplings = {}
        for name, source in {**{name: spec.rule for name, spec in self.known.items()}, **recipe.couple}.items():
            if source and name not in base and name not in varied:
                at = self.document.place("recipe") if name in recipe.couple else None
                couplings[name] = Coupling(name, read_expression(source, self.known), at)
        for name, source in self.mapping("couple").items():
            path = ("couple", name)
            if name not in self.known:
                self.complain(path, f"unknown setting '{name}'; {setting_meant(name, self.known)}")
            elif name in axes:
                self.complain(path, f"'{name}' is also an axis; remove it from axes or from couple")
            elif name == "stages" and isinstance(source, list):
                couplings[name] = Coupling(name, read_listed(source, self.known), self.document.place(*path))
            elif expression := self._expression(source, path, ARITHMETIC):
                couplings[name] = Coupling(name, expression, self.document.place(*path))
        return couplings

    def _in_order(self, couplings: Mapping[str, Coupling]) -> tuple[Coupling, ...]:
        """The couplings, each after those that it needs."""
        sorter = TopologicalSorter(dict.fromkeys(couplings, ()))
        for name, coupling in couplings.items():
            sorter.add(name, *coupling.expression.names & couplings.keys())
        try:
            return tuple(couplings[name] for name in sorter.static_order())
        except CycleError as error:
            cycle = sorted(set(error.args[1]))
        stuck = next(name for name in couplings if name in cycle and couplings[name].place)
        through = f", through {', '.join(cycle)}" if len(cycle) > 1 else ""
        what = f"'{stuck}' depends on itself{through}; give {'one of them' if through else 'it'} in base or axes"
        self.complain(("couple", stuck), what)
        return ()

    def _expression(self, source: Any, at: Path_, example: str) -> Expression | None:
        try:
            return read_expression(source, self.known, example)
        except ExpressionError as error:
            self.complain(at, f"{show(source)} {error}")
            return None

    def _conditions(self) -> tuple[Condition, ...]:
        conditions = []
        for key, keep in (("where", True), ("exclude", False)):
            given = self.document.data.get(key)
            if given is None:
                continue
            for at, condition in enumerate(given) if isinstance(given, list) else [(None, given)]:
                path: Path_ = (key,) if at is None else (key, at)
                if expression := self._condition(condition, path):
                    conditions.append(Condition(expression, keep, self.document.place(*path)))
        return tuple(conditions)

    def _condition(self, condition: Any, path: Path_) -> Expression | None:
        if isinstance(condition, dict) and condition:  # {model: ViT-B-16, mask_ratio: 0.75}: all of these together
            wanted = self.settings(condition, *path)
            text = " and ".join(f"{name} == {plain(value)!r}" for name, value in wanted.items())
            of_flops = PRICED if any(isinstance(value, Compute) for value in wanted.values()) else ()
            of_run = ["samples"] if any(isinstance(value, PartOfRun) for value in wanted.values()) else ()
            return Expression(text, frozenset({*wanted, *of_flops, *of_run}), lambda settings: agrees(settings, wanted))
        expression = None if condition == {} else self._expression(condition, path, CONDITION)
        if condition == {} or (expression and not expression.names):
            said = "an empty mapping" if condition == {} else show(condition)
            self.complain(path, f"{said} names no setting; write {CONDITION}")
            return None
        return expression

    def _baseline(self, axes: Mapping[str, Axis]) -> Values:
        if "baseline" not in self.document.data and "mask_ratio" in axes and 0.0 in axes["mask_ratio"].values:
            return {"mask_ratio": 0.0}
        baseline = self.settings(self.mapping("baseline"), "baseline")
        if "evaluation" in baseline:
            what = "'evaluation' has no column in the results, so it cannot mark the baseline; name another setting"
            self.complain(("baseline", "evaluation"), what)
        for name, value in baseline.items():
            if isinstance(value, Compute | PartOfRun):
                what = f"{value} are a different number of samples in each cell"
                self.complain(("baseline", name), f"{what}; name a setting that marks the runs to compare with")
        return baseline

    def _checked_baseline(self, study: Study) -> Study:
        """The study, with a complaint if no run has its baseline; a default baseline is dropped instead."""
        if any(agrees(vars(cell), study.baseline) for cell in study.cells):
            return study
        if "baseline" not in self.document.data:
            return replace(study, baseline={})
        for name, value in study.baseline.items():
            values = dict.fromkeys(getattr(cell, name) for cell in study.cells)
            if value not in values:
                what = f"no run of this study has {name} {show(value)}; it has {', '.join(map(show, values))}"
                self.complain(("baseline", name), what)
        if not self.complaints.found:
            what = f"no run of this study has this combination of {', '.join(study.baseline)}; loosen where or exclude"
            self.complain(("baseline",), what)
        return study
