"""Several processes train a run as one does. They are real processes, connected by gloo."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from flipscale.run import RunFolder, RunRequest, State
from flipscale.settings.declarations import Resources
from flipscale.train import train
from flipscale.train.distributed import Group
from flipscale.train.failure import Cause, Failed
from flipscale.train.meeting import slurm_variables, step_nodes
from tests.patience import PATIENCE, wait_until
from tests.train.conftest import SETTINGS
from tests.train.forks import Forked

pytestmark = pytest.mark.slow

SMOOTH = {"eps": 1e-3}
"""With AdamW's usual eps a gradient of almost 0 moves a weight by lr one way or the other, as it is rounded."""

FIVE_STEPS = {"samples": 160}

VARIANTS: dict[str, dict[str, Any]] = {
    "masked": {"mask_ratio": 0.5},
    "whole": {"mask_ratio": 0.0, "grad_clip": 0.5},
    "text": {"mask_ratio": 0.75, "text_mask_ratio": 0.5},
    "reconstructing": {"mask_ratio": 0.5, "reconstruction": {"weight": 1.0, "width": None, "depth": 1}},
    "cropped": {"crop": 0.5, "flip": True},
    "sigmoid": {"mask_ratio": 0.5, "text_mask_ratio": 0.5, "loss_function": "sigmoid"},
}

SPLITS: dict[str, dict[str, Any]] = {
    "two processes": {"processes": 2},
    "four micro-batches": {"accumulate": 4},
    "two processes with two micro-batches": {"processes": 2, "accumulate": 2},
}

Ask = Callable[..., RunFolder]


def asked(folder: Path, name: str, resources: dict[str, Any], **changes: Any) -> RunFolder:
    run = RunFolder(folder / "runs" / name)
    run.ask(RunRequest(name, {**SETTINGS, **changes}, resources=Resources(**resources)))
    return run


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    return lambda name="run", resources={"processes": 2}, **changes: asked(tmp_path, name, resources, **changes)


def losses(run: RunFolder) -> list[float]:
    return [record["loss"] for record in run.records()[0] if "loss" in record]


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(run.path / "model.pt")["state_dict"]


# The same training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], RunFolder]:
    """Each variant, trained whole and in each way of splitting."""
    folder = tmp_path_factory.mktemp("trained")
    runs = {
        (variant, split): asked(folder, f"{variant} {split}", resources, **FIVE_STEPS, **SMOOTH, **changes)
        for variant, changes in VARIANTS.items()
        for split, resources in {"whole": {}, **SPLITS}.items()
    }
    of_two = {key: run for key, run in runs.items() if "two processes" in key[1]}
    # Two processes for all runs of two: each would start one of its own, which takes longer than it trains.
    both = [started(*of_two.values(), **process) for process in two_processes()]
    assert train([run.path for key, run in runs.items() if key not in of_two]) == 0
    for process in both:
        code, talk = ended(process)
        assert code == 0, talk
    return runs


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_split_batch_gives_the_loss_and_the_weights_of_the_whole_one(trained, variant, split):
    whole, parts = trained[variant, "whole"], trained[variant, split]
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    expected, found = weights(whole), weights(parts)
    assert expected.keys() == found.keys()
    # Training moves weights by some 1e-2, and rounding by some 1e-7.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert parts.result().scores["held_out_loss"] == pytest.approx(whole.result().scores["held_out_loss"], 1e-3)


def test_facts_are_of_all_processes_together(trained):
    one, two = (trained["masked", split].result() for split in ("whole", "two processes"))
    assert (one.devices, two.devices) == (1, 2)
    assert two.gpu_hours == two.cpu_seconds / 3600
    assert (two.samples_seen, two.unique_pairs, two.steps) == (one.samples_seen, one.unique_pairs, one.steps)
    items = {
        split: {score: (of.items, of.count) for score, of in trained["masked", split].hits().items()}
        for split in ("whole", "two processes")
    }
    assert items["whole"] == items["two processes"]
    assert items["whole"]["zero_shot_top1"] == ("shapes, images 160", 160)


