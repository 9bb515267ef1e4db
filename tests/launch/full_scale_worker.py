"""A stand-in for `flipscale train` on 256 GPUs: the runs of docs/full-scale.md, as a made-up law has them.

It is what process 0 does; the others have nothing to do. A run goes on until there is a file `go` beside the run
folders, writes a checkpoint and stops where it is told to, and otherwise leaves what a training leaves. A probe
measures what was predicted, but for a twentieth more.
"""

import math
import os
import signal
import sys
import time
from pathlib import Path

# As a script it does not see the repository, where flipscale need not be installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

from flipscale.cost.arithmetic import cost
from flipscale.planning.identity import stage
from flipscale.planning.timing import EvaluationTime, StepTime, TimingPlace, Timings, evaluation_shape, step_shape
from flipscale.run import Doing, Lease, Probe, Result, RunFolder, Spent, add_timings, read_probe
from flipscale.settings.declarations import Resources
from flipscale.workspace import Workspace

GPU = "NVIDIA A100-SXM4-80GB"
STARTS = "starts.txt"
"""The file of a run with a line for each of its starts: how many processes it had."""

SLOWER = 1.05
"""What is measured over what was predicted."""


def main(paths: list[str]) -> int:
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: stop.append(number))
    for path in paths:
        run = RunFolder(Path(path))
        with run.hold() as lease:
            if lease is not None and not run.is_over():
                do(run, lease, stop)
    return 128 + stop[0] if stop else 0


def do(run: RunFolder, lease: Lease, stop: list[int]) -> None:
    asked, probe = run.asked(), read_probe(run.path)
    assert asked is not None
    if probe is not None:
        add_timings(Workspace.of_run(run.path).timings, timed(probe, asked.resources))
        lease.write_result(Result(device=GPU, devices=asked.resources.devices))
        return
    processes = int(os.environ["SLURM_STEP_NUM_TASKS"])
    with open(run.path / STARTS, "a") as starts:
        starts.write(f"{processes}\n")
    while not (run.path.parent / "go").exists():
        lease.live(Doing.TRAINING)
        time.sleep(0.05)
        if stop:
            (run.path / "checkpoint.pt").write_text("step 1")
            return
    train(run, lease)


def train(run: RunFolder, lease: Lease) -> None:
    asked = run.asked()
    assert asked is not None
    settings, gpus = stage(asked.settled), asked.resources.gpus
    predicted = cost(settings, asked.resources)
    seconds, began = SLOWER * predicted.gpu_hours * 3600 / gpus, time.time()
    parent = RunFolder(run.path.parent / asked.parents[0]) if asked.parents else None
    before = parent.result() if parent else None
    # The law: a power of the samples that saturates, and what the mask costs, most of which a tuning wins back.
    of_schedule = 0.75 - 4.5 * asked.settled.samples**-0.2
    accuracy = of_schedule - 0.02 * asked.settled.mask_ratio * (0.4 if parent else 1)
    records = [
        {
            "step": round(part * predicted.steps),
            "samples_seen": round(part * predicted.samples_seen),
            "loss": 3 - math.log10(1 + 9 * part),
            "lr": 1e-4,
            "logit_scale": 4.6,
            "images_per_second": predicted.samples_seen / seconds,
            "seconds": part * seconds,
            "time": began,
        }
        for part in (0.25, 0.5, 0.75, 1)
    ]
    lease.append(records)
    (run.path / "model.pt").write_text("weights")
    lease.write_result(
        Result(
            scores={"imagenet.zero_shot_top1": accuracy},
            samples_seen=predicted.samples_seen,
            steps=predicted.steps,
            train_seconds=seconds,
            cpu_seconds=seconds,
            evaluation_seconds=60.0,
            images_per_second=predicted.samples_seen / seconds,
            attempts=1,
            device=GPU,
            devices=gpus,
            gpu_hours=seconds * gpus / 3600,
            peak_memory_bytes=predicted.memory_bytes,
            final_loss=2.0,
            params=predicted.params,
            started=began,
            finished=time.time(),
            parent=spent(parent.id, before) if parent and before else None,
        )
    )
    (run.path / "checkpoint.pt").unlink(missing_ok=True)


def spent(run_id: str, before: Result) -> Spent:
    return Spent(run_id, before.samples_seen, before.train_seconds, before.cpu_seconds, before.gpu_hours)


def timed(probe: Probe, resources: Resources) -> Timings:
    place, now = TimingPlace(probe.site, GPU, GPU), time.time()
    steps = []
    for settings in map(stage, probe.shapes):
        predicted = cost(settings, resources)
        seconds = SLOWER * predicted.gpu_hours * 3600 / resources.gpus / predicted.steps
        steps.append(
            StepTime(
                *place,
                shape=step_shape(settings, resources),
                seconds=seconds,
                cpu_seconds=seconds,
                spread=1.02,
                processes=resources.devices,
                opening_seconds=70.0,
                warming_seconds=5.0,
                warming_cpu_seconds=5.0,
                time=now,
            )
        )
    evaluations = [
        EvaluationTime(*place, evaluation_shape(stage(settings)), 60.0, 50_000, now) for settings in probe.evaluations
    ]
    return Timings(tuple(steps), tuple(evaluations))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
