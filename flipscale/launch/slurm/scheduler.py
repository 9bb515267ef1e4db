"""Questions to SLURM and its answers: squeue, sinfo, scancel, scontrol. Nothing here knows about runs.

Sites put wrappers around these programs that also print notices, so only lines of the requested form are read.
"""

import contextlib
import math
import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flipscale.errors import LaunchError

SLURM_SECONDS = 120
"""Seconds that a busy controller may take to answer; SLURM's own programs give up earlier."""

PAUSES = (1, 2, 4, 8, 16, 32)
"""Seconds between tries to reach a controller that is away, as one that restarts is."""

_AWAY = ("unable to contact", "timed out", "timeout", "refused", "zero bytes", "connection reset", "try again")

AT_ONCE = 1000
"""The most ids in one call of scancel, as a command line is limited."""

_LIVING_STATES = {
    "PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "STAGE_OUT", "RESIZING", "SIGNALING", "STOPPED",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
}  # fmt: skip

_NEVER = {
    "PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "AccountNotAllowed", "QOSNotAllowed",
    "InvalidAccount", "InvalidQOS", "AssocMaxWallDurationPerJobLimit",
    "QOSMaxWallDurationPerJobLimit",
}  # fmt: skip
"""Reasons of a waiting job that do not pass by themselves."""


_HELD = {
    "launch failed requeued held": "is held, as SLURM failed to start it",
    "JobHeldUser": "is held by its user",
    "JobHeldAdmin": "is held by an administrator",
}
"""Reasons of a job that SLURM does not start by itself."""


class ControllerAway(LaunchError):
    """The controller could not be reached, or was too busy to answer: it may have got the request all the same."""


class NoAnswer(ControllerAway):
    """A program of SLURM's ended without an answer that can be read, so the request has probably arrived."""


class UnknownJob(LaunchError):
    """SLURM has forgotten the job, or never knew it."""


@dataclass(frozen=True)
class QueueEntry:
    """One task of an array, as SLURM has it."""

    id: str
    """ARRAY_TASK, as scancel and dependencies take it."""
    state: str
    reason: str
    nodes: str
    cluster: str | None = None

    @property
    def array(self) -> str:
        """SLURM's number of its array."""
        return self.id.partition("_")[0]

    @property
    def lives(self) -> bool:
        return self.state in _LIVING_STATES

    def __str__(self) -> str:
        """'job 12_3 waits (Priority)', 'job 12_3 runs on n2', 'job 12_3 OUT_OF_MEMORY on n2'."""
        if self.reason in _HELD:
            return f"job {self.id} {_HELD[self.reason]}; `scontrol release {self.id}` frees it"
        if self.state == "PENDING":
            never = ", and would wait forever: correct the site file, cancel, and submit again"
            return f"job {self.id} waits ({self.reason}){never if self.reason in _NEVER else ''}"
        state = "runs" if self.state == "RUNNING" else self.state
        return f"job {self.id} {state}" + (f" on {self.nodes}" if self.nodes else "")


def ask(*command: str, patient: bool = False, **environment: str) -> str:
    """The answer of one of SLURM's programs. LaunchError if it is missing, or refuses.

    `patient` retries a controller that is away for a minute: for commands that change something, not for looks.
    """
    for pause in (*(PAUSES if patient else ()), None):
        done = _run(command, environment)
        if not done.returncode:
            break
        said = _complaint(command[0], done.stderr) or f"exit code {done.returncode}"
        if not any(words in said.lower() for words in _AWAY):
            refusal = UnknownJob if "Invalid job id" in said else LaunchError
            raise refusal(f"{command[0]} refused: {said}")
        if pause is None:
            raise ControllerAway(f"SLURM cannot be asked, {command[0]} says: {said}")
        time.sleep(pause)
    return done.stdout


