"""Completion of the command line by a shell: flipscale --completion."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh")

_FUNCTIONS = {
    "bash": """\
_flipscale_study_files() {
  compgen -d -- "$1"
  compgen -f -X '!*.yaml' -- "$1"
}
_flipscale_runs() {
  local run
  for run in "${FLIPSCALE_RESULTS:-results}/runs/$1"*; do
    [[ ${run##*/} =~ ^[A-Za-z0-9._-]+$ ]] && printf '%s\\n' "${run##*/}"
  done
}
""",
    "zsh": """\
_flipscale_study_files() { _files -g '*.yaml' }
_flipscale_runs() { compadd -- ${FLIPSCALE_RESULTS:-results}/runs/*(N:t) }
""",
}
"""What the script calls for studies and runs. Run ids are the names of folders, so no Python starts at a key press.

The folders may be a stranger's: bash offers no run whose name it would have to quote, and quotes what a function with
`_file` in its name offers.
"""

_COMPLETED_BY = {
    "STUDY": "_flipscale_study_files",
    "ID": "_flipscale_runs",
    "RUN": "_flipscale_runs",
}
"""What completes an argument, by how the help names it. Other arguments that name files are completed as such."""

_FILES = ("FILE", "DIR", "PATH", "TABLE", "STUDY|TABLE", "NAME=VALUE|TABLE")


class Completion(argparse.Action):
    """Prints the script, and ends.

    bash: flipscale --completion bash > ~/.local/share/bash-completion/completions/flipscale
    zsh: flipscale --completion zsh > DIR/_flipscale, with DIR among $fpath
    """

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, __: object = None) -> None:
        import shtab

        for argument in _arguments_of(parser):
            if completed_by := _COMPLETED_BY.get(str(argument.metavar)):
                argument.complete = dict.fromkeys(SHELLS, completed_by)  # type: ignore[attr-defined]
            elif argument.metavar in _FILES or argument.type is Path:
                argument.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell, preamble=_FUNCTIONS[shell]))
        parser.exit()


def _arguments_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _arguments_of(command)
        else:
            yield action
