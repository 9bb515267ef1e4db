"""Plan, Run: every run of a study, its identity, parents and cost. Data in, data out: nothing here touches a disk."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cached_property
from operator import itemgetter

from flipscale.cell import Cell, arm_words, run_words, setting_words, write_cell
from flipscale.cost.arithmetic import (
    Cost,
    averaged_steps,
    cost,
    cost_of_program,
    is_endless,
    is_limited_by_reading,
    is_on_accelerator,
    of_any_length,
    rate_of,
    scored_steps,
    scoring_hours,
    step_traffic,
    steps_of,
    training_view,
    trunk_steps,
)
from flipscale.cost.capacity import REFUSED, TIGHT, device_memory, shortage
from flipscale.door.run_states import Hours, total_hours
from flipscale.door.statements import Values
from flipscale.errors import PlanError, did_you_mean
from flipscale.kinds import Faults, JsonObject, checked, options_of
from flipscale.planning.identity import (
    RECIPE,
    dataset_name,
    identity,
    is_evaluated,
    lineage,
    run_id,
    scored_sets,
    show_setting,
    stage,
    trains,
)
from flipscale.planning.timing import NOT_TIMED, RunTime, Timings, run_time
from flipscale.settings.architecture import architecture, patches_kept
from flipscale.settings.declarations import (
    NODE_GPUS,
    Budget,
    CommandTrainer,
    KeepWeights,
    OpenClipTrainer,
    Resources,
    Settings,
    Shapes,
    plain,
)
from flipscale.settings.devices import (
    DEVICES,
    INTERCONNECT,
    LOADERS,
    Device,
    Money,
    Price,
    device_named,
)
from flipscale.study import Arm, Axis, Study, SweptCell, cells, swept_cells
from flipscale.study.document import Complaints
from flipscale.study.expression import plain_value
from flipscale.study.settings import images_scored
from flipscale.study.sweep import with_rule
from flipscale.words import count, device_hours, percent

MOST_RATE = 0.1
"""AdamW's usual rates are below a tenth of it."""


@dataclass(frozen=True)
class Trunk:
    """The part of a run's training that another run does: both have the same schedule up to there."""

    run: str
    """Its id."""
    samples: int


@dataclass(frozen=True)
class Run:
    """One fully settled training. It does not know where it runs."""

    id: str
    settings: Settings = field(hash=False)
    parents: tuple[str, ...]
    cost: Cost
    """The cost of what it trains itself, without its parents and its trunk."""
    cell: Cell | None
    """The values that distinguish this run from others of its study, without the baseline's settings and the seed.

    None for a run that no cell of the study asks for, and that is here only as the parent of one.
    """
    resources: Resources = field(hash=False)
    timed: RunTime | None = None
    """How long it takes where its shape was timed; its cost then has those hours."""
    keep_weights: KeepWeights = KeepWeights.ALWAYS
    name: str = ""
    """What distinguishes it from others of its study, in words: 'mask 50 %, 16k samples, seed 1'."""
    trunk: Trunk | None = None
    """What it takes over from a run of another length; without that it trains all of its schedule itself."""

    @property
    def after(self) -> tuple[str, ...]:
        """The runs that come before it: its parents, and the run of its trunk."""
        return (*self.parents, self.trunk.run) if self.trunk else self.parents

    @property
    def whole_cost(self) -> Cost:
        """The cost of its whole schedule, that of its trunk included."""
        return self.cost.over(self.cost.samples_seen + self.trunk.samples) if self.trunk else self.cost

    @property
    def is_priced(self) -> bool:
        """Whether its hours are predicted: those of a user's own program may be unknown."""
        return self.settings.is_clip or self.cost.gpu_hours > 0

    @property
    def fits_memory(self) -> bool | None:
        """Whether the memory of its device is predicted to be enough; None where that is unknown."""
        available = device_memory(self.resources)
        if available is None or not self.cost.steps or stage(self.settings).trainer.kind == "command":
            return None
        return self.cost.memory_bytes <= available

    @property
    def patches(self) -> int | None:
        """How many patches of an image the run itself shows to the image tower in training; None for no CLIP."""
        if not self.settings.is_clip:
            return None
        return training_view(stage(self.settings)).patches

    def to_dict(self) -> JsonObject:
        """The run as `plan --json` gives it."""
        kept = {} if self.keep_weights is KeepWeights.ALWAYS else {"keep_weights": str(self.keep_weights)}
        trunk = {} if self.trunk is None else {"trunk": plain(self.trunk)}
        return kept | {
            "id": self.id,
            "parents": list(self.parents),
            "settings": plain(self.settings),
            "cost": plain(self.cost),
            "patches": self.patches,
            "cell": None if self.cell is None else write_cell(self.cell),
            "recipe": RECIPE,
            "resources": plain(self.resources),
            **({} if self.timed is None else {"seconds": self.timed.seconds}),
            "fits": self.fits_memory,
            **trunk,
        }