def _complaint(program: str, said: str) -> str:
    """A program's own message on stderr, in one line; all of stderr if no line looks like its own."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or line.startswith(f"{program}:")]
    return " ".join(errors or lines)


def _ask_table(program: str, fields: str, *options: str, patient: bool = False, **environment: str) -> list[list[str]]:
    """The lines of squeue or sinfo that have these fields, which a bar parts. The last one may hold bars itself."""
    answer = ask(program, *options, "--noheader", f"--format={fields}", patient=patient, **environment)
    bars = fields.count("|")
    rows = [[value.strip() for value in line.split("|", bars)] for line in answer.splitlines()]
    return [row for row in rows if len(row) == bars + 1]


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            env={**_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SLURM_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise LaunchError(
            f"There is no {command[0]} here, so this machine is not part of a SLURM cluster. Log in to one, or choose "
            f"--on local."
        ) from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]} did not answer within {SLURM_SECONDS} s; try again when SLURM responds") from None


def _environment() -> dict[str, str]:
    """The environment of a program of SLURM's.

    Each takes variables for options: SBATCH_PARTITION would override the site file, SQUEUE_ACCOUNT hide jobs. sbatch
    also takes and passes on those of the job that it is called from, as on a compute node.
    """
    kept = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
    options = ("SLURM", "SBATCH", "SQUEUE", "SACCT", "SCANCEL", "SCONTROL", "SINFO")
    return {name: value for name, value in os.environ.items() if name in kept or not name.startswith(options)}


def _on(cluster: str | None) -> list[str]:
    """The option that asks another cluster of the site than that of this machine."""
    # Within a job the variable says which cluster it is on: compute nodes need not reach the accounting's host.
    return [f"--clusters={cluster}"] if cluster and cluster != os.environ.get("SLURM_CLUSTER_NAME") else []


def job_name(array: str) -> str:
    """What SLURM calls the jobs of the array of this name."""
    return f"flipscale-{array}"


def queue(cluster: str | None = None, *, patient: bool = False) -> dict[str, QueueEntry]:
    """What SLURM has of the tasks of this user's arrays, by NAME/INDEX; ended ones only as long as it remembers.

    They are known by name, not by id: a new cluster counts ids from 1 again, and a name is there before sbatch answers.
    The controller does not have to send the jobs of other users.
    """
    entries: dict[str, QueueEntry] = {}
    options = [*_on(cluster), "--states=all", f"--user={os.getuid()}"]
    # Without the variable a long list of waiting tasks is cut off.
    rows = _ask_table("squeue", "%F|%K|%T|%r|%N|%j", *options, patient=patient, SLURM_BITSTR_LEN="0")
    for number, tasks, state, reason, nodes, name in rows:
        for index in indices(tasks) if number.isdigit() else ():
            key = f"{name.removeprefix(job_name(''))}/{index}"
            entry = QueueEntry(f"{number}_{index}", state, reason, nodes, cluster)
            # Of two arrays of one name, which sbatch sends when its answer is lost, the living one counts.
            if key not in entries or entry.lives or not entries[key].lives:
                entries[key] = entry
    return entries


def submit(script: str) -> str:
    """Hand a batch script to sbatch: SLURM's number of the job. LaunchError if it is refused, NoAnswer where only the
    queue shows whether the job was taken: a number among other lines may be a banner's."""
    answer = ask("sbatch", "--parsable", script)
    sent = re.fullmatch(r"\s*(\d+)(?:;\S+)?\s*", answer)
    if sent is None:
        raise NoAnswer(f"sbatch did not answer with a number alone. It said: {answer.strip() or 'nothing'}")
    return sent[1]


def cancel(entries: Iterable[QueueEntry], *, waiting_only: bool = False) -> None:
    """Stop tasks of arrays. Those that SLURM has forgotten are skipped.

    waiting_only: as an attendant asks, which does not wait for a controller that is away.
    """
    only = ["--state=PENDING"] if waiting_only else []
    of_clusters: dict[str | None, list[str]] = {}
    for entry in entries:
        of_clusters.setdefault(entry.cluster, []).append(entry.id)
    for cluster, ids in of_clusters.items():
        for first in range(0, len(ids), AT_ONCE):
            with contextlib.suppress(UnknownJob):
                ask("scancel", *_on(cluster), *only, *ids[first : first + AT_ONCE], patient=not waiting_only)


def requeue(job: str) -> None:
    """Have a running job started again, in its turn. SLURM may have seen to it already."""
    done = _run(["scontrol", "requeue", job])
    # A caller within the job is ended with it as soon as SLURM has the request.
    if done.returncode > 0 and "Job is pending" not in done.stderr:
        raise LaunchError(f"scontrol refused: {_complaint('scontrol', done.stderr)}")


