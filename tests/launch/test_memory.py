"""How much main memory jobs ask for: by the predictions of runs, the word of the site, and what the cluster does."""

import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flipscale.errors import LaunchError
from flipscale.launch.launcher import Request
from flipscale.launch.memory import PROGRAM, PROGRAM_WITH_CUDA, host_memory
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm.arrays import JobArray, arrays_of
from flipscale.launch.slurm.batch import script_of
from flipscale.planning.runs import Run
from flipscale.run import RunFolder, RunRequest
from tests.launch.real import runs_of

MIB, GIB = 2**20, 2**30

BASE = {"evaluation": {"images": 100}}


@pytest.fixture
def asked(tmp_path):
    """The requests for the runs of a study."""
    studies = iter(range(100))

    def asked(more="", **base):
        runs = runs_of(tmp_path / str(next(studies)), more, **{**BASE, **base})
        return [request_of(run, tmp_path) for run in runs]

    return asked


def request_of(run: Run, place: Path) -> Request:
    return Request(RunFolder(place / "runs" / run.id), RunRequest.of(run))


def arrays(requests, *, memory="predicted", **keys) -> list[JobArray]:
    return arrays_of(requests, {**DEFAULTS, "memory_per_process": memory, **keys}, 100, "S", command=["train"])


def asks_for(array: JobArray) -> str | None:
    """What the job's script has for --mem."""
    options = re.findall(r"^#SBATCH --mem=(.*)$", script_of(array, Path("/results/slurm")), re.MULTILINE)
    return options[0] if options else None


# What a run needs


def test_the_smallest_run_needs_little_more_than_its_program(asked):
    (run,) = asked()
    assert PROGRAM < host_memory(run) <= 1 * GIB


@pytest.mark.parametrize(
    ("base", "measured"),
    [
        # Peak resident memory of `flipscale train` in MiB, torch 2.13 on a CPU, one thread.
        ({}, 423),
        ({"model": "ViT-w64d2-4", "mask_ratio": 0, "batch_size": 512, "samples": 1024}, 729),
        ({"model": "ViT-w64d2-4", "mask_ratio": 0, "batch_size": 2048, "samples": 4096}, 1725),
        ({"model": "ViT-w64d2-4", "mask_ratio": 0, "batch_size": 1024, "samples": 2048, "image_size": 56}, 2690),
        ({"model": "ViT-w192d4-7", "mask_ratio": 0, "batch_size": 256, "samples": 512}, 772),
        ({"model": "ViT-w192d4-7", "mask_ratio": 0.5, "batch_size": 128, "samples": 256, "image_size": 112}, 1511),
        ({"model": "ViT-B-32", "mask_ratio": 0, "batch_size": 16, "samples": 32, "image_size": 224}, 2767),
    ],
    ids=["tiny", "512", "2048", "56px", "wide", "112px", "ViT-B-32"],
)
def test_runs_that_were_measured_need_no_more_than_is_asked_for_and_not_much_less(asked, base, measured):
    (run,) = asked(**base)
    # The measured runs were too short for a checkpoint, which is written from a copy.
    needed = host_memory(run) / MIB - 12 * run.asked.cost.params / MIB
    assert measured <= needed <= max(1024, 1.7 * measured)


def test_beside_a_gpu_the_device_holds_the_model_and_main_memory_the_program(asked):
    small, large = (
        asked("resources: {gpus: 1}", model=model, image_size=224, batch_size=64)[0]
        for model in ("ViT-B-16", "ViT-L-16")
    )
    assert host_memory(large) - host_memory(small) == pytest.approx(
        16 * (large.asked.cost.params - small.asked.cost.params), abs=256 * MIB
    )
    assert PROGRAM_WITH_CUDA < host_memory(small) < 8 * GIB


def test_a_batch_that_many_processes_share_is_in_the_memory_of_each_by_its_part(asked):
    one, four = (
        asked(f"resources: {{processes: {count}}}", model="ViT-w64d2-4", mask_ratio=0, batch_size=4096, samples=4096)[0]
        for count in (1, 4)
    )
    assert host_memory(four) - PROGRAM < (host_memory(one) - PROGRAM) / 2


def test_images_wait_at_the_size_that_training_shows(asked):
    """12 batches of 1,024 images of 112 pixels, or with 75 % of their patches fewer of 56."""
    whole, small = (
        asked(image_size=112, model="ViT-w16d1-28", batch_size=1024, samples="16k", **changes)[0]
        for changes in ({}, {"mask_ratio": 0.75, "mask_shape": "resize"})
    )
    whole, small = (replace(request, asked=replace(request.asked, cost=whole.asked.cost)) for request in (whole, small))
    saved = 12 * 1024 * 3 * (112**2 - 56**2)
    assert host_memory(whole) - host_memory(small) == pytest.approx(saved, abs=128 * MIB)