@dataclass(frozen=True)
class Total:
    """The cost of all runs of a plan."""

    runs: int
    samples: int
    """Samples seen."""
    train_flops: int
    gpu_hours: float
    """Device-hours, core-hours where the plan is priced on a CPU."""
    gpu_hours_low: float
    """The range that they are likely in."""
    gpu_hours_high: float

    @property
    def hours(self) -> Hours:
        """The device-hours with their range."""
        return Hours(self.gpu_hours, self.gpu_hours_low, self.gpu_hours_high)


@dataclass(frozen=True)
class SweptRun:
    """A run that tries a value of a setting for an arm."""

    run: Run
    arm: Arm
    value: float
    """As the study names it: of the setting, or a factor of the study's own rule."""
    words: str
    """The arm in words; '' for the only one."""


LIMITED = 0.1
"""The share of a step's computing that a device may wait for the network without a word in the plan."""


@dataclass(frozen=True)
class Plan:
    """The runs of a study, parents before children, and what they cost together."""

    study: str
    runs: tuple[Run, ...]
    """Those whose settings are known: while a sweep has still to choose one, the sweep's."""
    budget: Budget
    baseline: Values = field(default_factory=dict)
    """The settings that make a run the baseline, with their values, as the study names them."""
    price: Price | None = None
    """The price of time at the site where it will run, if the site has one."""
    interconnect: float = INTERCONNECT
    """Gigabits a second between nodes there, for each device."""
    swept: tuple[SweptRun, ...] = ()
    """Those of the runs that choose a setting for the others, for each arm that has them; no cell asks for them."""
    following: tuple[Run, ...] = ()
    """The runs that follow once the sweep has chosen, with one of its values in place of that."""

    @property
    def cells(self) -> tuple[Run, ...]:
        """The runs that cells of the study ask for: those of its table."""
        return tuple(run for run in self.runs if run.cell is not None)

    @property
    def device(self) -> str:
        """The device that the plan is priced on: one kind for all runs."""
        return str(self.runs[0].resources.device)

    @property
    def hours_unit(self) -> str:
        """The unit of `gpu_hours`: 'core-hours' if the plan is priced on a CPU, else 'GPU-hours'."""
        return device_hours(self.device)

    @cached_property
    def total(self) -> Total:
        """The cost of all runs, those that follow a sweep included."""
        runs = (*self.runs, *self.following)
        hours = total_hours(run.cost.hours for run in runs)
        return Total(
            runs=len(runs),
            samples=sum(run.cost.samples_seen for run in runs),
            train_flops=sum(run.cost.train_flops for run in runs),
            gpu_hours=hours.about,
            gpu_hours_low=hours.low,
            gpu_hours_high=hours.high,
        )

    @property
    def sharing(self) -> str:
        """What cells train together, in words: '1 trunk, 4 branches: 37 % saved'; where they share nothing, why lengths
        at a constant rate do not, or ''."""
        by_id = {run.id: run for run in (*self.runs, *self.following)}
        tried = {each.run.id for each in self.swept}
        branches = Counter[str]()
        alone = 0
        for run in by_id.values():
            if run.cell is None and run.id not in tried:
                continue
            alone += run.whole_cost.train_flops
            root = run.id
            while root in by_id and (after := by_id[root].after):
                is_parent = after[0] in by_id[root].parents
                root = after[0]
                alone += by_id[root].whole_cost.train_flops if is_parent and root in by_id else 0
            branches[root] += 1
        shared = {root: number for root, number in branches.items() if number > (root in by_id)}
        if not shared:
            constant = [run.settings for run in by_id.values() if run.settings.schedule == "constant"]
            endless = {settings.samples for settings in constant if is_endless(settings)}
            why = "Lengths share no trunk: images that are drawn differ from length to length; write a data_size."
            return why if len(endless) > 1 else ""
        others = len(shared.keys() - by_id.keys())
        number = sum(shared.values())
        of_others = f" ({others} of other studies)" if others else ""
        said = f"{count(len(shared), 'trunk')}{of_others}, {number:,} {'branch' if number == 1 else 'branches'}"
        said += f": {percent(1 - self.total.train_flops / alone, 2)} saved"
        ends = {run_id for run in by_id.values() if run.trunk for run_id in (run.id, run.trunk.run)}
        warmups = sorted({run.settings.warmup for run in by_id.values() if run.id in ends})
        words = " or ".join(map(show_setting, warmups))
        return f"{said}; all lengths of a trunk warm up over {words} samples" if warmups else said

    @property
    def money(self) -> Money | None:
        """The price of all runs; None without a price of time."""
        return self.price.of(self.total.hours, self.device) if self.price else None

    @property
    def warnings(self) -> list[str]:
        """Warnings before anything starts, a sentence each."""
        of_budget = [*self._over_budget(), *self._unsure_of_budget()]
        slow = [*self._in_fp32(), *self._limited_by_reading(), *self._limited_by_network()]
        of_runs = [*self._diverging(), *self._resized(), *slow, *self._with_further_flags(), *self._without_scores()]
        return [*of_budget, *too_large((*self.runs, *self.following)), *of_runs]

    def check_budget(self) -> None:
        """Raise PlanError where the plan costs more than the study's budget allows."""
        for problem in self._over_budget():
            raise PlanError(problem)

    def _over_budget(self) -> list[str]:
        total = self.total
        money = self.money
        limits = {
            "gpu_hours": (total.gpu_hours, f"take {total.hours} gpu_hours"),
            "train_flops": (total.train_flops, f"take {_amount(total.train_flops)} train_flops"),
            "runs": (total.runs, f"take {_amount(total.runs)} runs"),
            "price": (money.about if money else 0, f"cost {money}"),
        }
        return [
            f"{self.study} would {words} and its budget is {_amount(limit)}. "
            f"Raise budget.{key}, or drop values from its axes; `flipscale plan` shows what each run costs."
            for key, (amount, words) in limits.items()
            if (limit := getattr(self.budget, key)) is not None and amount > limit
        ]

    def _unsure_of_budget(self) -> list[str]:
        """Limits that a prediction stays within but its range exceeds, and a price that cannot be checked."""
        money = self.money
        budget = self.budget
        unsure = [
            f"{self.study} may exceed budget.{key}, {_amount(limit)}: it {verb} {amount}."
            for key, amount, verb in (("gpu_hours", self.total.hours, "takes"), ("price", money, "costs"))
            if amount and (limit := getattr(budget, key)) is not None and amount.about <= limit < amount.high
        ]
        if budget.gpu_hours is not None and not all(run.is_priced for run in (*self.runs, *self.following)):
            unsure.append(
                "budget.gpu_hours is not checked, as the hours of the study's program are unknown: `flipscale probe` "
                "times its first seconds, or give cost: {flops: ...} and resources.flops_per_second."
            )
        if budget.price is not None and money is None:
            unsure.append(
                "budget.price is not checked, as no price is known: write price: 2.1 (per GPU-hour) or price: "
                "{core_hour: 0.02} into a site file, and add --site FILE."
            )
        return unsure

    def _diverging(self) -> list[str]:
        """Warnings of learning rates at which AdamW diverges: often a minus sign is missing."""
        settings = [run.settings for run in self.runs if not isinstance(run.settings.trainer, CommandTrainer)]
        said = []
        for rate in sorted({each.lr for each in settings if each.samples and each.lr > MOST_RATE}):
            digits, _, exponent = f"{rate:.2e}".partition("e")
            meant = f": did you mean {float(digits):g}e-{int(exponent)}?" if int(exponent) > 0 else "."
            said.append(f"lr {rate:g}: AdamW diverges there{meant}")
        return said

    def _resized(self) -> list[str]:
        """Warnings where resized images have other numbers of patches than masks keep: not every number is a square."""
        resized = Counter[str]()
        for run in self.runs:
            staged = stage(run.settings)
            if not run.cost.steps or not staged.mask_ratio or staged.mask_shape != "resize":
                continue
            image = architecture(staged.model, staged.image_size).image
            shown = training_view(staged)
            if shown.patches != patches_kept(image.patches, staged.mask_ratio):
                side = shown.shape.image.side
                left = 1 - shown.patches / image.patches
                grids = f"{side} x {side} of {image.side} x {image.side} patches, {percent(left)} fewer"
                resized[f"mask_ratio {staged.mask_ratio:g} is {grids}"] += 1
        return [
            f"{count(n, 'run')} with mask_shape resize: {words}; costs are for that." for words, n in resized.items()
        ]

    def _with_further_flags(self) -> list[str]:
        """What further flags of open_clip's program mean for the plan."""
        trainers = [run.settings.trainer for run in (*self.runs, *self.following)]
        given = [" ".join(each.arguments) for each in trainers if isinstance(each, OpenClipTrainer) and each.arguments]
        return [
            f"{count(n, 'run')} with {words}: part of the id; hours and memory are predicted as without them."
            for words, n in Counter(given).items()
        ]

    def _in_fp32(self) -> list[str]:
        """A warning that fp32 is slow on a GPU: it is the default, as studies without GPUs gain nothing from less."""
        device = DEVICES[self.device]
        slow = [run for run in self.runs if run.settings.precision == "fp32" and run.cost.steps]
        if not slow or not isinstance(device, Device) or device.is_tpu:
            return []
        return [
            f"{count(len(slow), 'run')} in fp32: on {self.device} that takes at least twice the hours of bf16. "
            "Write precision: bf16 in base, unless you want fp32; it makes them new runs."
        ]

    def _limited_by_reading(self) -> list[str]:
        """A warning where devices wait for data, so that a mask saves no hours."""
        untimed = [
            (stage(run.settings), run.resources) for run in self.runs if run.timed is None and run.settings.is_clip
        ]
        limited = [each for each in untimed if is_limited_by_reading(*each)]
        if not limited:
            return []
        loaders = max(resources.loaders or LOADERS for _, resources in limited)
        what = (
            f"reading data: {loaders} cores of its process (resources.loaders; cpus_per_process in a site file) decode"
        )
        if all(isinstance(settings.data, Shapes) for settings, _ in limited):
            what = f"drawing images: {LOADERS} threads of its process draw"
        most = max(rate_of(*each).samples_per_second for each in limited)
        return [
            f"{count(len(limited), 'run')} limited by {what} at most {most:,.0f} pairs a second, and a device would "
            "train more. A larger mask saves no hours there. A probe measures it; resources.samples_per_second sets it."
        ]

    def _limited_by_network(self) -> list[str]:
        """A warning where devices wait for the network for over a tenth of the time in which they compute."""
        spread = [
            step_traffic(stage(run.settings), run.resources, self.interconnect)
            for run in self.runs
            if run.timed is None and run.settings.is_clip and run.settings.samples and run.resources.gpus > NODE_GPUS
        ]
        limited = [each for each in spread if each.exposed_seconds > LIMITED * each.computing_seconds]
        if not limited:
            return []
        worst = max(limited, key=lambda each: each.exposed_seconds / each.computing_seconds)
        return [
            f"{count(len(limited), 'run')} limited by the network: in a step a device waits up to "
            f"{1000 * worst.exposed_seconds:,.0f} ms for {worst.bytes / 1e9:.1f} GB at {self.interconnect:g} Gb/s and "
            f"computes for {1000 * worst.computing_seconds:,.0f} ms. The hours leave that out. Larger masks save less "
            "there; interconnect in the site file sets the network."
        ]

    def _without_scores(self) -> list[str]:
        cells = self.cells or self.following
        unscored = [run for run in cells if not is_evaluated(run.settings)]
        if not unscored:
            return []
        names = ", ".join(dict.fromkeys(dataset_name(run.settings.data) for run in unscored))
        of_all = "the runs" if len(unscored) == len(cells) else f"{len(unscored)} of {len(cells)} runs"
        return [
            f"No evaluation is declared for {names}, so {of_all} will have training loss and cost, but no scores to "
            "compare. Add `evaluation: {data: {webdataset: SHARDS}}` or evaluation.sets (docs/study.md), now or later."
        ]

    def to_dict(self) -> JsonObject:
        """The plan as plan.json and `plan --json` have it."""
        return {
            "study": self.study,
            "baseline": plain(self.baseline),
            "runs": [run.to_dict() for run in self.runs],
            **({"following": len(self.following)} if self.following else {}),
            "total": asdict(self.total) | ({} if self.money is None else {"price": asdict(self.money)}),
        }


