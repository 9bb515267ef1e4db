"""Hands runs to a launcher, hands over runs that a job cannot continue, and stops what waits or runs."""

import contextlib
import functools
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.code import CodeChanges, code_changes
from flipscale.errors import LaunchError, RunFolderError
from flipscale.guard import locked
from flipscale.identity import is_evaluated, scored, stage
from flipscale.launch.launcher import JobState, Launcher, NoPlace, Request, launcher_named
from flipscale.launch.order import in_turn
from flipscale.launch.policy import answer_failure, resources_after
from flipscale.launch.progress import ACTIVE
from flipscale.launch.states import RunState, StateReader, run_folder, states
from flipscale.plan import Plan, Run
from flipscale.run import (
    WEIGHTS_FILE,
    Asked,
    FailureKind,
    Job,
    Probe,
    RunFolder,
    State,
    ask_for_scores,
    asked_scores,
    lacks_weights,
    probes_in,
    write_probe,
)
from flipscale.settings import JsonObject, Settings
from flipscale.timing import evaluation_shape, is_timed_by_steps, step_shape
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER


@dataclass(frozen=True)
class Redo:
    """The runs to train anew from their start: the old results are kept in each folder's `earlier`."""

    ids: frozenset[str] = frozenset()
    """These runs, whether they have finished, failed or only begun."""
    stale: bool = False
    """Finished runs whose code differs from today's."""


NO_REDO = Redo()


@dataclass(frozen=True)
class Sorting:
    """The given runs, by how `submit` handles them."""

    runs: tuple[Run, ...]
    """All of them."""
    to_do: Sequence[tuple[Run, JobState]]
    """Those to start, each with what its last launcher says of it, in the order in which they go out (order.py)."""
    alone: Sequence[RunState]
    """The state of those to be left alone."""
    anew: Sequence[str]
    """The ids of those to start whose folders are set aside first."""
    trained: Set[str]
    """The ids of those that have a result, no job and do not begin anew: they are only scored."""
    held_back: Mapping[str, str]
    """Runs that would go out and cannot start, as the weights of a finished parent are not here: that parent's id."""
    problems: Mapping[str, str]
    """Runs that would go out and are left out, as a file of their folder is damaged: which one, in a sentence."""
    code: CodeChanges
    """How the code of the runs that had finished differs from today's."""
    to_score: Mapping[str, float | None]
    """As it was given to `submit`."""

    @property
    def skipped(self) -> Mapping[State, int]:
        """How many runs are left alone, by their state."""
        return dict(Counter(look.state for look in self.alone))

    @property
    def unanswered(self) -> str:
        """Why a launcher could not be asked about runs that were submitted before; empty if it could."""
        return next(iter(self._silent), "")

    @property
    def _silent(self) -> list[str]:
        return [look.job.says for look in self.alone if look.state is State.WAITING and not look.job.answered]

    def check_answered(self) -> None:
        """LaunchError if nothing can be started because a launcher could not be asked about some of the runs."""
        if self._silent and not self.to_do:
            raise LaunchError(
                f"Nothing was submitted: it is not known whether {count(len(self._silent), 'run')} submitted before "
                f"will still be done. {self.unanswered.rstrip('.')}. Submit again when that works."
            )


@dataclass(frozen=True)
class Submission(Sorting):
    """The result of one submit."""

    jobs: tuple[Job, ...]
    """The runs it started."""

    @property
    def redone(self) -> int:
        """How many of the runs that it started were finished or had begun before, and begin anew."""
        return len(self.anew)

    @property
    def scored(self) -> int:
        """How many of the runs that it started are trained, and only scored."""
        return sum(job.run_id in self.trained for job in self.jobs)

    @property
    def unsent(self) -> tuple[Run, ...]:
        """Runs for which there was no place among the jobs of this user, see `NoPlace`; `wait` sends them later."""
        sent = {job.run_id for job in self.jobs}
        return tuple(run for run, _ in self.to_do if run.id not in sent)

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
            said += f" ({self.redone} of them retrained; earlier results are kept)"
        if self.scored:
            said += f" ({self.scored} of them trained, and only scored)"
        if alone:
            said += f", left alone {alone}"
        if self.held_back:
            said += f", held back {len(self.held_back)} without weights"
        if self.unsent:
            number = len(self.unsent)
            said += f", {number} go out as others end, or with another submit: there is no place for more jobs"
        return said + (f", left out {len(self.problems)} damaged" if self.problems else "")

    def missing_weights(self, results: Path) -> list[str]:
        """Advice on the runs that are held back, a sentence for each parent."""
        return [
            f"{count(number, 'run')} cannot start: the weights of {parent} are not here, as archives and keep_weights "
            f"leave them out. Put its {WEIGHTS_FILE} into {run_folder(results, parent).path} and submit again, or "
            f"train it anew: submit with --redo {parent}."
            for parent, number in Counter(self.held_back.values()).items()
        ]


