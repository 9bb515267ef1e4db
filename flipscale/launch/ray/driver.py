"""The Ray job: `python -m flipscale.launch.ray.driver SUBMISSION.json`, started by Ray's Jobs API.

It hands the tasks of a submission to Ray Tune, each as a trial, until none is left. A child's task is handed out when
its parent is over. At last it executes the command that sends what follows, if there is one. It keeps nothing that it
could not read again: if it dies, `submit` continues with the rest.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Ray Tune reads these when it is imported. The run folders already hold everything that it would write.
os.environ |= {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": os.environ.get("TUNE_MAX_PENDING_TRIALS_PG", "16"),
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}

import ray
from ray import tune
from ray.tune.search import Searcher

from flipscale.errors import use_utf8
from flipscale.kinds import JsonObject
from flipscale.launch.policy import nodes_to_avoid
from flipscale.launch.progress import ACTIVE
from flipscale.launch.ray.trial import Trial
from flipscale.launch.ray.trials import RayNode, Trials, bundle_of
from flipscale.launch.states import StateReader
from flipscale.plain_files import open_plain
from flipscale.run import HEARTBEAT_SECONDS, FailureKind, RunFolder

MAX_FAILURES = 10
"""How often Ray Tune restarts a trial after losing its node or process. A run is given up earlier, by its policy."""

SUGGEST_SECONDS = 1.0
"""Seconds until run folders are checked again when nothing could be handed out."""


class TrialQueue(Searcher):
    """Gives Ray Tune its next trial: a task that has something left, a child's when its parent is over."""

    def __init__(self, path: Path, trials: Trials):
        super().__init__()
        self.path = path
        self.trials = trials
        self.waiting = list(range(len(trials.tasks)))
        self.out: dict[str, int] = {}
        self.reader = StateReader(Path(trials.runs).parent)
        self._not_before = 0.0

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if time.monotonic() < self._not_before:
            return None
        if self._is_stopped():
            self.waiting = []
        index = self._next_task()
        if index is not None:
            self.out[trial_id] = index
            avoid = sorted({node for run in self.left(index) for node in nodes_to_avoid(run.failures())})
            return {"submission": str(self.path), "task": index, "avoid": ",".join(avoid)}
        if not self.waiting and not self.out:
            return Searcher.FINISHED
        self._not_before = time.monotonic() + SUGGEST_SECONDS
        return None

    def _next_task(self) -> int | None:
        """Take the first task that can begin from those that wait, and drop those of which nothing is left."""
        for index in list(self.waiting):
            left = self.left(index)
            if left and self._waits(left):
                continue
            self.waiting.remove(index)
            if left:
                return index
        return None

    def on_trial_complete(self, trial_id: str, result: JsonObject | None = None, error: bool = False) -> None:
        index = self.out.pop(trial_id, None)
        if index is not None and not error and (result or {}).get("again"):
            self.waiting.insert(0, index)
        self._not_before = 0.0

    def left(self, index: int) -> list[RunFolder]:
        """The runs of a task that are to be done and are still asked of it."""
        return [run for run in self.trials.run_folders(index) if not run.is_over() and self.trials.is_ours(run, index)]

    def is_over(self) -> bool:
        """Whether nothing is left of any task, nor in anybody's hands."""
        tasks = {*self.waiting, *self.out.values()}
        if not self._is_stopped() and any(self.left(index) for index in tasks):
            return False
        holders = [run.holder() for index in tasks for run in self.trials.run_folders(index)]
        return not any(holder.alive for holder in holders if holder)

    def save(self, checkpoint_path: str) -> None:
        """There is nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """There is nothing to restore."""

    def _waits(self, runs: Sequence[RunFolder]) -> bool:
        """Whether a parent of the runs is still under way, here or elsewhere."""
        parents = {parent for run in runs if not run.is_trained and (asked := run.asked()) for parent in asked.after}
        left = [run for run in map(self.trials.run, parents - {run.id for run in runs}) if not run.is_over()]
        ours = {run_id for index in (*self.waiting, *self.out.values()) for run_id in self.trials.tasks[index].runs}
        # Ray, which may be slow to answer, is asked about those of other submissions alone.
        return any(run.id in ours for run in left) or any(
            look.state in ACTIVE for look in self.reader.read(left).values()
        )

    def _is_stopped(self) -> bool:
        return self.path.with_name("stopped.json").exists()


class Watch(tune.Callback):
    """Ends the driver when nothing is left, though trials wait for room; fails the runs that Ray Tune gave up; writes
    down what trials wait for."""

    def __init__(self, queue: TrialQueue):
        self.queue = queue
        self._next = time.monotonic()

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 2 * SUGGEST_SECONDS
        if self.queue.is_over() and not any(trial.status == "RUNNING" for trial in trials):
            print("nothing is left", flush=True)
            raise SystemExit(0)
        for trial in trials:
            self._note_wait(trial.config["task"], trial.status)

    def _note_wait(self, index: int, status: str) -> None:
        waits = self.queue.path.with_name(f"{index}.waits")
        if status == "PENDING":
            task = self.queue.trials.tasks[index]
            with open(waits, "w", encoding="utf-8", opener=open_plain) as file:
                file.write(f"{task.resources.devices} x {bundle_of(task, self.queue.trials.site)}")
        elif status == "RUNNING":
            waits.unlink(missing_ok=True)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        # `trial.get_error` reads a copy, which may come later.
        said = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").strip() if trial.error_file else ""
        print(said, flush=True)
        last = re.sub(r"\x1b\[[0-9;]*m", "", said).rpartition("\n")[2] or "it kept no exception"
        for run in self.queue.left(trial.config["task"]):
            run.write_error(FailureKind.NODE, f"Ray Tune gave up its trial: {last.strip()[:500]}", noted=True)


def main(path: Path) -> int:
    trials = Trials.read(path)
    threading.Thread(target=_beat, args=(path,), daemon=True).start()
    # To count how many callbacks are its own, Tune would load all of MLflow: a third of this process's CPU time.
    sys.modules.setdefault("mlflow", None)  # type: ignore[arg-type]
    # A trial's worker has to live a moment longer than the trial, to write its checkpoint (`trial._popen`).
    ray.init(log_to_driver=False, runtime_env={"env_vars": {"RAY_kill_child_processes_on_worker_exit": "0"}})
    queue = TrialQueue(path, trials)
    # What happened is in the run folders, so Tune's own folder is a passing one.
    with tempfile.TemporaryDirectory(prefix="flipscale-tune-") as scratch, contextlib.suppress(SystemExit):
        tune.Tuner(
            tune.with_resources(Trial, lambda config: _request(trials, config)),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=-1,
                max_concurrent_trials=trials.site["throttle"],
            ),
            run_config=tune.RunConfig(
                name=trials.name,
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                callbacks=[Watch(queue)],
                verbose=0,
            ),
        ).fit()
    if trials.rest:
        subprocess.run([*trials.rest, "--address", trials.address], cwd=trials.folder, check=False)
    return 0


def _request(trials: Trials, config: JsonObject) -> Any:
    """The resources of a trial: a bundle for each process, on other nodes than those that failed under its runs."""
    task = trials.tasks[config["task"]]
    bundle = bundle_of(task, trials.site)
    processes = task.resources.devices
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    usable = [node for node in nodes if not _names(node) & set(trials.site["exclude"])]
    others = [node for node in usable if not _names(node) & set(config["avoid"].split(","))]
    # If no other node could take it, one that failed is better than waiting for ever.
    wanted = others if sum(_room(node, bundle) for node in others) >= processes else usable
    unwanted = sorted(node["NodeID"] for node in nodes if node not in wanted)
    more: dict[str, Any] = {}
    if unwanted:
        more["bundle_label_selector"] = [{"ray.io/node-id": f"!in({','.join(unwanted)})"}] * processes
    return tune.PlacementGroupFactory([bundle] * processes, strategy="PACK", **more)


def _room(node: RayNode, bundle: Mapping[str, float]) -> int:
    """How many of these bundles the node would hold, were it free."""
    return min(int(node["Resources"].get(name, 0) // need) for name, need in bundle.items())


def _names(node: RayNode) -> set[str]:
    return {node["NodeManagerAddress"], node["NodeName"]}


def _beat(path: Path) -> None:
    """Show that the driver lives, to processes that cannot ask Ray."""
    while True:
        os.utime(path)
        time.sleep(HEARTBEAT_SECONDS)


if __name__ == "__main__":
    use_utf8()
    raise SystemExit(main(Path(sys.argv[1])))