def too_large(runs: Iterable[Run], times: float = TIGHT) -> list[str]:
    """Runs predicted to need over this multiple of their device's memory, and remedies.

    A sentence for the runs of each shape.
    """
    alike: dict[tuple[str, int, int], list[Run]] = {}
    for run in runs:
        if run.cost.memory_bytes > TIGHT * (device_memory(run.resources) or math.inf):
            staged = stage(run.settings)
            alike.setdefault((staged.model, staged.batch_size, run.cost.memory_bytes), []).append(run)
    sentences = []
    for (model, batch, _), group in alike.items():
        lacking = shortage(stage(group[0].settings), group[0].resources)
        if lacking is not None and lacking.times > times:
            sentences.append(lacking.says(f"{count(len(group), 'run')} of {model} at a batch of {batch:,}"))
    return sentences


def far_too_large(runs: Iterable[Run]) -> list[str]:
    """The runs that `check_memory` refuses: predicted to need over `capacity.REFUSED` times their device's memory."""
    return too_large(runs, REFUSED)


def check_memory(runs: Iterable[Run]) -> None:
    """Raise PlanError where runs are predicted to need over `capacity.REFUSED` times the memory of their device."""
    if refused := far_too_large(runs):
        raise PlanError(
            " ".join([*refused, "Nothing is submitted; change resources, or add --force to submit anyway."])
        )


