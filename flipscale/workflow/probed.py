"""A probe of a study, from its start to what it says of the plan."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from flipscale import launch
from flipscale.launch import Launcher, Submission
from flipscale.planning.identity import stage
from flipscale.planning.runs import Run
from flipscale.planning.timing import EvaluationTime, StepTime, evaluation_shape, is_timed_by_start, step_shape
from flipscale.run import State, read_timings
from flipscale.workflow.messages import say
from flipscale.workflow.opened import OpenStudy, cost_in_words, write_plan


@dataclass(frozen=True)
class TimedShape:
    """A probe's times of one shape of a study."""

    run: Run
    """The first run of the plan that has it."""
    runs: int
    """How many have it."""
    step: StepTime | None
    """None where it could not be timed, or where nothing is trained."""
    evaluation: EvaluationTime | None


def start_probe(opened: OpenStudy, launcher: Launcher) -> Submission:
    """Start a probe of the study's shapes."""
    submission = launch.submit_probe(opened.plan, opened.workspace.results, launcher)
    (run,) = submission.runs
    say(f"probing {len(list(shapes_of(opened)))} shapes of {opened.study.name} at {launcher.site_name}: {run.id}")
    return submission


def finish_probe(opened: OpenStudy, submission: Submission) -> OpenStudy | None:
    """Wait until the probe is over: the study with what it measured, or None where it did not finish."""
    ended = launch.wait(submission, opened.workspace.results, study=f"probe of {opened.study.name}")
    if ended.count(State.FINISHED) < len(submission.runs):
        say(f"the probe did not finish; see flipscale logs {submission.runs[0].id}")
        return None
    timed = replace(opened)  # Its plan is made anew, with the times that are there now.
    write_plan(timed)
    say(f"wrote {opened.workspace.timings}; plan: {cost_in_words(timed.plan)}")
    return timed


def shapes_of(opened: OpenStudy) -> Iterator[TimedShape]:
    """Each shape that the study trains or evaluates, in the order of the plan, with its times at the site."""
    timings = read_timings(opened.workspace.timings).at(opened.site)
    of_shape: dict[str, list[Run]] = {}
    for run in opened.plan.runs:
        staged = stage(run.settings)
        if is_timed_by_start(run.settings):
            key = repr(step_shape(staged, run.resources))
        else:
            key = repr((step_shape(staged, run.resources) if staged.samples else None, evaluation_shape(staged)))
        of_shape.setdefault(key, []).append(run)
    for runs in of_shape.values():
        staged = stage(runs[0].settings)
        trains = staged.samples or is_timed_by_start(runs[0].settings)
        step = timings.step(step_shape(staged, runs[0].resources)) if trains else None
        yield TimedShape(runs[0], len(runs), step, timings.evaluation(evaluation_shape(staged)))
