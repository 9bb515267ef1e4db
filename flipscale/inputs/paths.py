"""Where a path of a study leads, and which files are images."""

import os
from pathlib import Path

EXTENSIONS = {"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"}
"""What an image file's name ends in."""


def located(name: str) -> Path:
    """A path of a declaration. One that is not absolute starts from FLIPSCALE_DATA, else from the current folder."""
    return Path(os.environ.get("FLIPSCALE_DATA", ""), name)


def reason_of(error: Exception) -> str:
    """What went wrong, without the number and the path that the system's errors begin and end with."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