@dataclass(frozen=True)
class KeptTrunks:
    """The trunks that finished runs, of any study, have kept in a results folder."""

    runs: Mapping[str, tuple[Settings, Resources]] = field(default_factory=dict)
    """Those runs, by id."""
    begun: Mapping[str, str | None] = field(default_factory=dict)
    """By the ids of the runs that were asked for before: which run each of them goes on from, then as now."""


NO_TRUNKS = KeptTrunks()


def plan(study: Study, measured: Timings = NOT_TIMED, trunks: KeptTrunks = NO_TRUNKS) -> Plan:
    """Every run of a study, once each, in the order of its axes; those of its sweep come first.

    measured: what probes have timed at one place (`Timings.at`). A run whose shape was timed gets its hours from that;
    the hours of the others are predicted. trunks: what runs of other studies have kept, from which runs go on too.
    """
    axes = dict.fromkeys(axis.name for axes in study.grids.values() for axis in axes)
    varied = [name for name in axes if name not in study.baseline and name != "seed" and _differs(study, name)]
    arm = [name for name in study.baseline if _differs(study, name)]
    has_seeds = _differs(study, "seed")

    def words(settings: Settings, but: Collection[str] = ()) -> str:
        values, baseline = ({name: _column(given[name]) for name in arm} for given in (vars(settings), study.baseline))
        cell = [(axis, show_setting(getattr(settings, axis))) for axis in varied if axis not in but]
        parts = [arm_words(values, baseline, study.labels) if arm else "", run_words(tuple(cell), study.labels)]
        return ", ".join(filter(None, parts))

    def name(settings: Settings) -> str:
        return ", ".join(filter(None, [words(settings), f"seed {settings.seed}" if has_seeds else ""])) or study.name

    device = study.resources.device or ("A100" if study.resources.gpus else "cpu")
    resources = replace(study.resources, device=device)
    cell_of: dict[str, Cell] = {}
    for cell in study.cells:
        cell_of.setdefault(run_id(cell), tuple((axis, show_setting(getattr(cell, axis))) for axis in varied))
    swept = list(swept_cells(study))
    runs: dict[str, Run] = {}
    for cell in (*(each.settings for each in swept), *study.cells):
        parents: tuple[str, ...] = ()
        for number, settings in enumerate(lineage(cell), 1):
            if (own_id := run_id(settings)) not in runs:
                named = name(settings)
                if cell.stages is not None and number < len(cell.stages):
                    named = f"{name(cell)}, stage {number} of {len(cell.stages)}"
                elif own_id not in cell_of and settings is not cell:
                    named += ", before tuning" if cell.tuning != settings.tuning else ", before fine tuning"
                flops = study.flops(vars(settings)) if study.flops else 0
                costs, timed = _priced(settings, resources, measured, flops)
                on = _timed_on(resources, timed)
                runs[own_id] = Run(own_id, settings, parents, costs, cell_of.get(own_id), on, timed, name=named)
            parents = (own_id,)
    ordered = _on_trunks(_keeping_weights(study.keep_weights, tuple(runs.values())), trunks)
    planned = Plan(study.name, ordered, study.budget, study.baseline)
    return _with_sweep(planned, study, swept, words) if study.sweep else planned


