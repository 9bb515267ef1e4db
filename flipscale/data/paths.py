"""The files that a study's paths lead to, and which of them are images."""

import os
from pathlib import Path

EXTENSIONS = {"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"}
"""Endings of image files."""


def located(name: str) -> Path:
    """A path of a declaration. One that is not absolute starts from FLIPSCALE_DATA, else from the current folder."""
    return Path(os.environ.get("FLIPSCALE_DATA", ""), name)


def reason_of(error: Exception) -> str:
    """The message of an error, without the number and the path that the system's errors begin and end with."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
