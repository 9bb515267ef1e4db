"""Runs on SLURM: one job array for many runs, sent by one sbatch, and one squeue for all of them.

A submission is a folder, results/slurm/NAME, and each of its arrays in it:

    K.json          the array: which runs each task does, the site, SLURM's number
    K.sh            the batch script
    K_TASK.log      what the task said, over all its attempts
    stopped.json    why the whole submission stopped, if it did

What runs in a job is an attendant (task.py), which starts `train` with srun and sees its runs through: warnings,
requeues, failures. A job is found by the name of its array, never by SLURM's number alone: a new cluster counts from 1
again. So all of it can be rebuilt from these files by any later process, and nothing depends on accounting.

arrays.py      which runs share a job, and which jobs an array
batch.py       the batch script, and its way to SLURM
scheduler.py   what SLURM is asked
task.py        what a job does
"""

import secrets
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flipscale.errors import LaunchError
from flipscale.launch.attend import why_stopped
from flipscale.launch.launcher import TRAIN, Job, Request, Whereabouts
from flipscale.launch.site import DEFAULTS, PREDICTED, Site
from flipscale.launch.slurm import scheduler
from flipscale.launch.slurm.arrays import Array, arrays_of, job_name_of
from flipscale.run import FailureKind, RunFolder
from flipscale.words import count
from flipscale.workspace import Workspace