def _with_sweep(
    planned: Plan, study: Study, swept: Sequence[SweptCell], words: Callable[[Settings, Collection[str]], str]
) -> Plan:
    """The plan with its sweep's runs, by names that say what they try, apart from those that follow them."""
    assert study.sweep is not None
    over = study.sweep.over
    shared = (*study.sweep.at, *study.sweep.pooled)
    runs = {run.id: run for run in planned.runs}
    tried = list[SweptRun]()
    named = set[str]()
    for each in swept:
        settings = each.settings
        setting = getattr(each.settings, over)
        parts = words(settings, ()), setting_words(over, setting), f"seed {settings.seed}"
        run = runs[run_id(settings)]
        if run.id not in named:  # Arms may share runs, as two shapes of no mask do.
            run = runs[run.id] = replace(run, name=", ".join(filter(None, parts)))
            named.add(run.id)
        tried.append(SweptRun(run, each.arm, each.value, words(settings, shared)))
    seeds = study.sweep.seeds
    known = tuple(run for run in runs.values() if not study.awaits_choice or run.settings.seed in seeds)
    following = tuple(run for run in runs.values() if study.awaits_choice and run.settings.seed not in seeds)
    return replace(planned, runs=known, following=following, swept=tuple(tried))


def _on_trunks(runs: tuple[Run, ...], kept: KeptTrunks) -> tuple[Run, ...]:
    """The runs, each of which goes on from the longest run of the same schedule that is constant no longer than itself.

    A run is scored at fractions of its own schedule. Those that lie in its trunk must be fractions of the other's too.
    """
    by_id = {run.id: run for run in runs}
    others = [(name, *known) for name, known in kept.runs.items() if name not in by_id]
    candidates = [*others, *((run.id, run.settings, run.resources) for run in runs)]
    candidates.sort(key=lambda each: (trunk_steps(each[1]), each[0] not in kept.runs, steps_of(each[1]), each[0]))
    alike: dict[str, list[tuple[str, Settings]]] = {}
    trunks: dict[str, Trunk] = {}
    for name, settings, resources in candidates:
        if not trunk_steps(settings):
            continue
        shared = of_any_length(settings)
        # Other processes and parts round sums otherwise.
        split = resources.devices, resources.accumulate
        key = repr([identity(shared), replace(shared.evaluation, at=[]), split])
        shorter = alike.setdefault(key, [])
        fitting = [
            (trunk_steps(its), other)
            for other, its in shorter
            if _shares(settings, its) and (other in by_id or kept.begun.get(name, other) == other)
        ]
        if name in by_id and fitting:
            steps, trunk = max(fitting, key=itemgetter(0))
            trunks[name] = Trunk(trunk, steps * settings.batch_size)
        shorter.append((name, settings))
    if not trunks:
        return runs
    ordered: dict[str, Run] = {}

    def add(run: Run) -> None:
        if trunk := trunks.get(run.id):
            if trunk.run in by_id:
                add(by_id[trunk.run])
            left = run.cost.samples_seen - trunk.samples
            timed = run.timed and run.timed.of_share(left / run.cost.samples_seen)
            run = replace(run, trunk=trunk, cost=run.cost.over(left), timed=timed)
        ordered.setdefault(run.id, run)

    for run in runs:
        add(run)
    return tuple(ordered.values())


