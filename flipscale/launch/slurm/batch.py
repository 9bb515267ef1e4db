"""The batch script of an array, which submitit writes, and its way to SLURM."""

import contextlib
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import submitit

from flipscale.errors import LaunchError
from flipscale.launch.launcher import NoPlace
from flipscale.launch.slurm import scheduler
from flipscale.launch.slurm.arrays import JobArray
from flipscale.plain_files import read_bytes, replacing
from flipscale.words import count


class _Executor(submitit.SlurmExecutor):
    """submitit's scripts for a command of our own: usually each task of its arrays runs a pickle."""

    @classmethod
    def affinity(cls) -> int:
        return 1  # A script can be looked at where there is no SLURM.

    def script(self, command: str) -> str:
        return str(self._make_submission_file_text(command, uid=""))


def script_of(array: JobArray, home: Path, after: str | None = None) -> str:
    """The batch script: its options from the site, its command an attendant for the runs of a task.

    after: SLURM's number of the array that `array.after` names.
    LaunchError where an option would not stay on its line.
    """
    site = array.site
    path = array.path(home)
    gpus = array.gpus_per_node
    gpu = [f"gpu:{site['gpu_type']}:{gpus}" if site["gpu_type"] else f"gpu:{gpus}"] if gpus else []
    options = {
        "job_name": scheduler.job_name(array.name),
        "clusters": array.cluster,
        **{key: site[key] for key in ("partition", "account", "qos", "constraint", "reservation", "export")},
        "exclude": ",".join(dict.fromkeys([*site["exclude"], *array.avoid])),
        "gres": ",".join([*gpu, *site["gres"]]),
        "nodes": array.nodes,
        "ntasks_per_node": array.resources.devices // array.nodes * array.lanes,
        "cpus_per_task": array.cores,
        "mem": array.memory and _megabytes(array.memory * array.lanes),
        "time": array.time and _clock(array.time),
        "array": _indices(array.tasks, site["throttle"]),
        "output": str(array.log(home, "%a")),
        # To the batch script alone, which becomes the attendant: it tells the workers, and then asks for a requeue.
        "signal": f"B:USR2@{site['warning']}",
        "requeue": True,
        "dependency": _dependency(array, after),
        **dict(_option(option) for option in site["sbatch"]),
    }
    _refuse_line_breaks(options)
    attendant = [sys.executable, "-P", "-u", "-m", "flipscale.launch.slurm.task", str(path)]
    setup = _setup(site["setup"], attendant)
    command = _WATCHED.format(shlex.join(attendant))
    if not array.run_ids:
        setup = site["setup"]
        command = _SENDS.format(shlex.join(array.command))
    executor = _Executor(path.parent)
    executor.update_parameters(
        time=None,
        wckey=None,
        stderr_to_stdout=True,
        use_srun=False,
        setup=setup,
        additional_parameters={name: value for name, value in options.items() if value not in (None, "")},
    )
    return executor.script(command)


_WATCHED = """
trap 'kill -USR2 $attendant' USR2
trap 'kill -TERM $attendant' TERM
{0} & attendant=$!
while wait $attendant; code=$?; [ $code -gt 128 ] && kill -0 $attendant 2>/dev/null; do :; done
[ $code -ne 137 ] || exec {0} 137
exit $code""".lstrip()
"""The last lines of a script: SLURM's signals go to it alone, so it passes them on. An attendant that was killed with
SIGKILL is followed by one that has its exit code, and sees to what the first left behind."""


_SENDS = """
{0}
code=$?
[ $code -eq 0 ] || [ "${{SLURM_RESTART_COUNT:-0}}" -ge 3 ] || scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_0"
exit $code""".lstrip()
"""The last lines of a script that sends what is left of a study. If that fails, as where the controller is away, it is
done again in a few minutes, up to three times."""


def _refuse_line_breaks(options: Mapping[str, object]) -> None:
    """The names of failed nodes are read from run folders, which may be a stranger's."""
    for name, value in options.items():
        if isinstance(value, str) and re.search("[\r\n]", value):
            raise LaunchError(
                f"--{name.replace('_', '-')} would be {value!r}, and each option of a batch script is one line."
            )


def send(array: JobArray, home: Path, after: str | None = None) -> JobArray:
    """Write the array's record and script, and hand it to sbatch: the array with SLURM's number. LaunchError if it is
    refused.

    Nodes that failed under the runs are avoided, unless the cluster refuses that, as where there are no others.
    """
    try:
        number = _send(array, home, after)
    except scheduler.ControllerAway:
        raise
    except LaunchError as refused:
        if not array.avoid:
            raise
        try:
            return send(replace(array, avoid=()), home, after)
        except LaunchError:
            raise refused from None
    sent = replace(array, slurm_id=number)
    sent.write(home)
    return sent


