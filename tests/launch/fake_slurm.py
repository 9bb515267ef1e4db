"""A small fake SLURM for where no daemon is: sbatch, squeue, scancel, scontrol, srun and sinfo.

    environment = install(folder)
    subprocess.run(["sbatch", "--array=0-9%4", "job.sh"], env={**os.environ, **environment})
    stop(folder)

What it says is what SLURM 24.11.5 was seen to say. All state is below the folder: calls.jsonl, and a data base that
every program opens under one lock. A scheduler process, started by sbatch, runs the tasks and ends when none is left.
"""

import collections
import contextlib
import fcntl
import functools
import itertools
import json
import os
import re
import shlex
import signal
import sqlite3
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path  # costs each call of a program 3 ms

PARTITIONS = ("main", "preempt", "short", "gpu")
NODES = ("n1", "n2", "n3", "n4")
OPEN = ("PENDING", "RUNNING")
AGAIN = {"REQUEUED": 1.0, "PREEMPTED": 1.0, "NODE_FAIL": 0.0}
"""The ends after which a task waits again, and how many seconds it waits at least."""
CANCEL_SECONDS, END_SECONDS = 30.0, 2.0
"""From SIGTERM to SIGKILL: after scancel; at a requeue or when the time is over."""
HEADERS = {
    "i": "JOBID",
    "j": "NAME",
    "F": "ARRAY_JOB_ID",
    "K": "ARRAY_TASK_ID",
    "T": "STATE",
    "r": "REASON",
    "N": "NODELIST",
}
POLL_SECONDS, IDLE_SECONDS = 0.02, 2.0

START = f"import sys; sys.path.append({__file__.rpartition('/')[0]!r}); import fake_slurm; fake_slurm.main()"
PYTHON = (sys.executable, "-IS", "-c", START)  # as a module, so that it is compiled once

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs(job INTEGER PRIMARY KEY, name, options, command, folder, environment);
CREATE TABLE IF NOT EXISTS tasks(task INTEGER PRIMARY KEY, job, place, raw, state DEFAULT 'PENDING',
    reason DEFAULT 'None', node DEFAULT '', exit DEFAULT '0:0', restarts DEFAULT 0, not_before DEFAULT 0,
    start, pid, step, warned, ends_as, kill_at, hidden DEFAULT 0);
