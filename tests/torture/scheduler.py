"""Histories on a simulated SLURM with a virtual clock, with the real submit, attendant, policy, lease and work list.

A history is a study of a few runs with children and faults drawn from its seed: pre-emption with and without grace,
nodes that die or are split off while their processes go on, jobs started twice or forgotten, killed trainers and
attendants, hangs, time limits, failures of the code and of memory, a controller that is away or that acted and did
not answer, noise, old answers of squeue, delayed accounting or none, and clocks that are up to 50 s apart and jump. A
person looks now and then, cancels, and resubmits lost runs. After about an hour nothing more goes wrong. Every run must
then finish like the undisturbed one, or fail with a reason if it was made to fail.
"""

import contextlib
import functools
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from flipscale.code import CodeChanges
from flipscale.errors import Diverged, FlipscaleError, LaunchError
from flipscale.launch import attend, cancel, states, submit, workers
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher, task
from flipscale.plan import Run, plan
from flipscale.run import Doing, Lease, Result, RunFolder, State
from flipscale.study import read_study
from tests.torture.checks import following, loss_of, losses, undisturbed
from tests.torture.cluster import NODES, Cluster, Weather
from tests.torture.counts import Counts, Extent
from tests.torture.verbs import Case, Outcome, count
from tests.torture.virtual import Process, World

STUDY = """schema: 1
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, data: shapes, samples: 640, batch_size: 32, lr: 1e-3}
axes: {mask_ratio: [0, 0.5], tuning: [null, {samples: 64}]}
baseline: {mask_ratio: 0}
seeds: 2
"""

STEPS = 12
"""Steps of each run; a step takes some seconds."""

QUIET = 4000.0
"""Seconds after which nothing more goes wrong."""

END = 400_000.0
"""Seconds after which a history is given up: runs that are not over then count as lost."""

OVER = (State.FINISHED, State.FAILED)


def torture(extent: Extent) -> Counts:
    """3,000 histories in full, 30 in the short form."""
    runs = planned(extent.work)
    number = extent.cases(3000, 30)
    cases = [
        Case(f"history {extent.seed}-{n}", functools.partial(run_history, f"{extent.seed}-{n}", runs))
        for n in range(number)
    ]
    return count(cases, say=extent.say)


def planned(work: Path) -> Sequence[Run]:
    work.mkdir(parents=True, exist_ok=True)
    (work / "study.yaml").write_text(STUDY)
    from flipscale.train import worklist  # loaded once, before workers are forked

    assert worklist.WorkList is not None
    return plan(read_study(work / "study.yaml")).runs