def submit(
    runs: Iterable[Run],
    results: Path,
    launcher: str | Launcher,
    *,
    retry_diverged: bool = False,
    redo: Redo = NO_REDO,
    to_score: Mapping[str, float | None] = {},
    check: Callable[[Sequence[Run]], None] | None = None,
) -> Submission:
    """Hand to the launcher the runs that are not done and that nobody is doing.

    Planned, lost, cancelled and failed runs go out; finished, running and waiting ones are left alone. A diverged run
    diverges again, so it is left alone too unless `retry_diverged`. Those of `redo` begin anew. LaunchError where one
    of these waits or runs, and where nothing can be submitted because the launcher of earlier submissions cannot be
    asked about their runs.

    to_score: finished runs whose weights lack scores, by id, each with the seconds that it takes, if known: they go out
        too, and are not trained.
    check: is shown the runs to train before anything is written; what it raises leaves all as it was.
    """
    if isinstance(launcher, str):
        launcher = launcher_named(launcher, results)
    with submit_lock(results):
        sorting = _sort(runs, results, retry_diverged, redo, to_score)
        sorting.check_answered()
        if check is not None:
            check([run for run, _ in sorting.to_do if run.id not in sorting.trained])
        with set_aside(results, sorting.anew):
            for run_id in sorting.trained - {run.id for run, _ in sorting.to_do}:
                run_folder(results, run_id).drop_request()
            requests = [
                _to_be_scored(run, results, to_score[run.id])
                if run.id in sorting.trained
                else _asked_again(run, results, where)
                for run, where in sorting.to_do
            ]
            jobs = _as_many_as_fit(requests, launcher)
    return Submission(**vars(sorting), jobs=tuple(jobs))


def preview(
    runs: Iterable[Run],
    results: Path,
    launcher: str | Launcher,
    *,
    retry_diverged: bool = False,
    redo: Redo = NO_REDO,
    to_score: Mapping[str, float | None] = {},
) -> str:
    """The text that `submit` would send to the launcher, for a person to read. Nothing is sent or written."""
    if isinstance(launcher, str):
        launcher = launcher_named(launcher, results)
    sorting = _sort(runs, results, retry_diverged, redo, to_score)
    sorting.check_answered()
    requests = []
    for run, _ in sorting.to_do:
        folder, asked = run_folder(results, run.id), Asked.of(run)
        asked = replace(asked, resources=resources_after(asked, folder.failures()))
        requests.append(Request(folder, asked, run.id in sorting.trained))
    held = "".join(
        f"# held back, without the weights of {parent}: {run}\n" for run, parent in sorting.held_back.items()
    )
    held += "".join(f"# left out: {run}: {problem}\n" for run, problem in sorting.problems.items())
    return held + (launcher.preview(requests) if requests else "There is nothing to submit.\n")


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


