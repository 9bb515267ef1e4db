"""Where Fashion-MNIST's four IDX files are."""

import os
from pathlib import Path

from flipscale.errors import DataError
from flipscale.settings import Fashion

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""


def folder_of(data: Fashion) -> Path:
    """The folder of the declaration, else of the environment, else Debian's."""
    named = data.folder or os.environ.get("FLIPSCALE_FASHION")
    folder = Path(named) if named else FASHION_FOLDER
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder, so Fashion-MNIST cannot be read. Run `apt-get install "
            "dataset-fashion-mnist`, or set the option folder of fashion in the study, or FLIPSCALE_FASHION, to "
            "a folder with its four idx files."
        )
    return folder


def files_of(folder: Path, split: str) -> tuple[Path, Path]:
    """The images and the labels of a split, "train" or "t10k", each of them with .gz or without."""
    return folder / f"{split}-images-idx3-ubyte", folder / f"{split}-labels-idx1-ubyte"


def check_split(folder: Path, split: str, images: int, labels: int) -> None:
    """Raise DataError unless the two files of a split belong together and are not empty."""
    if images != labels:
        raise DataError(
            f"{folder}: the {split} split has {images} images but {labels} labels; "
            f"its files do not belong together, copy both again."
        )
    if not images:
        raise DataError(f"{folder}: the {split} split has no images; copy its files again.")


def check_data_size(folder: Path, data_size: int, images: int) -> None:
    """Raise DataError for more pairs than there are."""
    if data_size > images:
        raise DataError(
            f"{folder}: data_size is {data_size}, but Fashion-MNIST has {images} training images; lower it."
        )
