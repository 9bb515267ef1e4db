"""A probe: one run folder in which `train` times the shapes of a plan, started by a launcher as runs are."""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from flipscale.errors import LaunchError
from flipscale.kinds import JsonObject
from flipscale.launch.launcher import Launcher, new_name
from flipscale.launch.submit import Submission, submit
from flipscale.planning.identity import is_evaluated, scored, stage
from flipscale.planning.runs import Plan, Run
from flipscale.planning.timing import evaluation_shape, is_timed_by_start, is_timed_by_steps, step_shape
from flipscale.run import Probe, RunFolder, probes_in
from flipscale.settings.declarations import Settings
from flipscale.workspace import RUNS_FOLDER

PROBE_HOURS = 0.25
"""Roughly the hours that a probe takes on each of its devices. Sites that pack short runs into jobs go by it."""


def probe_of(plan: Plan, site: str) -> Probe:
    """The shapes of a plan to time, each once, as its longest run has it, and each evaluation once.

    LaunchError if all of its runs are trained by open_clip's program, or fine-tuned.
    """
    timed = [run for run in plan.runs if is_timed_by_steps(run.settings) or is_timed_by_start(run.settings)]
    if not timed:
        raise LaunchError(
            f"{plan.study} cannot be probed: a probe times flipscale's trainer and programs of your own. "
            "Give resources.flops_per_second, or let one run finish and read its hours."
        )
    runs = sorted(timed, key=lambda run: -run.cost.samples_seen)
    shapes = {_key(step_shape(stage(run.settings), run.resources)): run for run in reversed(runs)}
    evaluated = [run for run in runs if is_timed_by_steps(run.settings) and is_evaluated(run.settings)]
    evaluations = {_key(evaluation_shape(scored(run.settings))): run for run in evaluated}
    return Probe(plan.study, site, _settings(plan, shapes.values()), _settings(plan, evaluations.values()))


def submit_probe(plan: Plan, results: Path, launcher: Launcher) -> Submission:
    """Hand a probe of the plan's shapes to the launcher. Its measurements go to timings.json of the results."""
    probe = probe_of(plan, launcher.site_name)
    needs_most = max(plan.runs, key=lambda run: run.cost.memory_bytes)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", plan.study).strip("-")
    run = Run(
        id=f"probe_{name}_{new_name()}",
        settings=needs_most.settings,
        parents=(),
        # It trains nothing to the end, so it has no FLOPs or samples to predict.
        cost=replace(
            needs_most.cost,
            samples_seen=0,
            steps=0,
            train_flops=0,
            gpu_hours=PROBE_HOURS * needs_most.resources.devices,
            gpu_hours_low=None,
            gpu_hours_high=None,
        ),
        cell=None,
        resources=needs_most.resources,
    )
    launcher.study = plan.study
    return submit([run], results, launcher, probe=probe)


def open_probes(study: str, results: Path) -> list[RunFolder]:
    """The probes of a study that are not over."""
    probes = probes_in(results / RUNS_FOLDER)
    return [folder for folder, probe in probes if probe.study == study and not folder.is_over()]


def _settings(plan: Plan, chosen: Iterable[Run]) -> tuple[Settings, ...]:
    """The settings of the chosen runs, in the order of the plan."""
    ids = {run.id for run in chosen}
    return tuple(run.settings for run in plan.runs if run.id in ids)


def _key(shape: JsonObject) -> str:
    return json.dumps(shape, sort_keys=True)
