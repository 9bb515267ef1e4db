"""Plan, Run: every run of a study, its identity, parents and cost. Data in, data out: nothing here touches a disk."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flipscale.architecture import architecture
from flipscale.cost import Cost, cost
from flipscale.errors import PlanError
from flipscale.study import SETTINGS, Study, cells
from flipscale.study.settings import DATASET, EVALUATION

RECIPE = 1
"""Version of what training does with the same settings. It is part of every id: raise it and all runs are new ones."""


@dataclass(frozen=True)
class Run:
    """One fully settled training. It does not know where it runs."""

    id: str
    settings: Mapping[str, Any] = field(hash=False)
    parents: tuple[str, ...]
    cost: Cost
    cell: str
    """What tells this run from the others of its study, but for the baseline's settings and the seed."""
    resources: Mapping[str, Any] = field(hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The run as run.json and `plan --json` give it."""
        return {
            "id": self.id,
            "parents": list(self.parents),
            "settings": dict(self.settings),
            "cost": asdict(self.cost),
            "cell": self.cell,
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
    def total(self) -> dict[str, Any]:
        """What all runs cost together; `gpu_hours` are device-hours, core-hours where a plan is priced on a CPU."""
        return {
            "runs": len(self.runs),
            "samples": sum(run.cost.samples for run in self.runs),
            "train_flops": sum(run.cost.train_flops for run in self.runs),
            "gpu_hours": sum(run.cost.gpu_hours for run in self.runs),
        }

    def check_budget(self) -> None:
        """Raise PlanError where the plan costs more than the study's budget allows."""
        total = self.total
        for key, limit in self.budget.items():
            if limit is not None and total[key] > limit:
                raise PlanError(
                    f"{self.study} would take {_amount(total[key])} {key} and its budget is {_amount(limit)}. "
                    f"Raise budget.{key}, or drop values from its axes; `flipscale plan` shows what each run costs."
                )

    def to_dict(self) -> dict[str, Any]:
        return {"study": self.study, "runs": [run.to_dict() for run in self.runs], "total": self.total}


def plan(study: Study) -> Plan:
    """Every run of a study, once each, in the order of its axes."""
    all_cells = cells(study)
    varied = _varied(study, all_cells)
    device = study.resources["device"] or ("A100" if study.resources["gpus"] else "cpu")
    resources = {**study.resources, "device": device}
    runs: dict[str, Run] = {}
    for settings in all_cells:
        run = Run(
            id=run_id(settings),
            settings=settings,
            parents=(),
            cost=cost(
                settings,
                devices=max(1, resources["gpus"]),
                device=resources["device"],
                flops_per_second=resources["flops_per_second"],
            ),
            cell=", ".join(f"{name}={show_setting(settings[name])}" for name in varied),
            resources=resources,
        )
        runs.setdefault(run.id, run)
    return Plan(study.name, tuple(runs.values()), study.budget)


def run_id(settings: Mapping[str, Any]) -> str:
    """A run's name: what a person wants to know of it, then a hash of everything that can change its result."""
    digest = hashlib.sha256(
        json.dumps({"recipe": RECIPE, **identity(settings)}, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
    readable = (
        settings["model"],
        dataset_name(settings["data"]),
        show_setting(settings["samples"]),
        f"m{settings['mask_ratio']:g}",
        f"s{settings['seed']}",
    )
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in readable) + f"_{digest[:10]}"


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make an id: those that differ from their defaults, and no paths.

    Leaving out defaults is what keeps old ids when a setting is added whose default means 'as before'.
    """
    found: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        value = settings.get(name, setting.default)
        if name == "image_size":
            default: Any = architecture(settings["model"]).image.image_size
        elif name == "data":
            value, default = _dataset_identity(value), _dataset_identity(setting.default)
        elif name == "evaluation":
            value, default = _evaluation_identity(value, settings["data"]), {}
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
    if isinstance(value, dict) and len(value) == 1:
        ((kind, told),) = _dataset_identity(value).items()
        options = (
            ", ".join(f"{name}={option:.12g}" for name, option in told.items()) if isinstance(told, dict) else told
        )
        return f"{kind}({options})" if options else kind
    if isinstance(value, dict):
        return json.dumps(value)
    if value is None:
        return "null"
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{value:.12g}" if isinstance(value, float) else str(value)
    for scale, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= scale and value % (scale // 1000) == 0:
            whole, rest = divmod(value, scale)
            decimals = f"{rest:0{len(str(scale)) - 1}}".rstrip("0")
            return min(f"{whole}.{decimals}".rstrip(".") + suffix, str(value), key=len)
    return str(value)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e9 or value == int(value) < 1e9 else f"{value:.4g}"


def _varied(study: Study, all_cells: list[dict[str, Any]]) -> list[str]:
    """The axes that tell cells apart, but for the baseline's and the seed."""
    axes = dict.fromkeys(axis.name for axes in study.grids.values() for axis in axes)
    return [
        name
        for name in axes
        if name not in study.baseline
        and name != "seed"
        and any(settings[name] != all_cells[0][name] for settings in all_cells)
    ]


def _dataset_identity(data: Mapping[str, Any]) -> dict[str, Any]:
    """A data set without its paths and without what is at its default."""
    ((kind, options),) = data.items()
    if kind == "webdataset":
        shards = options["urls"].rpartition("/")[2]
        return {kind: options["name"] or f"{dataset_name(data)}/{shards}"}
    known = DATASET.options[kind].options
    paths = {"folder"}
    return {
        kind: {name: value for name, value in options.items() if name not in paths and value != known[name].default}
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
    return found


def _canonical(value: Any) -> Any:
    """Numbers to 12 digits, so that 4e-6 * 64 / 256 and 1e-6 are one value on every machine; 2.0 and 2 are one."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.12g}")
    return value
