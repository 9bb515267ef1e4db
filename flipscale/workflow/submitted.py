"""From the plan to finished runs: look at what they read, submit, wait."""

from collections.abc import Callable, Sequence
from functools import partial

from flipscale import launch
from flipscale.inputs.check import Checked, check
from flipscale.launch import Launcher, Submission
from flipscale.plan import Run, check_memory
from flipscale.run import State
from flipscale.study import Study
from flipscale.workflow.opened import OpenStudy, cost_in_words, say_warnings, write_plan
from flipscale.workflow.talk import say


def check_runs(study: Study, runs: Sequence[Run]) -> Checked:
    """What came of looking at all that these runs read."""
    return check(study, runs, on_gpu=bool(launch.gpus_here()))


def refuse_unready(study: Study, runs: Sequence[Run]) -> None:
    """Raise InputsError, with every problem, where something that these runs read is missing or wrong."""
    checked = check_runs(study, runs)
    checked.raise_if_any("Nothing was started. Correct this, or add --no-check to start anyway.")


def submit_study(
    opened: OpenStudy, launcher: Launcher, *, look_first: bool, retry_diverged: bool = False, force: bool = False
) -> Submission:
    """Write the plan, say what it costs, and start every run that is not finished yet.

    look_first: start nothing where data, a checkpoint or a program that runs need is missing or wrong on this machine.
    force: also start runs that are predicted to need far more memory than their device has.
    PlanError where the plan is over its budget, and where runs to start are far too large and `force` is not given.
    """
    plan = opened.plan
    plan.check_budget()
    write_plan(opened)
    say(f"plan: {cost_in_words(plan)}")
    say_warnings(plan)
    checks: list[Callable[[Sequence[Run]], None]] = []
    if not force:
        checks.append(check_memory)
    if look_first:
        checks.append(partial(refuse_unready, opened.study))
    results = opened.workspace.results
    submission = launch.submit(plan.runs, results, launcher, retry_diverged=retry_diverged, check=_all(checks))
    for sentence in submission.missing_weights(results):
        say(sentence)
    say(submission.summary())
    return submission


def _all(checks: Sequence[Callable[[Sequence[Run]], None]]) -> Callable[[Sequence[Run]], None]:
    def check_all(runs: Sequence[Run]) -> None:
        for look in checks:
            look(runs)

    return check_all


def wait_for(opened: OpenStudy, submission: Submission) -> int:
    """Follow the runs until none waits or runs; how many of the plan have not finished."""
    ended = launch.wait(submission, opened.workspace.results)
    runs = len(opened.plan.runs)
    unfinished = runs - ended.count(State.FINISHED)
    if unfinished:
        say(f"{unfinished} of {runs} runs are not finished; see flipscale status {opened.arguments}")
    return unfinished
