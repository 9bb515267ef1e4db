"""Hands runs to workers of this machine, and stops them."""

import contextlib
import os
import secrets
import shlex
import signal
import time
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from flipscale.errors import DamagedFile, LaunchError
from flipscale.launch.breaker import why_stopped
from flipscale.launch.launcher import STOP_SECONDS, TRAIN, Request, Whereabouts, by_resources, grouped
from flipscale.launch.local.machine import slots_for
from flipscale.launch.local.queue import LocalQueue, LocalWorker
from flipscale.launch.site import Site
from flipscale.launch.tree import kill_tree
from flipscale.run import Holder, Job, RunFolder, State, is_alive
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER


class LocalLauncher:
    """Workers on this machine. Those of another host are not seen from here, only the leases they hold.

    `command` is what a worker starts on the list of runs. `workers` is the most there may be; None is one for each GPU
    or core.
    """

    ends_with_the_watcher = True
    poll_seconds = 0.0
    site_name = "local"

    def __init__(
        self, results: Path, site: Site | None = None, *, command: Sequence[str] = TRAIN, workers: int | None = None
    ):
        if site is not None:
            raise LaunchError(
                "A site file describes a cluster; give it together with --on slurm or --on ray, or leave it out."
            )
        self.home = results.resolve() / "local"
        self.command = list(command)
        self.workers = workers

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        for alike in grouped(requests, by_resources):
            yield from self._submit(alike)

    def _submit(self, requests: Sequence[Request]) -> list[Job]:
        """Start workers for runs that need the same resources."""
        groups = slots_for(requests[0].resources.gpus)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        queue = LocalQueue(self.home / name, [request.id for request in requests])
        queue.path.mkdir(parents=True)
        queue.start(self.command, groups, min(len(requests), self.workers or len(groups)))
        now = time.time()
        return [Job(request.id, "local", name, now, log=str(queue.path)) for request in requests]

    def preview(self, requests: Sequence[Request]) -> str:
        said = []
        for alike in grouped(requests, by_resources):
            groups = slots_for(alike[0].resources.gpus)
            workers = min(len(alike), self.workers or len(groups))
            said.append(f"# {count(workers, 'worker')} for {count(len(alike), 'run')}\n{shlex.join(self.command)} \\\n")
            said.append(
                " \\\n".join(f"    {shlex.quote(str(request.folder.path.resolve()))}" for request in alike) + "\n"
            )
        return "".join(said)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, Whereabouts]:
        """'waiting' while a worker of the submission lives, which takes up the remaining runs."""
        found = {}
        for name in {job.id for job in jobs}:
            if stopped := why_stopped(self.home / name):
                found[name] = Whereabouts(State.CANCELLED, stopped)
                continue
            try:
                queue = LocalQueue.read(self.home / name)
                found[name] = Whereabouts(State.WAITING if queue and queue.alive() else None)
            except DamagedFile as error:
                found[name] = Whereabouts(None, f"it is not known whether its worker is alive: {error}")
        return {job.run_id: found[job.id] for job in jobs}

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Wait until attendants have stopped these runs, which are marked as cancelled, and go on with the others.

        If nothing is left of a list, all its workers are stopped. Workers that do not stop are killed; LaunchError if
        another host or a foreign process holds a run. No worker is started.
        """
        cancelled = {job.run_id for job in jobs}
        for queue in self._queues_with(cancelled):
            if not queue.left():
                _stop(queue, queue.alive())
        self._end_held(cancelled)

    def _queues_with(self, run_ids: Set[str]) -> list[LocalQueue]:
        """The queues at work that have any of these runs on their list.

        There may be several of a run: one that was cancelled and is submitted again is on two lists.
        """
        found = []
        for path in sorted(self.home.glob("*/workers.json")):
            # A damaged list names no workers, but the lease of a run names its holder, which is waited for.
            with contextlib.suppress(DamagedFile):
                queue = LocalQueue.read(path.parent)
                if queue and queue.alive() and run_ids & {run.id for run in queue.folders}:
                    found.append(queue)
        return found

    def _end_held(self, run_ids: Set[str]) -> None:
        """Wait until no process holds these runs; kill those that take too long; raise for one on another host."""
        end = time.monotonic() + STOP_SECONDS
        while held := list(self._held(run_ids)):
            for run_id, holder in held:
                if self._is_a_strangers(run_id, holder):
                    raise LaunchError(
                        f"{run_id} is marked as cancelled. Its lease names process {holder.pid}, which is not a "
                        "training of yours for this results folder, so no signal was sent; its owner has to end "
                        "it."
                    )
                if time.monotonic() > end and not holder.is_here:
                    raise LaunchError(f"{run_id} runs on {holder.host} and has not stopped; end it there.")
                if time.monotonic() > end:
                    kill_tree(holder.pid)
            time.sleep(0.05)

    def _held(self, run_ids: Set[str]) -> Iterator[tuple[str, Holder]]:
        """Those of these runs that local workers hold, with their holders."""
        for run_id in sorted(run_ids):
            holder = self._run(run_id).holder()
            if holder and holder.alive and holder.job is not None and holder.job.startswith("local/"):
                yield run_id, holder

    def _is_a_strangers(self, run_id: str, holder: Holder) -> bool:
        """Whether the lease names a living process of this machine that is none of ours."""
        is_ours = not holder.is_here or holder.may_be_signalled(self._run(run_id).path)
        return not is_ours and is_alive(holder.pid, holder.born)  # It may just have ended.

    def _run(self, run_id: str) -> RunFolder:
        return RunFolder(self.home.parent / RUNS_FOLDER / run_id)


# Stopping


def _stop(queue: LocalQueue, doomed: Sequence[LocalWorker]) -> None:
    """Ask these workers of the list to stop, wait until they have, and kill with all that they started those that do
    not. A process that is not a worker of the list gets no signal, whatever workers.json says."""
    ours = queue.ours()
    workers = [worker for worker in doomed if worker in ours]
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while any(worker.lives for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    for worker in workers:
        if worker.lives:
            kill_tree(worker.pid)
    while any(worker.lives for worker in workers):
        time.sleep(0.05)
