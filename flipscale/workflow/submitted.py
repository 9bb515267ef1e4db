"""From the plan to finished runs: check what they read, submit, wait."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from flipscale import launch
from flipscale.code import CodeChanges
from flipscale.errors import FlipscaleError
from flipscale.launch import NO_REDO, Launcher, Redo, Submission
from flipscale.planning import Run, check_memory, far_too_large
from flipscale.run import State
from flipscale.study import Study
from flipscale.words import count
from flipscale.workflow.messages import say
from flipscale.workflow.study import OpenStudy, cost_in_words, reopened, say_warnings, sweep_words, write_plan
from flipscale.workflow.to_score import say_to_score, to_score
from flipscale.workflow.tuned import write_sweep

if TYPE_CHECKING:
    from flipscale.data.check import Checked


Follower = Callable[[launch.StudyProgress], None]
"""What gets each look at a study while its runs are followed."""


def check_runs(study: Study, runs: Sequence[Run], to_score: Sequence[Run] = ()) -> "Checked":
    """The result of checking the inputs of these runs, and the sets of those that are to be scored."""
    from flipscale.data.check import check  # It loads ssl for shards behind a URL, and `status` checks nothing.

    return check(study, runs, on_gpu=bool(launch.gpus_here()), to_score=to_score)


def refuse_unready(study: Study, runs: Sequence[Run], to_score: Sequence[Run] = ()) -> None:
    """Raise InputsError, with every problem, where something that these runs read is missing or wrong."""
    checked = check_runs(study, runs, to_score)
    checked.raise_if_any("Nothing was started. Correct this, or add --no-check to start anyway.")


def submit_study(
    opened: OpenStudy,
    launcher: Launcher,
    *,
    check_inputs: bool,
    retry_diverged: bool = False,
    redo: Redo = NO_REDO,
    force: bool = False,
) -> Submission:
    """Write the plan, say what it costs, and start every run that is not finished yet, and those of `redo` anew.

    check_inputs: start nothing where data, a checkpoint or a program that runs need is missing or wrong here.
    force: also start runs that are predicted to need far more memory than their device has.
    PlanError where the plan is over its budget, and where runs to start are far too large and `force` is not given.
    """
    plan = opened.plan
    plan.check_budget()
    write_plan(opened)
    say(f"plan: {cost_in_words(plan)}")
    # A refusal for memory is reported once, by itself.
    say_warnings(plan, but=() if force else far_too_large(plan.runs))
    checks: list[Callable[[Sequence[Run]], None]] = []
    if not force:
        checks.append(check_memory)
    results, unscored = opened.workspace.results, to_score(opened)
    say_to_score(opened, unscored)
    if check_inputs:
        scoring = [run for run in plan.runs if run.id in unscored.runs]
        checks.append(partial(refuse_unready, opened.study, to_score=scoring))
    if unscored.runs:
        say(unscored.words)
    submission = launch.submit(
        plan.runs,
        results,
        launcher,
        retry_diverged=retry_diverged,
        redo=redo,
        to_score=unscored.runs,
        check=_all_checks(checks),
    )
    for why, number in Counter(submission.left_out.values()).items():
        say(f"{count(number, 'run')} cannot start: {why}")
    say(submission.summary())
    if redo.stale:
        say_stale(submission.code)
    else:
        say_code(opened, submission.code)
    return submission


def train_study(
    opened: OpenStudy,
    launcher: Launcher,
    *,
    check_inputs: bool,
    retry_diverged: bool = False,
    redo: Redo = NO_REDO,
    force: bool = False,
    follow: Callable[[OpenStudy], AbstractContextManager[Follower]] = lambda _: nullcontext(lambda _: None),
) -> tuple[OpenStudy, int]:
    """Submit the study's runs and wait for them; first those of its sweep, and then the others with what it chose.

    Returns the study with that choice, and how many runs have not finished; those that diverged in the sweep do not
    count. FlipscaleError where the sweep chooses nothing; nothing of what follows it is then started.

    follow: gives, for the study as it is, what gets each look.
    """
    while True:
        submission = submit_study(
            opened, launcher, check_inputs=check_inputs, retry_diverged=retry_diverged, redo=redo, force=force
        )
        with follow(opened) as follower:
            unfinished = wait_for(opened, submission, launcher, follower)
        before, opened = opened, reopened(opened)
        if opened.sweep:
            write_sweep(opened.sweep, opened.files.tune)
        if not before.study.awaits_choice:
            return opened, unfinished - (opened.sweep.diverged if opened.sweep else 0)
        assert opened.sweep is not None
        if opened.study.awaits_choice and opened.study.further == before.study.further:
            raise FlipscaleError(_without_choice(opened))
        say(sweep_words(opened))
        retry_diverged, redo = False, NO_REDO


def _without_choice(opened: OpenStudy) -> str:
    """Why what follows the sweep does not start; the figure of a sweep that has ended is drawn."""
    from flipscale.workflow.drawn import draw_sweep  # It loads matplotlib, which `submit` does without.

    assert opened.sweep is not None
    if opened.sweep.due:
        return f"{sweep_words(opened)} The others did not finish: flipscale status {opened.arguments}"
    return f"{sweep_words(opened)} See {draw_sweep(opened).files[0]}."


def _all_checks(checks: Sequence[Callable[[Sequence[Run]], None]]) -> Callable[[Sequence[Run]], None]:
    def check_all(runs: Sequence[Run]) -> None:
        for check_one in checks:
            check_one(runs)

    return check_all


def say_code(opened: OpenStudy, code: CodeChanges) -> None:
    """Say how the code of finished runs differs from today's, and what trains them anew; nothing where it does not."""
    for sentence in code.sentences():
        say(f"warning: {sentence}")
    if code.differing:
        say(f"flipscale submit {opened.arguments} --stale retrains them and keeps their earlier results.")


def say_stale(code: CodeChanges) -> None:
    """Say why runs begin anew, and which were left alone as nothing is known of their code."""
    for sentence in code.sentences():
        say(sentence)
    if code.unrecorded:
        runs = count(len(code.unrecorded), "finished run")
        say(f"{runs} skipped: the code that trained them is not known; --redo ID... retrains them.")
    elif not code.differing:
        say("no finished run was trained by other code than today's")


def wait_for(
    opened: OpenStudy,
    submission: Submission,
    launcher: Launcher,
    follower: Follower | None = None,
) -> int:
    """Follow the runs until none waits or runs, and send those for which there was no place; how many of the plan have
    not finished."""
    ended = launch.wait(submission, opened.workspace.results, follower=follower, launcher=launcher)
    counts = Counter(run.state for run in ended.runs)
    unfinished = len(ended.runs) - counts[State.FINISHED]
    if unfinished:
        say(f"{unfinished_in_words(counts)}; see flipscale status {opened.arguments}")
    return unfinished


def unfinished_in_words(counts: Mapping[State, int]) -> str:
    """'8 of 8 runs failed', or where they ended in several ways '5 of 8 runs did not finish (3 failed, 2 lost)'."""
    runs, unfinished = sum(counts.values()), {state: n for state, n in counts.items() if state is not State.FINISHED}
    number = sum(unfinished.values())
    if set(unfinished) == {State.FAILED}:
        return f"{number} of {count(runs, 'run')} failed"
    ways = ", ".join(f"{unfinished[state]} {state}" for state in State if state in unfinished)
    return f"{number} of {count(runs, 'run')} did not finish ({ways})"
