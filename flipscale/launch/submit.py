"""Hands runs to a launcher, hands over runs that a job cannot continue, and stops what waits or runs."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.data.code_changes import CodeChanges, code_changes
from flipscale.errors import LaunchError, RunFolderError
from flipscale.guard import locked, make_folder
from flipscale.launch.launcher import Launcher, NoPlace, Request, launcher_named
from flipscale.launch.order import in_turn
from flipscale.launch.policy import answer_failure, resources_after
from flipscale.launch.progress import ACTIVE
from flipscale.launch.states import RunState, StateReader, run_folder, states
from flipscale.planning.runs import Run
from flipscale.run import (
    WEIGHTS_FILE,
    FailureKind,
    Job,
    Probe,
    RunFolder,
    RunRequest,
    State,
    ask_for_scores,
    asked_scores,
    lacking_for,
    write_probe,
)
from flipscale.words import count
from flipscale.workspace import LAUNCHERS


@dataclass(frozen=True)
class Redo:
    """Which runs go out though they would be left alone. Of those that begin anew, the old results are kept in each
    folder's `earlier`."""

    ids: frozenset[str] = frozenset()
    """These begin anew, whether they have finished, failed or only begun."""
    stale: bool = False
    """Finished runs whose code differs from today's begin anew."""
    diverged: bool = False
    """Diverged runs are restarted from their checkpoints, though they would diverge again."""
    only_new: bool = False
    """Only runs that were never sent go out, and none where one was cancelled."""


NO_REDO = Redo()


@dataclass(frozen=True)
class Submission:
    """How the given runs were sorted, and the jobs that were started for some of them."""

    runs: tuple[Run, ...]
    """All of them."""
    to_do: Sequence[Run]
    """Those to start, in the order in which they go out (order.py)."""
    alone: Sequence[RunState]
    """The state of those to be left alone."""
    anew: Sequence[str]
    """The ids of those to start whose folders are set aside first."""
    trained: Set[str]
    """The ids of those that have a result, no job and do not begin anew: they are only scored."""
    left_out: Mapping[str, str]
    """Why runs that would go out cannot start, by id, in a sentence."""
    unanswered: str
    """Why a launcher could not be asked about runs that were submitted before; empty if it could."""
    code: CodeChanges
    """How the code of the runs that had finished differs from today's."""
    to_score: Mapping[str, float | None]
    """As it was given to `submit`."""
    jobs: tuple[Job, ...] = ()
    """The runs it started."""

    @property
    def skipped(self) -> Mapping[State, int]:
        """How many runs are left alone, by their state."""
        return dict(Counter(look.state for look in self.alone))

    @property
    def scored(self) -> int:
        """How many of the runs that it started are trained, and only scored."""
        return sum(job.run_id in self.trained for job in self.jobs)

    @property
    def unsent(self) -> tuple[Run, ...]:
        """Runs for which there was no place among the jobs of this user, see `NoPlace`; `wait` sends them later."""
        sent = {job.run_id for job in self.jobs}
        return tuple(run for run in self.to_do if run.id not in sent)

    def summary(self) -> str:
        """'submitted 6 runs to local, left alone 2 finished, 1 running'."""
        # Of the failed, only diverged runs are left alone.
        more = {State.FAILED: " (diverged; --retry-diverged restarts them)"}
        if stopping := sum(look.is_stopping for look in self.alone):
            more[State.RUNNING] = f" ({stopping} cancelled but still stopping; submit again when they have stopped)"
        if self.unanswered:
            more[State.WAITING] = f" as far as is known ({self.unanswered})"
        alone = ", ".join(f"{number} {state}{more.get(state, '')}" for state, number in self.skipped.items())
        said = f"submitted {count(len(self.jobs), 'run')}"
        if self.jobs:
            said += f" to {self.jobs[0].launcher}"
        if self.anew:
            said += f" ({len(self.anew)} of them retrained; earlier results are kept)"
        if self.scored:
            said += f" ({self.scored} of them trained, and only scored)"
        if alone:
            said += f", left alone {alone}"
        if self.left_out:
            said += f", left out {len(self.left_out)} that cannot start"
        if self.unsent:
            number = len(self.unsent)
            said += f", {number} go out as others end, or with another submit: there is no place for more jobs"
        return said


