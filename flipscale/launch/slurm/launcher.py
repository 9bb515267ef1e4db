"""Hands runs to SLURM, says where their jobs are, and stops them."""

import contextlib
import os
import shlex
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from flipscale.errors import LaunchError, RunFolderError
from flipscale.guard import is_plain
from flipscale.launch.breaker import why_stopped
from flipscale.launch.launcher import ClusterLauncher, JobState, Request, new_name
from flipscale.launch.site import PREDICTED
from flipscale.launch.slurm import scheduler
from flipscale.launch.slurm.arrays import JobArray, arrays_of
from flipscale.plain_files import or_none
from flipscale.run import Job, RunFolder, State
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER

JUST_SENT_SECONDS = 60.0
"""No job is called lost so soon after its sbatch: a busy or backed-up controller may list it late."""


class SlurmLauncher(ClusterLauncher):
    """Job arrays of SLURM."""

    name = "slurm"

    @property
    def cluster(self) -> str | None:
        """The cluster that jobs go to, as sbatch itself would choose; its variables are not passed on to it."""
        named = [self.site["cluster"], *map(os.environ.get, ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"))]
        return next(filter(None, named), None)

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        from flipscale.launch.slurm.batch import send

        numbers: dict[str | None, str | None] = {}
        sent = 0
        for array in self._arrays(requests, self._configuration(), self.parents_under_way(requests)):
            # Jobs are written down before they are sent: every sent job is known, whatever happens in between.
            for index, run_ids in array.tasks.items():
                log, now = str(array.log(self.home, index)), time.time()
                yield from (Job(run_id, self.name, f"{array.name}/{index}", now, log=log) for run_id in run_ids)
            try:
                numbers[array.name] = send(array, self.home, numbers.get(array.after)).slurm_id
            except LaunchError as error:
                for run_id in array.run_ids:
                    self._run(run_id).clear_for_retry()
                rest = (
                    f" {sent} of {count(len(requests), 'run')} are sent; submit again for the others." if sent else ""
                )
                raise type(error)(f"{error}{rest}") from None
            sent += len(array.run_ids)

    def preview(self, requests: Sequence[Request]) -> str:
        from flipscale.launch.slurm.batch import script_of, worker_command

        said = []
        try:
            configured, before = self._configuration(), self.parents_under_way(requests)
        except LaunchError:  # SLURM is not here
            configured, before = scheduler.Configuration(), {}
        for array in self._arrays(requests, configured, before):
            first = [self._run(run_id).path for run_id in next(iter(array.tasks.values()))]
            script = array.path(self.home).with_suffix(".sh")
            lanes = f", up to {array.lanes} at once in each" if array.lanes > 1 else ""
            runs, jobs = count(len(array.run_ids), "run"), count(len(array.tasks), "job")
            said.append(f"# sbatch {script}: {runs} in {jobs}{lanes}\n")
            said.append(f"# in the first of them: {shlex.join(worker_command(array, first))}\n")
            said.append(script_of(array, self.home, f"NUMBER-OF-{array.after}" if array.after else None) + "\n")
        return "".join(said)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        names = {_array_of(job) for job in jobs}
        try:
            entries = self._queue(names, patient=closely)
        except LaunchError as error:
            # SLURM, if it cannot be asked, has not said that the jobs are gone.
            return {job.run_id: JobState(State.WAITING, str(error), answered=False) for job in jobs}
        stopped = {name: why_stopped(self.home / name.rpartition("-")[0]) for name in names}
        return {job.run_id: self._state_of(job, entries.get(job.id), stopped[_array_of(job)]) for job in jobs}

    def _state_of(self, job: Job, entry: scheduler.QueueEntry | None, stopped: str | None) -> JobState:
        if entry and entry.lives:
            # Its job may run and do another run of its task: the lease tells.
            return JobState(State.WAITING, str(entry))
        if stopped:
            return JobState(State.CANCELLED, stopped)
        if entry:
            return JobState(State.CANCELLED if entry.state == "CANCELLED" else None, str(entry))
        if time.time() - job.submitted < JUST_SENT_SECONDS:
            return JobState(State.WAITING, "its job was sent within the last minute, and squeue does not list it yet")
        return JobState(None, self._last_seen(job))

    def _last_seen(self, job: Job) -> str:
        """What is known of a job that SLURM has forgotten: its number, where it was, what it said."""
        array = next(iter(self._arrays_named([_array_of(job)]).values()), None)
        number = f" {array.slurm_id}_{job.id.rpartition('/')[2]}" if array and array.slurm_id else ""
        holder = self._run(job.run_id).last_holder()
        on = f"; it was last on {holder.node}" if holder and holder.node else ""
        said = f"; its output is in {job.log}" if is_plain(Path(job.log)) else "; it wrote no log, so it never began"
        return f"SLURM no longer knows its job{number}{on}{said}"

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the tasks that have no other run left. In the others, the attendant stops the runs that it holds."""
        arrays = self._arrays_named({_array_of(job) for job in jobs})
        try:
            entries = self._queue(arrays, patient=True)
        except LaunchError as error:
            raise LaunchError(
                "The runs are marked as cancelled: active runs stop, and waiting jobs end as soon as they "
                f"start. The waiting jobs could not be removed from the queue. {error}"
            ) from None
        doomed = {}
        for job in jobs:
            name, _, index = job.id.partition("/")
            entry = entries.get(job.id)
            if entry and entry.lives and all(self._run(run_id).is_over() for run_id in arrays[name].tasks[int(index)]):
                doomed[job.id] = entry
        scheduler.cancel(doomed.values())

    def stop(self, submission: str) -> None:
        """Call off what of a submission has not begun. A job that cannot be stopped notices when it begins."""
        with contextlib.suppress(LaunchError):
            entries = self._queue([array.name for array in self._arrays_in(submission)]).values()
            scheduler.cancel((entry for entry in entries if entry.state == "PENDING"), waiting_only=True)

    def runs_of(self, submission: str) -> Iterator[RunFolder]:
        """All runs of a submission."""
        for array in self._arrays_in(submission):
            yield from map(self._run, array.run_ids)

    def parents_under_way(self, requests: Sequence[Request]) -> dict[str, str]:
        """SLURM's jobs of parents that are not requested because somebody is doing them already, by their run's id."""
        ids = {request.id for request in requests}
        parents = {parent for request in requests for parent in request.parents} - ids
        jobs = [job for parent in sorted(parents) if (job := self._open_job(parent))]
        entries = self._queue({_array_of(job) for job in jobs}, patient=True)
        return {job.run_id: entry.id for job in jobs if (entry := entries.get(job.id)) and entry.lives}

    def _open_job(self, run_id: str) -> Job | None:
        """The job of SLURM that is to do this run; None if it is over, or is another launcher's."""
        run = self._run(run_id)
        with contextlib.suppress(RunFolderError):  # Then SLURM does not know it either.
            job = None if run.is_over() else run.job()
            return job if job and job.launcher == self.name else None
        return None

    def _configuration(self) -> scheduler.Configuration:
        """How the cluster is set up, where there is one to ask and the site leaves that open."""
        is_open = not self.site["max_array_size"] or self.site["memory_per_process"] == PREDICTED
        return (
            scheduler.configuration(self.cluster) if is_open and shutil.which("scontrol") else scheduler.Configuration()
        )

    def _arrays(
        self, requests: Sequence[Request], configured: scheduler.Configuration, before: Mapping[str, str]
    ) -> list[JobArray]:
        """The arrays of these runs. before: SLURM's jobs of parents that are under way."""
        site = self.site
        if site["memory_per_process"] == PREDICTED and not configured.counts_memory:
            site = {**site, "memory_per_process": None}
        return arrays_of(
            requests,
            site,
            site["max_array_size"] or configured.max_array_size,
            new_name(),
            command=self.command,
            cluster=self.cluster,
            under_way=before,
        )

    def _queue(self, names: Collection[str], *, patient: bool = False) -> dict[str, scheduler.QueueEntry]:
        """What SLURM has of the tasks of these arrays, by the ids of our jobs; each cluster has arrays of its own."""
        arrays = self._arrays_named(names)
        asked: dict[str | None, list[str]] = {}
        for name in names:
            asked.setdefault(arrays[name].cluster if name in arrays else None, []).append(name)
        entries: dict[str, scheduler.QueueEntry] = {}
        for cluster, of_cluster in asked.items():
            entries |= scheduler.queue(of_cluster, cluster, patient=patient)
        return entries

    def _arrays_named(self, names: Iterable[str]) -> dict[str, JobArray]:
        """The arrays of these names, by name, except those whose record is missing or damaged."""
        arrays = {}
        for name in names:
            submission, _, number = name.rpartition("-")
            if array := or_none(JobArray.read, self.home / submission / f"{number}.json"):
                arrays[name] = array
        return arrays

    def _arrays_in(self, submission: str) -> list[JobArray]:
        return [JobArray.read(path) for path in sorted((self.home / submission).glob("[0-9]*.json"))]

    def _run(self, run_id: str) -> RunFolder:
        return RunFolder(self.results / RUNS_FOLDER / run_id)


def _array_of(job: Job) -> str:
    return job.id.partition("/")[0]