CREATE INDEX IF NOT EXISTS by_job ON tasks(job, place);
CREATE INDEX IF NOT EXISTS by_raw ON tasks(raw);
CREATE INDEX IF NOT EXISTS by_state ON tasks(state);
CREATE TABLE IF NOT EXISTS down(node);
"""
# options: what sbatch was told, and "at_once" and "dependency" as understood. place: the index in the array, if any.
# raw: the task's own id, NULL while it is in the array's one record. step: the pid of its srun. ends_as: the state it
# is being ended for. hidden: SLURM speaks of it no more.


# For tests


def install(folder: "Path", *, slots: int = 4, execute: bool = True, max_array_size: int = 1001) -> dict[str, str]:
    """Make folder/bin; returns what to change in the environment. `slots` tasks run at a time, none without execute."""
    folder = folder.resolve()
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        (folder / "bin" / program).write_text(f'#!/bin/sh\nexec {shlex.join([*PYTHON, str(folder), program])} "$@"\n')
        (folder / "bin" / program).chmod(0o755)
    config = {"slots": slots, "execute": execute, "max_array_size": max_array_size}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "calls.jsonl").touch()
    (folder / "lock").touch()
    with state(folder) as db:
        db.executescript(SCHEMA)
    return {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def calls(folder: "Path", program: str | None = None) -> list[dict]:
    """The calls so far of that program, or of all: program, arguments, time."""
    with open(f"{folder}/calls.jsonl") as file:
        return [call for call in map(json.loads, file) if program in (None, call["program"])]


def forget(folder: "Path") -> None:
    """Drop the finished tasks, as SLURM does MinJobAge after their end."""
    with state(folder) as db:
        db.execute("UPDATE tasks SET hidden = 1 WHERE state NOT IN ('PENDING', 'RUNNING')")


def fail_node(folder: "Path", name: str) -> None:
    """The node goes down for good. Its tasks are killed and run again elsewhere."""
    with state(folder) as db:
        db.execute("INSERT INTO down VALUES(?)", (name,))
        for task in _tasks(db, "state = 'RUNNING' AND node = ?", name):
            _end(db, task, "NODE_FAIL", 0)


def preempt(folder: "Path", id: str | int, grace: float = 0) -> None:
    """The running tasks of that id are asked to end, killed `grace` seconds later, and wait again."""
    with state(folder) as db:
        for task in _find(db, str(id)):
            if task["state"] == "RUNNING":
                _end(db, task, "PREEMPTED", grace)


def stop(folder: "Path") -> None:
    """Kill every task and the scheduler; nothing runs when this returns."""
    with state(folder) as db, open(f"{folder}/scheduler.lock", "a+") as lock:
        db.execute("UPDATE tasks SET state = 'CANCELLED' WHERE state IN ('PENDING', 'RUNNING')")
        if not _lock_at_once(lock):
            lock.seek(0)
            os.kill(int(lock.read()), signal.SIGTERM)
    with open(f"{folder}/scheduler.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


# The programs. Each gets the folder, its options without the dashes, and the words after them.


def sbatch(folder, options, words):
    try:
        with open(words[0]) as file:
            script = file.read()
    except OSError:
        sys.exit(f"sbatch: error: Unable to open file {words[0]}")
    options = {**_options(_directives(script))[0], **options}
    if not set((partition := options.get("partition", "main")).split(",")) <= set(PARTITIONS):
        print(f"sbatch: error: invalid partition specified: {partition}", file=sys.stderr)
        _refuse("Invalid partition name specified")
    array, _, at_once = options.get("array", "").partition("%")
    try:
        places = _numbers(array) if array else [None]
    except ValueError:
        _refuse("Invalid job array specification")
    if array and max(places) >= _config(folder)["max_array_size"]:
        _refuse("Invalid job array specification")
    name, folder_now = options.get("job-name", words[0].rpartition("/")[2]), os.getcwd()  # noqa: PTH109
    environment = {key: text for key, text in os.environ.items() if not key.startswith("SLURM")}
    with state(folder) as db:
        options["at_once"] = int(at_once or 0)
        options["dependency"] = _dependencies(db, options["dependency"]) if "dependency" in options else []
        options["script"] = os.path.abspath(words[0])  # noqa: PTH100
        job = _next_id(db)
        with open(f"{folder}/job-{job}", "w") as file:
            file.write(script)
        os.chmod(file.name, 0o755)  # noqa: PTH101
        texts = [json.dumps(part) for part in (options, [file.name, *words[1:]], environment)]
        db.execute("INSERT INTO jobs VALUES(?, ?, ?, ?, ?, ?)", (job, name, texts[0], texts[1], folder_now, texts[2]))
        tasks = [(job, place, None if array else job) for place in places]
        db.executemany("INSERT INTO tasks(job, place, raw) VALUES(?, ?, ?)", tasks)
        _ensure_scheduler(folder)
    print(job if "parsable" in options else f"Submitted batch job {job}")


def squeue(folder, options, words):
    with state(folder) as db:
        if "jobs" in options:
            ids = options["jobs"].split(",")
            tasks = [task for one in ids for task in _find(db, one)]
            if not tasks and len(ids) == 1:
                sys.exit("slurm_load_jobs error: Invalid job id specified")
        else:
            tasks = _tasks(db, "NOT hidden")
    states = options.get("states", "PENDING,RUNNING,COMPLETING").upper().split(",")
    tasks = [task for task in tasks if states == ["ALL"] or _shown(task) in states]
    if "name" in options:
        tasks = [task for task in tasks if task["name"] in options["name"].split(",")]
    if "noheader" not in options:
        print(re.sub(r"%(\w)", lambda field: HEADERS.get(field[1], "?"), options.get("format", "%i %j %T")))
    for line in _lines(tasks):
        print(re.sub(r"%(\w)", lambda field, line=line: str(line[field[1]]), options.get("format", "%i %j %T")))


def scancel(folder, options, words):
    emptied = set()
    with state(folder) as db:
        for task in (task for one in words for task in _find(db, one)):
            if task["state"] not in OPEN or options.get("state", task["state"]).upper() != task["state"]:
                continue
            if task["state"] == "RUNNING":
                _end(db, task, "CANCELLED", CANCEL_SECONDS)
            else:
                # SLURM takes it out of the array's record without a trace; an empty record is shown as cancelled.
                _set(db, task, state="CANCELLED", hidden=task["raw"] is None)
                emptied |= {task["job"]} if task["raw"] is None else set()
        for job in emptied:
            if not _tasks(db, "job = ? AND raw IS NULL AND state = 'PENDING'", job):
                db.execute("INSERT INTO tasks(job, raw, state) VALUES(?, ?, 'CANCELLED')", (job, job))


def scontrol(folder, options, words):
    match words:
        case ["show", "config"]:
            print(f"MaxArraySize            = {_config(folder)['max_array_size']}")
            print("SelectTypeParameters    = CR_CORE_MEMORY")
            print("SLURM_VERSION           = 24.11.5")
        case ["requeue", ids]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Who asks from within the job has been heard all the same.
            with state(folder) as db:
                for one in ids.split(","):
                    tasks = _find(db, one)
                    if not tasks:
                        sys.exit(f"Invalid job id specified for job {one}")
                    if all(task["state"] == "PENDING" for task in tasks):
                        sys.exit(f"{one}: Job is pending execution")
                    for task in tasks:
                        if task["state"] == "RUNNING" and not task["ends_as"]:
                            _end(db, task, "REQUEUED", END_SECONDS)
                        elif task["state"] not in OPEN:
                            _wait_again(db, task, "REQUEUED")
                _ensure_scheduler(folder)
        case _:
            sys.exit(f"invalid keyword: {words}")


def srun(folder, options, words):
    count = int(options.get("ntasks", os.environ.get("SLURM_NTASKS", 1)))
    with state(folder) as db:
        db.execute("UPDATE tasks SET step = ? WHERE raw = ?", (os.getpid(), int(os.environ.get("SLURM_JOB_ID", 0))))
    step = {**os.environ, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(count), "SLURM_NTASKS": str(count)}
    ranks = [{**step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(count)]
    if count == 1:
        os.execvpe(words[0], words, ranks[0])
    pids = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: [_kill(os.kill, pid, number) for pid in pids])
    pids += [os.posix_spawnp(words[0], words, rank) for rank in ranks]
    first = 0
    while pids:
        pid, status = os.wait()
        pids.remove(pid)
        code = os.waitstatus_to_exitcode(status)
        first = first or (code if code >= 0 else 128 - code)
        if first and options.get("kill-on-bad-exit") == "1":
            for other in pids:
                _kill(os.kill, other, signal.SIGKILL)
    sys.exit(first)


def sinfo(folder, options, words):
    if "nodes" not in options:
        for name in PARTITIONS:
            limit = "2:00" if name == "short" else "infinite"
            default = "*" if name == "main" else ""
            print(
                options["format"]
                .replace("%R", name)
                .replace("%P", name + default)
                .replace("%l", limit)
                .replace("%m", "64000")
            )
        return
    with state(folder) as db:
        down = _down(db)
    for text in sorted({"down" if node in down else "idle" for node in _hosts(options["nodes"]) if node in NODES}):
        print(options.get("format", "%T").replace("%T", text))


PROGRAMS = {program.__name__: program for program in (sbatch, squeue, scancel, scontrol, srun, sinfo)}


def main():
    folder, program, *arguments = sys.argv[1:]
    if program == "scheduler":
        return schedule(folder)
    call = {"program": program, "arguments": arguments, "time": time.time()}
    with open(f"{folder}/calls.jsonl", "ab", buffering=0) as file:
        file.write(json.dumps(call).encode() + b"\n")  # in one write, so that the lines of two programs do not mix
    return PROGRAMS[program](folder, *_options(arguments))


# The scheduler


def schedule(folder):
    """Run what waits until nothing is left for IDLE_SECONDS. SIGTERM kills all that runs and ends it."""
    import ctypes

    stopped, processes = [], {}
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    # It adopts the tasks' orphans: whatever process 1 is, it sees when the last process of a task is gone.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    with open(f"{folder}/scheduler.lock", "a+") as lock:
        with state(folder):
            if not _lock_at_once(lock):
                return
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        slots, busy = _config(folder)["slots"], time.time()
        try:
            while not stopped:
                with state(folder) as db:
                    now = time.time()
                    for task in _tasks(db, "state = 'RUNNING'"):
                        _tend(db, task, processes, now)
                    if _start(db, processes, slots, now):
                        busy = now
                    elif now > busy + IDLE_SECONDS:
                        fcntl.flock(lock, fcntl.LOCK_UN)  # with the state in hand, so that no sbatch counts on this one
                        return
                time.sleep(POLL_SECONDS)
        except FileNotFoundError:
            pass  # The test that it served is over and its folder gone.
        finally:
            for process in processes.values():
                _kill(os.killpg, process.pid, signal.SIGKILL)
            while any(process.poll() is None or _group_lives(process.pid) for process in processes.values()):
                time.sleep(POLL_SECONDS)


def _tend(db, task, processes, now):
    """Look at a running task: warn it, end it when its time is over, note its end."""
    process = processes[task["task"]]
    code = process.poll()
    options = _parsed(task["options"])
    if code is None and "time" in options and not task["ends_as"]:
        left = task["start"] + _seconds(options["time"]) - now
        to, _, warning = options.get("signal", "").rpartition(":")
        name, _, before = warning.partition("@")
        if left <= 0:
            _end(db, task, "TIMEOUT", END_SECONDS)
        elif name and left <= float(before or 60) and not task["warned"]:
            _signal(task, name, to_batch=to == "B")
            _set(db, task, warned=1)
    if code is None or _group_lives(process.pid):
        # What is asked to end has its time for that. What a script leaves behind at its own end is killed at once.
        if now >= task["kill_at"] if task["ends_as"] else code is not None:
            _kill(os.killpg, process.pid, signal.SIGKILL)
        return
    del processes[task["task"]]
    if task["ends_as"] in AGAIN:
        _wait_again(db, task, task["ends_as"])
    elif task["ends_as"]:
        _set(db, task, state=task["ends_as"], reason="TimeLimit" if task["ends_as"] == "TIMEOUT" else "None")
    elif code:
        _set(db, task, state="FAILED", reason="NonZeroExitCode", exit=f"{code}:0" if code > 0 else f"0:{-code}")
    else:
        _set(db, task, state="COMPLETED")


def _start(db, processes, slots, now):
    """Start the waiting tasks that may, and give the others a reason. False if nothing waits or runs."""
    running, waiting, down = _tasks(db, "state = 'RUNNING'"), _tasks(db, "state = 'PENDING'"), _down(db)
    per_job = collections.Counter(task["job"] for task in running)
    per_node = collections.Counter(task["node"] for task in running)
    outcomes = {}
    if any(_parsed(task["options"])["dependency"] for task in waiting):
        for job, place, text in db.execute("SELECT job, place, state FROM tasks"):
            outcomes.setdefault(job, {})[place] = text
    for task in waiting:
        options = _parsed(task["options"])
        may = _may_start(options["dependency"], task["place"], outcomes)
        if may is not False and any(kind == "aftercorr" for kind, *_ in options["dependency"]):
            _split(db, task)
        full = per_node.total() >= slots
        nodes = [] if full else [node for node in NODES if node not in (*down, *_hosts(options.get("exclude", "")))]
        if may is None:
            reason = "DependencyNeverSatisfied"
        elif now < task["not_before"]:
            reason = "BeginTime"
        elif not may:
            reason = "Dependency"
        elif 0 < options["at_once"] <= per_job[task["job"]]:
            reason = "JobArrayTaskLimit"
        else:
            reason = "None" if nodes else "Resources"
        if reason != task["reason"]:
            _set(db, task, reason=reason)
        if may is None and options.get("kill-on-invalid-dep") == "yes":
            _set(db, task, state="CANCELLED")
        elif reason == "None":
            node = min(nodes, key=lambda node: per_node[node])
            if process := _run(db, task, node, now):
                processes[task["task"]] = process
                per_job[task["job"]] += 1
                per_node[node] += 1
    return bool(running or waiting)


def _may_start(dependencies, own_place, outcomes):
    """True, False (not yet) or None (never)."""
    verdicts = []
    for kind, job, place, _ in dependencies:
        states = outcomes.get(job, {})
        if kind == "aftercorr" and set(states) != {None}:
            place = own_place
        if place is not None:
            states = {place: states.get(place, "CANCELLED")}
        bad = any(text not in (*OPEN, "COMPLETED") for text in states.values())
        verdicts.append(None if bad and kind != "afterany" else not any(text in OPEN for text in states.values()))
    if any(alternative for *_, alternative in dependencies):
        return any(verdicts) or (None if set(verdicts) == {None} else False)
    return None if None in verdicts else all(verdicts)


def _run(db, task, node, now):
    """Start a task's processes; None, and the task has failed, if its output cannot be written."""
    import subprocess

    job = db.execute("SELECT * FROM jobs WHERE job = ?", (task["job"],)).fetchone()
    options, raw = _parsed(task["options"]), _split(db, task)
    environment = {
        **json.loads(job["environment"]),
        "SLURM_JOB_ID": raw,
        "SLURM_JOB_NAME": task["name"],
        "SLURM_JOB_NODELIST": node,
        "SLURM_JOB_NUM_NODES": 1,
        "SLURM_JOB_START_TIME": int(now),
        "SLURM_JOB_END_TIME": int(now + min(_seconds(options.get("time", "UNLIMITED")), 365 * 86400)),
        "SLURM_CPUS_ON_NODE": 1,
        "SLURMD_NODENAME": node,
    }
    if task["place"] is not None:
        environment |= {"SLURM_ARRAY_JOB_ID": task["job"], "SLURM_ARRAY_TASK_ID": task["place"]}
    if "ntasks" in options:
        environment["SLURM_NTASKS"] = options["ntasks"]
    if task["restarts"]:
        environment["SLURM_RESTART_COUNT"] = task["restarts"]
    default = "slurm-%j.out" if task["place"] is None else "slurm-%A_%a.out"
    names = {"A": task["job"], "a": task["place"], "j": raw, "x": task["name"]}
    output = re.sub("%([Aajx])", lambda name: str(names[name[1]]), options.get("output", default))
    mode = "ab" if options.get("open-mode") == "append" else "wb"
    try:
        with open(output if output.startswith("/") else f"{job['folder']}/{output}", mode) as file:
            process = subprocess.Popen(
                json.loads(job["command"]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=job["folder"],
                env={key: str(text) for key, text in environment.items()},
                start_new_session=True,
            )
    except OSError:
        _set(db, task, state="FAILED", exit="0:53")
        return None
    _set(db, task, state="RUNNING", node=node, start=now, pid=process.pid, step=None, warned=0, ends_as=None)
    return process


def _end(db, task, ends_as, grace):
    """Ask all processes of a running task to end; the scheduler kills those that are left after the grace."""
    _kill(os.killpg, task["pid"], signal.SIGTERM if grace else signal.SIGKILL)
    _set(db, task, ends_as=ends_as, kill_at=time.time() + grace)


def _wait_again(db, task, ended_as):
    again = {"state": "PENDING", "reason": "BeginTime", "node": "", "exit": "0:0", "ends_as": None}
    _set(db, task, **again, restarts=task["restarts"] + 1, not_before=time.time() + AGAIN[ended_as])


def _split(db, task):
    """The task's own id. It leaves the array's record with that, and the last one in there gets the array's own."""
    (raw,) = db.execute("SELECT raw FROM tasks WHERE task = ?", (task["task"],)).fetchone()
    if raw is None:
        left = _tasks(db, "job = ? AND raw IS NULL AND state = 'PENDING' LIMIT 3", task["job"])
        raw = task["job"] if len(left) == 1 else _next_id(db)
        for one in left if len(left) == 2 else []:
            _set(db, one, raw=task["job"])
        _set(db, task, raw=raw)
    return raw


def _ensure_scheduler(folder):
    """Start a scheduler unless one lives. Called with the state in hand, without which none goes."""
    with open(f"{folder}/scheduler.lock", "a") as lock:
        if not _config(folder)["execute"] or not _lock_at_once(lock):
            return
    log = (os.POSIX_SPAWN_OPEN, 1, f"{folder}/scheduler.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    files = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)]
    os.posix_spawn(sys.executable, [*PYTHON, folder, "scheduler"], os.environ, file_actions=files, setsid=True)


# What it keeps


@contextlib.contextmanager
def state(folder):
    """The data base, for this process alone."""
    with open(f"{folder}/lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.closing(sqlite3.connect(f"{folder}/state.db")) as db, db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = OFF")
            yield db


def _tasks(db, where, *values):
    joined = "SELECT tasks.*, name, options FROM tasks JOIN jobs USING (job)"
    return db.execute(f"{joined} WHERE {where}", values).fetchall()


def _find(db, id):
    """The tasks of an id: of a job, a task (its own id, or 7_3), or several (7_[0-3,5])."""
    job, _, places = id.partition("_")
    if places:
        return _tasks(db, f"NOT hidden AND job = ? AND place IN ({str(_numbers(places.strip('[]')))[1:-1]})", int(job))
    return _tasks(db, "NOT hidden AND (job = ? OR raw = ?)", int(job), int(job))


def _set(db, task, **values):
    columns = ", ".join(f"{column} = ?" for column in values)
    db.execute(f"UPDATE tasks SET {columns} WHERE task = ?", (*values.values(), task["task"]))


def _next_id(db):
    (last,) = db.execute("PRAGMA user_version").fetchone()
    db.execute(f"PRAGMA user_version = {last + 1}")
    return last + 1


def _down(db):
    return {node for (node,) in db.execute("SELECT node FROM down")}


def _config(folder):
    with open(f"{folder}/config.json") as file:
        return json.load(file)


# What it shows


def _lines(tasks):
    """Tasks as squeue shows them: those in an array's record in one line, and with them those that wait again."""
    records = {task["job"] for task in tasks if task["raw"] is None and task["state"] == "PENDING"}
    groups = {}
    for task in tasks:
        together = task["raw"] is None or (task["job"] in records and _shown(task) == "PENDING")
        groups.setdefault((task["job"], task["state"]) if together else task["task"], []).append(task)
    for group in groups.values():
        task = group[0]
        places, id = "N/A" if task["place"] is None else task["place"], _name(task)
        if any(task["raw"] is None for task in group):
            places = _bits(sorted(task["place"] for task in group))
            if (at_once := _parsed(task["options"])["at_once"]) and all(task["raw"] is None for task in group):
                places += f"%{at_once}"
            id = f"{task['job']}_[{places}]"
        reasons = ",".join(dict.fromkeys(task["reason"] for task in group))
        line = {"i": id, "A": task["raw"] or task["job"], "F": task["job"], "K": places, "j": task["name"]}
        yield line | {"T": _shown(task), "r": reasons, "N": task["node"], "exit": task["exit"]}


def _bits(places):
    """0-3,7, or 0-20:4 from six on, as SLURM writes a bit string, and as short as SLURM_BITSTR_LEN has it."""
    gaps = {after - before for before, after in itertools.pairwise(places)}
    if len(places) > 5 and len(gaps) == 1 and gaps != {1} and places[-1] - places[0] > 10:
        return f"{places[0]}-{places[-1]}:{gaps.pop()}"
    runs = []
    for place in places:
        if runs and runs[-1][1] == place - 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    text = ",".join(f"{first}-{last}" if first < last else str(first) for first, last in runs)
    width = int(os.environ.get("SLURM_BITSTR_LEN", 64))
    return f"{text[: width - 4]}..." if 0 < width <= len(text) else text


def _shown(task):
    return "COMPLETING" if task["state"] == "RUNNING" and task["ends_as"] else task["state"]


def _name(row):
    return str(row["job"]) if row["place"] is None else f"{row['job']}_{row['place']}"


# What it is told


def _options(arguments):
    """The leading options as {"key": "value"}, and the words after them."""
    options, words = {}, list(arguments)
    while words and words[0].startswith("-"):
        key, _, text = words.pop(0).lstrip("-").partition("=")
        if key in ("j", "o"):
            key, text = {"j": "jobs", "o": "format"}[key], words.pop(0)
        options[key] = text
    return options, words


def _directives(script):
    lines = itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), script.splitlines())
    return [word for line in lines if line.startswith("#SBATCH ") for word in shlex.split(line[8:])]


