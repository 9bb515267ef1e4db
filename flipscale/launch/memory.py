"""Main memory of a run's processes, for a cluster that kills processes that take more than was asked for.

The plan predicts the memory of a device (`cost.memory_bytes`). On a CPU that is main memory; beside a GPU, main memory
holds the program, the images, and weights on their way to or from a checkpoint.
"""

from flipscale.cost.arithmetic import training_view
from flipscale.launch.launcher import Request
from flipscale.planning.identity import labelled_set, labelled_test_images, scored_sets, stage
from flipscale.settings.declarations import DataSet, EvaluationSet, FineTuningSet, Settings, WebDataset
from flipscale.settings.devices import LOADERS
from flipscale.study.settings import images_scored

PROGRAM = 600 * 2**20
"""Python, torch and open_clip: 400 MB were measured, on CPUs. The rest is for srun and the attendant, 60 MB, and for
what torch keeps of the first steps."""

PROGRAM_WITH_CUDA = 4 * 2**30
"""The same with CUDA's libraries and context; 2 to 3 GB is what they are known to take. Not measured here."""

LOADER = 300 * 2**20
"""A process that reads and decodes batches: what it does not share with the others, and a few images at work."""

COPIED = 12
"""Bytes a parameter of the copy that the leading process writes its checkpoints from: weights and two moments."""

OPEN_CLIP_PROGRAMS, OPEN_CLIP_LOADERS = 2, 4
"""open_clip runs as a second program beside ours, and has loader processes of its own where there is a GPU."""

HEADROOM = 1.25
"""Factor on the predicted memory on a CPU: 0.8 to 1.2 times the prediction was measured, for models of 2M to 150M
parameters. Freed tensors leave holes."""

BATCHES = 12
"""The most batches that a process holds, counted in bytes: two for each loader, and one in use, as 4-byte numbers."""

SIMILARITIES_AT_ONCE = 2**26
"""How many similarities an evaluation computes at a time, at most; two numbers of four bytes each."""

STEP = 128 * 2**20
"""Memory is asked for in steps of this size, so that runs that are alike ask for the same."""


def host_memory(request: Request, processes: int = 1) -> int | None:
    """Bytes of main memory for this many processes of the run on one node, the leading one among them: it alone opens
    the sets to score on. None where nothing says what they need."""
    cost = request.asked.cost
    if cost is None or not cost.memory_bytes or request.asked.settled.trainer.kind == "command":
        return None
    settings = stage(request.asked.settled)
    gpus = request.resources.gpus
    on_gpu = PROGRAM_WITH_CUDA + 16 * cost.params
    on_cpu = PROGRAM + int(HEADROOM * cost.memory_bytes)
    training = on_gpu if gpus else on_cpu
    loaders = request.resources.loaders
    if isinstance(settings.data, WebDataset) and settings.data.decode != "once":
        training += LOADER * ((LOADERS if gpus else 0) if loaders is None else loaders)
    if settings.trainer.kind == "open_clip":
        training += (OPEN_CLIP_PROGRAMS - 1 + (OPEN_CLIP_LOADERS if gpus else 0)) * PROGRAM
    ahead = BATCHES * -(-settings.batch_size // request.resources.devices)
    training += 3 * ahead * training_view(settings).shape.image.image_size ** 2
    if settings.fine_tuning is not None:  # Each process opens its test images.
        test_images = _counted(labelled_set(settings), labelled_test_images(settings))
        training += 3 * test_images * settings.image_size**2
    # Beside a GPU there is room for it: weights are read before any checkpoint is written.
    copy = 0 if gpus else COPIED * cost.params
    needed = processes * training + copy + (0 if settings.fine_tuning else _scoring(settings))
    return -(-needed // STEP) * STEP


def _scoring(settings: Settings) -> int:
    """Bytes of the images that a run is scored on, and of their similarities."""
    evaluation = settings.evaluation
    images = 0
    largest = 0
    for name, data in scored_sets(settings).items():
        most = images_scored(evaluation, data)
        largest = max(largest, most)
        # A linear probe learns from five times as many.
        scored = 6 * most if evaluation.linear_probe else _counted(data, most)
        # The data's own held-out images may be pairs and classes.
        images += scored if name else 2 * scored
    return 3 * images * settings.image_size**2 + 8 * min(largest**2, SIMILARITIES_AT_ONCE)


def _counted(data: DataSet | EvaluationSet | FineTuningSet, most: int) -> int:
    from flipscale.data.formats import count_images  # It loads numpy, which `status` does without.

    return count_images(data, most)
