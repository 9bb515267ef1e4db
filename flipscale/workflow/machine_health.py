"""Whether this machine has what flipscale needs: Python, torch, GPU, SLURM, Ray, MLflow, disk.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flipscale.errors import install_command
from flipscale.launch import gpus_here
from flipscale.track.address import is_server, tracking_address, without_secrets
from flipscale.words import count, memory

LITTLE_DISK = 2 * 10**9
"""Bytes free below which a person is warned."""

TORCH_SECONDS, ANSWER_SECONDS = 120, 10
"""How long torch may take to start and see a GPU, and a controller or server to answer."""

_SEES_GPU = "import torch; print(torch.cuda.device_count(), torch.version.cuda)"


@dataclass(frozen=True)
class Diagnosis:
    """What is said of one thing that flipscale needs."""

    health: Literal["ok", "warning", "problem"]
    """warning: nothing stops, but a person should know. problem: runs would fail."""
    subject: str
    """What was looked at: 'torch', 'disk'."""
    found: str
    advice: str = ""
    """What to do; '' where nothing is to be done."""


def machine_health(results: Path) -> Iterator[Diagnosis]:
    """What is here. results: where runs and tables go."""
    yield Diagnosis("ok", "Python", f"{platform.python_version()}, {sys.executable}")
    yield from _packages()
    yield _gpu()
    yield _slurm()
    yield _ray()
    yield _mlflow(results)
    yield _disk(results)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Diagnosis]:
    for name, distribution in (("torch", "torch"), ("open_clip", "open_clip_torch")):
        version = _version(distribution)
        if version is None:
            yield Diagnosis("problem", name, "not installed", install_command(name))
        else:
            yield Diagnosis("ok", name, version)


def _answer(*command: str, seconds: float) -> "subprocess.CompletedProcess[str] | None":
    """What a program said; None if it cannot be started, or took longer."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _gpu() -> Diagnosis:
    gpus = gpus_here()
    if not gpus:
        if shutil.which("nvidia-smi") and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            return Diagnosis(
                "warning", "GPU", f"none, as CUDA_VISIBLE_DEVICES is '{visible}'", "unset it to train on GPUs"
            )
        return Diagnosis("ok", "GPU", "none; local runs train on its cores")
    counted = count(len(gpus), "GPU")
    answer = _answer(sys.executable, "-P", "-c", _SEES_GPU, seconds=TORCH_SECONDS)
    if answer is None:
        late = f"{counted}, and torch did not see them within {TORCH_SECONDS} s"
        return Diagnosis("warning", "GPU", late, "try nvidia-smi")
    words = answer.stdout.split()
    if answer.returncode or not words or words[0] == "0":
        return Diagnosis(
            "problem", "GPU", f"{counted}, and torch sees none", "install a torch build for this GPU driver's CUDA"
        )
    return Diagnosis("ok", "GPU", f"{counted}, torch sees {words[0]} (CUDA {words[1]})")


def _slurm() -> Diagnosis:
    if shutil.which("sbatch") is None:
        return Diagnosis("ok", "SLURM", "not here; only --on slurm needs it")
    answer = _answer("scontrol", "ping", seconds=ANSWER_SECONDS)
    if answer is None or answer.returncode:
        return Diagnosis(
            "warning", "SLURM", "its controller does not answer", "try scontrol ping; only --on slurm needs it"
        )
    site = os.environ.get("FLIPSCALE_SITE")
    if site and not Path(site).exists():
        return Diagnosis(
            "warning", "SLURM", f"FLIPSCALE_SITE names {site}, which is not there", "correct it, or give --site FILE"
        )
    described = f"described by {site}" if site else "describe it in a site file: --site FILE (docs/slurm.md)"
    return Diagnosis("ok", "SLURM", f"its controller answers; {described}")


def _ray() -> Diagnosis:
    version = _version("ray")
    address = os.environ.get("RAY_ADDRESS")
    if version is None:
        return Diagnosis("warning", "Ray", "not installed", f"{install_command('ray')}; only --on ray needs it")
    where = f"RAY_ADDRESS is {without_secrets(address)}" if address else "--address or RAY_ADDRESS names a cluster"
    return Diagnosis("ok", "Ray", f"{version}; {where}")


def _mlflow(results: Path) -> Diagnosis:
    version = _version("mlflow")
    if version is None:
        return Diagnosis("warning", "MLflow", "not installed", f"{install_command('mlflow')}, or add --no-mlflow")
    uri = tracking_address(results)
    where = without_secrets(uri)
    if is_server(uri):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
                pass
        except urllib.error.HTTPError:
            pass  # Something answers, if not to this question.
        except (OSError, ValueError):
            return Diagnosis(
                "warning", "MLflow", f"{version}; {where} does not answer", "start it, or unset MLFLOW_TRACKING_URI"
            )
    return Diagnosis("ok", "MLflow", f"{version}, in {where}")


def _disk(results: Path) -> Diagnosis:
    folder = results.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    space = f"{memory(free)} free for {results}/"
    if not os.access(folder, os.W_OK):
        return Diagnosis("problem", "disk", f"{folder} cannot be written to", "name another folder with --results")
    if free < LITTLE_DISK:
        return Diagnosis("warning", "disk", space, "free space (flipscale gc), or name another folder with --results")
    return Diagnosis("ok", "disk", space)