def submit(
    runs: Iterable[Run],
    results: Path,
    launcher: Launcher,
    *,
    redo: Redo = NO_REDO,
    to_score: Mapping[str, float | None] = {},
    check: Callable[[Sequence[Run]], None] | None = None,
    probe: Probe | None = None,
) -> Submission:
    """Hand to the launcher the runs that are not done and that nobody is doing.

    Planned, lost, cancelled and failed runs go out; finished, running and waiting ones are left alone. A diverged run
    diverges again, so it is left alone too unless `redo` says so. Those of `redo` begin anew. LaunchError where one
    of these waits or runs, and where nothing can be submitted because the launcher of earlier submissions cannot be
    asked about their runs.

    to_score: finished runs whose weights lack scores, by id, each with the seconds that it takes, if known: they go out
        too, and are not trained.
    check: is shown the runs to train before anything is written; what it raises leaves all as it was.
    probe: the shapes that the runs are to time.
    """
    with submit_lock(results):
        sorted_runs = _sort(runs, results, redo, to_score)
        if check is not None:
            check([run for run in sorted_runs.to_do if run.id not in sorted_runs.trained])
        with set_aside(results, sorted_runs.anew):
            for run_id in sorted_runs.trained - {run.id for run in sorted_runs.to_do}:
                run_folder(results, run_id).drop_request()
            requests = [
                _to_be_scored(run, results, to_score[run.id])
                if run.id in sorted_runs.trained
                else _asked_again(run, results, probe)
                for run in sorted_runs.to_do
            ]
            try:
                jobs = _hand_out(requests, launcher)
            except NoPlace:
                jobs = [job for request in requests if (job := request.folder.job())]
                if not jobs and not redo.only_new:
                    raise
    return replace(sorted_runs, jobs=tuple(jobs))


def preview(
    runs: Iterable[Run],
    results: Path,
    launcher: Launcher,
    *,
    redo: Redo = NO_REDO,
    to_score: Mapping[str, float | None] = {},
) -> str:
    """The text that `submit` would send to the launcher, for a person to read. Nothing is sent or written."""
    sorted_runs = _sort(runs, results, redo, to_score)
    requests = []
    for run in sorted_runs.to_do:
        folder = run_folder(results, run.id)
        asked = RunRequest.of(run)
        asked = replace(asked, resources=resources_after(asked, folder.failures()))
        requests.append(Request(folder, asked, run.id in sorted_runs.trained))
    left_out = "".join(f"# left out: {run_id}: {why}\n" for run_id, why in sorted_runs.left_out.items())
    return left_out + (launcher.preview(requests) if requests else "There is nothing to submit.\n")


def hand_over(folders: Iterable[RunFolder], results: Path, launcher: Launcher) -> list[Job]:
    """Hand runs that a job has in hand, and that are neither over nor cancelled, to the launcher once more.

    LaunchError if the launcher refuses them; they then stay with that job.
    """
    with submit_lock(results):
        requests = [
            Request(folder, replace(asked, resources=asked_scores(folder)[1]), True)
            if folder.is_trained
            else Request(folder, asked)
            for folder in folders
            if not folder.is_over() and (asked := folder.asked()) is not None
        ]
        jobs = {request.id: request.folder.job() for request in requests}
        try:
            return _hand_out(requests, launcher)
        except LaunchError:
            for request in requests:
                if (job := jobs[request.id]) and request.folder.job() is None:
                    request.folder.write_job(job)
            raise


def cancel(runs: Iterable[Run | RunFolder], results: Path, study: str | None = None) -> list[str]:
    """Stop the runs that wait or run, and only those. Returns their ids. `submit` continues from their checkpoints.

    study: the study whose runs these all are: jobs of it that no run names are stopped too, and named.

    LaunchError, once the others are stopped, for an active run whose job is unknown.
    """
    jobs: dict[str, list[Job]] = {}
    unknown = []
    with submit_lock(results):
        for run_id, state in states(runs, results).items():
            if state not in (State.WAITING, State.RUNNING):
                continue
            folder = run_folder(results, run_id)
            try:
                job = folder.job()
            except RunFolderError as error:
                unknown.append(f"{run_id} is {state} and continues: {error}")
                continue
            if job is not None:
                # Marked before it is stopped, or another worker of the same list would take it up meanwhile.
                job = replace(job, cancelled=time.time())
                folder.write_job(job)
                jobs.setdefault(job.launcher, []).append(job)
        more: list[str] = []
        for name in LAUNCHERS:
            if name in jobs or (study and (results / name).is_dir()):
                more += launcher_named(name, results).cancel(jobs.get(name, []), study)
    if unknown:
        raise LaunchError("\n".join(unknown))
    return [job.run_id for cancelled in jobs.values() for job in cancelled] + more


