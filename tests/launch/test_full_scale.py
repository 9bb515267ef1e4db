"""docs/full-scale.md from top to bottom: its files are written, and its commands run in their order.

The stand-ins: a fake SLURM of four nodes for the cluster; for LAION-400M 1,000 names of one tar of four pairs, with a
note beside each that says 9,987; for ImageNet two pictures of each of 1,000 classes; for the training a worker that
has results by a made-up law. The study, the site file, the programs and the commands are the page's own, with a
temporary folder instead of /shared.
"""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from docs.parts import full_scale
from flipscale.planning.runs import plan
from flipscale.run import RunFolder, State
from flipscale.study import read_study
from tests.launch import fake_slurm
from tests.launch.full_scale_worker import STARTS
from tests.patience import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("full_scale_worker.py")
SHARDS = 1000


class Reader:
    """Somebody who follows the page: a shell that keeps its folder and its exports from one block to the next."""

    def __init__(self, place: Path, environment: dict[str, str]):
        self.shared = place / "shared"
        self.environment = environment
        self.before: list[str] = []
        """Lines that change the shell itself."""

    @property
    def study(self) -> Path:
        return self.shared / "study"

    def here(self, text: str) -> str:
        return text.replace("/shared", str(self.shared)).replace("{00000..41455}", f"{{00000..{SHARDS - 1:05}}}")

    def run(self, block: full_scale.Block) -> str:
        """The commands of a block: what they print. None of them may fail or show a traceback."""
        lines = [self.here(line) for line in block.lines]
        script = "\n".join(["set -e", *self.before, *lines])
        done = subprocess.run(
            ["bash", "-c", script],
            env=self.environment,
            cwd=self.shared.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{script}\n{said}"
        assert "Traceback" not in said, said
        self.before += [line for line in lines if re.match(r"export |.*\bcd ", line)]
        return said


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """With the page's folders, in which other things stand in for the data and the trainer."""
    changed = fake_slurm.install(tmp_path / "cluster")
    environment = {**os.environ, **changed, "PYTHONPATH": str(ROOT)}
    for name in ("FLIPSCALE_RESULTS", "FLIPSCALE_SITE", "FLIPSCALE_DATA"):
        environment.pop(name, None)
    reader = Reader(tmp_path, environment)
    install(reader.shared / "env" / "bin")
    make_laion(reader.shared / "data" / "laion400m")
    make_imagenet(reader.shared / "data" / "imagenet" / "val")
    yield reader
    fake_slurm.stop(tmp_path / "cluster")


def install(programs: Path) -> None:
    """The Python of the page, of which `-P -m flipscale train` is the stand-in, on process 0 alone."""
    programs.mkdir(parents=True)
    python = f"""#!/bin/sh
if [ "$1 $2 $3 $4" = "-P -m flipscale train" ]; then
    [ "$SLURM_PROCID" = 0 ] || exit 0
    shift 4; exec {sys.executable} {WORKER} "$@"
fi
exec {sys.executable} "$@"
"""
    for name, script in {
        "python": python,
        "flipscale": f'#!/bin/sh\nexec {sys.executable} -m flipscale "$@"\n',
    }.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)


def picture(colour: int) -> bytes:
    image = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 90, 30)).save(image, "JPEG")
    return image.getvalue()