@pytest.mark.parametrize(
    ("resources", "nearest"),
    [({"accumulate": 3}, 33), ({"accumulate": 64}, 64), ({"processes": 1, "accumulate": 5}, 30)],
)
def test_a_batch_that_cannot_be_split_is_refused_with_the_nearest_that_can(ask, resources, nearest):
    run = ask(resources=resources)
    assert train([run.path]) == 1
    parts = resources["accumulate"]
    assert run.error().reason.startswith(
        f"batch_size 32 cannot be split into 1 processes x {parts} micro-batches; the nearest batch_size that "
        f"can is {nearest}."
    )


# Signals and failures


def started(*runs: RunFolder, before: str = "", **environment: str) -> Forked:
    """A process that trains these runs and writes a checkpoint as often as it can."""
    folders = [str(run.path) for run in runs]
    train = f"import sys\nfrom flipscale.train import train\nsys.exit(train({folders}, checkpoint_seconds=0))"
    return Forked(f"{before}\n{train}", **environment)


def two_processes() -> list[dict[str, str]]:
    """The environment of each of two processes that are started from outside, as torchrun does."""
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]


def wait_for_step(run: RunFolder, step: int, *processes: Forked) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ((run.path / "checkpoint.pt").exists() and len(losses(run)) >= step):
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes of a run that `pid` started: other tests leave children of another kind, as clusters' keepers."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"\0flipscale\0train\0" in Path(f"/proc/{child}/cmdline").read_bytes()]


def ended(process: Forked) -> tuple[int | None, str]:
    _, talk = process.communicate()
    return process.returncode, talk


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " in stat.read_text()


def test_a_signal_to_another_process_than_the_first_stops_all_with_a_checkpoint(ask):
    run, never = ask(samples=100_000), ask("never")
    process = started(run, never)
    wait_for_step(run, 1, process)
    (child,) = children(process.pid)
    os.kill(child, signal.SIGTERM)
    code, talk = ended(process)
    assert code == 143, talk
    step = torch.load(run.path / "checkpoint.pt")["progress"]["step"]
    assert f"stopped by SIGTERM after step {step} of 3125" in (run.path / "log.txt").read_text()
    assert (run.state(), run.error(), never.state()) == (State.PLANNED, None, State.PLANNED)
    assert gone(child)