def _shares(settings: Settings, other: Settings) -> bool:
    """Whether a run with these settings can go on from where the other's constant rate ends."""
    shared = trunk_steps(other)
    steps = steps_of(settings)
    scored = {step for step in scored_steps(settings) if step <= shared}
    return shared < steps and shared <= steps - averaged_steps(settings) and scored <= scored_steps(other)


def _keeping_weights(which: str, runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs of a study that keeps `which` weights: all, last or none."""
    if which == "all":
        return runs
    started_from = {parent for run in runs for parent in run.parents}

    def keep(run: Run) -> KeepWeights:
        if which == "last" and run.id not in started_from:
            return KeepWeights.ALWAYS
        return KeepWeights.FOR_CHILDREN if run.id in started_from else KeepWeights.NEVER

    return tuple(replace(run, keep_weights=keep(run)) for run in runs)


def plan_at(study: Study, at: Values) -> Plan:
    """The plan of one more cell of the study: its base and couplings with these settings, constraints aside.

    Raises PlanError for an unknown setting or a wrong value, and for an axis that is neither in `at` nor in the base.
    """
    axes = [Axis(name, (setting_read(name, value, study.record),)) for name, value in at.items()]
    said = study.document.data.get("base") or {}
    missing = [axis.name for axis in study.axes if axis.name not in (*at, *said, "seed")]
    if missing:
        raise PlanError(f"{study.name} varies {', '.join(missing)}: give its value, as in {missing[0]}=VALUE.")
    complaints = Complaints()
    sweep = study.sweep
    chosen = study.chosen or {}
    if sweep:
        study = replace(with_rule(study, lambda arm: chosen.get(arm, sweep.middle)), sweep=None)
    single = replace(study, grids={"at": tuple(axes)}, conditions=())
    cells_at = tuple(cells(single, complaints))
    if complaints.found:
        raise PlanError("; ".join(f"{what} ({place})" for place, what in complaints.found))
    return plan(replace(single, cells=cells_at))


def setting_read(name: str, value: object, record: type[Settings] = Settings) -> object:
    """A setting's value, given as in a study file: 12.8B, ViT-H-14. PlanError for a wrong one or an unknown setting."""
    known = options_of(record)
    if name not in known:
        raise PlanError(f"There is no setting {name!r}: {did_you_mean(name, known)}.")
    if is_dataclass(value):  # A record of the study's own is read already.
        return value
    try:
        return checked(known[name].type, plain_value(value) if isinstance(value, str) else value)
    except Faults as error:
        raise PlanError(f"{name}: {error.found[0][1]}.") from None


def _priced(settings: Settings, resources: Resources, measured: Timings, flops: float) -> tuple[Cost, RunTime | None]:
    """The cost of a run, and its time if its shape was probed. flops: those of a program that trains no CLIP."""
    timed = run_time(settings, resources, measured)
    predicted = cost(stage(settings), resources) if settings.is_clip else cost_of_program(flops, resources)
    if timed is not None:
        return predicted.taking(timed.hours), timed
    if not settings.is_clip:
        return predicted, None
    if (is_on_accelerator(resources) or not trains(settings)) and is_evaluated(settings):
        images = sum(images_scored(settings.evaluation, each) for each in scored_sets(settings).values())
        scoring = scoring_hours(stage(settings), resources, images)
        predicted = predicted.taking(total_hours([predicted.hours, scoring]))
    return predicted, None


def _timed_on(resources: Resources, timed: RunTime | None) -> Resources:
    """The same with the kind of device that was timed: a study without `gpus` may have found a GPU there."""
    if timed is None:
        return resources
    known = device_named(timed.place.device)
    is_same_kind = (timed.place.device == "cpu") == (resources.device == "cpu")
    return resources if is_same_kind or known is None else replace(resources, device=known)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e9 or value == int(value) < 1e9 else f"{value:.4g}"


def _differs(study: Study, name: str) -> bool:
    """Whether cells differ in a setting."""
    return any(getattr(settings, name) != getattr(study.cells[0], name) for settings in study.cells)


def _column(value: object) -> object:
    """A setting's value as a table of results has it, for its words."""
    return value if isinstance(value, int | float) else show_setting(value)