def test_images_to_score_on_are_in_memory(asked):
    few, many, probed = (
        asked(image_size=112, model="ViT-w16d1-28", evaluation=evaluation)[0]
        for evaluation in ({"images": 100}, {"images": 10_000}, {"images": 10_000, "linear_probe": True})
    )
    image = 3 * 112**2
    assert host_memory(many) - host_memory(few) > 2 * 9_900 * image
    assert host_memory(probed) - host_memory(many) > 5 * 10_000 * image


def test_the_process_that_leads_alone_holds_the_images_to_score_on(asked):
    few, many = (
        asked("resources: {processes: 8}", image_size=112, model="ViT-w16d1-28", evaluation={"images": images})[0]
        for images in (100, 10_000)
    )
    scored = host_memory(many) - host_memory(few)
    assert scored > 2 * 9_900 * 3 * 112**2
    assert host_memory(many, 8) - host_memory(few, 8) == pytest.approx(scored, abs=128 * MIB)


def sets_of_three(place: Path) -> dict[str, Any]:
    """A set of three images in each format that is read from files. Nothing but their number can be known of most."""
    for name in ("owl/1.jpg", "owl/2.jpg", "cat/1.jpg"):
        (place / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "folder" / name).touch()
    (place / "table.csv").write_text("filepath,title\na.jpg,an owl\na.jpg,a bird\nb.jpg,a cat\nc.jpg,a dog\n")
    (place / "images").write_bytes(bytes([0, 0, 8, 3, *(0, 0, 0, 3), *(0, 0, 0, 1) * 2, 0, 0, 0]))
    with tarfile.open(place / "0.tar", "w") as tar:
        for name in ("1.jpg", "1.cls", "2.jpg", "2.cls", "3.jpg", "3.cls"):
            tar.addfile(tarfile.TarInfo(name))
    classes = ["owl", "cat"]
    return {
        "folder": {"folder": {"path": str(place / "folder")}},
        "captions": {"captions": {"file": str(place / "table.csv")}},
        "idx": {"idx": {"images": str(place / "images"), "labels": str(place / "labels"), "classes": classes}},
        "shards": {"webdataset": {"urls": str(place / "0.tar"), "classes": classes}},
    }


@pytest.mark.parametrize("name", ["folder", "captions", "idx", "shards", "not here"])
def test_images_of_a_set_are_counted(asked, tmp_path, name):
    sets = sets_of_three(tmp_path) | {"not here": {"folder": {"path": "/nowhere"}}}
    base = {"data": {"webdataset": {"urls": "shards.tar", "name": "shards"}}, "image_size": 112, "samples": 640}
    least, set_of_three = (
        asked(**base, evaluation={"images": "50k", "sets": {"set": each}})[0]
        for each in ({"shapes": {"seed": 1}}, sets[name])
    )
    image = 3 * 112**2
    fifty_thousand = 50_000 * image
    counted = host_memory(least) - host_memory(set_of_three)
    assert counted == pytest.approx(0 if name == "not here" else fifty_thousand, abs=128 * MIB)


def test_test_images_of_a_fine_tuning_are_counted(asked, tmp_path):
    folder = sets_of_three(tmp_path)["folder"]["folder"]["path"]
    few, many = (
        asked(
            f"axes: {{fine_tuning: [{{samples: 2048, data: {{folder: {{train: {train}, test: {test}}}}}}}]}}",
            image_size=112,
            model="ViT-w16d1-28",
            evaluation={"images": 50_000},
        )[-1]
        for train, test in ((folder, folder), (folder, "/nowhere"))
    )
    assert host_memory(many) - host_memory(few) == pytest.approx(50_000 * 3 * 112**2, abs=128 * MIB)


def test_each_process_of_a_fine_tuning_holds_its_test_images(asked):
    few, many = (
        asked(
            "axes: {fine_tuning: [{samples: 2048}]}\nresources: {processes: 4}",
            image_size=112,
            model="ViT-w16d1-28",
            evaluation={"images": images},
        )[-1]
        for images in (100, 10_000)
    )
    added = 9_900 * 3 * 112**2
    assert host_memory(many, 4) - host_memory(few, 4) == pytest.approx(4 * added, abs=128 * MIB)


