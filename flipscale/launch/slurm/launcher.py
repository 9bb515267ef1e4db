"""Hands runs to SLURM, says where their jobs are, and stops them."""

import contextlib
import math
import os
import shlex
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from flipscale.errors import LaunchError, RunFolderError
from flipscale.guard import is_plain
from flipscale.identity import labelled_set, scored_sets, stage
from flipscale.launch.breaker import why_stopped
from flipscale.launch.launcher import ClusterLauncher, JobState, NoPlace, Request, new_name
from flipscale.launch.site import PREDICTED
from flipscale.launch.slurm import scheduler
from flipscale.launch.slurm.arrays import JobArray, arrays_of
from flipscale.plain_files import or_none
from flipscale.run import Job, RunFolder, State
from flipscale.settings import DataSet, EvaluationSet, FineTuningSet, Resources
from flipscale.words import count, duration, memory
from flipscale.workspace import RUNS_FOLDER

JUST_SENT_SECONDS = 60.0
"""No job is called lost so soon after its sbatch: a busy or backed-up controller may list it late."""

SENDER_SECONDS = 1800
SENDER_MEMORY = 2 * 1024**3
"""What a job that sends the rest of a study asks for, at most; it has one core."""


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
        arrays = self._arrays_named({_array_of(job) for job in jobs})
        if study and not jobs and not shutil.which("squeue"):
            return []
        try:
            entries = self._queue(arrays, patient=True)
            of_study = self._of_study(study) if study else {}
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
                doomed[entry.id] = entry
        scheduler.cancel({**of_study, **doomed}.values())
        return [job for job in of_study if job not in doomed]

    def _of_study(self, study: str) -> dict[str, scheduler.QueueEntry]:
        """The living jobs of a study in this results folder, by SLURM's ids: also those that no record names."""
        records = [or_none(JobArray.read, path) for path in self.home.glob("*/[0-9]*.json")]
        clusters = {record.cluster for record in records if record} or {self.cluster}
        runs = str(self.results / RUNS_FOLDER)
        return {
            entry.id: entry
            for cluster in clusters
            for entry in scheduler.jobs(cluster, patient=True)
            if entry.lives and entry.name == scheduler.job_name(study, runs, scheduler.array_named(entry.name))
        }

    def send_later(self, command: Sequence[str], jobs: Sequence[Job]) -> str:
        """A small job does it, if none waits that does it already.

        Where there is no place for it, it takes that of the last job, whose runs are then sent later. In such a job
        itself, that is started again in its turn.
        """
        from flipscale.launch.slurm.batch import send

        ours = self._of_study(self.study).values()
        for entry in ours:
            if entry.name.endswith("-rest") and entry.state == "PENDING":
                return f"Job {entry.id}"
        before = self._arrays_named(map(_array_of, jobs)).values()
        sender = JobArray(
            name=f"{new_name()}-rest",
            tasks={0: ()},
            resources=Resources(),
            cores=1,
            lanes=1,
            memory=SENDER_MEMORY if self._configuration().counts_memory else None,
            time=min(self.site["time"] or SENDER_SECONDS, SENDER_SECONDS),
            avoid=(),
            site=self.site,
            study=self.study,
            runs=str(self.results / RUNS_FOLDER),
            command=tuple(command),
            after_jobs=tuple(each.slurm_id for each in before if each.slurm_id and each.cluster == self.cluster),
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
                if not pause:
                    self._take_back(ours)
        return ""

    def _take_back(self, entries: Collection[scheduler.QueueEntry]) -> None:
        """Cancel the last of these jobs, a waiting one if there is any, and have its runs sent later."""
        if not entries:
            return
        last = max(entries, key=lambda each: (each.state == "PENDING", *map(int, each.id.split("_"))))
        scheduler.cancel([last])
        for array in self._arrays_named([scheduler.array_named(last.name)]).values():
            for run_id in array.tasks[int(last.id.partition("_")[2])]:
                self._run(run_id).clear_for_retry()

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
        partitions = self._partitions()
        arrays = arrays_of(
            requests,
            site,
            site["max_array_size"] or configured.max_array_size,
            new_name(),
            command=self.command,
            study=self.study,
            cluster=self.cluster,
            longest=max((each.limit for each in partitions), default=math.inf),
            under_way=before,
        )
        self.remarks = list(self._remarks(requests, arrays, partitions))
        return arrays

    def _remarks(
        self, requests: Sequence[Request], arrays: Sequence[JobArray], partitions: Sequence[scheduler.Partition]
    ) -> Iterator[str]:
        """What will go wrong with these arrays, as far as it can be known before they are sent."""
        site = self.site
        partition = site["partition"] or "(the default)"
        limit = max((each.limit for each in partitions), default=math.inf)
        if limit <= site["warning"]:
            yield (
                f"partition {partition} ends jobs after {duration(limit)}, and the warning of the site file comes "
                f"{duration(site['warning'])} before the end, so no run would begin; lower warning"
            )
        needed = max((array.memory or 0) * array.lanes for array in arrays)
        largest = max((each.memory for each in partitions), default=math.inf)
        if needed > largest:
            yield (
                f"jobs ask for {memory(needed)} of memory on a node, and the largest node of partition {partition} has "
                f"{memory(largest)}; choose another partition, or write memory_per_process"
            )
        sets = [each for request in requests for each in _sets(request)]
        is_decoded = any(each.kind in ("webdataset", "folder") for each in sets)
        if is_decoded and site["cpus_per_process"] == 1 and requests[0].resources.gpus:
            yield "a GPU will wait for the one core that decodes its images; write cpus_per_process into the site file"
        if site["container"]:
            mounts = [mount.split(":")[-1] for mount in site["container"]["mounts"]]
            paths = {path for each in sets for path in _paths(each)}
            outside = [path for path in paths if not any(map(path.is_relative_to, [*mounts, self.results]))]
            if outside:
                yield f"the container mounts no folder with {min(outside)}; add one to container.mounts"

    def _partitions(self) -> list[scheduler.Partition]:
        """The partitions that jobs may go to."""
        names = (self.site["partition"] or "").split(",")
        return [
            each
            for each in scheduler.partitions(self.cluster)
            if each.name in names or (each.is_default and not self.site["partition"])
        ]

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


def _sets(request: Request) -> list[DataSet | EvaluationSet | FineTuningSet]:
    """The data sets that a run reads."""
    with contextlib.suppress(RunFolderError):  # Its worker reports this.
        settings = stage(request.asked.settled)
        if settings.fine_tuning is None:
            return [settings.data, *scored_sets(settings).values()]
        return [labelled_set(settings)]
    return []


def _paths(data: DataSet | EvaluationSet | FineTuningSet) -> Iterator[Path]:
    """The paths in a declaration, as a job sees them."""
    for value in vars(data).values():
        if isinstance(value, str) and "/" in value and ":" not in value:
            yield Path(os.environ.get("FLIPSCALE_DATA", ""), value).absolute()


def _output(job: Job, number: str) -> str:
    """Where the output of a job is, or that there is none."""
    if is_plain(Path(job.log)) and Path(job.log).stat().st_size:
        return f"its output is in {job.log}"
    return f"it ended before its first line of log; `sacct -j {number}` may say why"