def test_a_process_that_is_killed_fails_the_run_by_its_name_and_the_next_run_goes_on(ask):
    run, following = ask(samples=100_000), ask("following")

    def kill() -> None:
        wait_for_step(run, 1)
        (child,) = children(os.getpid())
        os.kill(child, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    assert train([run.path, following.path], checkpoint_seconds=0) == 1
    thread.join()
    assert run.error().kind == "node"
    assert run.error().reason.startswith("Process 1 of 2 was killed by SIGKILL; ")
    assert (run.path / "checkpoint.pt").exists()
    assert following.state() is State.FINISHED
    assert following.result().devices == 2


FAILING = """
from flipscale.train import sources
from flipscale.errors import DataError
from flipscale.train.trainers.builtin.training import Training

open_data, step = sources.open_data, Training.step

def broken(*arguments, **more):
    sources.open_data = open_data
    raise DataError("shard 7 is cut off")

def too_large(self, images, tokens):
    if self.progress.step == 5:
        raise MemoryError()
    step(self, images, tokens)

sources.open_data, Training.step = broken, too_large
"""
"""The first run's data cannot be opened, and the second runs out of memory in its sixth step."""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_of_one_process_is_recorded_by_its_kind(ask, rank):
    starting, training = ask("starting"), ask("training")
    processes = [
        started(starting, training, before=FAILING if each == rank else "", **process)
        for each, process in enumerate(two_processes())
    ]
    codes = [ended(process)[0] for process in processes]
    assert codes == [1, 1]
    assert (starting.error().kind, starting.error().reason) == ("data", "shard 7 is cut off")
    assert training.error().kind == "oom"
    assert training.holder() is None


def test_torchrun_starts_the_processes_and_a_run_that_diverges_does_not_take_its_neighbour_along(ask):
    hot, good = ask("hot", resources={}, lr=1e30, warmup=0), ask("good", resources={})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "flipscale"]
    done = subprocess.run(
        [*command, "train", str(hot.path), str(good.path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert hot.error().kind == "diverged", done.stderr
    assert "step 2 of 20" in hot.error().reason
    assert good.state() is State.FINISHED, done.stderr
    assert good.result().devices == 2


def agent(run: RunFolder, *options: str) -> "subprocess.Popen[str]":
    """An agent of torchrun that may restart its processes twice. They write a checkpoint as often as they can."""
    train = f"import sys\nfrom flipscale.train import train\nsys.exit(train([{str(run.path)!r}], checkpoint_seconds=0))"
    torchrun = [sys.executable, "-m", "torch.distributed.run", *options, "--max-restarts=2", "--no-python", "--"]
    return subprocess.Popen(
        [*torchrun, sys.executable, "-c", train],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def process_of(rank: int, agents: Sequence["subprocess.Popen[str]"]) -> psutil.Process | None:
    """The process of this rank that one of the agents has started."""
    started = [child for each in agents for child in psutil.Process(each.pid).children(recursive=True)]
    for child in started:
        with contextlib.suppress(psutil.Error):
            if child.environ().get("RANK") == str(rank):
                return child
    return None


HUNDRED_STEPS = {"samples": 3200}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two processes that none of them left."""
    run = asked(tmp_path_factory.mktemp("undisturbed"), "undisturbed", {}, **HUNDRED_STEPS)
    two = [started(run, **process) for process in two_processes()]
    assert [ended(each)[0] for each in two] == [0, 0]
    return run


@pytest.mark.parametrize(("agents", "rank"), [(1, 1), (2, 0), pytest.param(2, 1, marks=pytest.mark.clusters)])
def test_after_a_restart_by_torchrun_a_run_ends_with_the_scores_of_an_undisturbed_one(ask, undisturbed, agents, rank):
    killed = ask("killed", {}, **HUNDRED_STEPS)
    share = [f"--nnodes={agents}", f"--nproc-per-node={2 // agents}", f"--rdzv-endpoint=127.0.0.1:{free_port()}"]
    share += ["--rdzv-backend=c10d", "--rdzv-id=restart", "--local-addr=127.0.0.1"]
    at_work = [agent(killed, *share) for _ in range(agents)]
    wait_for_step(killed, 12, *at_work)
    victim = wait_until(lambda: process_of(rank, at_work))
    victim.kill()
    talks = [ended(each) for each in at_work]
    assert [code for code, _ in talks] == [0] * agents, talks
    assert "attempt 2, 2 processes" in (killed.path / "log.txt").read_text()
    assert killed.result().scores == undisturbed.result().scores


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node[03-05,9]", "node03"),
        ("gpu-a[1,4]", "gpu-a1"),
        ("a1,b2", "a1"),
        ("rack[1-2]node[01-04]", "rack1node01"),
    ],
)
def test_a_step_of_slurm_says_who_is_first(nodes, first):
    environment = {
        "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": nodes,
        "SLURM_JOB_ID": "123", "SLURM_STEP_ID": "4",
    }  # fmt: skip
    assert slurm_variables(environment) == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": first,
        "MASTER_PORT": "22427",
    }


def test_the_nodes_of_a_step_are_written_out_in_order():
    assert step_nodes({"SLURM_STEP_NODELIST": "rack[1-2]node[08-10,12],x,y[3]"}) == [
        *("rack1node08", "rack1node09", "rack1node10", "rack1node12"),
        *("rack2node08", "rack2node09", "rack2node10", "rack2node12"),
        *("x", "y3"),
    ]
    assert step_nodes({}) == []


# Connecting


def test_a_process_that_never_comes_is_named_with_its_node_and_the_network(ask):
    slurm = {"SLURM_STEP_NODELIST": "rack[1-2]node[01-02]", "GLOO_SOCKET_IFNAME": "lo", "FLIPSCALE_CONNECT": "2"}
    group = {**two_processes()[0], "WORLD_SIZE": "4"}
    processes = [started(ask(), **{**group, "RANK": str(rank)}, **slurm) for rank in (0, 1, 3)]
    codes, talks = zip(*map(ended, processes), strict=True)
    assert codes == (1, 1, 1)
    assert (
        "The node rack2node01 is at fault: 1 of 4 processes did not come within 2 s: 2. This process reaches 127.0.0.1 "
        "by lo; NCCL_SOCKET_IFNAME is not set and GLOO_SOCKET_IFNAME is lo." in talks[0]
    )


HANGING = """
import threading
from flipscale.train.distributed import Group
Group.mean_ = lambda group, value: threading.Event().wait()
"""


def test_a_first_sum_that_never_comes_is_the_networks_before_any_data_is_opened(ask):
    run = ask()
    first, second = (
        started(run, before=HANGING if process["RANK"] == "1" else "", FLIPSCALE_CONNECT="3", **process)
        for process in two_processes()
    )
    (code, talk), (other, _) = ended(first), ended(second)
    assert (code, other) == (1, 1)
    assert "A node or the network is at fault: all 2 processes came, and no sum over them was ready within 3 s." in talk
    assert run.state() is State.PLANNED
    assert not (run.path / "log.txt").exists()


GPU = """
import torch
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: {gpus}
torch.cuda.set_device = lambda device: None
torch.cuda.device = lambda device: __import__("contextlib").nullcontext()
ones = torch.ones
torch.ones = lambda *size, device=None: ones(*size)
"""
"""A stand-in for a machine with GPUs, as far as processes look at it when they meet."""


@pytest.mark.parametrize(
    ("gpus", "fault"),
    [
        ((4, 0), "process 1 has no GPU, and 1 others have: Torch not compiled with CUDA enabled"),
        ((4, 1), None),
        ((2, 2), "torch sees 2 GPUs, and there are at least 4 processes of one GPU each."),
    ],
)
def test_processes_whose_devices_do_not_fit_fail_together_as_their_nodes_fault(ask, gpus, fault):
    run = ask()
    places = [{"LOCAL_RANK": "0", "SLURMD_NODENAME": "n0"}, {"LOCAL_RANK": "3", "SLURMD_NODENAME": "n1"}]
    stop = "from flipscale.train import distributed\ndef met(*arguments, **more):\n  raise RuntimeError('all met')\n"
    stop += "distributed.dist.init_process_group = met\n"
    processes = [
        started(run, before=(GPU.format(gpus=here) if here else "") + stop, **{**process, **place})
        for here, place, process in zip(gpus, places, two_processes(), strict=True)
    ]
    codes, talks = zip(*map(ended, processes), strict=True)
    assert codes == (1, 1)
    # The other may find process 0 gone before it has read why.
    assert (f"The node n1 is at fault: {fault}" if fault else "cannot connect to the others: all met") in talks[0]


def test_a_run_that_asks_for_gpus_is_not_trained_on_a_cpu(ask, monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    run = ask(resources={"gpus": 2})
    assert train([run.path]) == 1
    error = run.error()
    assert (error.kind, error.node) == ("node", "n7")
    assert error.reason == (
        "The node n7 is at fault: the run asks for resources.gpus 2, and torch has none: Torch not compiled with CUDA "
        "enabled"
    )
    assert not (run.path / "metrics.jsonl").exists()


@pytest.mark.parametrize(("attended", "limit"), [(True, timedelta(days=1)), (False, timedelta(minutes=30))])
def test_no_collective_gives_up_before_the_attendant_calls_the_run_stalled(monkeypatch, attended, limit):
    monkeypatch.setenv("FLIPSCALE_JOB", "slurm/7/0") if attended else monkeypatch.delenv("FLIPSCALE_JOB", raising=False)
    group = Group(0, 1, 0, TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), connect=True)
    try:
        for each in (dist.group.WORLD, group._control):
            assert each._get_backend(torch.device("cpu")).options._timeout == limit
    finally:
        group.close()


class CountingStore:
    """A store of this process that counts how often a value is read."""

    def __init__(self):
        self.values, self.reads = {}, 0

    def set(self, key, value):
        self.values[key] = value.encode()

    def check(self, keys):
        return all(key in self.values for key in keys)

    def get(self, key):
        self.reads += 1
        return self.values[key]


def test_256_processes_meet_with_two_reads_each():
    size, store, met = 256, CountingStore(), []

    def meet(rank):
        group = Group(rank, size, store=store, connect=False)
        group.connected = True
        group.meet(None)
        try:
            group.meet(Cause("code", f"of process {rank}") if rank in (7, 200) else None)
        except Failed as failed:
            met.append(failed.failure.reason)

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert met == ["of process 7"] * size
    assert store.reads <= 2 * 2 * size


def test_flags_are_agreed_one_step_late():
    group = Group(0, 1, 0, TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), connect=True)
    try:
        given = [group.agree_later(*flags) for flags in ((15, 0), (0, 1), (0, 0))]
        assert given == [[0, 0], [15, 0], [0, 1]]
        assert (group.settle(), group.settle()) == ([0, 0], [])
    finally:
        group.close()
    assert Group().agree_later(15, 1) == [15, 1]