def run_history(seed: str, runs: Sequence[Run], sabotage: str = "") -> Outcome:
    """Run a history, and say what is wrong at its end."""
    place = Path(tempfile.mkdtemp(prefix="flipscale-history-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            wrong = History(seed, runs, place, sabotage).happen()
    except Exception:
        return Outcome("raised", traceback.format_exc(), "tracebacks")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Outcome(0, "; ".join(what for _, what in wrong), wrong[0][0] if wrong else "")


@dataclass
class Witness:
    """What trainings did, seen from outside: which lease wrote each record, and which results were written."""

    writers: dict[str, list[str]] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)

    def wrote(self, run: str, token: str) -> None:
        writers = self.writers.setdefault(run, [])
        if writers[-1:] != [token]:
            writers.append(token)

    def doubled(self) -> Iterator[str]:
        """Runs that two trainings wrote in turns, or that were finished twice."""
        for run, writers in self.writers.items():
            if len(set(writers)) < len(writers):
                yield f"{run} was written by {len(set(writers))} trainings in turns"
        yield from (f"{run} was finished {number} times" for run, number in self.results.items() if number > 1)


class History:
    """One course of events."""

    def __init__(self, seed: str, runs: Sequence[Run], results: Path, sabotage: str = ""):
        self.draw = draw = random.Random(seed)
        self.sabotage = sabotage
        self.results = results
        self.runs = {run.id: run for run in runs}
        self.fates = {run.id: draw.choice(("code", "diverged", "oom", "disk")) for run in runs if draw.random() < 0.06}
        self.fates |= {run.id: "once" for run in runs if draw.random() < 0.1 and run.id not in self.fates}
        self.witness = Witness()
        self.world = World(draw, {name: draw.uniform(-25, 25) for name in (*NODES, "login")})
        weather = Weather(
            away=draw.choice((0, 0.02, 0.2)),
            noise=draw.choice((0, 0.3)),
            accounting=draw.choice(("", "delayed", "off")),
            forgets_after=draw.choice((5.0, 300.0)),
            lags=draw.choice((0.0, 0.0, 10.0)),
        )
        self.cluster = Cluster(self.world, weather, task.main)
        self.site = {
            **DEFAULTS, "partition": "main", "memory_per_process": None, "time": draw.choice((300, 1200, None)),
            "warning": 60, "pack": {**DEFAULTS["pack"], "time": draw.choice((None, 0.3))},
        }  # fmt: skip
        self.faults = draw.choice((0.0, 0.002, 0.01, 0.03))
        """Per second."""
        self.is_done = False

    def happen(self) -> list[tuple[str, str]]:
        """Run until the person sees that all runs are over. Returns (kind, sentence) of each fault."""
        self.world.programs, self.world.start = self.cluster.call, self._start_worker
        with self.world.instead_of_the_system(), self._quicker():
            self.world.spawn("login", {"PATH": "/bin"}, self._person)
            self.world.at(5.0, self._next_fault)
            self.world.run(until=lambda: self.is_done or self.world.now > END)
            found = list(self._wrong())
            self.world.close()
        return found

    @contextlib.contextmanager
    def _quicker(self) -> Iterator[None]:
        """While the block runs, the code polls less often than usual and skips what needs the real machine."""
        from flipscale.train import worklist

        submitting = sys.modules["flipscale.launch.submit"]  # the package has the function under this name
        with contextlib.ExitStack() as stack:
            for owner, name, value in (
                (workers, "POLL_SECONDS", 1.0),
                (attend, "AROUND_SECONDS", 5.0),
                (attend, "end_stalled", lambda run, pid, why: self.world.kill(pid, signal.SIGKILL)),
                (submitting, "changes_of", lambda *rest: CodeChanges()),
                (worklist, "stacks_in_log", lambda run: contextlib.nullcontext()),
            ):
                stack.enter_context(mock.patch.object(owner, name, value))
            if self.sabotage == "lease":
                stack.enter_context(mock.patch.object(Lease, "fence", return_value=None))
            yield

    # The person

    def _person(self) -> int:
        launcher = SlurmLauncher(self.results, self.site, command=("train-here",))
        runs, retries = list(self.runs.values()), 0
        while True:
            with contextlib.suppress(LaunchError):
                now = states(runs, self.results)
                if set(now.values()) <= set(OVER) and self._is_final(now):
                    self.is_done = True
                    return 0
                if not {State.WAITING, State.RUNNING} & set(now.values()) or self.draw.random() < 0.05:
                    retries += 1
                    submit(runs, self.results, launcher)
                elif self.world.now < QUIET and self.draw.random() < 0.02:
                    cancel(self.draw.sample(runs, 2), self.results)
            self.world.sleep(self.draw.choice((20.0, 120.0, 600.0)))

    def _is_final(self, now: Mapping[str, State]) -> bool:
        """Whether these states stay, however often the runs are submitted."""
        if self.world.now < QUIET / 4:
            return False
        return all(state is State.FINISHED or self._is_doomed(run_id) for run_id, state in now.items())

    def _is_doomed(self, run_id: str) -> bool:
        return any(self.fates.get(one, "once") != "once" for one in (run_id, *self.runs[run_id].parents))

    # Trainings

    def _start_worker(self, command: list[str], environ: Mapping[str, str]) -> Process:
        here = self.world.current
        assert here is not None
        folders = [Path(word) for word in command[command.index("train-here") + 1 :]]
        return self.world.spawn(here.host, environ, lambda: self._train(folders), here.tag)

    def _train(self, folders: Sequence[Path]) -> int:
        """The real `train`, except for what it does with a run."""
        from flipscale.train import worklist
        from flipscale.train.failure import why
        from flipscale.train.stop import STOP_SIGNALS, Stop

        history, stop = self, Stop()
        for signum in STOP_SIGNALS:
            self.world.signal(signum, stop.note)

        class Training(worklist.WorkList):
            def _do(self, run: RunFolder, lease: Lease) -> None:
                lease.mend_records()
                history._train_one(run, lease, stop)

        group = SimpleNamespace(
            rank=0, separate=lambda: None, cause=why, report=lambda cause: None, is_broken=False, apart=False
        )
        crew = SimpleNamespace(group=group, joined=None, broken=False, is_lost=False, close=lambda: None)
        self.world.sleep(self.draw.uniform(1, 8))  # imports
        listed = Training(folders, stop, crew, 0)  # type: ignore[arg-type]
        listed.work()
        return 128 + stop.signal if stop.signal else int(bool(listed.failed))

    def _train_one(self, run: RunFolder, lease: Lease, stop: Any) -> None:
        """Some steps, each of which depends on the one before, with a checkpoint now and then."""
        checkpoint = run.path / "checkpoint.pt"
        step, state = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, run.id)
        self._fail_if_it_must(run, step)
        while step < STEPS:
            lease.live(Doing.TRAINING)
            self.world.sleep(self.draw.uniform(1, 15))
            if self.world.now < QUIET and self.draw.random() < 0.002:
                self.world.sleep(1e9)  # it hangs
            step, state = step + 1, following(state)
            seen = {"samples_seen": 32 * step, "time": self.world.time(), "images_per_second": 10.0}
            lease.append([{"step": step, "loss": loss_of(state), **seen}])
            self.world.touch(run.path / "metrics.jsonl")
            self.witness.wrote(run.id, lease.token)
            if stop.signal or self.draw.random() < 0.3:
                self._keep(lease, "checkpoint.pt", (step, state))
            if stop.signal and step < STEPS:
                return
        self._keep(lease, "model.pt", state)
        lease.write_result(Result(scores={"zero_shot_top1": loss_of(state)}))
        self.witness.results[run.id] = self.witness.results.get(run.id, 0) + 1
        checkpoint.unlink(missing_ok=True)

    def _fail_if_it_must(self, run: RunFolder, step: int) -> None:
        fate = self.fates.get(run.id)
        if fate == "once":
            del self.fates[run.id]
            fate = self.draw.choice(("oom", "code", "disk"))
        if fate is None:
            return
        self.world.sleep(self.draw.choice((1.0, 100.0)))
        errors: dict[str, Callable[[], Exception]] = {
            "code": lambda: FlipscaleError("It is wrong; mend it."),
            "diverged": lambda: Diverged("The loss is not finite."),
            "oom": lambda: MemoryError(),
            "disk": lambda: OSError(28, "No space left on device"),
        }
        raise errors[fate]()

    @staticmethod
    def _keep(lease: Lease, name: str, what: Any) -> None:
        with lease.replace(name) as file:
            file.write(json.dumps(what).encode())

    # What goes wrong

    def _next_fault(self) -> None:
        if not self.faults or self.world.now > QUIET:
            return
        self.draw.choice((self._preempt, self._lose_node, self._twice, self._forget, self._kill, self._jump))()
        self.world.at(self.world.now + self.draw.expovariate(self.faults), self._next_fault)

    def _running(self) -> Any:
        found = [one for one in self.cluster.tasks if one.state == "RUNNING"]
        return self.draw.choice(found) if found else None

    def _preempt(self) -> None:
        if victim := self._running():
            if self.draw.random() < 0.3:
                victim.attendant.send_signal(signal.SIGUSR2)
            self.cluster.ask_to_end(
                victim, self.draw.choice(("REQUEUED", "PREEMPTED")), self.draw.choice((0.0, 5.0, 30.0))
            )

    def _lose_node(self) -> None:
        up = [node for node in NODES if node not in self.cluster.down]
        if len(up) > 1:
            self.cluster.fail_node(self.draw.choice(up), split=self.draw.random() < 0.5)

    def _twice(self) -> None:
        if victim := self._running():
            self.cluster.again(victim, self.draw.choice(NODES))

    def _forget(self) -> None:
        if self.cluster.tasks:
            self.cluster.forget(self.draw.choice(self.cluster.tasks))

    def _kill(self) -> None:
        if living := list(self.cluster.processes()):
            self.draw.choice(living).end(-9)

    def _jump(self) -> None:
        self.world.hosts[self.draw.choice(list(self.world.hosts))] = self.draw.uniform(-25, 25)

    # What is wrong

    def _wrong(self) -> Iterator[tuple[str, str]]:
        if self.sabotage == "lost":
            (RunFolder(self.results / "runs" / next(iter(self.runs))).path / "result.json").unlink(missing_ok=True)
        yield from (("doubled", what) for what in self.witness.doubled())
        for run_id in self.runs:
            run = RunFolder(self.results / "runs" / run_id)
            result, error = run.result(), run.error()
            if result is not None:
                if losses(run) != undisturbed(run_id, STEPS):
                    yield "differing", f"{run_id} has other losses than the undisturbed run"
            elif error is None or not error.reason:
                yield "lost", f"{run_id} is {run.state()} after {self.world.now:.0f} s: {_tail(run)}"


def _tail(run: RunFolder) -> str:
    return ", ".join(f"{failed.kind} {failed.then}" for failed in run.failures()[-3:]) or "no failure noted"
