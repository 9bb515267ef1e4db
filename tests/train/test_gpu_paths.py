"""What the trainer does on a GPU, as far as a machine without one can tell. tests/gpu has what only a GPU can."""

import contextlib
import gc
import traceback
import weakref

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

import flipscale.train.sources
import flipscale.train.trainers.builtin.training
from flipscale.data.pairs import Form
from flipscale.errors import RunFolderError
from flipscale.run import FailureKind
from flipscale.settings.declarations import Resources
from flipscale.train import evaluate as evaluation
from flipscale.train import train
from flipscale.train.distributed import Group, is_lost_connection
from flipscale.train.failure import why
from flipscale.train.machine import PeakMemory, exact_fp32
from flipscale.train.model import tokenize
from flipscale.train.trainers.builtin.training import Training
from tests.train.test_loop import first_batch, training_of

pytestmark = pytest.mark.slow

# What waits for the device


class Waits(TorchDispatchMode):
    """Notes each operation that makes the host wait for a device: reading a value, and a copy that blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.name()
        waits = name in ("aten::_local_scalar_dense", "aten::nonzero")
        if name == "aten::_to_copy":
            waits = args[0].device != out.device and not (kwargs or {}).get("non_blocking")
        if waits:
            where = [frame for frame in traceback.extract_stack() if "/flipscale/" in frame.filename][-1]
            self.found.append(f"{name} at {where.filename}:{where.lineno}")
        return out


@pytest.mark.parametrize("reconstruction", [None, {"weight": 1.0, "width": None, "depth": 1}])
@pytest.mark.parametrize("parts", [1, 2])
def test_forward_and_backward_never_wait_for_the_device(settings, monkeypatch, reconstruction, parts):
    group = Group()
    group.device = torch.device("meta")
    asked = settings(precision="fp32", text_mask_ratio=0.5, reconstruction=reconstruction)
    training = Training(asked, group, Resources(accumulate=parts))
    training.autocast = contextlib.nullcontext
    made = torch.tensor

    def tensor(*args, device=None, **options):
        # No dispatch mode sees the copy that this makes.
        assert device is None or torch.device(device).type == "cpu", "torch.tensor(device=...) waits for a GPU"
        return made(*args, **options)

    monkeypatch.setattr(torch, "tensor", tensor)
    backward = training._backward if parts == 1 else training._backward_in_parts
    with Waits() as waits:
        backward(*(part.to("meta", non_blocking=True) for part in first_batch()))
    assert waits.found == []


# Memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        dist.DistBackendError(
            "NCCL error in: ../ProcessGroupNCCL.cpp:333, unhandled cuda error\n"
            "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'"
        ),
    ],
    ids=lambda error: str(error)[:24],
)
def test_memory_that_runs_out_in_any_of_cudas_libraries_is_out_of_memory(error):
    failure = why(error)
    assert failure.kind == FailureKind.OOM
    assert "\n" not in failure.reason
    assert not is_lost_connection(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of resource: shared memory, Required: 262144, Hardware limit: 232448"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("a file about out of memory"),
    ],
    ids=lambda error: str(error)[:24],
)
def test_other_errors_that_speak_of_memory_are_not(error):
    assert why(error).kind == FailureKind.CODE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "node"),
        (dist.DistBackendError("NCCL error: unhandled cuda error\nCuda failure 214 'uncorrectable ECC error'"), "node"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "gpu"),
        (dist.DistBackendError("NCCL error: Cuda failure 719 'unspecified launch failure'"), "gpu"),
        (dist.DistBackendError("NCCL error in: NCCLUtils.cpp:77, unhandled cuda error\nCuda failure 1"), "node"),
        (RuntimeError("CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error"), "node"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_fault_of_the_hardware_is_of_the_node_that_had_it(monkeypatch, error, kind):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    failure = why(error)
    assert (failure.kind, failure.node) == (kind, "n7")
    assert not is_lost_connection(error)


@pytest.mark.parametrize(
    "error",
    [
        dist.DistBackendError("NCCL error: remote process exited or there was a network error, NCCL version 2.20.5"),
        dist.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1191, unhandled system error, NCCL version 2.11.4"),
    ],
    ids=lambda error: str(error)[-40:],
)
def test_a_process_or_a_network_that_nccl_misses_is_the_fault_of_another_node(monkeypatch, error):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    failure = why(error)
    assert (failure.kind, failure.node) == ("node", None)
    assert is_lost_connection(error), "another process may know more"


def test_a_checkpoint_that_finds_no_room_on_the_gpu_is_not_called_broken(settings, run, monkeypatch):
    folder, training = run(), training_of(settings())
    with folder.hold() as lease:
        training.save(lease)

    def no_room(*args, **options):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "load", no_room)
    with pytest.raises(RuntimeError, match="out of memory"):
        training_of(settings()).resume(folder)
    monkeypatch.setattr(torch, "load", lambda *args, **options: {})
    with pytest.raises(RunFolderError, match="cannot be resumed from"):
        training_of(settings()).resume(folder)


def test_the_memory_of_a_run_before_is_free_when_the_next_one_begins(monkeypatch):
    class Node:
        pass

    cycle = Node()
    cycle.itself = cycle  # As a compiled model is.
    alive, seen = weakref.ref(cycle), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(alive()))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: seen.append("reset"))
    gc.disable()
    try:
        del cycle
        PeakMemory(torch.device("cuda"))
    finally:
        gc.enable()
    assert seen == [None, "reset"]


# Precision


def tf32():
    """Whether matrix products and convolutions are in TF32 on a GPU."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def keep_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)


