"""The processes of one run: process 0 leads and is the only one to write, each computes its rows of every batch.

There are three ways to come by them, and training cannot tell them apart:

    resources.processes: 4                                 `train` starts processes 1 to 3 itself, on this machine
    torchrun --nproc-per-node 4 -m flipscale train RUN     they are there already (RANK, WORLD_SIZE)
    srun --ntasks 64 python -m flipscale train RUN         they are there already (SLURM_PROCID)

Tensors go over gloo on CPUs and over NCCL on GPUs, one GPU a process. What the processes must agree on between steps
(a signal to stop, a checkpoint that is due) goes over gloo, which notices at once when a process is gone. What may take
long (opening data, an evaluation, waiting for the next run) goes over the store, where nobody times out.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from flipscale.errors import FlipscaleError
from flipscale.run import JOB, FailureKind, NodeFault, node_name
from flipscale.train.failure import Cause, Failed, is_fault_here, is_out_of_memory, why
from flipscale.train.meeting import connect_seconds, own_device, slurm_variables, why_apart, without_cuda

STORE_SECONDS = 0.25
"""A process that waits at the store looks there, and for failures of others, this often."""

TIMEOUT = timedelta(minutes=30)
"""The longest time that one step, or one checkpoint, may keep the other processes waiting."""

CAUSE_SECONDS = 5.0
"""The longest time until the reason for a broken connection is known."""

LEADER = "FLIPSCALE_LEADER"
"""The environment variable that tells a process started by `start` the pid of process 0."""


class Group:
    """The processes of a run: how many they are, which one this is, and how they agree. One alone is a group too.

    Every method but `report`, `cause` and `close` is called by all processes at the same point.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        store: Any = None,
        children: Sequence[subprocess.Popen[bytes]] = (),
        connect: bool | None = None,
    ):
        """connect: whether to connect over the store; by default where there is somebody to connect to. A group of one
        that is connected computes as one that is not, by way of NCCL or gloo: so one GPU is enough to try them.
        """
        self.rank = rank
        self.size = size
        self.connected = size > 1 if connect is None else connect
        self.store = store
        self.children = list(children)
        self._flags: tuple[Tensor, Any] | None = None
        """What `agree_later` was given last, and the reduction that is under way."""
        self.apart = False
        """Whether the processes no longer stand at the same point, so that nothing can be agreed on."""
        self._busy = False
        self.device = torch.device("cpu") if self.connected else own_device(local_rank, size)
        self._task = self._turn = 0
        self._threads = torch.get_num_threads()
        if children and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(_share_of_cores(size))
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None
        if self.connected:
            # A hang in NCCL can only be ended from outside. Process 0 says why, and the others wait for that.
            timer = threading.Timer(connect_seconds() + CAUSE_SECONDS * (rank > 0), self._give_up)
            timer.daemon = True
            timer.start()
            try:
                self._connect(local_rank)
            finally:
                timer.cancel()

    def _connect(self, local_rank: int) -> None:
        """Meet the others and reduce a number over all, so that a node that cannot shows before data is opened."""
        fault = None
        try:
            self.device = own_device(local_rank, self.size)
            torch.ones((), device=self.device).item()
        except (NodeFault, RuntimeError) as error:
            fault = why(error)
        # A process that dies while it starts must not keep the others waiting: they meet at the store before they
        # connect, where that is noticed.
        with_gpu = self._exchanged("came", self.device.type).count("cuda")
        if not fault and with_gpu and self.device.type == "cpu":
            fault = why(NodeFault(f"process {self.rank} has no GPU, and {with_gpu} others have: {without_cuda()}"))
        self.meet(fault)
        # A launcher's attendant ends a hang by `stalled`, with the stacks of all processes: NCCL must not do so before.
        limit = timedelta(days=1) if JOB in os.environ else TIMEOUT
        try:
            dist.init_process_group(
                "nccl" if self.device.type == "cuda" else "gloo",
                store=PrefixStore("flipscale", self.store),
                rank=self.rank,
                world_size=self.size,
                timeout=limit,
            )
            self._control = dist.new_group(backend="gloo", timeout=limit)
            self.mean_(torch.ones((), device=self.device)).item()
        except RuntimeError as error:
            what = f"process {self.rank} on {node_name()} cannot connect to the others: {str(error).splitlines()[0]}"
            fault = why(error) if is_fault_here(error) else why(NodeFault(what, ""))
            self.report(fault)
            raise Failed(self._failure() or fault) from error
        if self.device.type == "cuda":
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    def _give_up(self) -> None:
        """End this process, as the time to connect is over."""
        if self.rank == 0:
            absent = [rank for rank in range(self.size) if not self.store.check([f"came/{rank}"])]
            print(why_apart(absent, self.size), file=sys.stderr, flush=True)
        os._exit(1)

    # Runs

    def hand_out(self, task: str) -> None:
        """Process 0 announces the next task; an empty task ends the others."""
        self._task = self._task + 1
        self._turn = 0
        self._busy = True
        if self.connected:
            self.store.set(f"{self._task}/task", task)

    def next_task(self) -> str:
        """The task that process 0 handed out."""
        self._task = self._task + 1
        self._turn = 0
        task = self._wait(f"{self._task}/task")
        if not task:
            self.store.set(f"left/{self.rank}", "")
        return task

    @property
    def is_whole(self) -> bool:
        """Whether the processes started here are all alive."""
        return all(child.poll() is None for child in self.children)

    def part(self) -> None:
        """The others have done what was handed out: what process 0 still does concerns no other."""
        self._busy = False

    def separate(self) -> None:
        """This process left the work where the others did not."""
        self.apart = self.apart or self._busy

    # Agreement

    def agree(self, *flags: int) -> list[int]:
        """For each flag the largest that any process gives."""
        if not self.connected:
            return list(flags)
        values = torch.tensor(flags)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self._control)
        return [int(value) for value in values]

    def agree_later(self, *flags: int) -> list[int]:
        """The same for the flags of the call before, and zeros at the first: no process waits for another's step. A
        process alone gets its own flags back. All processes call `settle` after the last call."""
        if not self.connected:
            return list(flags)
        before = self.settle() or [0] * len(flags)
        values = torch.tensor(flags)
        self._flags = values, dist.all_reduce(values, dist.ReduceOp.MAX, group=self._control, async_op=True)
        return before

    def settle(self) -> list[int]:
        """What `agree_later` has not given yet; [] if nothing."""
        if self._flags is None:
            return []
        values, work = self._flags
        self._flags = None
        work.wait()
        return values.tolist()

    def total(self, *values: float) -> list[float]:
        """For each value the sum over the processes."""
        if not self.connected:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._control)
        return sums.tolist()

    def share(self, value: Any) -> Any:
        """Process 0's value, which JSON or numpy can hold."""
        if not self.connected:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, group=self._control)
        return box[0]

    def mean_(self, value: Tensor) -> Tensor:
        """The mean over the processes of a tensor on the device, in place."""
        if self.connected:
            dist.all_reduce(value)
            value /= self.size
        return value

    def data_parallel(self, module: nn.Module) -> nn.Module:
        """The module, wrapped: all processes start from process 0's weights and get the mean of their gradients."""
        if not self.connected:
            return module
        # Tables that never change, such as the causal mask, are not sent round at each step. The argument that says so
        # changed its name in torch 2.13.
        constants = [name for name, _ in module.named_buffers()]
        ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(module, constants)
        return DistributedDataParallel(
            module,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )

    def gathered(self, features: Tensor) -> Tensor:
        """The rows of all processes, [b, E] to [B, E], with gradients: each process gets those of all losses."""
        return features if not self.connected else _Gather.apply(features)  # type: ignore[no-untyped-call]

    def said(self, value: str = "") -> str:
        """What process 0 says; the others wait for it, however long it takes."""
        if not self.connected:
            return value
        key = self._next_turn()
        if self.rank:
            return self._wait(key)
        self.store.set(key, value)
        return value

    def _next_turn(self) -> str:
        """The key of what the processes say next: all come to it in the same order."""
        self._turn += 1
        return f"{self._task}/turn/{self._turn}"

    # Failures

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All processes leave the block together: a failure in it on one of them raises Failed on all."""
        if not self.connected:
            yield
            return
        failure = None
        try:
            yield
        except Exception as error:
            failure = why(error)
        self.meet(failure)

    def meet(self, failure: Cause | None) -> None:
        """Wait for all processes. Raises Failed with the first failure that one of them comes with."""
        for text in self._exchanged(self._next_turn(), json.dumps(asdict(failure)) if failure else ""):
            if text:
                raise Failed(Cause(**json.loads(text)))

    def _exchanged(self, key: str, value: str) -> list[str]:
        """What each process gives, by rank. Process 0 reads them all and the others read its list: of 256 processes
        that read all values each, the store would answer 65,536 times."""
        self.store.set(f"{key}/{self.rank}", value)
        if self.rank == 0:
            values = [self._wait(f"{key}/{rank}") for rank in range(self.size)]
            self.store.set(f"{key}/all", json.dumps(values))
            return values
        everything: list[str] = json.loads(self._wait(f"{key}/all"))
        return everything

    @property
    def is_broken(self) -> bool:
        """Whether the GPU no longer works for this process, as after an illegal access to its memory. Only a new
        process helps.
        """
        if self.device.type != "cuda":
            return False
        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError as error:
            return not is_out_of_memory(error)
        return False

    def report(self, failure: Cause) -> None:
        """Tell the others of a failure of this process that they do not share. The first report stands."""
        if self.connected:
            with contextlib.suppress(RuntimeError):
                self.store.compare_set(f"{self._task}/failure", "", json.dumps(asdict(failure)))

    def cause(self, error: Exception) -> Cause:
        """Why this process failed: the error, or what made another process leave, if that is what broke the connection.

        A process that was killed is a failure of the node, not something to go on after: what kills it (most often the
        system, short of memory) would do so again at once. The checkpoint stays, and submitting again goes on.
        """
        if not self.connected or not is_lost_connection(error):
            return why(error)
        deadline = time.monotonic() + CAUSE_SECONDS
        while time.monotonic() < deadline:
            if failure := self._failure():
                return failure
            time.sleep(0.05)
        first_line = str(error).splitlines()[0]
        return Cause(FailureKind.NODE, f"A process of the run is gone or out of reach; submit again. {first_line}")

    def _failure(self) -> Cause | None:
        """The failure that another process reported, or the death of one that was started here."""
        with contextlib.suppress(RuntimeError):
            if self.store.check([f"{self._task}/failure"]):
                return Cause(**json.loads(self.store.get(f"{self._task}/failure")))
        # One that was killed comes before those that ended because it was gone.
        ended = sorted((code, rank) for rank, child in enumerate(self.children, start=1) if (code := child.poll()))
        if not ended:
            return None
        self.apart = True
        code, rank = ended[0]
        end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        hint = "; the system does that when memory is short" if code == -signal.SIGKILL else ""
        return Cause(FailureKind.NODE, f"Process {rank} of {self.size} {end}{hint}. Submit again to resume it.")

    def _wait(self, key: str) -> str:
        """The value of `key`, once it is there. Raises Failed when a process fails meanwhile."""
        pause = 0.001
        while not self.store.check([key]):
            if failure := self._failure():
                raise Failed(failure)
            time.sleep(pause)
            pause = min(2 * pause, STORE_SECONDS)
        return bytes(self.store.get(key)).decode()

    def _watch(self) -> None:
        """NCCL's kernels wait forever for a process that is gone, and the host for them: aborting them ends that."""
        while not self._closed.wait(STORE_SECONDS):
            if self._failure() and not self._closed.wait(CAUSE_SECONDS):
                dist.distributed_c10d._abort_process_group()
                return

    def close(self) -> None:
        """End the processes that were started here, and what connects them."""
        self._closed.set()
        if not self.connected:
            return
        if self.apart:
            for child in self.children:
                child.kill()
        elif self.rank == 0:
            self.hand_out("")
            self._let_leave()
        self._disconnect()
        for child in self.children:
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        torch.set_num_threads(self._threads)

    def _disconnect(self) -> None:
        if self._watcher is not None:
            self._watcher.join(CAUSE_SECONDS)
        if not dist.is_initialized():
            return  # `_watch` has aborted what there was.
        with contextlib.suppress(RuntimeError):
            if self.apart and self.device.type == "cuda":
                # An orderly end waits for what NCCL has under way, and that waits for a process that is gone.
                dist.distributed_c10d._abort_process_group()
            else:
                dist.destroy_process_group()

    def _let_leave(self) -> None:
        """Wait a little until the others have heard that there are no more tasks: the store goes with this process."""
        deadline = time.monotonic() + CAUSE_SECONDS
        left = [f"left/{rank}" for rank in range(1, self.size)]
        with contextlib.suppress(RuntimeError):
            while not self.store.check(left) and self.is_whole and time.monotonic() < deadline:
                time.sleep(0.01)


