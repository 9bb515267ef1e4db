"""The batch script of an array, and what starts a worker in its jobs: text and words, with no SLURM.

The scripts in golden/ are compared whole; --update-golden writes them anew.
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.errors import LaunchError
from flipscale.launch.launcher import Attempt
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import task
from flipscale.launch.slurm.arrays import JobArray
from flipscale.launch.slurm.batch import script_of, worker_command
from flipscale.settings.declarations import Resources

GOLDEN = Path(__file__).with_name("golden")

PLAIN = JobArray(
    name="mask-12345678-20260101-120000-abc-0",
    tasks={0: ("a",), 1: ("b",), 2: ("c",)},
    resources=Resources(gpus=1),
    cores=1,
    lanes=1,
    avoid=(),
    site=DEFAULTS,
    runs="/results/runs",
    command=("python", "-m", "flipscale", "train"),
    memory=4736 * 2**20,
)

EVERYTHING = {
    **DEFAULTS,
    "partition": "gpu,gpu-long",
    "account": "flip-0042",
    "qos": "normal",
    "reservation": "maintenance",
    "time": 129600,
    "warning": 300,
    "gpus_per_node": 4,
    "gpu_type": "a100",
    "gres": ["lustre:1", "nvme:100G"],
    "cpus_per_process": 12,
    "memory_per_process": "120G",
    "constraint": "ib&rocky9",
    "exclude": ["gpu-001", "gpu-[014-016]"],
    "throttle": 50,
    "sbatch": ["--exclusive", "--comment=a study of masks", "--mail-type=END"],
    "srun": ["--cpu-bind=cores"],
    "setup": ["module load cuda/12.4", 'export NCCL_DEBUG="WARN"'],
    "pack": {"time": 7200, "share": 2, "device_memory": "80G", "whole_nodes": False},
}

FULL = replace(
    PLAIN,
    name="mask-12345678-20260101-120000-abc-12",
    tasks={0: ("a", "b"), 1: ("c",), 4: ("d",), 7: ("e",), 8: ("f",), 9: ("g",)},
    resources=Resources(gpus=8),
    cores=12,
    lanes=2,
    memory=480 * 2**30,
    time=129600,
    avoid=("gpu-007", "gpu-001"),
    site=EVERYTHING,
    after="mask-12345678-20260101-120000-abc-3",
    after_jobs=("7_3", "8_0", "7_3"),
)


def scripted(array, home, after=None):
    """The script, with placeholders for what is of this machine."""
    return script_of(array, home, after).replace(str(home.parent), "RESULTS").replace(sys.executable, "PYTHON")


def options(array, after=None) -> dict[str, str | None]:
    """The options of sbatch in the script."""
    lines = script_of(array, Path("/results/slurm"), after).splitlines()
    matches = [re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(.*))?", line) for line in lines if line.startswith("#SBATCH")]
    return {line[1]: line[2] for line in matches}


def site(**keys):
    return {**DEFAULTS, **keys}


# The script


@pytest.mark.parametrize(
    ("name", "array", "after"), [("plain", PLAIN, None), ("everything", FULL, "4242")], ids=["plain", "everything"]
)
def test_the_script_is_the_golden_one(tmp_path, name, array, after, golden):
    golden(GOLDEN / f"{name}.sh", scripted(array, tmp_path / "slurm", after))


@pytest.mark.parametrize("name", ["plain", "everything"])
def test_a_golden_script_is_one_that_a_shell_reads(name):
    checked = subprocess.run(["bash", "-n", GOLDEN / f"{name}.sh"], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_script_is_text_and_leaves_no_trace(tmp_path):
    script_of(PLAIN, tmp_path / "slurm")
    assert list(tmp_path.iterdir()) == []


def test_paths_with_spaces_are_one_word(tmp_path):
    script = script_of(PLAIN, tmp_path / "my results" / "slurm")
    home = tmp_path / "my results" / "slurm" / "mask-12345678-20260101-120000-abc"
    attendant = f"{sys.executable} -P -u -m flipscale.launch.slurm.task '{home}/0.json'"
    assert f"\n{attendant} & attendant=$!\n" in script
    assert f"#SBATCH --output='{home}/0_%a.log'" in script


@pytest.mark.parametrize(
    ("tasks", "throttle", "said"),
    [
        ([0], None, "0"),
        ([0, 1, 2, 3], None, "0-3"),
        ([1, 3, 4, 5, 9], None, "1,3-5,9"),
        ([9, 4, 3, 5, 1], None, "1,3-5,9"),
        ([0, 1], 50, "0-1%50"),
        (range(1000), 1, "0-999%1"),
    ],
)
def test_the_tasks_of_an_array_are_spans(tasks, throttle, said):
    array = replace(PLAIN, tasks=dict.fromkeys(tasks, ("a",)), site=site(throttle=throttle))
    assert options(array)["array"] == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, None), (121, "0-00:02:01"), (14400, "0-04:00:00"), (129600, "1-12:00:00"), (2678399, "30-23:59:59")],
)
def test_a_limit_is_in_days_and_hours(seconds, said):
    assert options(replace(PLAIN, time=seconds)).get("time") == said


@pytest.mark.parametrize(
    ("after", "after_jobs", "said"),
    [
        (None, (), None),
        ("4242", (), "'aftercorr:4242?afterany:4242'"),
        (None, ("7_3",), "afterany:7_3"),
        (None, ("7_3", "8_0", "7_3"), "afterany:7_3:8_0"),
    ],
)
def test_what_is_waited_for_is_a_dependency(after, after_jobs, said):
    array = replace(PLAIN, after="mask-12345678-20260101-120000-abc-3" if after else None, after_jobs=after_jobs)
    assert options(array, after).get("dependency") == said


@pytest.mark.parametrize(
    "array",
    [
        replace(PLAIN, site=site(partition="gpu\n#SBATCH --uid=0")),
        replace(PLAIN, site=site(gres=["lustre:1\ntouch x"])),
        replace(PLAIN, site=site(sbatch=["--comment=a\rb"])),
        replace(PLAIN, avoid=("n1\n",)),
        replace(PLAIN, after_jobs=("7_3\n",)),
    ],
)
def test_no_option_can_write_another_line_into_the_script(array):
    with pytest.raises(LaunchError, match=r"\\[nr].*, and each option of a batch script is one line"):
        script_of(array, Path("/results/slurm"))


def test_a_worker_is_one_step_of_the_job():
    assert worker_command(PLAIN, [Path("/results/runs/a"), Path("/results/runs/b")]) == [
        "srun",
        "--overlap",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--kill-on-bad-exit=1",
        "python",
        "-m",
        "flipscale",
        "train",
        "/results/runs/a",
        "/results/runs/b",
    ]


@pytest.mark.parametrize(
    ("resources", "lanes", "nodes", "processes"),
    [
        (Resources(gpus=8), 1, 1, 8),
        (Resources(gpus=16), 1, 2, 16),
        (Resources(gpus=16, processes=2), 1, 2, 2),
        (Resources(processes=6), 1, 3, 6),
        # The job is larger than one of its workers.
        (Resources(gpus=2), 4, 1, 2),
        (Resources(), 3, 1, 1),
    ],
)
def test_a_run_of_several_processes_has_them_on_its_nodes(resources, lanes, nodes, processes):
    array = replace(PLAIN, resources=resources, cores=6, lanes=lanes, site=site(processes_per_node=2))
    assert worker_command(array, [Path("/results/runs/a")])[1:6] == [
        "--overlap",
        f"--nodes={nodes}",
        f"--ntasks={processes}",
        "--cpus-per-task=6",
        "--kill-on-bad-exit=1",
    ]


def test_options_of_srun_come_after_our_own():
    array = replace(PLAIN, site=site(srun=["--cpu-bind=cores", "--mpi=pmix"]))
    assert worker_command(array, [Path("/results/runs/a")])[5:9] == [
        "--kill-on-bad-exit=1",
        "--cpu-bind=cores",
        "--mpi=pmix",
        "python",
    ]


def test_a_lane_sees_its_own_gpus():
    assert worker_command(PLAIN, [Path("/results/runs/a")], "2,3")[5:9] == [
        "--kill-on-bad-exit=1",
        "env",
        "CUDA_VISIBLE_DEVICES=2,3",
        "python",
    ]


CONTAINER = {"image": "/images/flip.sqsh", "runtime": "pyxis", "mounts": ["/data", "/me:/home/me"], "arguments": []}


def test_in_pyxis_srun_starts_the_container_with_the_results_in_it(tmp_path):
    container = {**CONTAINER, "arguments": ["--no-container-mount-home"]}
    array = replace(PLAIN, site=site(container=container, srun=["--mpi=pmix"]))
    runs = [tmp_path / "runs" / "a", tmp_path / "runs" / "b"]
    assert worker_command(array, runs, "1")[5:] == [
        "--kill-on-bad-exit=1",
        "--mpi=pmix",
        "--container-image=/images/flip.sqsh",
        f"--container-mounts=/data:/data,/me:/home/me,{tmp_path}:{tmp_path}",
        "--no-container-mount-home",
        "env",
        "CUDA_VISIBLE_DEVICES=1",
        "python",
        "-m",
        "flipscale",
        "train",
        f"{tmp_path}/runs/a",
        f"{tmp_path}/runs/b",
    ]


@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
def test_in_apptainer_the_container_is_what_srun_starts(tmp_path, runtime):
    container = {**CONTAINER, "runtime": runtime, "image": "/images/flip.sif", "arguments": ["--nv"]}
    array = replace(PLAIN, site=site(container=container))
    assert worker_command(array, iter([tmp_path / "runs" / "a"]), "0,1")[5:] == [
        "--kill-on-bad-exit=1",
        "env",
        "CUDA_VISIBLE_DEVICES=0,1",
        runtime,
        "exec",
        "--nv",
        "--bind",
        f"/data,/me:/home/me,{tmp_path}",
        "/images/flip.sif",
        "python",
        "-m",
        "flipscale",
        "train",
        f"{tmp_path}/runs/a",
    ]


@pytest.mark.parametrize(("site", "seconds"), [(DEFAULTS, "600"), ({**DEFAULTS, "connect": 1200}, "1200")])
def test_a_worker_is_told_how_long_its_processes_may_take_to_connect(monkeypatch, site, seconds):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, env, stdin: started.append(env))
    task._start(replace(PLAIN, site=site), Attempt("slurm/a/0", 0, "n1"), [], 0)
    assert started[0]["FLIPSCALE_CONNECT"] == seconds


# What jobs get of the submitter's environment


def test_the_sites_export_keeps_nothing_from_the_training_that_the_attendant_sets_for_it():
    array = replace(PLAIN, site=site(export="PATH,HOME"))
    assert options(array)["export"] == "PATH,HOME"
    assert "--export=ALL" in worker_command(array, [Path("/results/runs/a")])
    assert "export" not in options(PLAIN)
    assert "--export=ALL" not in worker_command(PLAIN, [Path("/results/runs/a")])
