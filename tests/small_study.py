"""A study of eight small runs that several files of tests look at: trained once for all of them."""

import fcntl
from pathlib import Path

from tests.commands import flipscale

STUDY = """\
schema: 1
question: Does it run?
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3}
axes:
  samples: [320, 640]
  mask_ratio: [0, 0.5]
seeds: 2
evaluation: {images: 100}
"""


def run_once(folder: Path) -> Path:
    """The folder in which `flipscale run mask.yaml` has run, with what it printed in said.txt and talk.txt.

    Tests in other processes, such as those of pytest-xdist, share it.
    """
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "talk.txt").exists():
            (folder / "mask.yaml").write_text(STUDY)
            done = flipscale("run", "mask.yaml", cwd=folder)
            (folder / "said.txt").write_text(done.stdout)
            (folder / "talk.txt").write_text(done.stderr)
    return folder