class _Gather(torch.autograd.Function):
    """Replaces torch.distributed.nn.functional.all_gather, which torch 2.13 deprecates and open_clip's loss calls."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.rows = len(features)
        parts = [torch.empty_like(features) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # All processes share in the sum, so it is not made in a tensor that others may still read.
        total = gradient.clone(memory_format=torch.contiguous_format)
        if dist.get_backend() == "nccl":
            share = total.new_empty(ctx.rows, *total.shape[1:])
            dist.reduce_scatter_tensor(share, total)
            return share
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.rows :][: ctx.rows]


def is_lost_connection(error: Exception) -> bool:
    """Whether another process is gone, as gloo, NCCL and the store say it, each in its own words."""
    if is_out_of_memory(error) or is_fault_here(error):
        return False
    words = "connection|peer|timed out|timeout|nccl|socket|broken pipe"
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and bool(re.search(words, str(error), re.IGNORECASE))
    )


def joined() -> Group | None:
    """The group that torchrun, srun or `start` put this process into; None without one."""
    environment = os.environ
    # srun sets the number of tasks of the step; a batch script has SLURM_NTASKS as well, but is one process.
    if "RANK" not in environment and int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        environment |= slurm_variables(environment)
    if "RANK" not in environment or int(environment.get("WORLD_SIZE", 1)) == 1:
        return None
    if leader := environment.get(LEADER):
        threading.Thread(target=_end_with, args=(int(leader),), daemon=True).start()
    rank = int(environment["RANK"])
    size = int(environment["WORLD_SIZE"])
    limit = timedelta(seconds=connect_seconds())
    try:
        if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun's
            store = _of_this_attempt(next(rendezvous("env://", timeout=limit))[0], rank, size)
        else:
            address = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
            store = TCPStore(*address, size, rank == 0, limit, wait_for_workers=False)
    except dist.DistError as error:
        print(error, file=sys.stderr)
        raise why_apart([0], size) from None
    try:
        return Group(rank, size, int(environment.get("LOCAL_RANK", rank)), store)
    except Failed as failed:
        raise FlipscaleError(failed.failure.reason) from None
    except dist.DistError as error:
        raise FlipscaleError(f"Process 0 ended while process {rank} connected. {error}") from None


def _of_this_attempt(store: Any, rank: int, size: int) -> Any:
    """The part of torchrun's store that these processes alone have. The store outlives a restart, and keys that dead
    processes left in it are not to be read.

    Process 0 chooses a name, and the others wait for it. TORCHELASTIC_RESTART_COUNT is no such name: of several agents
    only those count a restart whose own processes failed.
    """
    if rank:
        # An earlier process 0 may have left its name. The present one writes its own until all have read it.
        store.delete_key("attempt")
        attempt = store.get("attempt").decode()
        store.set(f"{attempt}/read/{rank}", "")
        return PrefixStore(attempt, store)
    attempt = uuid.uuid4().hex
    deadline = time.monotonic() + connect_seconds()
    signs = [f"{attempt}/read/{other}" for other in range(1, size)]
    while not store.check(signs):
        if time.monotonic() > deadline:
            absent = [other for other, sign in enumerate(signs, start=1) if not store.check([sign])]
            raise why_apart(absent, size)
        store.set("attempt", attempt)
        time.sleep(STORE_SECONDS)
    return PrefixStore(attempt, store)


def start(size: int, folders: Sequence[Path]) -> Group:
    """A group of `size` processes on this machine: this one leads, the others are started."""
    if torch.cuda.is_available() and size > torch.cuda.device_count():
        raise FlipscaleError(
            f"The run asks for {size} processes of one GPU each, and this machine shows {torch.cuda.device_count()}; "
            f"lower resources.processes or resources.gpus, or start it with torchrun or srun on several machines."
        )
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(size),
        LEADER: str(os.getpid()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(_share_of_cores(size))),
    }
    command = [sys.executable, "-P", "-m", "flipscale", "train", *map(str, folders)]
    children = [
        subprocess.Popen(
            command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdin=subprocess.DEVNULL
        )
        for rank in range(1, size)
    ]
    try:
        return Group(0, size, 0, store, children)
    except BaseException:
        for child in children:
            child.kill()
        raise


def _share_of_cores(size: int) -> int:
    return max(1, torch.get_num_threads() // size)


def _end_with(leader: int) -> None:
    """End this process when the one that started it is gone, whatever it is doing."""
    while os.getppid() == leader:
        time.sleep(0.5)
    os._exit(1)
