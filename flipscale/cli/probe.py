"""How long runs take: probe."""

import argparse
from typing import TYPE_CHECKING

from flipscale.cell import without_seed
from flipscale.cli.arguments import add_results, add_study, open_study_of
from flipscale.cli.jobs import add_launcher, launcher_of
from flipscale.cli.output import print_table
from flipscale.workflow.messages import say

if TYPE_CHECKING:
    from flipscale.workflow.opened import OpenStudy
    from flipscale.workflow.probed import TimedShape


def probe_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_results(parser)
    add_launcher(parser)
    parser.add_argument("--detach", action="store_true", help="return at once; the probe goes on without this terminal")


def probe(args: argparse.Namespace) -> int:
    """Time a few steps of each shape of a study, or the first seconds of a program of your own, where it will run.

    plan, watch and budgets then use these times."""
    from flipscale.planning.timing import is_timed_by_start
    from flipscale.workflow.probed import finish_probe, shapes_of, start_probe
    from flipscale.workflow.submitted import refuse_unready

    launcher = launcher_of(args)
    opened = open_study_of(args, launcher.site_name)
    if args.on == "local" and not args.no_check:
        refuse_unready(opened.study, opened.plan.runs)
    submission = start_probe(opened, launcher)
    if args.detach:
        say(f"it goes on without this terminal; see flipscale logs {submission.runs[0].id}")
        return 0
    timed = finish_probe(opened, submission)
    if timed is None:
        return 1
    shapes = list(shapes_of(timed))
    of_steps = [_row(timed, shape) for shape in shapes if not is_timed_by_start(shape.run.settings)]
    of_programs = [_program_row(shape) for shape in shapes if is_timed_by_start(shape.run.settings)]
    if of_steps:
        print_table(("shape", "runs", "samples/s", "ms/step", "range", "s/evaluation", "s to start"), of_steps)
    if of_programs:
        print_table(("program", "runs", "s/run", "processor s/run"), of_programs)
    return 0


def _program_row(shape: "TimedShape") -> tuple[str, ...]:
    step = shape.step
    times = (f"{step.seconds:.3g}", f"{step.cpu_seconds:.3g}") if step else ("", "not timed")
    return (without_seed(shape.run.name), str(shape.runs), *times)


def _row(opened: "OpenStudy", shape: "TimedShape") -> tuple[str, ...]:
    step = shape.step
    evaluation = shape.evaluation
    batch = shape.run.settings.batch_size
    speed = ("", "", "not timed" if shape.run.cost.samples_seen else "")
    if step is not None:
        low = 1000 * step.seconds / step.spread
        high = 1000 * step.seconds * step.spread
        speed = (f"{batch / step.seconds:,.0f}", f"{1000 * step.seconds:.3g}", f"{low:.3g} to {high:.3g}")
    scoring = f"{evaluation.seconds:.2f}" if evaluation else ""
    start = f"{step.opening_seconds + step.warming_seconds:.2f}" if step else ""
    return (_name(opened, shape), str(shape.runs), *speed, scoring, start)


def _name(opened: "OpenStudy", shape: "TimedShape") -> str:
    """The values that tell the shape from the others: those of the axes that times depend on."""
    from flipscale.planning.identity import show_setting
    from flipscale.planning.timing import STEP_SETTINGS

    settings = shape.run.settings
    parts = [name for name in ("stages", "tuning") if getattr(settings, name)]
    names = [name for name in (*STEP_SETTINGS, "stages", "tuning") if name in (*opened.axes, *parts)]
    return ", ".join(f"{name}={show_setting(getattr(settings, name))}" for name in names) or settings.model