def cancel(runs: Iterable[Run | RunFolder], results: Path) -> list[str]:
    """Stop the runs that wait or run, and only those. Returns their ids. `submit` continues from their checkpoints.

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
        for name, cancelled in jobs.items():
            launcher_named(name, results).cancel(cancelled)
    if unknown:
        raise LaunchError("\n".join(unknown))
    return [job.run_id for cancelled in jobs.values() for job in cancelled]


def _sort(
    given: Iterable[Run],
    results: Path,
    retry_diverged: bool,
    redo: Redo,
    to_score: Mapping[str, float | None],
) -> Sorting:
    """Sort the runs, each kind in the order in which runs go out."""
    runs = {run.id: run for run in given}
    ordered = in_turn(runs)
    looks = StateReader(results).read(ordered, closely=True)
    finished = {run_id: look.files for run_id, look in looks.items() if look.state is State.FINISHED}
    code = code_changes(runs.values(), results, finished)
    anew = _begins_anew(runs, looks, redo, code)
    to_do, alone = [], []
    problems: dict[str, str] = {}
    trained = {
        run_id
        for run_id, look in looks.items()
        if "result.json" in look.files and run_id not in anew and look.state not in ACTIVE
    }
    for run in ordered:
        look = looks[run.id]
        if run.id in trained and run.id not in to_score:
            alone.append(look._replace(state=State.FINISHED))
        elif run.id not in {*anew, *trained} and not _is_to_do(run_folder(results, run.id), look.state, retry_diverged):
            alone.append(look)
        elif problem := _problem(run, look, results, problems):
            problems[run.id] = problem
        else:
            to_do.append((run, look.job))
    to_do, held_back = _hold_back(to_do, results, trained)
    going = [run_id for run_id in anew if run_id in {run.id for run, _ in to_do}]
    return Sorting(tuple(runs.values()), to_do, alone, going, trained, held_back, problems, code, to_score)


def _problem(run: Run, look: RunState, results: Path, problems: Mapping[str, str]) -> str:
    """The damaged file, or the parent left out because of one, that keeps a run from going out; '' if none does."""
    if look.problem:
        return look.problem
    if parent := next((parent for parent in run.parents if parent in problems), None):
        return f"it starts from {parent}, which is left out."
    try:
        if "run.json" in look.files:
            run_folder(results, run.id).asked()
    except RunFolderError as error:
        return str(error)
    return ""


def _hold_back(
    to_do: Sequence[tuple[Run, JobState]], results: Path, trained: Set[str]
) -> tuple[list[tuple[Run, JobState]], dict[str, str]]:
    """Those to start that have weights to start from, or will have; and the others, each with the parent that lacks
    them: it is finished, but its model.pt is not here, as where it came from an archive.

    Without this they would all fail, and the first of them would stop the whole submission.
    """
    going = {run.id: run for run, _ in to_do}

    @functools.cache
    def lacking(run_id: str) -> str | None:
        if run_id in trained and run_id in going:
            return None
        if run_id not in going:
            return run_id if lacks_weights(run_folder(results, run_id)) else None
        return next(filter(None, map(lacking, going[run_id].parents)), None)

    held_back = {run_id: parent for run_id in going if (parent := lacking(run_id))}
    return [(run, where) for run, where in to_do if run.id not in held_back], held_back


def _asked_again(run: Run, results: Path, where: JobState) -> Request:
    """The run, asked for in its folder. Its last failure goes to its failures, and a change of resources stays."""
    folder, asked = run_folder(results, run.id), Asked.of(run)
    error = folder.error()
    if error is not None and not error.noted:
        answer_failure(folder, error.kind, error.reason, took=error.seconds)
    elif error is None and where.kind is not None:
        answer_failure(folder, where.kind, where.says)
    asked = replace(asked, resources=resources_after(asked, folder.failures()))
    # Thousands of runs may be asked for, and each flush takes milliseconds: what a crash undoes is submitted again.
    folder.ask(asked, flush=False)
    folder.clear_for_retry()
    return Request(folder, asked)


def _to_be_scored(run: Run, results: Path, seconds: float | None) -> Request:
    """A trained run, asked for scores in its folder. Its time is no limit: it is packed by its cost."""
    folder, asked = run_folder(results, run.id), Asked.of(run)
    hours = (seconds or 0) * asked.resources.devices / 3600
    cost = None if seconds is None else replace(run.cost, gpu_hours=hours)
    ask_for_scores(folder, run.settings.evaluation, run.resources)
    folder.clear_for_retry()
    return Request(folder, replace(asked, seconds=None, cost=cost), True)


def _as_many_as_fit(requests: Sequence[Request], launcher: Launcher) -> list[Job]:
    """The jobs of those that the launcher took. NoPlace if it took none."""
    try:
        return _hand_out(requests, launcher)
    except NoPlace:
        taken = [job for request in requests if (job := request.folder.job())]
        if not taken:
            raise
        return taken


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
    results.mkdir(parents=True, exist_ok=True)
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


# A probe: one run folder in which `train` times the shapes of a plan, started by a launcher as runs are

PROBE_HOURS = 0.25
"""Roughly the hours that a probe takes on each of its devices. Sites that pack short runs into jobs go by it."""


def probe_of(plan: Plan, site: str) -> Probe:
    """The shapes of a plan to time, each once, as its longest run has it, and each evaluation once.

    LaunchError if flipscale trains none of its runs itself.
    """
    runs = sorted((run for run in plan.runs if is_timed_by_steps(run.settings)), key=lambda run: -run.cost.samples_seen)
    if not runs:
        raise LaunchError(
            f"{plan.study} cannot be probed: your own program trains its runs, and flipscale does not know how "
            "long its steps take. Give resources.flops_per_second, or let one run finish and read its hours."
        )
    shapes = {_key(step_shape(stage(run.settings), run.resources)): run for run in reversed(runs)}
    evaluations = {_key(evaluation_shape(scored(run.settings))): run for run in runs if is_evaluated(run.settings)}
    return Probe(plan.study, site, _settings(plan, shapes.values()), _settings(plan, evaluations.values()))


def submit_probe(plan: Plan, results: Path, launcher: Launcher) -> Submission:
    """Hand a probe of the plan's shapes to the launcher. Its measurements go to timings.json of the results."""
    probe = probe_of(plan, launcher.site_name)
    needs_most = max(plan.runs, key=lambda run: run.cost.memory_bytes)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", plan.study).strip("-")
    run = Run(
        id=f"probe_{name}_{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}",
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
    write_probe(run_folder(results, run.id).path, probe)
    return submit([run], results, launcher)


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