class SlurmLauncher:
    """Job arrays of SLURM. `site` is read by `read_site`; `command` is what a worker executes."""

    ends_with_the_watcher = False
    poll_seconds = 5.0

    def __init__(self, results: Path, site: Site | None = None, *, command: Sequence[str] | None = None):
        self.results = results.resolve()
        self.home = self.results / "slurm"
        self.site = DEFAULTS if site is None else site
        python = self.site["python"]
        self.command = tuple(command or ((python, *TRAIN[1:]) if python else TRAIN))

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        from flipscale.launch.slurm.batch import send

        numbers: dict[str, str] = {}
        sent = 0
        for array in self._arrays(requests):
            # Jobs are written down before they are sent: what is sent is known, whatever happens in between.
            yield from self._jobs(array)
            try:
                numbers[array.name] = send(array, self.home, numbers.get(array.after or ""))
            except LaunchError as error:
                for run_id in _runs_of(array):
                    (Workspace(self.results).run(run_id) / "job.json").unlink(missing_ok=True)
                rest = (
                    f" {sent} of {count(len(requests), 'run')} are sent; submit again for the others." if sent else ""
                )
                raise LaunchError(f"{error}{rest}") from None
            sent += len(_runs_of(array))
            replace(array, slurm_id=numbers[array.name]).write(self.home)

    def preview(self, requests: Sequence[Request]) -> str:
        from flipscale.launch.slurm.batch import script_of, worker_command

        said = []
        for array in self._arrays(requests):
            first = [self._run(run_id).path for run_id in next(iter(array.tasks.values()))]
            script = array.path(self.home).with_suffix(".sh")
            runs = count(sum(map(len, array.tasks.values())), "run")
            lanes = f", up to {array.lanes} at once in each" if array.lanes > 1 else ""
            said.append(f"# sbatch {script}: {runs} in {count(len(array.tasks), 'job')}{lanes}\n")
            said.append(f"# in the first of them: {shlex.join(worker_command(array, first))}\n")
            said.append(script_of(array, self.home, f"NUMBER-OF-{array.after}" if array.after else None) + "\n")
        return "".join(said)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, Whereabouts]:
        tasks = {job.run_id: _task_of(job) for job in jobs}
        names = {name for name, _ in tasks.values()}
        try:
            entries = scheduler.queue(map(job_name_of, names), patient=closely)
        except LaunchError as error:
            # Whoever cannot be asked has not said that the jobs are gone.
            away = isinstance(error, scheduler.ControllerAway)
            says = str(error) if away else f"SLURM cannot be asked: {error}"
            return dict.fromkeys(tasks, Whereabouts("waiting", says, answered=False))
        if closely:
            entries = self._with_history(tasks.values(), entries)
        stopped = {name: why_stopped(self.home / name.rpartition("-")[0]) for name in names}
        return {
            run_id: _whereabouts(entries.get(job_name_of(name), {}).get(index), stopped[name])
            for run_id, (name, index) in tasks.items()
        }

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the tasks of which no other run is left. Of the others the attendant stops what it has in hand."""
        tasks = {_task_of(job) for job in jobs}
        arrays = {name: array for name in {name for name, _ in tasks} if (array := self._read(name))}
        try:
            entries = scheduler.queue((array.job_name for array in arrays.values()), patient=True)
        except LaunchError as error:
            raise LaunchError(
                f"The runs are marked as cancelled: those in hand stop, and jobs that wait end as soon as they start. "
                f"Those could not be taken from the queue. {error}"
            ) from None
        ids: list[str] = []
        for name, array in arrays.items():
            living = {index: one for index, one in entries.get(array.job_name, {}).items() if one.lives}
            doomed = [
                one.id
                for index, one in living.items()
                if (name, index) in tasks and all(self._run(run_id).is_over() for run_id in array.tasks[index])
            ]
            whole = doomed and len(doomed) == len(living)
            ids += [doomed[0].partition("_")[0]] if whole else doomed
        if ids:
            scheduler.cancel(ids)

    def stop(self, submission: str) -> None:
        """Call off what of a submission has not begun."""
        arrays = [Array.read(path) for path in sorted((self.home / submission).glob("[0-9]*.json"))]
        entries = scheduler.queue(array.job_name for array in arrays)
        waiting = [one.id for tasks in entries.values() for one in tasks.values() if one.state == "PENDING"]
        if ids := dict.fromkeys(one.partition("_")[0] for one in waiting):
            scheduler.cancel(list(ids), waiting_only=True)

    def runs_of(self, submission: str) -> Iterator[RunFolder]:
        """All runs of a submission."""
        for path in sorted((self.home / submission).glob("[0-9]*.json")):
            yield from map(self._run, _runs_of(Array.read(path)))

    def parents_under_way(self, requests: Sequence[Request]) -> dict[str, str]:
        """SLURM's jobs of parents that are not asked for as somebody does them already, by their run's id."""
        ids = {request.id for request in requests}
        parents = {parent for request in requests for parent in request.parents} - ids
        jobs = [
            job
            for parent in sorted(parents)
            if not self._run(parent).is_over() and (job := Job.read(self._run(parent))) and job.launcher == "slurm"
        ]
        if not jobs:
            return {}
        tasks = {job.run_id: _task_of(job) for job in jobs}
        entries = scheduler.queue((job_name_of(name) for name, _ in tasks.values()), patient=True)
        found = {run_id: entries.get(job_name_of(name), {}).get(index) for run_id, (name, index) in tasks.items()}
        return {run_id: entry.id for run_id, entry in found.items() if entry and entry.lives}

    def _arrays(self, requests: Sequence[Request]) -> list[Array]:
        site, size = self._site()
        submission = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        before = self.parents_under_way(requests)
        return arrays_of(requests, site, size, submission, command=self.command, under_way=before)

    def _site(self) -> tuple[Site, int]:
        """The site, and how many tasks an array may have. The cluster is asked what it leaves open, if one is here."""
        size, is_predicted = self.site["max_array_size"], self.site["memory_per_process"] == PREDICTED
        if size and not is_predicted:
            return self.site, size
        found = scheduler.configuration() if shutil.which("scontrol") else scheduler.Configuration()
        if is_predicted and not found.counts_memory:
            return {**self.site, "memory_per_process": None}, size or found.max_array_size
        return self.site, size or found.max_array_size

    def _jobs(self, array: Array) -> Iterator[Job]:
        now = time.time()
        for index, run_ids in array.tasks.items():
            log = str(array.log(self.home, index))
            for run_id in run_ids:
                yield Job(run_id, "slurm", f"{array.name}/{index}", now, log=log)

    def _with_history(
        self, tasks: Iterable[tuple[str, int]], entries: Mapping[str, dict[int, scheduler.Entry]]
    ) -> dict[str, dict[int, scheduler.Entry]]:
        """What squeue has, and of what it has forgotten what accounting says."""
        forgotten = {name for name, index in tasks if index not in entries.get(job_name_of(name), {})}
        arrays = {array.job_name: array.slurm_id for name in forgotten if (array := self._read(name))}
        history = scheduler.history({name: number for name, number in arrays.items() if number})
        return {name: {**history.get(name, {}), **entries.get(name, {})} for name in entries.keys() | history.keys()}

    def _read(self, name: str) -> Array | None:
        submission, _, number = name.rpartition("-")
        path = self.home / submission / f"{number}.json"
        return Array.read(path) if path.exists() else None

    def _run(self, run_id: str) -> RunFolder:
        return RunFolder(Workspace(self.results).run(run_id))


def _whereabouts(entry: scheduler.Entry | None, stopped: str | None) -> Whereabouts:
    if entry and entry.lives:
        return Whereabouts("waiting", str(entry))  # Its job may run and do another run of its task: the lease tells.
    if stopped:
        return Whereabouts("cancelled", stopped)
    if entry and entry.state == "CANCELLED":
        return Whereabouts("cancelled", str(entry))
    if entry is None:
        return Whereabouts(None, "SLURM knows its job no more")
    # That a job of its own accord came to an end is not what ended its run.
    return Whereabouts(None, str(entry), FailureKind(entry.kind) if entry.kind else None)


def _runs_of(array: Array) -> list[str]:
    return [run_id for run_ids in array.tasks.values() for run_id in run_ids]


def _task_of(job: Job) -> tuple[str, int]:
    """The array and the index of a job's task."""
    name, _, index = job.id.partition("/")
    return name, int(index)
