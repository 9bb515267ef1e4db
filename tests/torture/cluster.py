"""A simulated SLURM in a virtual world: starts, pre-empts, loses and repeats jobs, and answers late or not at all."""

import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.torture.virtual import Process, World

NODES = ("n1", "n2", "n3", "n4")
GRACE = 30.0

AWAY = (
    "Unable to contact slurm controller (connect failure)",
    "Zero Bytes were transmitted",
    "RPC rate limit exceeded, try again later",
    "Connection refused",
)
NOISE = ("*** maintenance | on | Friday | 7_3 ***\n", "\n\n", "sbatch: lua: account set\n", "a|b|c|d|e|f\n")


@dataclass(eq=False)
class Task:
    """A task of an array."""

    array: int
    name: str
    index: int
    script: Path
    options: Mapping[str, str]
    state: str = "PENDING"
    node: str = ""
    restarts: int = 0
    not_before: float = 0.0
    began: float = 0.0
    warned: bool = False
    ended: float = 0.0
    attendant: Process | None = None
    going: bool = False
    """Whether its processes have been asked to end."""

    @property
    def id(self) -> str:
        return f"{self.array}_{self.index}"

    @property
    def is_open(self) -> bool:
        return self.state in ("PENDING", "RUNNING", "COMPLETING")


@dataclass(frozen=True)
class Weather:
    """How often things go wrong in a history."""

    away: float
    """The share of calls that no controller answers; it may have accepted an sbatch all the same."""
    noise: float
    accounting: str
    """'', 'delayed' or 'off'."""
    forgets_after: float
    lags: float
    """squeue shows the state as it was this many seconds ago."""