def starts_again_by_itself(job: str) -> bool:
    """Whether SLURM has pre-empted a job with a grace period, and will start it again when it ends.

    Asked for a requeue as well, SLURM keeps the mark of the pre-emption and starts the job a third time, after its run
    has finished.
    """

    def field(pattern: str, *command: str) -> str:
        match = re.search(pattern, ask(*command), re.MULTILINE)
        return match[1] if match else ""

    show = ("scontrol", "show")
    try:
        if not field(r"\bPreemptTime=(\d)", *show, "job", job):
            return False
        if "qos" in field(r"^PreemptType\s*=\s*(\S+)", *show, "config"):
            qos = field(r"\bQOS=(\S+)", *show, "job", job)
            mode = field(r"(\w+)", "sacctmgr", "--noheader", "--parsable2", "show", "qos", qos, "format=PreemptMode")
            if mode.lower() in ("", "cluster"):
                mode = field(r"^PreemptMode\s*=\s*(\S+)", *show, "config")
        else:
            mode = field(r"\bPreemptMode=(\S+)", *show, "partition", field(r"\bPartition=(\S+)", *show, "job", job))
    except LaunchError:
        return False
    return "REQUEUE" in mode.upper()


@dataclass(frozen=True)
class Configuration:
    """The relevant part of a cluster's configuration."""

    max_array_size: int = 1001
    """The most tasks of an array; SLURM's own default."""
    counts_memory: bool = True
    """Whether jobs are given memory. If they are not, nodes need not state theirs, and then any request is too
    much."""


def configuration(cluster: str | None = None) -> Configuration:
    """How a cluster was set up."""
    answer = ask("scontrol", *_on(cluster), "show", "config", patient=True)
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)\s*$", answer, re.MULTILINE)
    given = re.search(r"^SelectTypeParameters\s*=\s*(\S+)\s*$", answer, re.MULTILINE)
    return Configuration(max(1, int(size[1])) if size else 1001, given is None or "MEMORY" in given[1].upper())


def node_is_lost(node: str) -> bool:
    """Whether SLURM considers a node lost, or its administrators have taken it out."""
    try:
        states = _ask_table("sinfo", "%N|%T", f"--nodes={node}") if node else []
    except LaunchError:
        return False
    return any(word in state for _, state in states for word in ("down", "fail", "unk", "drain", "*"))


class Room(NamedTuple):
    """What partitions give a job at most. Infinite where there is no limit, or where SLURM cannot be asked."""

    seconds: float
    memory: float
    """Bytes of a node."""


def room_in(partition: str | None, cluster: str | None = None) -> Room:
    """What these partitions, separated by commas, or the default one give a job at most."""
    rows = partitions(cluster)
    if partition is None:
        rows = [row for row in rows if row[0].endswith("*")]
    else:
        rows = [row for row in rows if row[0].rstrip("*") in partition.split(",")]
    return Room(
        max((_seconds(limit) for _, limit, _ in rows), default=math.inf),
        max((float(megabytes) * 2**20 for _, _, megabytes in rows), default=math.inf),
    )


def partitions(cluster: str | None = None) -> list[list[str]]:
    """The partitions that this user may see: name, time limit and megabytes of a node. The default one has a star.

    One with several kinds of nodes is there several times. None where SLURM cannot be asked.
    """
    try:
        return _ask_table("sinfo", "%P|%l|%m", *_on(cluster), "--exact")
    except LaunchError:
        return []


def _seconds(limit: str) -> float:
    """A limit as sinfo has it, [D-][[H:]M:]S; infinite for words."""
    days, _, rest = limit.rpartition("-")
    parts = [int(days or 0), *map(int, rest.split(":"))] if rest.replace(":", "").isdigit() else [math.inf]
    return sum(part * unit for part, unit in zip(reversed(parts), (1, 60, 3600, 86400), strict=False))


def is_running(job: str) -> bool | None:
    """Whether SLURM has the job as running: one that somebody cancelled is not, though its processes live.

    None where SLURM cannot be asked.
    """
    try:
        return ["RUNNING"] in _ask_table("squeue", "%T", f"--jobs={job}")
    except UnknownJob:
        return False
    except LaunchError:
        return None


def indices(written: str) -> list[int]:
    """The task indices that SLURM writes as '3', '0-4,7', '0-20:4' or '5-999%50'."""
    spans = re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", written.partition("%")[0])
    return [index for first, last, step in spans for index in range(int(first), int(last or first) + 1, int(step or 1))]