def _sort(
    given: Iterable[Run],
    results: Path,
    redo: Redo,
    to_score: Mapping[str, float | None],
) -> Submission:
    """Sort the runs, each kind in the order in which runs go out; nothing is started yet."""
    runs = {run.id: run for run in given}
    looks = StateReader(results).read(in_turn(runs), closely=True)
    finished = {run_id: look.files for run_id, look in looks.items() if look.state is State.FINISHED}
    code = code_changes(runs.values(), results, finished)
    anew = _begins_anew(runs, looks, redo, code)
    trained = {
        run_id
        for run_id, look in looks.items()
        if "result.json" in look.files and run_id not in anew and look.state not in ACTIVE
    }
    alone: list[RunState] = []
    going: dict[str, None] = {}  # in their order
    stays = redo.only_new and any(look.state is State.CANCELLED for look in looks.values())
    for run_id, look in looks.items():
        if run_id in trained and run_id not in to_score:
            alone.append(look._replace(state=State.FINISHED))
        elif stays or (redo.only_new and look.state is not State.PLANNED and run_id not in trained):
            alone.append(look)
        elif run_id in {*anew, *trained} or _is_to_do(run_folder(results, run_id), look.state, redo.diverged):
            going[run_id] = None
        else:
            alone.append(look)
    left_out: dict[str, str] = {}
    held, gone = held_back([runs[run_id] for run_id in going if run_id not in trained], results)
    for run_id in going:  # parents before children
        parents = () if run_id in trained else runs[run_id].parents
        reasons = [*(left_out.get(parent) for parent in parents), gone if run_id in held else ""]
        if why := next(filter(None, [_problem(looks[run_id], run_folder(results, run_id)), *reasons]), ""):
            left_out[run_id] = why
    for run_id in left_out:
        del going[run_id]
    silent = [look.job.says for look in alone if look.state is State.WAITING and not look.job.answered]
    if silent and not going:
        raise LaunchError(
            f"Nothing was submitted: it is not known whether {count(len(silent), 'run')} submitted before "
            f"will still be done. {silent[0].rstrip('.')}. Submit again when that works."
        )
    return Submission(
        runs=tuple(runs.values()),
        to_do=[runs[run_id] for run_id in going],
        alone=alone,
        anew=[run_id for run_id in anew if run_id in going],
        trained=trained,
        left_out=left_out,
        unanswered=silent[0] if silent else "",
        code=code,
        to_score=to_score,
    )


def _problem(look: RunState, folder: RunFolder) -> str:
    """The damaged file that keeps a run from going out, in a sentence; '' if none does."""
    try:
        if "run.json" in look.files:
            folder.asked()
    except RunFolderError as error:
        return look.problem or str(error)
    return look.problem


def held_back(runs: Sequence[Run], results: Path) -> tuple[list[str], str]:
    """Those of the runs that lack what they start from, as where it came from an archive, and why, in a sentence."""
    left = {run.id for run in runs}
    lacking = {
        (run.id, parent): file
        for run in runs
        for parent in run.parents
        if parent not in left and (file := lacking_for(run.settings, run_folder(results, parent)))
    }
    if not lacking:
        return [], ""
    held, parents = (list(dict.fromkeys(names)) for names in zip(*lacking, strict=True))
    file = next(iter(lacking.values()))
    folder = run_folder(results, parents[0]).path
    what, why = ("weights", "keep_weights") if file == WEIGHTS_FILE else ("last states", "gc")
    them, its = ("it", f"its {file} into {folder}") if len(parents) == 1 else ("them", f"each {file} into its folder")
    others = f" and {count(len(parents) - 1, 'other run')}" if parents[1:] else ""
    return held, (
        f"the {what} of {parents[0]}{others} are not here, as archives and {why} leave them out. Put {its} and submit "
        f"again, or train {them} anew: submit with --redo {' '.join(parents)}."
    )


