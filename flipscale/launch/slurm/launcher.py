"""Hands runs to SLURM, says where their jobs are, and stops them."""

import contextlib
import math
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flipscale.errors import LaunchError, RunFolderError
from flipscale.guard import is_plain
from flipscale.launch.breaker import why_stopped
from flipscale.launch.launcher import TRAIN, JobState, Request
from flipscale.launch.site import DEFAULTS, PREDICTED, Site, site_name
from flipscale.launch.slurm import scheduler
from flipscale.launch.slurm.arrays import JobArray, arrays_of, job_name_of
from flipscale.plain_files import or_none
from flipscale.run import Job, RunFolder, State
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER

JUST_SENT_SECONDS = 60.0
"""No job is called lost so soon after its sbatch: a busy or backed-up controller may list it late."""


class SlurmLauncher:
    """Job arrays of SLURM. `site` is read by `read_site`; `command` is what a worker executes."""

    name = "slurm"
    ends_with_the_watcher = False
    poll_seconds = 5.0

    def __init__(self, results: Path, site: Site | None = None, *, command: Sequence[str] | None = None):
        self.results = results.resolve()
        self.home = self.results / self.name
        self.site = DEFAULTS if site is None else site
        python = self.site["python"]
        self.command = tuple(command or ((python, *TRAIN[1:]) if python else TRAIN))
        # As sbatch itself would choose, whose variables are not passed on to it.
        named = (os.environ.get(name) for name in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"))
        self.cluster: str | None = self.site["cluster"] or next(filter(None, named), None)

    @property
    def site_name(self) -> str:
        return site_name(self.name, self.site)

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        from flipscale.launch.slurm.batch import send

        sent_arrays: dict[str, JobArray] = {}
        sent = 0
        for array in self._arrays(requests, self._configuration(), self.parents_under_way(requests)):
            # Jobs are written down before they are sent: every sent job is known, whatever happens in between.
            yield from self._jobs(array)
            try:
                parents = sent_arrays.get(array.after or "")
                sent_arrays[array.name] = send(array, self.home, parents.slurm_id if parents else None)
            except LaunchError as error:
                for run_id in _runs_of(array):
                    (self.results / RUNS_FOLDER / run_id / "job.json").unlink(missing_ok=True)
                rest = (
                    f" {sent} of {count(len(requests), 'run')} are sent; submit again for the others." if sent else ""
                )
                raise type(error)(f"{error}{rest}") from None
            sent += len(_runs_of(array))

    def preview(self, requests: Sequence[Request]) -> str:
        from flipscale.launch.slurm.batch import script_of, worker_command

        said = []
        try:
            configured, before = self._configuration(), self.parents_under_way(requests)
        except LaunchError:
            configured, before = None, {}
        if not self.site["max_array_size"] and configured is None:
            size = scheduler.Configuration().max_array_size
            said.append(
                f"# SLURM cannot be asked here, so arrays have at most {size} tasks, SLURM's default. Set "
                f"max_array_size in the site file if the cluster's MaxArraySize is another.\n"
            )
        for array in self._arrays(requests, configured, before):
            first = [self._run(run_id).path for run_id in next(iter(array.tasks.values()))]
            script = array.path(self.home).with_suffix(".sh")
            runs = count(sum(map(len, array.tasks.values())), "run")
            lanes = f", up to {array.lanes} at once in each" if array.lanes > 1 else ""
            said.append(f"# sbatch {script}: {runs} in {count(len(array.tasks), 'job')}{lanes}\n")
            said.append(f"# in the first of them: {shlex.join(worker_command(array, first))}\n")
            said.append(script_of(array, self.home, f"NUMBER-OF-{array.after}" if array.after else None) + "\n")
        return "".join(said)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        tasks = {job.run_id: _task_of(job) for job in jobs}
        names = {name for name, _ in tasks.values()}
        try:
            entries = self._queue(names, patient=closely)
        except LaunchError as error:
            # SLURM, if it cannot be asked, has not said that the jobs are gone.
            away = isinstance(error, scheduler.ControllerAway)
            says = str(error) if away else f"SLURM cannot be asked: {error}"
            return dict.fromkeys(tasks, JobState(State.WAITING, says, answered=False))
        if closely:
            entries = self._with_history(tasks.values(), entries)
        stopped = {name: why_stopped(self.home / name.rpartition("-")[0]) for name in names}
        return {
            job.run_id: _state_of(entries.get(job_name_of(name), {}).get(index), stopped[name])
            or self._unlisted(job, name, index)
            for job in jobs
            for name, index in [tasks[job.run_id]]
        }

    def _unlisted(self, job: Job, name: str, index: int) -> JobState:
        """Where a job is that squeue does not list."""
        if time.time() - job.submitted < JUST_SENT_SECONDS:
            return JobState(State.WAITING, "its job was sent within the last minute, and squeue does not list it yet")
        return JobState(None, self._last_seen(job, name, index))

    def _last_seen(self, job: Job, name: str, index: int) -> str:
        """What is known of a job that SLURM has forgotten: its number, where it was, what it said."""
        array = self._arrays_named([name]).get(name)
        number = f" {array.slurm_id}_{index}" if array and array.slurm_id else ""
        holder = self._run(job.run_id).last_holder()
        on = f"; it was last on {holder.node}" if holder and holder.node else ""
        said = f"; its output is in {job.log}" if is_plain(Path(job.log)) else "; it wrote no log, so it never began"
        return f"SLURM no longer knows its job{number}{on}{said}"

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the tasks that have no other run left. In the others, the attendant stops the runs that it holds."""
        tasks = {_task_of(job) for job in jobs}
        arrays = self._arrays_named({name for name, _ in tasks})
        try:
            entries = self._queue(arrays, patient=True)
        except LaunchError as error:
            raise LaunchError(
                "The runs are marked as cancelled: active runs stop, and waiting jobs end as soon as they "
                f"start. The waiting jobs could not be removed from the queue. {error}"
            ) from None
        doomed: dict[str | None, list[str]] = {}
        for name, array in arrays.items():
            ended = [
                entry.id
                for index, entry in entries.get(array.job_name, {}).items()
                if entry.lives
                and (name, index) in tasks
                and all(self._run(run_id).is_over() for run_id in array.tasks[index])
            ]
            doomed.setdefault(array.cluster, []).extend(ended)
        for cluster, ids in doomed.items():
            scheduler.cancel(ids, cluster)

    def stop(self, submission: str) -> None:
        """Call off what of a submission has not begun."""
        arrays = [JobArray.read(path) for path in sorted((self.home / submission).glob("[0-9]*.json"))]
        entries = self._queue(array.name for array in arrays)
        for array in arrays:
            tasks = entries.get(array.job_name, {}).values()
            if ids := dict.fromkeys(scheduler.array_of(entry.id) for entry in tasks if entry.state == "PENDING"):
                scheduler.cancel(list(ids), array.cluster, waiting_only=True)

    def runs_of(self, submission: str) -> Iterator[RunFolder]:
        """All runs of a submission."""
        for path in sorted((self.home / submission).glob("[0-9]*.json")):
            yield from map(self._run, _runs_of(JobArray.read(path)))

    def parents_under_way(self, requests: Sequence[Request]) -> dict[str, str]:
        """SLURM's jobs of parents that are not requested because somebody is doing them already, by their run's id."""
        ids = {request.id for request in requests}
        parents = {parent for request in requests for parent in request.parents} - ids
        tasks = {job.run_id: _task_of(job) for parent in sorted(parents) if (job := self._open_job(parent))}
        if not tasks:
            return {}
        entries = self._queue((name for name, _ in tasks.values()), patient=True)
        parents_jobs = {
            run_id: entries.get(job_name_of(name), {}).get(index) for run_id, (name, index) in tasks.items()
        }
        return {run_id: entry.id for run_id, entry in parents_jobs.items() if entry and entry.lives}

    def _open_job(self, run_id: str) -> Job | None:
        """The job of SLURM that is to do this run; None if it is over, or is another launcher's."""
        job = None
        with contextlib.suppress(RunFolderError):  # Then SLURM does not know it either.
            run = self._run(run_id)
            job = None if run.is_over() else run.job()
        return job if job is not None and job.launcher == self.name else None

    def _configuration(self) -> scheduler.Configuration | None:
        """How the cluster is set up, where there is one to ask and the site leaves that open."""
        if self.site["max_array_size"] and self.site["memory_per_process"] != PREDICTED:
            return None
        return scheduler.configuration(self.cluster) if shutil.which("scontrol") else None

    def _arrays(
        self, requests: Sequence[Request], configured: scheduler.Configuration | None, before: Mapping[str, str]
    ) -> list[JobArray]:
        """The arrays of these runs. before: SLURM's jobs of parents that are under way."""
        site, usual = self.site, configured or scheduler.Configuration()
        if site["memory_per_process"] == PREDICTED and not usual.counts_memory:
            site = {**site, "memory_per_process": None}
        size = site["max_array_size"] or usual.max_array_size
        submission = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        arrays = arrays_of(requests, site, size, submission, command=self.command, under_way=before)
        # A run that takes longer than its partition allows goes on in the next job.
        most = (
            scheduler.time_limit(site["partition"], self.cluster) if any(array.time for array in arrays) else math.inf
        )
        return [
            replace(array, cluster=self.cluster, time=array.time and int(min(array.time, most))) for array in arrays
        ]

    def _jobs(self, array: JobArray) -> Iterator[Job]:
        now = time.time()
        for index, run_ids in array.tasks.items():
            log = str(array.log(self.home, index))
            for run_id in run_ids:
                yield Job(run_id, self.name, f"{array.name}/{index}", now, log=log)

    def _with_history(
        self, tasks: Iterable[tuple[str, int]], entries: Mapping[str, dict[int, scheduler.QueueEntry]]
    ) -> dict[str, dict[int, scheduler.QueueEntry]]:
        """The answers of squeue, and accounting's for jobs that squeue has forgotten."""
        forgotten = {name for name, index in tasks if index not in entries.get(job_name_of(name), {})}
        # Accounting is asked by number, which only the array's record has.
        ids: dict[str | None, dict[str, str]] = {}
        for array in self._arrays_named(forgotten).values():
            if array.slurm_id is not None:
                ids.setdefault(array.cluster, {})[array.job_name] = array.slurm_id
        history: dict[str, dict[int, scheduler.QueueEntry]] = {}
        for cluster, asked in ids.items():
            history |= scheduler.history(asked, cluster)
        return {name: {**history.get(name, {}), **entries.get(name, {})} for name in entries.keys() | history.keys()}

    def _queue(self, names: Iterable[str], *, patient: bool = False) -> dict[str, dict[int, scheduler.QueueEntry]]:
        """What SLURM has of these arrays, by the names of their jobs: each is asked of its cluster."""
        names = set(names)
        arrays = self._arrays_named(names)
        asked: dict[str | None, list[str]] = {}
        for name in names:
            asked.setdefault(arrays[name].cluster if name in arrays else None, []).append(job_name_of(name))
        entries: dict[str, dict[int, scheduler.QueueEntry]] = {}
        for cluster, jobs in asked.items():
            entries |= scheduler.queue(jobs, cluster, patient=patient)
        return entries

    def _arrays_named(self, names: Iterable[str]) -> dict[str, JobArray]:
        """The arrays of these names, by name, except those whose record is missing or damaged."""
        arrays = {}
        for name in names:
            submission, _, number = name.rpartition("-")
            if array := or_none(JobArray.read, self.home / submission / f"{number}.json"):
                arrays[name] = array
        return arrays

    def _run(self, run_id: str) -> RunFolder:
        return RunFolder(self.results / RUNS_FOLDER / run_id)


def _state_of(entry: scheduler.QueueEntry | None, stopped: str | None) -> JobState | None:
    """None where nothing is known of the job any more."""
    if entry and entry.lives:
        return JobState(State.WAITING, str(entry))  # Its job may run and do another run of its task: the lease tells.
    if stopped:
        return JobState(State.CANCELLED, stopped)
    if entry and entry.state == "CANCELLED":
        return JobState(State.CANCELLED, str(entry))
    if entry is None:
        return None
    # A job that ended of its own accord is not what ended its run.
    return JobState(None, str(entry), entry.kind)


def _runs_of(array: JobArray) -> list[str]:
    return [run_id for run_ids in array.tasks.values() for run_id in run_ids]


def _task_of(job: Job) -> tuple[str, int]:
    """The array and the index of a job's task."""
    name, _, index = job.id.partition("/")
    return name, int(index) if index.isdecimal() else -1  # which no array has
