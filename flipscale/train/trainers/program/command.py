"""A training command of the user's own: any program that works on a run's folder can train, beside flipscale's trainer.

    trainer: {command: {arguments: [python, train.py]}}

The program is started with the run's folder as its last argument, or wherever {folder} stands in the arguments, and
with FLIPSCALE_RUN set to the folder. It

    reads    run.json       the request: "settings", complete
    appends  metrics.jsonl  a JSON object a line with "step" and its measurements, if there are any
    writes   outcome.json   {"scores": {name: number, ...}} and whatever else it measured, at its end, or prints that as
                            its last line of JSON, then exits with 0
    may keep checkpoint.pt  and resume from it: when it is stopped by a signal it is started again, in the same folder
    may write model.pt      weights as open_clip loads them, if runs are to start from this one
    may write error.json    {"kind": "diverged", "reason": "..."} before it exits with another code

FLIPSCALE_STAGE holds what it is to train where the run has stages or a tuning, as JSON: its "settings", and where it is
in its schedule, "before" and "end" in samples. FLIPSCALE_PARENT is the folder of the run that it goes on from.

Its output goes to log.txt. flipscale adds its own measurements and writes result.json, whose presence means finished; a
program may write a whole result.json instead.
"""

import json

from flipscale.run import Lease, RunFolder, write_json
from flipscale.settings.declarations import CommandTrainer, Settings, plain
from flipscale.study.command import filled
from flipscale.train.failure import say
from flipscale.train.requests import course, parent_of, request_of
from flipscale.train.stop import Stop
from flipscale.train.trainers.program.evaluation import JsonAnswer, finish, parsed_answer, programs_of
from flipscale.train.trainers.program.outcome import complete, outcome_file, read_outcome
from flipscale.train.trainers.program.process import Program, ProgramStart, declared_failure, run_program, with_folder


def command_of(settings: Settings) -> list[str]:
    """The words of the run's command, with {folder} as it is."""
    assert isinstance(settings.trainer, CommandTrainer)
    return filled(settings.trainer.arguments, settings)


def start_of(run: RunFolder) -> ProgramStart:
    """How the run's command is started."""
    settings, _ = request_of(run)
    environment = {}
    if settings.is_clip:
        part = course(run)
        stage = {"settings": plain(settings), "before": part.before, "end": part.end or settings.samples}
        environment["FLIPSCALE_STAGE"] = json.dumps(stage)
    parent = parent_of(run)
    if parent is not None:
        environment["FLIPSCALE_PARENT"] = str(parent.path.resolve())
    return ProgramStart(with_folder(command_of(settings), run), environment)


def run_command(run: RunFolder, lease: Lease, stop: Stop) -> bool:
    """Let the run's command train: True if it finished, False if a signal stopped it on the way.

    Raises Failed, by kind, if the program ends otherwise, and FlipscaleError if it cannot be started or leaves no
    outcome.
    """
    settings, _ = request_of(run)
    start = start_of(run)
    # What an earlier attempt left behind must not pass for the outcome of this one.
    for name in ("outcome.json", "hits.json"):
        (run.path / name).unlink(missing_ok=True)
    answers: list[JsonAnswer] = []

    def heed(line: str, when: float, at_work: Program) -> None:
        if (answer := parsed_answer(line)) is not None:
            answers[:] = [answer]

    ended = run_program(start, run, lease, stop, heed=heed)
    if answers and outcome_file(run) is None and ended.code == 0:
        write_json(run.path / "outcome.json", answers[0])
    name = " ".join(command_of(settings))
    if ended.stopped and declared_failure(run) is None and (ended.code != 0 or outcome_file(run) is None):
        say(run, f"stopped by {stop.name}; {name} is started again in this folder when the run goes on")
        return False
    ended.raise_failure(name, run)
    outcome = read_outcome(run, name)
    if programs_of(settings):
        # Its own file would mean that the run is finished, before it is scored.
        (run.path / "result.json").unlink(missing_ok=True)
    leftovers = (run.path / leftover for leftover in ("outcome.json", "program.json", "checkpoint.pt"))
    took = f"{ended.attempts.seconds:.1f} s of {name}"
    return finish(complete(outcome, run, ended.attempts), run, lease, stop, leftovers, took)
