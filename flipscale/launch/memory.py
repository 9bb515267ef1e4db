"""Main memory of a run's processes, for a cluster that kills processes that take more than was asked for.

The plan predicts the memory of a device (`cost.memory_bytes`). On a CPU that is main memory; beside a GPU, main memory
holds the program, the images, and weights on their way to or from a checkpoint.
"""

from flipscale.cost import training_view
from flipscale.identity import labelled_test_images, stage
from flipscale.launch.launcher import Request
from flipscale.settings import Settings, WebDataset
from flipscale.study.settings import images_scored

PROGRAM = 600 * 2**20
"""Python, torch and open_clip: 400 MB were measured, on CPUs. The rest is for srun and the attendant, 60 MB, and for
what torch keeps of the first steps."""

PROGRAM_WITH_CUDA = 4 * 2**30
"""The same with CUDA's libraries and context; 2 to 3 GB is what they are known to take. Not measured here."""

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
    settings, gpus = stage(request.asked.settled), request.resources.gpus
    on_gpu, on_cpu = PROGRAM_WITH_CUDA + 16 * cost.params, PROGRAM + int(HEADROOM * cost.memory_bytes)
    training = on_gpu if gpus else on_cpu
    if settings.trainer.kind == "open_clip":
        training += (OPEN_CLIP_PROGRAMS - 1 + (OPEN_CLIP_LOADERS if gpus else 0)) * PROGRAM
    ahead = BATCHES * -(-settings.batch_size // request.resources.devices)
    training += 3 * ahead * training_view(settings).shape.image.image_size ** 2
    if settings.fine_tuning is not None:  # Each process opens its test images.
        training += 3 * labelled_test_images(settings) * settings.image_size**2
    needed = processes * training + (0 if settings.fine_tuning else _scoring(settings))
    return -(-needed // STEP) * STEP


def _scoring(settings: Settings) -> int:
    """Bytes of the sets that a run is scored on, each with as many images as are scored at most, and of their
    similarities."""
    evaluation = settings.evaluation
    # The data's own held-out images may be pairs and classes; a linear probe learns from five times as many.
    sets = [images_scored(evaluation, data) for data in evaluation.sets.values()]
    held_out = evaluation.data is not None or not isinstance(settings.data, WebDataset)  # shards hold none out
    main = evaluation.data or settings.data
    main_set = images_scored(evaluation, main) if held_out else 0
    scored = (2 * main_set + sum(sets)) * (6 if evaluation.linear_probe else 1)
    return int(3 * scored * settings.image_size**2 + 8 * min(max([main_set, *sets]) ** 2, SIMILARITIES_AT_ONCE))