@pytest.mark.usefixtures("keep_tf32")
def test_fp32_is_tf32_in_training_as_open_clip_runs_it_and_exact_for_the_loss_of_other_precisions(settings):
    training_of(settings(precision="fp32"))
    assert tf32() == (True, True)
    training_of(settings(precision="bf16"))
    assert tf32() == (False, False)


@pytest.mark.usefixtures("keep_tf32")
def test_a_model_is_scored_in_exact_fp32(settings, monkeypatch):
    seen = []
    encode = evaluation._encode_images
    monkeypatch.setattr(evaluation, "_encode_images", lambda *args: (seen.append(tf32()), encode(*args))[1])
    asked = settings(precision="fp32")
    training = training_of(asked)
    form = Form(28, 16, lambda texts: tokenize(texts, 16))
    evaluation.evaluate(training.model, evaluation.open_evaluations(asked, form), asked)
    assert set(seen) == {(False, False)}
    assert tf32() == (True, True)
    with pytest.raises(ZeroDivisionError), exact_fp32():
        _ = 1 / 0
    assert tf32() == (True, True)
    torch.backends.cuda.matmul.allow_tf32 = False  # as torch has it unless told
    with exact_fp32():
        assert tf32() == (False, False)
    assert tf32() == (False, True)


@pytest.mark.parametrize("parts", [1, 4])
def test_features_similarities_and_loss_are_fp32_whatever_the_towers_compute_in(settings, monkeypatch, parts):
    training = training_of(settings(precision="bf16"), accumulate=parts)
    seen = []
    logits = training.loss.get_logits

    def noting(images, texts, scale, logit_bias=None):
        found = logits(images, texts, scale)
        seen.extend(value.dtype for value in (images, texts, *found))
        # Under autocast a matrix product of float32 comes out as bf16 rounds it, whatever its type is made afterwards.
        seen.append(torch.equal(found[0], scale * images @ texts.T) and not torch.is_autocast_enabled("cpu"))
        return found

    monkeypatch.setattr(training.loss, "get_logits", noting)
    tower = []
    training.model.visual.transformer.register_forward_hook(lambda module, inputs, out: tower.append(out.dtype))
    training.step(*first_batch())
    assert seen == [*4 * [torch.float32], True]
    assert set(tower) <= {torch.bfloat16, torch.float32}
    with training.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def scaled(settings, run, monkeypatch, **changes):
    """A training whose gradients are scaled as on a GPU in fp16, while it computes in fp32 on the CPU."""
    monkeypatch.setattr(flipscale.train.trainers.builtin.training, "check_precision", lambda precision, device: None)
    training = training_of(settings(precision="fp16", warmup=0, lr=3e-3, **changes))
    training.autocast = contextlib.nullcontext
    return training


