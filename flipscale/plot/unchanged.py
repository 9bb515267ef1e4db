"""Which figures are already drawn: plots/NAME/.drawn.json notes what each was drawn from, and the files it became.

A figure is not drawn again if its data, flipscale's code, the libraries that draw and its own files have not changed
since. A damaged or missing note only costs time: all figures are drawn.
"""

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from flipscale.errors import DamagedFile
from flipscale.plain_files import read_bytes, read_json
from flipscale.plot.figure_data import FigureData
from flipscale.run import write_json

SOURCE_FOLDER = Path(__file__).parents[1]

_LIBRARIES = ("matplotlib", "numpy", "pandas", "scipy")
"""Their versions can change a figure."""


@dataclass(frozen=True)
class DrawnBefore:
    """What each figure was drawn from, and the files that it became."""

    source: str
    """Digest of the data and the code of today."""
    note: Path
    figures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Figure -> the digest of its source, and of each of its files by name."""

    @classmethod
    def read(cls, note: Path, data: FigureData) -> "DrawnBefore":
        """What the note says, for drawing this data now."""
        source = hashlib.sha256(f"{digest_of_data(data)} {digest_of_code()}".encode()).hexdigest()
        try:
            figures = read_json(note)["figures"]
            known = {
                str(name): {str(key): str(value) for key, value in found.items()} for name, found in figures.items()
            }
        except (OSError, DamagedFile, TypeError, KeyError, AttributeError):
            known = {}
        return cls(source, note, known)

    def has(self, name: str, files: Iterable[Path]) -> bool:
        """Whether drawing this figure would give these files as they are."""
        return self.figures.get(name) == self._entry(files)

    def write(self, files: Mapping[str, Iterable[Path]], gone: Iterable[str]) -> None:
        """Note the files of these figures, and forget those that are gone. Other figures stay noted."""
        kept = {name: entry for name, entry in self.figures.items() if name not in set(gone)}
        figures = {**kept, **{name: self._entry(paths) for name, paths in files.items()}}
        if figures != self.figures:
            write_json(self.note, {"figures": figures}, flush=False)

    def _entry(self, files: Iterable[Path]) -> dict[str, str]:
        return {"source": self.source, **{path.name: _digest_of_file(path) for path in files}}


def digest_of_data(data: FigureData) -> str:
    """Equal for data that give equal figures."""
    digest = hashlib.sha256()
    for name in (each.name for each in fields(data)):
        value = getattr(data, name)
        digest.update(f"\n{name} ".encode())
        if isinstance(value, pd.DataFrame):
            digest.update(repr([(column, str(value[column].dtype)) for column in value]).encode())
            digest.update(pd.util.hash_pandas_object(value).to_numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


@functools.cache
def digest_of_code() -> str:
    """The digest of flipscale's source, the versions of the libraries that draw, and the user's matplotlib settings."""
    digest = hashlib.sha256(repr([(name, importlib.metadata.version(name)) for name in _LIBRARIES]).encode())
    for file in (*sorted(SOURCE_FOLDER.rglob("*.py")), Path(mpl.matplotlib_fname())):
        content = file.read_bytes() if file.is_file() else b""
        digest.update(b"\n%s %d\n%s" % (file.name.encode(), len(content), content))
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    """'' for a file that is not there."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except (OSError, DamagedFile):
        return ""