def make_laion(folder: Path) -> None:
    folder.mkdir(parents=True)
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number in range(4):
            for suffix, data in (("jpg", picture(number)), ("txt", b"a picture")):
                member = tarfile.TarInfo(f"{number:09}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (folder / "00000_stats.json").write_text(json.dumps({"count": 10_000, "successes": 9987}))
    for number in range(1, SHARDS):
        for suffix in (".tar", "_stats.json"):
            os.link(folder / f"00000{suffix}", folder / f"{number:05}{suffix}")


def make_imagenet(folder: Path) -> None:
    one = picture(200)
    for number in range(1000):
        of_class = folder / f"n{number:08}"
        of_class.mkdir(parents=True)
        for image in range(2):
            (of_class / f"ILSVRC2012_val_{number + 1000 * image:08}.JPEG").write_bytes(one)


def test_a_reader_of_the_page_gets_from_empty_folders_to_a_report(reader: Reader, tmp_path: Path) -> None:
    blocks = [block for block in full_scale.blocks() if not block.why_not]
    shell, sizes, imagenet, check, probe, submit, watch, again, results, keep = blocks
    reader.run(shell)
    for name, text in full_scale.files().items():
        (reader.study / name).write_text(reader.here(text))

    # Data
    assert reader.run(sizes) == f"{SHARDS} shards with {SHARDS * 9987} pairs\n"
    assert reader.run(imagenet) == "2000 images of 1000 classes\n"

    # Check
    said = reader.run(check)
    assert f"{SHARDS + 64:,} shards" in said or f"{SHARDS + 64} shards" in said, said
    for line in full_scale.script_lines():
        assert reader.here(line) in said, f"{line} of the page is not in what is sent:\n{said}"

    # Probe
    runs = plan(read_study(reader.study / full_scale.STUDY)).runs
    said = reader.run(probe)
    assert "probing 3 shapes of masking at slurm hall" in said
    assert "timed at slurm hall" in said

    # Submit; a job is pre-empted, and the node of another one dies
    assert f"submitted {len(runs)} runs to slurm" in reader.run(submit)
    folders = {run.id: RunFolder(reader.study / "results" / "runs" / run.id) for run in runs}
    preempted, lost = wait_until(lambda: two_begun(folders), "the first two runs")
    fake_slurm.preempt(tmp_path / "cluster", job_of(preempted), grace=60)
    fake_slurm.fail_node(tmp_path / "cluster", lost.holder().node)
    wait_until(lambda: len(starts(lost)) == 2, "the run of the lost node to go on", every=0.2)
    wait_until(lambda: (preempted.path / "checkpoint.pt").exists(), "the checkpoint of the pre-empted run", every=0.2)
    (reader.study / "results" / "runs" / "go").touch()

    # Watch
    assert "15 of 15 finished" in reader.run(watch)
    assert {folder.state() for folder in folders.values()} == {State.FINISHED}
    assert {run_id: starts(run) for run_id, run in folders.items()} == {
        run_id: [256] * (2 if run_id in (preempted.id, lost.id) else 1) for run_id in folders
    }
    assert [failure.kind for failure in preempted.failures()] == ["preempted"]
    assert [failure.kind for failure in lost.failures()] == ["node"]
    assert "left alone 15 finished" in reader.run(again)

    # Results, and what is kept of them
    said = reader.run(results)
    assert "gain" in (reader.study / "results/masking/comparison.md").read_text()
    for file in ("results/masking/results.csv", "plots/masking/speedup.svg", "plots/masking/report.html", "table.tex"):
        assert (reader.study / file).stat().st_size > 0, said
    assert "runs.tar.bz2 (15 of 15 runs" in reader.run(keep)


def starts(run: RunFolder) -> list[int]:
    """How many processes each of its starts had."""
    file = run.path / STARTS
    return list(map(int, file.read_text().split())) if file.exists() else []


def two_begun(folders: dict[str, RunFolder]) -> list[RunFolder]:
    """Two runs at work on nodes of their own, if there are."""
    at_work = {holder.node: run for run in folders.values() if starts(run) and (holder := run.holder())}
    return list(at_work.values())[:2] if len(at_work) >= 2 else []


def job_of(run: RunFolder) -> str:
    """SLURM's name of its job."""
    job = run.job()
    assert job is not None
    name, _, task = job.id.rpartition("/")
    submission, _, number = name.rpartition("-")
    array = run.path.parents[1] / "slurm" / submission / f"{number}.json"
    return f"{json.loads(array.read_text())['slurm_id']}_{task}"


def test_what_the_page_does_not_run_it_gives_a_reason_for() -> None:
    left_out = [block for block in full_scale.blocks() if block.why_not]
    assert [block.lines[0].split()[0] for block in left_out] == ["git", "img2dataset"]
    assert not any(line.startswith("flipscale ") for block in left_out for line in block.lines)
