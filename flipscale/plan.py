"""Plan, Run: every run of a study, its identity, parents and cost. Data in, data out: nothing here touches a disk."""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flipscale.architecture import own_image_size
from flipscale.cell import Cell, write_cell
from flipscale.cost import Cost, cost
from flipscale.errors import PlanError, did_you_mean
from flipscale.study import SETTINGS, Axis, Study, cells
from flipscale.study.datasets import DATASET, EVALUATION_SET
from flipscale.study.document import Complaints
from flipscale.study.expression import plain_value
from flipscale.study.kinds import Keys
from flipscale.study.settings import EVALUATION, INIT, RECONSTRUCTION, TRAINER, TUNING
from flipscale.words import device_hours, exact

RECIPE = 1
"""Version of what training does with the same settings. It is part of every id: raise it and all runs are new ones."""


@dataclass(frozen=True)
class Run:
    """One fully settled training. It does not know where it runs."""

    id: str
    settings: Mapping[str, Any] = field(hash=False)
    parents: tuple[str, ...]
    cost: Cost
    cell: Cell | None
    """What tells this run from the others of its study, but for the baseline's settings and the seed.

    None for a run that no cell of the study asks for, and that is here as the parent of one.
    """
    resources: Mapping[str, Any] = field(hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The run as `plan --json` gives it. Of its cost `samples` is the old name of `samples_seen`."""
        return {
            "id": self.id,
            "parents": list(self.parents),
            "settings": dict(self.settings),
            "cost": {**vars(self.cost), "samples": self.cost.samples_seen},
            "cell": None if self.cell is None else write_cell(self.cell),
            "recipe": RECIPE,
            "resources": dict(self.resources),
        }


@dataclass(frozen=True)
class Plan:
    """The runs of a study, parents before children, and what they cost together."""

    study: str
    runs: tuple[Run, ...]
    budget: Mapping[str, Any]

    @property
    def cells(self) -> tuple[Run, ...]:
        """The runs that cells of the study ask for: those of its table."""
        return tuple(run for run in self.runs if run.cell is not None)

    @property
    def device(self) -> str:
        """What the plan is priced on: one kind of device for all runs."""
        return str(self.runs[0].resources["device"])

    @property
    def hours_unit(self) -> str:
        """What `gpu_hours` are: 'core-hours' where the plan is priced on a CPU, else 'GPU-hours'."""
        return device_hours(self.device)

    @property
    def total(self) -> dict[str, Any]:
        """What all runs cost together; `gpu_hours` are device-hours, core-hours where a plan is priced on a CPU."""
        return {
            "runs": len(self.runs),
            "samples": sum(run.cost.samples_seen for run in self.runs),
            "train_flops": sum(run.cost.train_flops for run in self.runs),
            "gpu_hours": sum(run.cost.gpu_hours for run in self.runs),
        }

    @property
    def warnings(self) -> list[str]:
        """What a person should know before anything starts, a sentence each."""
        return [*self._over_budget(), *self._without_scores()]

    def check_budget(self) -> None:
        """Raise PlanError where the plan costs more than the study's budget allows."""
        for problem in self._over_budget():
            raise PlanError(problem)

    def _over_budget(self) -> list[str]:
        total = self.total
        return [
            f"{self.study} would take {_amount(total[key])} {key} and its budget is {_amount(limit)}. "
            f"Raise budget.{key}, or drop values from its axes; `flipscale plan` shows what each run costs."
            for key, limit in self.budget.items()
            if limit is not None and total[key] > limit
        ]

    def _without_scores(self) -> list[str]:
        cells = self.cells
        unscored = [run for run in cells if not is_evaluated(run.settings)]
        if not unscored:
            return []
        names = ", ".join(dict.fromkeys(dataset_name(run.settings["data"]) for run in unscored))
        of_all = "the runs" if len(unscored) == len(cells) else f"{len(unscored)} of {len(cells)} runs"
        return [
            f"No evaluation is declared for {names}, so {of_all} will have training loss and cost, but no scores to "
            "compare. Add `evaluation: {data: {webdataset: SHARDS}}` or evaluation.sets now (docs/study.md): added "
            "later, it makes them new runs."
        ]

    def to_dict(self) -> dict[str, Any]:
        return {"study": self.study, "runs": [run.to_dict() for run in self.runs], "total": self.total}


def plan(study: Study) -> Plan:
    """Every run of a study, once each, in the order of its axes."""
    axes = {axis.name for axes in study.grids.values() for axis in axes}
    differing = sorted({*axes, *(coupling.name for coupling in study.couplings), "tuning", "inference"} - {"seed"})

    def apart(settings: Mapping[str, Any]) -> str:
        # What no axis and no coupling gives is the same in all cells.
        return repr([settings[name] for name in differing])

    varied = _varied(study)
    # An identity takes longer than all else here, and the seeds of a cell share all of it but the seed.
    no_seed = SETTINGS["seed"].default
    seedless: dict[str, tuple[dict[str, Any], Cell]] = {}
    ids: dict[int, str] = {}
    names: dict[str, Cell] = {}
    for cell in study.cells:
        key = apart(cell)
        if key not in seedless:
            name = tuple((axis, show_setting(cell[axis])) for axis in varied)
            seedless[key] = identity({**cell, "seed": no_seed}), name
        own, name = seedless[key]
        ids[id(cell)] = own_id = _id(cell, own | ({"seed": cell["seed"]} if cell["seed"] != no_seed else {}))
        names.setdefault(own_id, name)
    device = study.resources["device"] or ("A100" if study.resources["gpus"] else "cpu")
    resources = {**study.resources, "device": device}
    prices: dict[str, Cost] = {}

    def price(settings: Mapping[str, Any]) -> Cost:
        key = apart(settings)  # A seed costs what another does.
        if key not in prices:
            prices[key] = cost(stage(settings), resources)
        return prices[key]

    runs: dict[str, Run] = {}
    for cell in study.cells:
        for settings in _line(cell):
            parent, own_id = parent_of(settings), ids.get(id(settings)) or run_id(settings)
            run = Run(
                id=own_id,
                settings=settings,
                parents=() if parent is None else (run_id(parent),),
                cost=price(settings),
                cell=names.get(own_id),
                resources=resources,
            )
            runs.setdefault(own_id, run)
    return Plan(study.name, tuple(runs.values()), study.budget)


def plan_at(study: Study, at: Mapping[str, Any]) -> Plan:
    """The plan of one more cell of the study: its base and couplings with these settings, constraints aside.

    Texts are read as in a study file: 12.8B, ViT-H-14. Raises PlanError for a setting that is unknown or cannot be had,
    and for an axis of the study that is neither in `at` nor in its base.
    """
    axes = []
    for name, value in at.items():
        if name not in SETTINGS:
            raise PlanError(f"There is no setting {name!r}: {did_you_mean(name, SETTINGS)}.")
        wrong: list[str] = []
        given = plain_value(value) if isinstance(value, str) else value
        read = SETTINGS[name].kind.read(given, (), lambda _, what, wrong=wrong: wrong.append(what))  # type: ignore[misc]
        if wrong:
            raise PlanError(f"{name}: {wrong[0]}.")
        axes.append(Axis(name, (read,)))
    said = study.document.data.get("base") or {}
    missing = [axis.name for axis in study.axes if axis.name not in (*at, *said, "seed")]
    if missing:
        raise PlanError(f"{study.name} varies {', '.join(missing)}: say at which value, as {missing[0]}=VALUE.")
    complaints = Complaints()
    one = replace(study, grids={"at": tuple(axes)}, conditions=())
    found = tuple(cells(one, complaints))
    if complaints.found:
        raise PlanError("; ".join(f"{what} ({place})" for place, what in complaints.found))
    return plan(replace(one, cells=found))


def parent_of(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of the run that this one starts from, or None: a tuning and an evaluation need a trained model."""
    if settings["inference"] != "full":
        return {**settings, "inference": "full"}
    if settings["tuning"] is not None:
        return {**settings, "tuning": None}
    return None


def stage(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of what the run itself trains: of a tuning its own in place of those before it.

    FLIP's tuning (arXiv 2212.00794, section 4 and table 1e) has a hundredth of the learning rate and warms up over a
    fifth of its samples; both are so where the study says nothing. An evaluation trains nothing: it sees 0 samples.
    A setting that an older flipscale did not write is at its default.
    """
    found = {name: setting.default for name, setting in SETTINGS.items()} | dict(settings)
    if found["inference"] != "full":
        return found | {"samples": 0}
    tuning = found["tuning"]
    if tuning is not None:
        found |= {name: value for name, value in tuning.items() if value is not None}
        found["lr"] = tuning["lr"] or settings["lr"] / 100
        found["warmup"] = tuning["samples"] // 5 if tuning["warmup"] is None else tuning["warmup"]
        # What a mask leaves out is what the decoder learns from; without one there is nothing to reconstruct.
        if not tuning["mask_ratio"]:
            found["reconstruction"] = None
        found["cooldown"] = min(found["cooldown"], found["samples"] - found["warmup"])
    return found


def processes_of(resources: Mapping[str, Any], on_gpu: bool) -> int:
    """How many processes train a run: as many as it asks for, else one for each GPU it asks for, else one."""
    return int(resources.get("processes") or (on_gpu and resources.get("gpus")) or 1)


def _line(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The run and those it comes from, the first of them first."""
    line = [settings]
    while (parent := parent_of(line[0])) is not None:
        line.insert(0, parent)
    return line


def is_evaluated(settings: Mapping[str, Any]) -> bool:
    """Whether a run gets scores: shards have no held-out part of their own, and a command scores as it likes."""
    evaluation = settings["evaluation"]
    own = "webdataset" not in settings["data"] or "command" in settings["trainer"]
    return own or bool(evaluation["data"] or evaluation["sets"])


def run_id(settings: Mapping[str, Any]) -> str:
    """A run's name: what a person wants to know of it, then a hash of everything that can change its result."""
    return _id(settings, identity(settings))


def _id(settings: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """The name of the run with these settings, and `own` their identity."""
    digest = hashlib.sha256(
        json.dumps({"recipe": RECIPE, **own}, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
    readable = (
        settings["model"],
        dataset_name(settings["data"]),
        show_setting(settings["samples"]),
        f"m{settings['mask_ratio']:g}",
        *([f"t{show_setting(tuning['samples'])}"] if (tuning := settings.get("tuning")) else []),
        *([inference] if (inference := settings.get("inference", "full")) != "full" else []),
        f"s{settings['seed']}",
    )
    return "_".join(map(_word, readable)) + f"_{digest[:10]}"


@functools.cache
def _word(part: str) -> str:
    """A part of an id, of letters that a path and a shell take as they are."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-")


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make an id: those that differ from their defaults, and no paths.

    Leaving out defaults is what keeps old ids when a setting is added whose default means 'as before'.
    """
    found: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        value = settings.get(name, setting.default)
        if (
            setting.needs
            and settings.get(setting.needs, SETTINGS[setting.needs].default) == SETTINGS[setting.needs].default
        ):
            continue
        if name == "image_size":
            default: Any = own_image_size(settings["model"])
        elif name == "data":
            value, default = _dataset_identity(value), _dataset_identity(setting.default)
        elif name == "evaluation":
            value, default = _evaluation_identity(value, settings["data"]), {}
        elif name == "init" and value is not None:
            # Every run's weights are called model.pt, so the folder is part of the name.
            value, default = value["name"] or "/".join(value["path"].split("/")[-2:]), None
        elif name == "trainer" and value.get("command", {}).get("name"):
            value, default = value["command"]["name"], None
        else:
            default = setting.default
        if setting.required or setting.rule or (value != default and _canonical(value) != _canonical(default)):
            found[name] = _canonical(value)
    return found


def dataset_name(data: Mapping[str, Any]) -> str:
    """The short name of a data set: its kind, or the name of a webdataset."""
    ((kind, options),) = data.items()
    if kind != "webdataset":
        return str(kind)
    # Moving shards must not make new runs, so the name is the pattern's last folder, not the whole path.
    return str(options["name"] or "/".join(options["urls"].split("/")[-2:]).rpartition("/")[0] or options["urls"])


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings, with both values, in which two runs' identities differ."""
    one, two = identity(first), identity(second)
    return {name: (first.get(name), second.get(name)) for name in SETTINGS if one.get(name) != two.get(name)}


def show_setting(value: Any) -> str:
    """A setting's value as a person writes it: 12.8B, 16k, 0.5, shapes(pairs=0.5). Two values never look the same."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict):
        ((kind, told),) = _kind_identity(value).items()
        return f"{kind}({_show_options(told)})" if told else kind
    if isinstance(value, dict):
        keys = next((keys for keys in (TUNING, RECONSTRUCTION, INIT) if keys.options.keys() == value.keys()), None)
        told = {name: one for name, one in value.items() if keys is None or one != keys.options[name].default}
        if not told:
            return "on"
        alone = keys is not None and list(told) == [keys.short]
        return show_setting(next(iter(told.values()))) if alone else f"({_show_options(told)})"
    if isinstance(value, list):
        return " ".join(map(show_setting, value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int):
        return f"{value:.12g}" if isinstance(value, float) else str(value)
    return exact(value)


def _show_options(told: Any) -> str:
    if isinstance(told, dict):
        return ", ".join(f"{name}={show_setting(option)}" for name, option in told.items())
    return str(told)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e9 or value == int(value) < 1e9 else f"{value:.4g}"


def _varied(study: Study) -> list[str]:
    """The axes that tell cells apart, but for the baseline's and the seed."""
    axes = dict.fromkeys(axis.name for axes in study.grids.values() for axis in axes)
    return [
        name
        for name in axes
        if name not in study.baseline
        and name != "seed"
        and any(settings[name] != study.cells[0][name] for settings in study.cells)
    ]


def _kind_identity(value: Mapping[str, Any]) -> dict[str, Any]:
    """`_dataset_identity` of a data set, and the like of anything else that is one kind with its options."""
    ((kind, _),) = value.items()
    if kind in DATASET.options:
        return _dataset_identity(value)
    return _options_identity(value, {**EVALUATION_SET.options, **TRAINER.options})


def _dataset_identity(data: Mapping[str, Any]) -> dict[str, Any]:
    """A data set without its paths and without what is at its default."""
    ((kind, options),) = data.items()
    if kind == "webdataset":
        shards = options["urls"].rpartition("/")[2]
        return {kind: options["name"] or f"{dataset_name(data)}/{shards}"}
    return _options_identity(data, DATASET.options)


def _options_identity(value: Mapping[str, Any], kinds: Mapping[str, Keys]) -> dict[str, Any]:
    ((kind, options),) = value.items()
    known = kinds[kind].options
    return {
        kind: {
            name: option for name, option in options.items() if not known[name].place and option != known[name].default
        }
    }


def _evaluation_identity(evaluation: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation without what is at its default; the end of the schedule is always evaluated, said or not."""
    found = {name: value for name, value in evaluation.items() if value != EVALUATION.options[name].default}
    if "at" in found:
        found["at"] = sorted({*found["at"], 1.0})
        if found["at"] == [1.0]:
            del found["at"]
    if "data" in found:
        found["data"] = _dataset_identity(found["data"])
        if found["data"] == _dataset_identity(data) and "webdataset" not in data:
            del found["data"]
    if "sets" in found:
        # A set is known by its name: where its files lie is the machine's affair.
        found["sets"] = {
            name: _set_identity(spec, probed=bool(evaluation.get("linear_probe")))
            for name, spec in found["sets"].items()
        }
    return found


def _set_identity(spec: Mapping[str, Any], probed: bool) -> dict[str, Any]:
    ((kind, options),) = spec.items()
    told = _options_identity(spec, EVALUATION_SET.options)[kind]
    told.pop("urls", None)
    if probed and (options.get("train") or options.get("train_images")):
        told["train"] = True  # Where these images lie does not matter, but that they are there does.
    return {kind: told}


def _canonical(value: Any) -> Any:
    """Numbers to 12 digits, so that 4e-6 * 64 / 256 and 1e-6 are one value on every machine; 2.0 and 2 are one."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.12g}")
    return value
