"""Hands runs to SLURM, says where their jobs are, and stops them."""

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from flipscale.errors import LaunchError, RunFolderError
from flipscale.guard import is_plain
from flipscale.launch.breaker import why_stopped
from flipscale.launch.launcher import ClusterLauncher, JobState, NoPlace, Request, new_name
from flipscale.launch.site import PREDICTED
from flipscale.launch.slurm import scheduler
from flipscale.launch.slurm.arrays import JobArray, arrays_of
from flipscale.plain_files import or_none
from flipscale.run import Job, RunFolder, State
from flipscale.settings.declarations import Resources
from flipscale.words import count, duration, memory
from flipscale.workspace import RUNS_FOLDER

JUST_SENT_SECONDS = 60.0
"""No job is called lost so soon after its sbatch: a busy or backed-up controller may list it late."""

SENDER_SECONDS = 1800
SENDER_MEMORY = 2 * 1024**3
"""What a job that sends the rest of a study asks for, at most; it has one core."""


_DECODED = r'"(webdataset|folder)": \{'
"""A data set, in the settings of a run, whose images are decoded."""

_PATH = r'"(?:urls|path|file|folder|train|test|\w*images|\w*labels)": "([^":]+)"'
"""A path of data or weights in the settings of a run, and no URL."""


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
                log = str(array.log(self.home, index))
                now = time.time()
                yield from (Job(run_id, self.name, f"{array.name}/{index}", now, log=log) for run_id in run_ids)
            try:
                numbers[array.name] = send(array, self.home, numbers.get(array.after)).slurm_id
            except LaunchError as error:
                if not isinstance(error, scheduler.ControllerAway):  # Then SLURM may have taken it.
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
            configured = self._configuration()
            before = self.parents_under_way(requests)
        except LaunchError:  # SLURM is not here
            configured = scheduler.Configuration()
            before = {}
        for array in self._arrays(requests, configured, before):
            first = [self._run(run_id).path for run_id in next(iter(array.tasks.values()))]
            script = array.path(self.home).with_suffix(".sh")
            lanes = f", up to {array.lanes} at once in each" if array.lanes > 1 else ""
            runs = count(len(array.run_ids), "run")
            jobs = count(len(array.tasks), "job")
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
        if entry and entry.state == "CANCELLED":
            return JobState(State.CANCELLED, str(entry))
        if entry:
            return JobState(None, f"{entry}; {_output(job, entry.id)}")
        if time.time() - job.submitted < JUST_SENT_SECONDS:
            return JobState(State.WAITING, "its job was sent within the last minute, and squeue does not list it yet")
        return JobState(None, self._last_seen(job))

    def _last_seen(self, job: Job) -> str:
        """What is known of a job that SLURM has forgotten: its number, where it was, what it said."""
        array = next(iter(self._arrays_named([_array_of(job)]).values()), None)
        number = f"{array.slurm_id}_{job.id.rpartition('/')[2]}" if array and array.slurm_id else "NUMBER"
        holder = self._run(job.run_id).last_holder()
        on = f"; it was last on {holder.node}" if holder and holder.node else ""
        return f"SLURM no longer knows its job {number}{on}; {_output(job, number)}"

    def cancel(self, jobs: Sequence[Job], study: str | None = None) -> list[str]:
        """Stop the tasks that have no other run left. In the others, the attendant stops the runs that it holds."""
        if not jobs and not shutil.which("squeue"):
            return []
        records = self.home.glob("*/[0-9]*.json")
        arrays = self._arrays_named([f"{path.parent.name}-{path.stem}" for path in records])
        try:
            entries = self._queue(arrays or [""], patient=True)
        except LaunchError as error:
            raise LaunchError(
                "The runs are marked as cancelled: active runs stop, and waiting jobs end as soon as they "
                f"start. The waiting jobs could not be removed from the queue. {error}"
            ) from None
        living = {key: entry for key, entry in entries.items() if entry.lives}
        doomed = []
        for key in {job.id for job in jobs} & living.keys():
            name, _, index = key.partition("/")
            if name in arrays and all(self._run(run_id).is_over() for run_id in arrays[name].tasks[int(index)]):
                doomed.append(key)
        rest = [key for key in living if study and key not in doomed and key.rsplit("-", 4)[0] == self._prefix(study)]
        scheduler.cancel(living[key] for key in doomed + rest)
        return [key for key in rest if not key.endswith("-rest/0")]

    def send_later(self, command: Sequence[str], run_ids: Sequence[str]) -> str:
        """A small job does it, if none waits that does it already.

        Where there is no place for it, it takes that of the last job, whose runs are then sent later. In such a job
        itself, that is started again in its turn.
        """
        from flipscale.launch.slurm.batch import send

        prefix = self._prefix(self.study)
        living = {key: entry for key, entry in scheduler.queue(self.cluster, patient=True).items() if entry.lives}
        for key, entry in living.items():
            if key.startswith(f"{prefix}-") and key.endswith("-rest/0") and entry.state == "PENDING":
                return f"Job {entry.id}"
        jobs = [job.id for run_id in run_ids if (job := self._open_job(run_id)) and job.id in living]
        sender = JobArray(
            name=f"{prefix}-{new_name()}-rest",
            tasks={0: ()},
            resources=Resources(),
            cores=1,
            lanes=1,
            memory=SENDER_MEMORY if self.site["memory_per_process"] and self._configuration().counts_memory else None,
            time=min(self.site["time"] or SENDER_SECONDS, SENDER_SECONDS),
            avoid=(),
            site=self.site,
            runs=str(self.results / RUNS_FOLDER),
            command=tuple(command),
            after_jobs=tuple(living[job].array for job in jobs),
            cluster=self.cluster,
        )
        for pause in (0, *scheduler.PAUSES):
            time.sleep(pause)
            try:
                number = send(sender, self.home).slurm_id
                return f"Job {number}_0 (output: {sender.log(self.home, 0)})"
            except NoPlace:
                if os.environ.get("SLURM_JOB_NAME", "").endswith("-rest"):
                    scheduler.requeue(f"{os.environ['SLURM_ARRAY_JOB_ID']}_0")
                    return "This job"
                if jobs and not pause:
                    last = max(jobs, key=lambda job: (living[job].state == "PENDING", int(living[job].array), job))
                    scheduler.cancel([living[last]])
                    name, _, index = last.partition("/")
                    for run_id in self._arrays_named([name])[name].tasks[int(index)]:
                        self._run(run_id).clear_for_retry()
        return ""

    def stop(self, submission: str) -> None:
        """Call off what of a submission has not begun. A job that cannot be stopped notices when it begins."""
        with contextlib.suppress(LaunchError):
            entries = self._queue([array.name for array in self._arrays_in(submission)])
            waiting = {key: entry for key, entry in entries.items() if entry.state == "PENDING"}
            scheduler.cancel(
                (waiting[key] for key in waiting if key.rpartition("-")[0] == submission), waiting_only=True
            )

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
        room = scheduler.room_in(site["partition"], self.cluster)
        arrays = arrays_of(
            requests,
            site,
            site["max_array_size"] or configured.max_array_size,
            f"{self._prefix(self.study)}-{new_name()}",
            command=self.command,
            cluster=self.cluster,
            longest=room.seconds,
            under_way=before,
        )
        for remark in self._remarks(requests, arrays, room):
            print(f"warning: {remark}", file=sys.stderr)
        return arrays

    def _prefix(self, study: str) -> str:
        """What the names of the study's submissions in this results folder begin with."""
        return f"{study}-{hashlib.sha256(os.fsencode(self.results)).hexdigest()[:8]}"

    def _remarks(self, requests: Sequence[Request], arrays: Sequence[JobArray], room: scheduler.Room) -> Iterator[str]:
        """What will go wrong with these arrays, as far as it can be known before they are sent."""
        site = self.site
        partition = site["partition"] or "(the default)"
        if room.seconds <= site["warning"]:
            yield (
                f"partition {partition} ends jobs after {duration(room.seconds)}, and the site file's warning comes "
                f"{duration(site['warning'])} before the end, so no run would begin; lower warning"
            )
        needed = max((array.memory or 0) * array.lanes for array in arrays)
        if needed > room.memory:
            yield (
                f"jobs ask for {memory(needed)} of memory on a node, and the largest node of partition {partition} has "
                f"{memory(room.memory)}; choose another partition, or write memory_per_process"
            )
        declared = json.dumps([request.asked.settings for request in requests], ensure_ascii=False)
        if site["cpus_per_process"] == 1 and requests[0].resources.gpus and re.search(_DECODED, declared):
            yield "a GPU will wait for the one core that decodes its images; write cpus_per_process into the site file"
        if site["container"]:
            mounts = [mount.split(":")[-1] for mount in site["container"]["mounts"]]
            for path in sorted(set(re.findall(_PATH, declared))):
                seen = Path(os.environ.get("FLIPSCALE_DATA", ""), path).absolute()
                if not any(map(seen.is_relative_to, [*mounts, self.results])):
                    yield f"the container mounts no folder with {seen}; add one to container.mounts"
                    break

    def _queue(self, names: Collection[str], *, patient: bool = False) -> dict[str, scheduler.QueueEntry]:
        """What the clusters of these arrays have of this user's tasks, by the ids of our jobs."""
        arrays = self._arrays_named(names)
        entries: dict[str, scheduler.QueueEntry] = {}
        for cluster in {arrays[name].cluster if name in arrays else None for name in names}:
            entries |= scheduler.queue(cluster, patient=patient)
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


def _output(job: Job, number: str) -> str:
    """Where the output of a job is, or that there is none."""
    if is_plain(Path(job.log)) and Path(job.log).stat().st_size:
        return f"its output is in {job.log}"
    return f"it ended before its first line of log; `sacct -j {number}` may say why"