def _numbers(text):
    """'1,5,7-9,10-20:5' as a list."""
    numbers = []
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return numbers


def _hosts(text):
    """'n1,n[2-3]' as a list."""
    groups = re.findall(r"(\w+)(?:\[([\d,-]+)\])?", text)
    return [f"{prefix}{number}" for prefix, many in groups for number in (_numbers(many) if many else [""])]


def _seconds(text):
    """A time limit, [D-]H:M:S or shorter, or minutes; here with a fraction, too."""
    if text == "UNLIMITED":
        return float("inf")
    days, _, rest = text.rpartition("-")
    parts = [float(part) for part in rest.split(":")]
    units = (3600, 60, 1) if days or len(parts) == 3 else (60, 1)
    return float(days or 0) * 86400 + sum(part * unit for part, unit in zip(parts, units, strict=False))


def _dependencies(db, text):
    """'afterok:1:2_3,afterany:4' as [kind, job, place, alternative] each: with '?' between them one will do."""
    needed = []
    for kind, *ids in (part.split(":") for part in re.split("[,?]", text)):
        for id in ids:
            job, _, place = id.partition("_")
            tasks = _find(db, id)
            if kind not in ("afterok", "afterany", "aftercorr") or (not tasks and kind != "afterany"):
                _refuse("Job dependency problem")
            if tasks and tasks[0]["job"] != int(job):
                job, place = tasks[0]["job"], tasks[0]["place"]
            needed.append([kind, int(job), int(place) if place != "" else None, "?" in text])
    return needed


def _refuse(why):
    sys.exit(f"sbatch: error: Batch job submission failed: {why}")


_parsed = functools.cache(json.loads)


# Processes


def _signal(task, name, *, to_batch):
    """Send a running task a signal: its script alone, or what its srun started."""
    number = int(name) if name.isdigit() else signal.Signals["SIG" + name.removeprefix("SIG")]
    pid = task["pid"] if to_batch else task["step"]
    with contextlib.suppress(ProcessLookupError):
        if task["state"] == "RUNNING" and pid and os.getpgid(pid) == task["pid"]:
            os.kill(pid, number)


def _kill(how, pid, number):
    with contextlib.suppress(ProcessLookupError):
        how(pid, number)


def _group_lives(pid):
    """Is a process of this group left, but for zombies of ours, which are reaped?"""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-pid, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _lock_at_once(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
