"""Whether this machine has what flipscale needs: Python, torch, GPU, SLURM, Ray, MLflow, Chromium, disk.

Versions are read from what is installed, so nothing heavy is imported; torch is asked in a process of its own, and only
where there is a GPU to ask about.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from flipscale.launch import gpus_here
from flipscale.track.address import is_server, settled, without_secrets
from flipscale.words import count, memory

OLDEST_PYTHON = (3, 11)

LITTLE_DISK = 2 * 10**9
"""Bytes free below which a person is warned."""

TORCH_SECONDS, ANSWER_SECONDS = 120, 10
"""How long torch may take to start and see a GPU, and a controller or server to answer."""

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

_SEES_GPU = "import torch; print(torch.cuda.device_count(), torch.version.cuda)"


class Health(StrEnum):
    """The state of a thing."""

    OK = "ok"
    WARNING = "warning"
    """Nothing stops, but a person should know."""
    PROBLEM = "problem"
    """Runs would fail."""


@dataclass(frozen=True)
class Diagnosis:
    """What is said of one thing that flipscale needs."""

    health: Health
    subject: str
    """What was looked at: 'torch', 'data'."""
    found: str
    advice: str = ""
    """What to do; '' where nothing is to be done."""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def ok(subject: str, found: str, advice: str = "") -> Diagnosis:
    return Diagnosis(Health.OK, subject, found, advice)


def warning(subject: str, found: str, advice: str = "") -> Diagnosis:
    return Diagnosis(Health.WARNING, subject, found, advice)


def problem(subject: str, found: str, advice: str = "") -> Diagnosis:
    return Diagnosis(Health.PROBLEM, subject, found, advice)


def machine_health(results: Path) -> Iterator[Diagnosis]:
    """What is here. results: where runs and tables go."""
    yield _python()
    yield from _packages()
    yield _gpu()
    yield _slurm()
    yield _ray()
    yield _mlflow(results)
    yield _chromium()
    yield _disk(results)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Diagnosis:
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return problem("Python", found, "flipscale needs Python 3.11 or newer")
    return ok("Python", found)


def _packages() -> Iterator[Diagnosis]:
    for name, distribution in (("torch", "torch"), ("open_clip", "open_clip_torch")):
        version = _version(distribution)
        if version is None:
            yield problem(name, "not installed", f"pip install {distribution}")
        else:
            yield ok(name, version)


def _gpu() -> Diagnosis:
    gpus = gpus_here()
    if not gpus:
        if shutil.which("nvidia-smi") and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            return warning("GPU", f"none, as CUDA_VISIBLE_DEVICES is '{visible}'", "unset it to train on GPUs")
        return ok("GPU", "none; local runs train on its cores")
    found = count(len(gpus), "GPU")
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _SEES_GPU], capture_output=True, text=True, encoding="utf-8", errors="replace",
            timeout=TORCH_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return warning("GPU", f"{found}, and torch did not see them within {TORCH_SECONDS} s", "try nvidia-smi")
    words = asked.stdout.split()
    if asked.returncode or not words or words[0] == "0":
        return problem("GPU", f"{found}, and torch sees none", "install a torch build for this GPU driver's CUDA")
    return ok("GPU", f"{found}, torch sees {words[0]} (CUDA {words[1]})")


def _slurm() -> Diagnosis:
    if shutil.which("sbatch") is None:
        return ok("SLURM", "not here; only --on slurm needs it")
    try:
        pinged = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, encoding="utf-8", errors="replace",
            timeout=ANSWER_SECONDS, check=False,
        )  # fmt: skip
        answers = pinged.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        answers = False
    if not answers:
        return warning("SLURM", "its controller does not answer", "try scontrol ping; only --on slurm needs it")
    site = os.environ.get("FLIPSCALE_SITE")
    if site and not Path(site).exists():
        return warning("SLURM", f"FLIPSCALE_SITE names {site}, which is not there", "correct it, or give --site FILE")
    described = f"described by {site}" if site else "describe it in a site file: --site FILE (docs/slurm.md)"
    return ok("SLURM", f"its controller answers; {described}")


def _ray() -> Diagnosis:
    version, address = _version("ray"), os.environ.get("RAY_ADDRESS")
    if version is None:
        return warning("Ray", "not installed", "pip install 'ray[default,tune]'; only --on ray needs it")
    where = f"RAY_ADDRESS is {without_secrets(address)}" if address else "--address or RAY_ADDRESS names a cluster"
    return ok("Ray", f"{version}; {where}")


def _mlflow(results: Path) -> Diagnosis:
    version = _version("mlflow")
    if version is None:
        return warning("MLflow", "not installed", "pip install 'mlflow>=3.11,<4', or add --no-mlflow")
    uri = settled(results)
    where = without_secrets(uri)
    if is_server(uri):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
                pass
        except urllib.error.HTTPError:
            pass  # Something answers, if not to this question.
        except (OSError, ValueError):
            return warning("MLflow", f"{version}; {where} does not answer", "start it, or unset MLFLOW_TRACKING_URI")
    return ok("MLflow", f"{version}, in {where}")


def _chromium() -> Diagnosis:
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    return ok("Chromium", found or "not here; only the tests of the report need it")


def _disk(results: Path) -> Diagnosis:
    folder = results.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{memory(free)} free for {results}/"
    if not os.access(folder, os.W_OK):
        return problem("disk", f"{folder} cannot be written to", "name another folder with --results")
    if free < LITTLE_DISK:
        return warning("disk", found, "free space (flipscale gc), or name another folder with --results")
    return ok("disk", found)
