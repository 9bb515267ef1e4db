"""Everything flipscale raises on purpose is one of these, and says where, what, and what would be right.

FlipscaleError              something a user can fix; the command line prints it without a traceback
  StudyError                a study file: every complaint of the file at once, each with file:line
  PlanError                 a study that reads well but cannot be planned or is over its budget
  InputsError               files and programs that runs need and that are missing or wrong, all at once
  DataError                 training or evaluation data that is missing, corrupt or of the wrong kind
  DamagedFile               a file that is torn, foreign, or no plain file at all
    RunFolderError          a run folder that is foreign or torn
      NewerFolder           one that a newer flipscale has written
  LaunchError               a launcher that cannot take the runs
  ResultsError              results that are missing a column, or too few for what was asked
  Diverged                  a training loss that is no longer a number
  LeaseLost                 another process has taken the run over; this one must stop writing
"""

import difflib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Iterable


class FlipscaleError(Exception):
    """Something a user can fix: one sentence with where, what, and what would be right. It can always be printed."""

    def __init__(self, sentence: str = ""):
        super().__init__(printable(sentence))


class StudyError(FlipscaleError):
    """All complaints of one study file, in the order of their lines.

    `complaints` is a tuple of finished lines, `file:line: what; what would be right`.
    """

    def __init__(self, complaints: Iterable[str]):
        self.complaints = tuple(complaints)
        super().__init__("\n".join(self.complaints))


class PlanError(FlipscaleError):
    """A study that reads well but cannot be planned: no run is left, or the budget is too small."""


class InputsError(FlipscaleError):
    """Files and programs that runs need and that are missing or wrong; nothing was started."""


class DataError(FlipscaleError):
    """Data that is missing, corrupt, or not what its declaration says."""


class DamagedFile(FlipscaleError):
    """A file that is torn, holds something unexpected, or is a pipe, a folder or a link to itself."""


class RunFolderError(DamagedFile):
    """A run folder that is foreign, or torn where it must be whole."""


class NewerFolder(RunFolderError):
    """A run folder that a newer flipscale has written."""


class LaunchError(FlipscaleError):
    """A launcher that is not there or refuses the runs."""


class ResultsError(FlipscaleError):
    """Results that lack what was asked of them."""


class Diverged(FlipscaleError):
    """The training loss is no longer a finite number."""


class LeaseLost(FlipscaleError):
    """Another process holds this run now, so nothing more may be written to it from here."""


_NOT_PRINTABLE = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def reason_of(error: Exception) -> str:
    """The message of an error, without the number and the path that the system's errors begin and end with."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def printable(text: str) -> str:
    r"""The text with escapes for what UTF-8 cannot hold (the bytes of a file name that is not UTF-8, half a character)
    and for what steers a terminal: control characters other than line ends and tabs.

    Every message goes through here before it is stored, so logs, tables, pages and MLflow can hold it.

    >>> printable(os.fsdecode(b"caf\xe9.png"))
    'caf\\xe9.png'
    >>> printable("\x1b[31mred")
    '\\x1b[31mred'
    """
    if text.isprintable():
        return text

    def escaped(match: re.Match[str]) -> str:
        number = ord(match[0])
        # The system's names come with U+DC00 + the byte for each byte that is not UTF-8.
        if 0xDC80 <= number <= 0xDCFF:
            return f"\\x{number - 0xDC00:02x}"
        return f"\\u{number:04x}" if number > 0xFF else f"\\x{number:02x}"

    return _NOT_PRINTABLE.sub(escaped, text)


def use_utf8() -> None:
    """Have this process name files in UTF-8 whatever the locale, and print any text without raising.

    Every process that flipscale starts calls this first. Where the locale is not UTF-8, Python restarts: under
    another encoding a class folder would have another name, and a path of a study would not be found.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def nearest(name: object, choices: Iterable[str]) -> str | None:
    """The choice that was meant, if one is near.

    >>> nearest("staus", ["submit", "status"])
    'status'
    >>> nearest("eval", ["evaluation", "exclude"])
    'evaluation'
    """
    choices = list(choices)
    alike = [choice for choice in choices if choice.casefold() == str(name).casefold()]
    near = alike or difflib.get_close_matches(str(name), choices, n=1, cutoff=0.6)
    if near:
        return near[0]
    longer = [choice for choice in choices if len(str(name)) > 2 and choice.startswith(str(name))]
    return longer[0] if len(longer) == 1 else None


_DISTRIBUTIONS = {
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "PIL": "pillow",
    "yaml": "pyyaml",
    **dict.fromkeys(
        ["torch", "torchvision", "open_clip", "timm", "webdataset", "braceexpand", "sklearn", "psutil"],
        "'flipscale[train]'",
    ),
    "submitit": "'flipscale[slurm]'",
    "ray": "'flipscale[ray]'",
    "mlflow": "'flipscale[mlflow]'",
}
"""What pip installs, where its name differs from the module's."""


def missing_package(module: str) -> str:
    """The message for a missing module: the command that installs its package, or the extra it is in.

    >>> missing_package("psycopg2.extensions")
    'This needs psycopg2, which is not installed. Install it: pip install psycopg2-binary'
    >>> missing_package("torch")
    "This needs torch, which is not installed. Install it: pip install 'flipscale[train]'"
    """
    name = module.partition(".")[0]
    return f"This needs {name}, which is not installed. Install it: {install_command(name)}"


def install_command(module: str) -> str:
    """The command that installs a package, by the name of its module."""
    return f"pip install {_DISTRIBUTIONS.get(module, module)}"


def require(module: str) -> None:
    """Raise FlipscaleError where a module is not installed. Loads nothing."""
    if importlib.util.find_spec(module) is None:
        raise FlipscaleError(missing_package(module))


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """The end of a complaint about an unknown name: the nearest choice if one is near, then the first twenty of all,
    apart by semicolons where names have commas.

    >>> did_you_mean("mask_ration", ["lr", "mask_ratio"])
    "did you mean 'mask_ratio'? Choices: lr, mask_ratio"
    >>> did_you_mean("a100", ["V100", "A100"])
    "did you mean 'A100'? Choices: V100, A100"
    >>> did_you_mean("foo", ["a=1, b=2", "c=3"])
    'choices: a=1, b=2; c=3'
    """
    choices = list(choices)
    near = nearest(name, choices)
    apart = "; " if any("," in choice for choice in choices) else ", "
    known = apart.join([*choices[:20], *(["..."] if len(choices) > 20 else [])])
    return f"did you mean {near!r}? Choices: {known}" if near else f"choices: {known}"
