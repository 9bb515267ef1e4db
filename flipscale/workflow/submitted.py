"""From the plan to finished runs: check what they read, submit, wait."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipscale import launch
from flipscale.data.code_changes import CodeChanges
from flipscale.errors import FlipscaleError
from flipscale.launch import ACTIVE, NO_REDO, Launcher, Redo, Submission
from flipscale.launch.local import LocalLauncher
from flipscale.planning.runs import Run, check_memory, far_too_large
from flipscale.run import State
from flipscale.study import Study
from flipscale.words import count
from flipscale.workflow.messages import say
from flipscale.workflow.opened import OpenStudy, cost_in_words, open_study, say_warnings, sweep_words, write_plan
from flipscale.workflow.to_score import say_to_score, to_score
from flipscale.workflow.tuned import write_sweep

if TYPE_CHECKING:
    from flipscale.data.check import Checked


@dataclass(frozen=True)
class Guards:
    """What is checked before anything starts."""

    inputs: bool = True
    """The data, checkpoints and programs that runs read, where they run on this machine."""
    memory: bool = True
    """Whether runs are predicted to need far more memory than their device has."""


def check_runs(study: Study, runs: Sequence[Run], to_score: Sequence[Run] = ()) -> "Checked":
    """The result of checking the inputs of these runs, and the sets of those that are to be scored."""
    from flipscale.data.check import check  # It loads ssl for shards behind a URL, and `status` checks nothing.

    return check(study, runs, on_gpu=bool(launch.gpus_here()), to_score=to_score)


def refuse_unready(study: Study, runs: Sequence[Run], to_score: Sequence[Run] = ()) -> None:
    """Raise InputsError, with every problem, where something that these runs read is missing or wrong."""
    checked = check_runs(study, runs, to_score)
    checked.raise_if_any("Nothing was started. Correct this, or add --no-check to start anyway.")


def _submit(opened: OpenStudy, launcher: Launcher, guards: Guards, redo: Redo) -> Submission:
    """Write the plan, say what it costs, and start every run that is not finished yet, and those of `redo` anew."""
    plan = opened.plan
    launcher.study = plan.study
    plan.check_budget()
    write_plan(opened)
    say(f"plan: {cost_in_words(plan)}")
    # A refusal for memory is reported once, by itself.
    say_warnings(plan, but=far_too_large(plan.runs) if guards.memory else ())
    unscored = to_score(opened)
    say_to_score(opened, unscored)
    if unscored.runs:
        say(unscored.words)
    scoring = [run for run in plan.runs if run.id in unscored.runs]

    def check(runs: Sequence[Run]) -> None:
        if guards.memory:
            check_memory(runs)
        if guards.inputs and isinstance(launcher, LocalLauncher):
            refuse_unready(opened.study, runs, scoring)

    submission = launch.submit(
        plan.runs,
        opened.workspace.results,
        launcher,
        redo=redo,
        to_score=unscored.runs,
        check=check,
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
    guards: Guards = Guards(),
    redo: Redo = NO_REDO,
    wait: bool = True,
    rest: Sequence[str] = (),
) -> tuple[OpenStudy, int]:
    """Submit the study's runs and wait for them; first those of its sweep, and then the others with what it chose.

    Returns the study with that choice, and how many runs have not finished; those that diverged in the sweep do not
    count. FlipscaleError where the sweep chooses nothing; nothing of what follows it is then started. PlanError where
    the plan is over its budget.

    redo: finished runs that are trained anew. wait: if False, return as soon as runs are sent; `rest` is the command by
    which a cluster then sends what has no place yet or follows the sweep.
    """
    while True:
        launcher.rest = rest if opened.study.awaits_choice else ()
        submission = _submit(opened, launcher, guards, redo)
        if not wait:
            _leave(opened, launcher, submission, rest)
            return opened, 0
        ended = launch.wait(
            submission,
            opened.workspace.results,
            launcher=launcher,
            study=opened.study.name,
            unit=opened.plan.hours_unit,
            score=opened.study.score,
        )
        counts = Counter(run.state for run in ended.runs)
        unfinished = len(ended.runs) - counts[State.FINISHED]
        if unfinished:
            say(f"{unfinished_in_words(counts)}; see flipscale status {opened.arguments}")
        before = opened
        opened = open_study(
            opened.file, opened.workspace, opened.site, price=opened.price, interconnect=opened.interconnect
        )
        if opened.sweep:
            write_sweep(opened.sweep, opened.files.tune)
        if not before.study.awaits_choice:
            return opened, unfinished - (opened.sweep.diverged if opened.sweep else 0)
        assert opened.sweep is not None
        if opened.study.awaits_choice and opened.study.further == before.study.further:
            raise FlipscaleError(_without_choice(opened))
        say(sweep_words(opened))
        redo = Redo(only_new=redo.only_new)


def _leave(opened: OpenStudy, launcher: Launcher, submission: Submission, rest: Sequence[str]) -> None:
    """Say how the study goes on without this process; a cluster sends what is left later.

    FlipscaleError where the study waits for a sweep that has ended.
    """
    if submission.jobs:
        say(f"they go on without this terminal; see flipscale watch {opened.arguments}")
    if opened.study.awaits_choice:
        if not (submission.jobs or submission.unsent or submission.skipped.keys() & set(ACTIVE)):
            raise FlipscaleError(_without_choice(opened))
        say(sweep_words(opened))
    elif not submission.unsent:
        return
    with launch.submit_lock(opened.workspace.results):
        sender = launcher.send_later(rest, [run.id for run in submission.runs]) if rest else ""
    if sender:
        say(f"{sender} sends what is left; so does flipscale watch {opened.arguments} --on {launcher.name}")
    else:
        say("Submit again for what is left when these have ended.")


def _without_choice(opened: OpenStudy) -> str:
    """Why what follows the sweep does not start; the figure of a sweep that has ended is drawn."""
    from flipscale.workflow.drawn import draw_sweep  # It loads matplotlib, which `submit` does without.

    assert opened.sweep is not None
    if opened.sweep.due:
        return f"{sweep_words(opened)} What is missing: flipscale status {opened.arguments}"
    return f"{sweep_words(opened)} See {draw_sweep(opened).files[0]}."


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


def unfinished_in_words(counts: Mapping[State, int]) -> str:
    """'8 of 8 runs failed', or where they ended in several ways '5 of 8 runs did not finish (3 failed, 2 lost)'."""
    runs = sum(counts.values())
    unfinished = {state: n for state, n in counts.items() if state is not State.FINISHED}
    number = sum(unfinished.values())
    if set(unfinished) == {State.FAILED}:
        return f"{number} of {count(runs, 'run')} failed"
    ways = ", ".join(f"{unfinished[state]} {state}" for state in State if state in unfinished)
    return f"{number} of {count(runs, 'run')} did not finish ({ways})"