class Cluster:
    """The scheduler. `attend` stands for the batch script of a task; it is given the array's JSON file."""

    def __init__(self, world: World, weather: Weather, attend: Callable[[Path], int]):
        self.world, self.weather, self.attend = world, weather, attend
        self.draw = world.draw
        self.tasks: list[Task] = []
        self.down: set[str] = set()
        self.arrays = 0
        self.shown: list[tuple[float, list[tuple[Task, str, str]]]] = []
        self.world.at(1.0, self._tick)

    # What it is asked

    def call(self, command: list[str]) -> tuple[int, str, str]:
        self.world.sleep(self.draw.choice((0.01, 0.1, 2.0, 20.0)))
        program, words = command[0], command[1:]
        is_away = self.draw.random() < self.weather.away
        if is_away and not (program == "sbatch" and self.draw.random() < 0.5):
            said = self.draw.choice(AWAY)
            return 1, self._noise(), f"{program}: error: {said}"
        code, said, errors = PROGRAMS[program](self, words)
        if is_away:
            return 1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
        return code, self._noise() + said, errors

    def _noise(self) -> str:
        if self.draw.random() > self.weather.noise:
            return ""
        return self.draw.choice(NOISE)

    def _sbatch(self, words: list[str]) -> tuple[int, str, str]:
        script = Path(words[-1])
        options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S*)$", script.read_text(), re.MULTILINE))
        self.arrays += 1
        for index in _numbers(options["array"].partition("%")[0]):
            self.tasks.append(Task(self.arrays, options["job-name"], index, script, options))
        return 0, f"{self.arrays}\n", ""

    def _squeue(self, words: list[str]) -> tuple[int, str, str]:
        options = _options(words)
        if "jobs" in options:
            tasks = [task for task in self.tasks if task.id == options["jobs"]]
            if not tasks:
                return 1, "", "slurm_load_jobs error: Invalid job id specified"
            return 0, "".join(["flipscale|STATE\n", *(f"flipscale|{task.state}\n" for task in tasks)]), ""
        names = options["name"].split(",")
        lines = [
            f"flipscale|{task.name}|{task.array}|{task.index}|{state}|Priority|{node}\n"
            for task, state, node in self._view()
            if task.name in names
        ]
        return 0, "".join(["flipscale|NAME|ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|REASON|NODELIST\n", *lines]), ""

    def _view(self) -> list[tuple[Task, str, str]]:
        """What squeue knows: a new job is listed at once, but states may be old."""
        now = {task: (task.state, task.node) for task in self.tasks if not self._is_forgotten(task)}
        for when, view in reversed(self.shown):
            if when <= self.world.now - self.weather.lags:
                old = {task: (state, node) for task, state, node in view}
                now = {task: old.get(task, state) for task, state in now.items()}
                break
        return [(task, *state) for task, state in now.items()]

    def _is_forgotten(self, task: Task) -> bool:
        return not task.is_open and self.world.now > task.ended + self.weather.forgets_after

    def _sacct(self, words: list[str]) -> tuple[int, str, str]:
        if self.weather.accounting == "off":
            return 1, "", "Slurm accounting storage is disabled"
        ids = words[words.index("-j") + 1].split(",")
        late = 120.0 if self.weather.accounting == "delayed" else 0.0
        lines = []
        for task in self.tasks:
            if str(task.array) in ids:
                state = task.state if task.is_open or self.world.now > task.ended + late else "RUNNING"
                lines.append(f"{task.name}|{task.id}|{state}|{task.node or 'None assigned'}\n")
        return 0, "".join(lines), ""

    def _scancel(self, words: list[str]) -> tuple[int, str, str]:
        waiting_only = "--state=PENDING" in words
        for task in self.tasks:
            if not task.is_open or not {task.id, str(task.array)} & set(words):
                continue
            if task.state == "PENDING":
                self._end(task, "CANCELLED")
            elif not waiting_only:
                self.ask_to_end(task, "CANCELLED", GRACE)
        return 0, "", ""

    def _scontrol(self, words: list[str]) -> tuple[int, str, str]:
        if words[:2] == ["show", "config"]:
            return 0, "MaxArraySize            = 3\nSelectTypeParameters    = CR_CORE\n", ""
        if words[:2] == ["show", "job"]:
            found = [task for task in self.tasks if str(task.array) == words[2]]
            told = "".join(f"   Command={task.script}\n" for task in found)
            return (0, told, "") if found else (1, "", "slurm_load_jobs error: Invalid job id specified")
        task = next((task for task in self.tasks if task.id == words[1]), None)
        if task is None:
            return 1, "", f"Invalid job id specified for job {words[1]}"
        if task.state == "PENDING":
            return 1, "", f"{task.id}: Job is pending execution"
        self.ask_to_end(task, "REQUEUED", 5.0)
        return 0, "", ""

    def _sinfo(self, words: list[str]) -> tuple[int, str, str]:
        node = _options(words)["nodes"]
        return 0, f"flipscale|{'down*' if node in self.down else 'idle'}\n", ""

    # What it does

    def _tick(self) -> None:
        self.shown = [*self.shown[-20:], (self.world.now, [(t, t.state, t.node) for t in self.tasks])]
        for task in self.tasks:
            if task.state == "RUNNING":
                self._tend(task)
        for task in self.tasks:
            if task.state == "PENDING" and self.world.now >= task.not_before and self._may_start(task):
                busy = [one.node for one in self.tasks if one.state == "RUNNING"]
                excluded = task.options.get("exclude", "").split(",")
                free = [node for node in NODES if node not in (*busy, *self.down, *excluded)]
                if free:
                    self.start(task, self.draw.choice(free))
        self.world.at(self.world.now + self.draw.choice((2.0, 5.0, 20.0)), self._tick)

    def _tend(self, task: Task) -> None:
        assert task.attendant is not None
        if task.attendant.returncode is not None:
            self._kill_all(task)
            self._end(task, "FAILED" if task.attendant.returncode else "COMPLETED")
            return
        limit = _clock(task.options.get("time", "365-00:00:00"))
        warning = float(task.options["signal"].partition("@")[2])
        left = task.began + limit - self.world.now
        if left <= 0 and not task.going:
            self.ask_to_end(task, "TIMEOUT", GRACE)
        elif left <= warning and not task.warned:
            task.warned = True
            task.attendant.send_signal(signal.SIGUSR2)

    def _may_start(self, task: Task) -> bool:
        for part in filter(None, task.options.get("dependency", "").split(",")):
            kind, *ids = part.split(":")
            before = [one for one in self.tasks if {one.id, str(one.array)} & set(ids)]
            if kind == "aftercorr":
                before = [one for one in before if one.index == task.index]
                if any(not one.is_open and one.state != "COMPLETED" for one in before):
                    self._end(task, "CANCELLED")
                    return False
            if any(one.is_open for one in before):
                return False
        return True

    def start(self, task: Task, node: str) -> None:
        task.state, task.node, task.began = "RUNNING", node, self.world.now
        task.warned = task.going = False
        start = int(self.world.epoch + self.world.now)
        environ = {
            "PATH": "/bin", "SLURM_ARRAY_JOB_ID": str(task.array), "SLURM_ARRAY_TASK_ID": str(task.index),
            "SLURMD_NODENAME": node, "SLURM_JOB_NODELIST": node, "SLURM_JOB_START_TIME": str(start),
            "SLURM_JOB_END_TIME": str(start + int(_clock(task.options.get("time", "365-00:00:00")))),
        }  # fmt: skip
        if task.restarts:
            environ["SLURM_RESTART_COUNT"] = str(task.restarts)
        record = task.script.with_suffix(".json")
        tag = f"{task.id}.{task.restarts}"
        task.attendant = self.world.spawn(node, environ, lambda: self.attend(record), tag)

    def ask_to_end(self, task: Task, state: str, grace: float) -> None:
        """SIGTERM to all processes of a task, SIGKILL after the grace, then this state; a requeued task waits again."""
        if task.state != "RUNNING" or task.going:
            return
        task.going = True
        tag, attendant = f"{task.id}.{task.restarts}", task.attendant

        def over() -> None:
            if task.attendant is attendant and task.state == "RUNNING":
                self._kill(tag)
                self._end(task, state)

        if grace:
            for process in self._of(tag):
                process.send_signal(signal.SIGTERM)
        self.world.at(self.world.now + grace, over)

    def again(self, task: Task, node: str | None = None) -> None:
        """Start it once more, even if its processes live on."""
        task.restarts += 1
        task.state, task.node, task.not_before = "PENDING", "", self.world.now + 1
        if node:
            self.start(task, node)

    def forget(self, task: Task) -> None:
        """The controller has lost the job; its processes end a little later."""
        self.tasks.remove(task)
        tag = f"{task.id}.{task.restarts}"
        self.world.at(self.world.now + self.draw.uniform(0, 60), lambda: self._kill(tag))

    def fail_node(self, node: str, *, split: bool) -> None:
        """The node goes down. If it is only split off, its processes go on for some minutes beside the new ones."""
        self.down.add(node)
        doomed = [task for task in self.tasks if task.state == "RUNNING" and task.node == node]
        for process in self.world.processes.values():
            if process.host == node and not split:
                process.end(-9)
            elif process.host == node and process.returncode is None:
                self.world.at(self.world.now + self.draw.uniform(50, 300), lambda gone=process: gone.end(-9))
        for task in doomed:
            self.again(task)
        self.world.at(self.world.now + self.draw.uniform(60, 2000), lambda: self.down.discard(node))

    def processes(self) -> Iterator[Process]:
        """The living processes of jobs."""
        return (one for one in self.world.processes.values() if one.returncode is None and one.tag)

    def _end(self, task: Task, state: str) -> None:
        if state == "REQUEUED":
            self.again(task)
        else:
            task.state, task.ended = state, self.world.now

    def _kill_all(self, task: Task) -> None:
        self._kill(f"{task.id}.{task.restarts}")

    def _kill(self, tag: str) -> None:
        for process in self._of(tag):
            process.end(-9)

    def _of(self, tag: str) -> list[Process]:
        return [one for one in self.world.processes.values() if one.returncode is None and one.tag == tag]


PROGRAMS: dict[str, Callable[[Cluster, list[str]], tuple[int, str, str]]] = {
    "sbatch": Cluster._sbatch,
    "squeue": Cluster._squeue,
    "sacct": Cluster._sacct,
    "scancel": Cluster._scancel,
    "scontrol": Cluster._scontrol,
    "sinfo": Cluster._sinfo,
}


def _options(words: list[str]) -> dict[str, str]:
    return {key: value for word in words for key, _, value in [word.lstrip("-").partition("=")]}


def _numbers(text: str) -> list[int]:
    spans = [part.partition("-") for part in text.split(",")]
    return [number for first, _, last in spans for number in range(int(first), int(last or first) + 1)]


def _clock(text: str) -> float:
    days, _, rest = text.rpartition("-")
    hours, minutes, seconds = map(int, rest.split(":"))
    return float(int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds)
