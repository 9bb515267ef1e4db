"""Hands runs to a Ray cluster, says where their trials are, and stops them."""

import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flipscale.errors import LaunchError
from flipscale.launch.breaker import why_stopped
from flipscale.launch.launcher import ClusterLauncher, JobState, Request, new_name
from flipscale.launch.ray import cluster
from flipscale.launch.ray.trials import Trials, bundle_of, job_id, keys_not_here, tasks_of
from flipscale.launch.site import Site
from flipscale.plain_files import is_fresh, or_none, read_text
from flipscale.run import LEASE_GRACE_SECONDS, Job, State
from flipscale.words import count


class RayLauncher(ClusterLauncher):
    """Trials of Ray Tune.

    address: HOST:PORT or http://HOST:PORT of a cluster; None is RAY_ADDRESS, else the Ray of this machine.
    """

    name = "ray"
    address: str | None = None

    def __init__(
        self,
        results: Path,
        site: Site | None = None,
        *,
        address: str | None = None,
        command: Sequence[str] | None = None,
    ):
        super().__init__(results, site, command=command)
        self.address = address
        if wrong := keys_not_here(self.site):
            raise LaunchError(
                f"This site file is not for --on ray: Ray cannot follow {', '.join(wrong)}. Leave that out."
            )

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        url = cluster.find(self.address)
        name = new_name()
        trials = self._trials(requests, name, url)
        trials.write(self.home)
        cluster.check_shared(url, trials.path(self.home))
        now = time.time()
        # Jobs are written down before they are sent: every sent job is known, whatever happens in between.
        for index, task in enumerate(trials.tasks):
            log = str(self.home / name / f"{index}.log")
            yield from (Job(run_id, self.name, job_id(name, index), now, log=log) for run_id in task.runs)
        try:
            cluster.submit(url, name, self._entrypoint(trials))
        except LaunchError:
            for run in trials.run_folders():
                run.clear_for_retry()
            raise

    def preview(self, requests: Sequence[Request]) -> str:
        trials = self._trials(requests, "NAME", "")
        shapes = Counter(f"{task.resources.devices} x {bundle_of(task, self.site)}" for task in trials.tasks)
        most = f", at most {self.site['throttle']} at once" if self.site["throttle"] else ""
        runs = count(len(requests), "run")
        tasks = count(len(trials.tasks), "trial")
        said = [f"# a Ray job: {runs} in {tasks} of Ray Tune{most}\n"]
        for shape, number in shapes.items():
            said.append(f"# {count(number, 'trial')} {'asks' if number == 1 else 'ask'} for {shape}\n")
        return "".join(said) + self._entrypoint(trials) + "\n"

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        states = {name: self._state_of(name) for name in {_name_of(job) for job in jobs}}
        return {job.run_id: self._with_wait(job, states[_name_of(job)]) for job in jobs}

    def _with_wait(self, job: Job, state: JobState) -> JobState:
        """The state, and what its trial waits for, which the driver writes down."""
        wanted = or_none(read_text, self.home / f"{job.id}.waits")
        return replace(state, says=f"{state.says}; it waits for {wanted}") if wanted and state.state else state

    def cancel(self, jobs: Sequence[Job], study: str | None = None) -> Sequence[str]:
        """Attendants stop the runs that they hold, and a driver ends when nothing is left. Both look at the marks in
        run folders, so they notice even if Ray cannot be asked."""
        return ()

    def send_later(self, command: Sequence[str], run_ids: Sequence[str]) -> str:
        """The driver, which was given `rest` when it was started."""
        return "Their driver"

    def _trials(self, requests: Sequence[Request], name: str, address: str) -> Trials:
        return Trials(
            name=name,
            tasks=tuple(tasks_of(requests, self.site)),
            address=address,
            site=self.site,
            runs=str(self.results / "runs"),
            command=self.command,
            folder=str(Path.cwd()),
            rest=tuple(self.rest),
        )

    def _entrypoint(self, trials: Trials) -> str:
        """The shell command of the Ray job."""
        path = trials.path(self.home)
        driver = shlex.join([self.python, "-P", "-u", "-m", "flipscale.launch.ray.driver", str(path)])
        return f"exec {driver} >>{shlex.quote(str(path.with_name('driver.log')))} 2>&1"

    def _state_of(self, name: str) -> JobState:
        """The state of a submission's Ray job."""
        trials = or_none(Trials.read, self.home / name / "submission.json")
        if trials is None:
            return JobState(None, f"its record {self.home / name}/submission.json is missing or damaged")
        try:
            cluster.check_address(trials.address, self.address)
            answer = cluster.ask(trials.address, name)
        except cluster.Unreachable as error:
            # A Ray that cannot be asked has not said that the job is gone; a driver that shows no life has.
            if is_fresh(trials.path(self.home), LEASE_GRACE_SECONDS):
                return JobState(State.WAITING, f"Ray cannot be asked: {error}", answered=False)
            return JobState(None, f"its driver shows no sign of life, and Ray cannot be asked: {error}")
        if answer.lives:
            return JobState(State.WAITING, str(answer))
        if why := why_stopped(trials.path(self.home).parent):
            return JobState(State.CANCELLED, why)
        return JobState(None, str(answer))


def _name_of(job: Job) -> str:
    """The submission of a job."""
    return job.id.partition("/")[0]