def _send(array: JobArray, home: Path, after: str | None) -> str:
    """SLURM's number of the array."""
    array.write(home)
    script = array.path(home).with_suffix(".sh")
    with replacing(script) as file:
        file.write(script_of(array, home, after).encode(errors="surrogateescape"))  # as paths have it
    error: LaunchError | None = None
    may_send = True
    for pause in (*scheduler.PAUSES, None):
        try:
            if may_send:
                return scheduler.submit(str(script))
        except scheduler.ControllerAway as away:
            error = away
        except LaunchError as refused:
            refusal = NoPlace if _NO_PLACE.search(str(refused)) else LaunchError
            raise refusal(_why_refused(array, script, str(refused))) from None
        time.sleep(pause or 0)
        may_send = False
        with contextlib.suppress(LaunchError):
            for key, entry in scheduler.queue(array.cluster).items():
                if key.startswith(f"{array.name}/"):
                    return entry.array
            may_send = not isinstance(error, scheduler.NoAnswer)
    raise scheduler.ControllerAway(
        f"{error}. SLURM may have taken {script} all the same: submit again in a minute, when its queue shows what it "
        "has, and nothing is sent twice."
    )


_NO_PLACE = re.compile("submit ?(job)? ?limit|MaxSubmit", re.IGNORECASE)
"""Words of SLURM where a user, an account or a QOS may not have so many jobs at once."""


def _why_refused(array: JobArray, script: Path, said: str) -> str:
    hint = ""
    if array.memory is not None and "memory" in said.lower():
        hint = (
            " Write memory_per_process into the site file: the memory of a process, or null for the cluster's default."
        )
    if _NO_PLACE.search(said):
        hint = (
            f" This array has {count(len(array.tasks), 'job')}. Write a smaller max_array_size into the site file, so "
            "that the runs go out in parts, or let short runs share a job with pack."
        )
    if "invalid partition" in said.lower() and (rows := scheduler.partitions(array.cluster)):
        hint += f" Partitions here: {', '.join(dict.fromkeys(row[0].rstrip('*') for row in rows))}."
    ours = "array|dependency|job-name|open-mode|output|requeue|signal"
    text = read_bytes(script).decode(errors="surrogateescape")
    asked = re.findall(rf"^#SBATCH --(?!{ours})(.*)$", text, re.MULTILINE)
    return f"{script}: SLURM refused it. {said} It asks for {', '.join(asked)}.{hint}"


def _setup(lines: Sequence[str], attendant: Sequence[str]) -> list[str] | None:
    """The site's lines; if one of them ends the script, or a signal comes, the attendant gets the exit code."""
    if not lines:
        return None
    ended = f"{shlex.join(attendant)} $?"
    signals = ["trap 'exit 140' USR2", "trap 'exit 143' TERM"]
    return [f"trap {shlex.quote(ended)} EXIT", *signals, *lines, "trap - EXIT USR2 TERM"]


def _dependency(array: JobArray, after: str | None) -> str:
    """A task starts when its parent's has ended well, or else when all of the parents' array has ended: aftercorr alone
    would never let it start after a task that was cancelled or killed, or ran out of time."""
    if after:
        return f"aftercorr:{after}?afterany:{after}"
    jobs = (":" if array.run_ids else "?afterany:").join(dict.fromkeys(array.after_jobs))
    return f"afterany:{jobs}" if jobs else ""


def _indices(tasks: Iterable[int], throttle: int | None) -> str:
    """The indices as sbatch takes them: 0-4,7%2."""
    spans: list[list[int]] = []
    for index in sorted(tasks):
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    said = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"{said}%{throttle}" if throttle else said


def _megabytes(memory: int) -> str:
    """An amount as sbatch takes it, in the largest unit in which it is whole: 960G, 768M."""
    unit = next((power for power in (3, 2) if memory % 1024**power == 0), 1)
    return f"{memory // 1024**unit}{'KMG'[unit - 1]}"


def _clock(seconds: int) -> str:
    """D-HH:MM:SS, as SLURM reads a limit."""
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"


def _option(written: str) -> tuple[str, str | bool]:
    """'--comment=flip' as a name and its value; True where it has none."""
    name, has_value, value = written.removeprefix("--").partition("=")
    return name, value if has_value else True


def worker_command(array: JobArray, folders: Iterable[Path], gpus: str | None = None) -> list[str]:
    """The command line of a worker in a job: srun, the site's wrapper, and the command with the runs' folders.

    gpus: the job's GPUs that this lane has for itself, in the form of CUDA_VISIBLE_DEVICES; None for all.
    """
    site = array.site
    folders = list(folders)
    srun = [
        "srun",
        "--overlap",  # Lanes share what the job has.
        f"--nodes={array.nodes}",
        f"--ntasks={array.resources.devices}",
        f"--cpus-per-task={array.cores}",
        # Others would wait long for a process that never came.
        "--kill-on-bad-exit=1",
        # srun would apply the job's --export to the training too, and so drop what the attendant sets for it.
        *(["--export=ALL"] if site["export"] else []),
        *site["srun"],
    ]
    inside: list[str] = []
    if container := site["container"]:
        mounts = [*container["mounts"], *dict.fromkeys(str(folder.resolve().parent.parent) for folder in folders)]
        if container["runtime"] == "pyxis":
            srun += [f"--container-image={container['image']}", f"--container-mounts={_mounts(mounts)}"]
            srun += container["arguments"]
        else:
            inside = [container["runtime"], "exec", *container["arguments"], "--bind", ",".join(mounts)]
            inside.append(container["image"])
    visible = ["env", f"CUDA_VISIBLE_DEVICES={gpus}"] if gpus is not None else []
    return [*srun, *visible, *inside, *array.command, *map(str, folders)]


def _mounts(mounts: Iterable[str]) -> str:
    """As pyxis takes them: each with its place in the container."""
    return ",".join(mount if ":" in mount else f"{mount}:{mount}" for mount in mounts)
