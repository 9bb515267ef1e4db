"""Real parts that tests need: where one is missing, CI fails and a laptop skips and says why.

A GPU is the exception: no CI has one, so its tests skip there too. `make test-gpu` runs them where there is one.
"""

import os

import pytest

from flipscale.data.fashion import FASHION_FOLDER


def need(present: bool, what: str) -> None:
    """Go on if the part is present; else fail in CI, and skip elsewhere. `what` says what it is and how to get it."""
    if not present:
        if os.environ.get("CI"):
            pytest.fail(f"needs {what}")
        pytest.skip(f"needs {what}", allow_module_level=True)


def need_fashion() -> None:
    """Go on if Debian's copy of Fashion-MNIST is installed."""
    need(FASHION_FOLDER.is_dir(), "Fashion-MNIST: apt-get install dataset-fashion-mnist")


def need_gpu() -> None:
    """Go on if there is a GPU that torch can use; else skip and say why, in CI too."""
    from bench.gpu import missing

    if reason := missing():
        pytest.skip(f"needs a GPU: {reason}")