def test_shards_have_no_images_of_their_own_to_be_scored_on(asked):
    held = {"webdataset": {"urls": "held.tar", "classes": ["a", "b"]}}
    base = {"data": {"webdataset": "shards.tar"}, "image_size": 112, "samples": 640}
    (own,) = asked(**base, evaluation={"images": 10_000, "sets": {"held": held}})
    (both,) = asked(**base, evaluation={"images": 10_000, "data": {"webdataset": "more.tar"}, "sets": {"held": held}})
    assert host_memory(both) - host_memory(own) == pytest.approx(2 * 10_000 * 3 * 112**2, abs=128 * MIB)


def test_the_program_of_open_clip_is_one_more(asked):
    own, other = (asked(trainer=trainer)[0] for trainer in ("flipscale", "open_clip"))
    assert host_memory(other) - host_memory(own) == pytest.approx(PROGRAM, abs=128 * MIB)


def test_what_a_command_needs_is_not_known(asked):
    (run,) = asked(trainer={"command": {"arguments": ["python", "train.py"]}})
    assert host_memory(run) is None


# What jobs ask for


def test_jobs_ask_for_what_the_neediest_run_of_their_array_needs(asked):
    runs = asked("axes: {batch_size: [32, 2048]}", model="ViT-w64d2-4", mask_ratio=0, samples=4096)
    (array,) = arrays(runs)
    assert len(array.tasks) == 2
    assert array.memory == max(map(host_memory, runs)) > 2 * min(map(host_memory, runs))
    assert asks_for(array) == f"{array.memory // MIB}M"
    assert JobArray.read(written(array)) == array


def written(array: JobArray) -> Path:
    home = Path(array.runs).parent / "slurm"
    array.write(home)
    return array.path(home)


def test_children_ask_for_what_they_need_themselves(asked):
    runs = asked(
        "axes: {tuning: [{samples: 4096, batch_size: 2048}]}", model="ViT-w64d2-4", mask_ratio=0.75, samples=640
    )
    parents, children = arrays(runs)
    assert children.memory > 1.5 * parents.memory


def test_runs_that_share_a_job_ask_for_the_neediest_on_each_lane(asked):
    runs = asked("axes: {tuning: [null, {samples: 4096, batch_size: 2048}]}\nseeds: 2", model="ViT-w64d2-4")
    pack = {**DEFAULTS["pack"], "time": 36000, "share": 3}
    (array,) = arrays(runs, pack=pack)
    (task,) = array.tasks.values()
    assert (len(task), array.lanes) == (4, 3)
    assert asks_for(array) == f"{3 * max(map(host_memory, runs)) // MIB}M"


def test_processes_on_a_node_ask_together(asked):
    (run,) = asked("resources: {processes: 4}")
    (array,) = arrays([run], processes_per_node=2)
    assert asks_for(array) == f"{host_memory(run, 2) // MIB}M"


def test_what_is_not_known_is_left_to_the_cluster_and_to_arrays_of_its_own(asked):
    runs = [*asked(), *asked(trainer={"command": {"arguments": ["python", "train.py"]}})]
    known, unknown = arrays(runs)
    assert (known.memory, unknown.memory) == (host_memory(runs[0]), None)
    assert asks_for(unknown) is None
    (both,) = arrays(runs, memory="2G")
    assert asks_for(both) == "2G"


@pytest.mark.parametrize(
    ("memory", "asks"), [("500M", "500M"), ("3G", "3G"), ("1T", "1024G"), ("all", "0"), (None, None)]
)
def test_the_word_of_the_site_file_is_the_last(asked, memory, asks):
    (array,) = arrays(asked(), memory=memory)
    assert asks_for(array) == asks
    assert JobArray.read(written(array)) == array
    (array,) = arrays(asked("resources: {processes: 2}"), memory="3G")
    assert asks_for(array) == "6G"


# What the cluster does


def test_a_refusal_over_memory_says_how_to_ask_for_other(asked, tmp_path, monkeypatch):
    from flipscale.launch.slurm import batch, scheduler

    def refuse(script):
        raise LaunchError("sbatch refused: sbatch: error: Memory specification can not be satisfied")

    monkeypatch.setattr(scheduler, "submit", refuse)
    (predicted,), (unsaid,) = arrays(asked()), arrays(asked(), memory=None)
    with pytest.raises(
        LaunchError, match=r"mem=\d+M, nodes=1.* Write memory_per_process into the site file: .* or null"
    ):
        batch.send(predicted, tmp_path / "slurm")
    with pytest.raises(LaunchError) as refused:
        batch.send(unsaid, tmp_path / "slurm")
    assert "memory_per_process" not in str(refused.value)