def _asked_again(run: Run, results: Path, probe: Probe | None) -> Request:
    """The run, asked for in its folder. Its last failure goes to its failures, and a change of resources stays."""
    folder = run_folder(results, run.id)
    asked = RunRequest.of(run)
    error = folder.error()
    if error is not None and not error.noted:
        answer_failure(folder, error.kind, error.reason, took=error.seconds)
    asked = replace(asked, resources=resources_after(asked, folder.failures()))
    # Thousands of runs may be asked for, and each flush takes milliseconds: what a crash undoes is submitted again.
    folder.ask(asked, flush=False)
    folder.clear_orders()
    if probe is not None:
        write_probe(folder.path, probe)
    return Request(folder, asked)


def _to_be_scored(run: Run, results: Path, seconds: float | None) -> Request:
    """A trained run, asked for scores in its folder, which take these seconds, if known."""
    folder = run_folder(results, run.id)
    asked = RunRequest.of(run)
    folder.clear_orders()
    ask_for_scores(folder, run.settings.evaluation, run.resources)
    return Request(folder, replace(asked, seconds=math.inf if seconds is None else seconds), True)


def _hand_out(requests: Sequence[Request], launcher: Launcher) -> list[Job]:
    folders = {request.id: request.folder for request in requests}
    jobs = []
    for job in launcher.submit(requests) if requests else ():
        folders[job.run_id].write_job(job, flush=False)
        jobs.append(job)
    return jobs


def _is_to_do(folder: RunFolder, state: State, retry_diverged: bool) -> bool:
    if state is State.FAILED:
        error = folder.error()
        return retry_diverged or error is None or error.kind is not FailureKind.DIVERGED
    return state in (State.PLANNED, State.LOST, State.CANCELLED)


@contextlib.contextmanager
def submit_lock(results: Path) -> Iterator[None]:
    """No other process submits or cancels in this results folder while the block runs; a second one waits."""
    make_folder(results, results)
    with locked(results / ".submit.lock"):
        yield


# Training anew

_BEGUN = frozenset({"result.json", "error.json", "metrics.jsonl", "checkpoint.pt", "open_clip"})
"""Files that show that a run has begun; it would continue from them."""


def _begins_anew(runs: Mapping[str, Run], looks: Mapping[str, RunState], redo: Redo, code: CodeChanges) -> list[str]:
    """The ids of the runs that begin anew: those asked for, and those that started from the weights of one of them.

    `runs` has parents before children. LaunchError where one of them is waiting or running.
    """
    anew: dict[str, None] = {}  # in the order of the runs
    for run in runs.values():
        look = looks[run.id]
        asked = run.id in redo.ids or (redo.stale and run.id in code.differing)
        if not asked and anew.keys().isdisjoint(run.after):
            continue
        if look.state in ACTIVE:
            why = "" if asked else " It starts from the weights of a run that is to be retrained."
            raise LaunchError(f"{run.id} is {look.state}; cancel it before you retrain it.{why}")
        if look.files & _BEGUN:
            anew[run.id] = None
    return list(anew)


@contextlib.contextmanager
def set_aside(results: Path, ids: Sequence[str]) -> Iterator[None]:
    """Set the folders of these runs aside. If the block fails, those that no launcher took are restored.

    LaunchError if a living process holds one of them.
    """
    folders = [run_folder(results, run_id) for run_id in ids]
    for folder in folders:
        # A process that has written its result still tidies up in the folder.
        if _is_held(folder):
            raise LaunchError(f"{folder.id} is still held by the process that ended it; submit again in a moment.")
    done = []
    try:
        for folder in folders:
            folder.set_aside()
            done.append(folder)
        yield
    except Exception:
        for folder in done:
            if folder.job() is None and not _is_held(folder):
                folder.take_back()
        raise


def _is_held(folder: RunFolder) -> bool:
    """Whether a living process has the run in hand: a worker of this machine may begin before its job is written."""
    holder = folder.holder()
    return holder is not None and holder.alive