@pytest.mark.parametrize("grad_clip", [None, 0.5])
def test_the_gradient_scaler_changes_no_step(settings, run, monkeypatch, grad_clip):
    plain = training_of(settings(precision="fp32", warmup=0, lr=3e-3, eps=1e-3, grad_clip=grad_clip))
    other = scaled(settings, run, monkeypatch, eps=1e-3, grad_clip=grad_clip)
    for _ in range(3):
        plain.step(*first_batch())
        other.step(*first_batch())
    assert other.scaler.get_scale() == 65536.0
    torch.testing.assert_close(other.objective.state_dict(), plain.objective.state_dict(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grad_clip", [None, 0.5])
def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved(settings, run, monkeypatch, grad_clip):
    training = scaled(settings, run, monkeypatch, grad_clip=grad_clip)
    training.step(*first_batch())
    before = {name: value.clone() for name, value in training.objective.state_dict().items()}
    training.model.visual.proj.register_hook(lambda gradient: gradient * float("inf"))
    training.step(*first_batch())
    torch.testing.assert_close(training.objective.state_dict(), before, rtol=0, atol=0)
    assert training.scaler.get_scale() == 32768.0
    assert training.progress.step == 2  # The schedule goes on: its samples were seen.


def test_a_checkpoint_holds_the_gradient_scale(settings, run, monkeypatch):
    folder, training = run(), scaled(settings, run, monkeypatch)
    training.step(*first_batch())
    training.scaler.update(512.0)
    with folder.hold() as lease:
        training.save(lease)
    resumed = scaled(settings, run, monkeypatch)
    assert resumed.resume(folder)
    assert resumed.scaler.get_scale() == 512.0


# Compiling


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
def test_every_run_of_a_process_is_compiled(settings, monkeypatch):
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_with(self, backend="eager"))
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 2)
    graphs = []
    for depth in (1, 2, 3, 4):
        training = training_of(settings(model=f"ViT-w16d{depth}-4"), compile=True)
        counters.clear()
        for _ in range(3):
            training.step(*first_batch())
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [1, 1, 1, 1]


# Processes


@pytest.fixture
def connected():
    group = Group(0, 1, 0, TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), connect=True)
    yield group
    group.close()


@pytest.mark.parametrize("parts", [1, 4])
def test_one_process_that_is_connected_computes_as_one_that_is_not(settings, connected, parts):
    asked = settings(eps=1e-3)
    alone = training_of(asked, accumulate=parts)
    one = Training(asked, connected, Resources(accumulate=parts))
    one.begin()
    assert type(one.module).__name__ == "DistributedDataParallel"
    for _ in range(3):
        alone.step(*first_batch())
        one.step(*first_batch())
    assert float(one.history[:, 0].sum()) == pytest.approx(float(alone.history[:, 0].sum()), rel=1e-6)
    torch.testing.assert_close(one.objective.state_dict(), alone.objective.state_dict(), rtol=0, atol=1e-6)
    assert connected.agree(3, -1) == [3, -1]
    assert connected.total(1.5) == [1.5]
    assert connected.share({"a": 1}) == {"a": 1}


def test_a_group_whose_connection_was_aborted_closes_all_the_same(connected):
    dist.distributed_c10d._abort_process_group()
    connected.close()
    assert not dist.is_initialized()


def test_a_process_whose_gpu_is_broken_does_not_fail_the_runs_that_are_left(run, monkeypatch, capsys):
    def fail(*args, **options):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(flipscale.train.sources, "open_data", fail)
    monkeypatch.setattr(Group, "is_broken", property(lambda group: True))
    first, second = run("first"), run("second")
    assert train([first.path, second.path]) == 1
    assert first.error().kind == "code"
    assert second.error() is None
    assert "The GPU no longer works in this process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "broken"),
    [(None, False), ("CUDA error: out of memory", False), ("CUDA error: an illegal memory access", True)],
)
def test_a_gpu_that_answers_is_not_broken(monkeypatch, said, broken):
    def synchronize(device):
        if said:
            raise RuntimeError(said)

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    group = Group()
    assert not group.is_broken
    group.device = torch.device("cuda", 0)
    assert group.is_broken is broken
