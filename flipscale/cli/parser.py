"""The list of verbs, in groups, in the order of a study's life."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence

from flipscale import __version__
from flipscale.cli import (
    compare,
    completion,
    fit,
    jobs,
    next_runs,
    probe,
    run,
    storage,
    studies,
    tables,
    train,
)
from flipscale.errors import did_you_mean, nearest

Verb = Callable[[argparse.Namespace], int]
"""The function of a verb: its name is the command, its docstring the help, its result the exit code."""

VerbWithArguments = tuple[Verb, Callable[[argparse.ArgumentParser], None]]
"""A verb, and what adds its arguments."""

VERBS: Mapping[str, Sequence[VerbWithArguments]] = {
    "before a study runs": (
        (studies.init, studies.init_arguments),
        (studies.plan, studies.plan_arguments),
        (probe.probe, probe.probe_arguments),
    ),
    "its runs": (
        (run.run, run.run_arguments),
        (jobs.submit, jobs.submit_arguments),
        (jobs.status, jobs.status_arguments),
        (jobs.watch, jobs.watch_arguments),
        (jobs.logs, jobs.logs_arguments),
        (jobs.cancel, jobs.cancel_arguments),
    ),
    "its results": (
        (tables.collect, tables.collect_arguments),
        (tables.plot, tables.plot_arguments),
        (compare.compare, compare.compare_arguments),
        (fit.fit, fit.fit_arguments),
        (next_runs.next, next_runs.next_arguments),
        (tables.report, tables.report_arguments),
        (tables.export, tables.export_arguments),
    ),
    "files of finished runs": (
        (storage.archive, storage.archive_arguments),
        (storage.merge, storage.merge_arguments),
        (storage.gc, storage.gc_arguments),
    ),
    "the rest": ((train.train, train.train_arguments),),
}
"""The verbs of each group of the help."""

GONE = {
    "diff": "flipscale compare OLD.csv NEW.csv --baseline study=OLD compares results; diff OLD NEW compares the files",
    "data": "run python studies/data/icons.py, mosaic.py or digits.py of a clone",
    "du": "flipscale gc says what takes space",
    "doctor": "flipscale plan --check looks at this machine, and plan STUDY --check at what a study needs as well",
    "why": "flipscale status --why ID explains a run's id, and --why ID ID how two runs differ",
    "ledger": "flipscale status --spent sums predicted and spent hours",
    "forecast": "flipscale fit SOURCE --forecast NAME=VALUE predicts a larger run",
    "completion": "flipscale --completion SHELL prints the script",
}
"""Verbs of earlier versions, and what to do in their place."""

COMMAND = "COMMAND ARGUMENTS"
"""What stands for a verb in the usage. argparse makes the column of names as wide as this."""


class GroupedParser(argparse.ArgumentParser):
    """Lists the verbs in groups, and suggests the nearest verb for an unknown one."""

    def format_help(self) -> str:
        text = super().format_help()
        text = text.replace(f"  {COMMAND}\n", "")
        for group, verbs in VERBS.items():
            first = verbs[0][0].__name__
            text = re.sub(rf"^    {first} ", f"\n  {group}:\n    {first} ", text, flags=re.MULTILINE)
        return text.replace("commands:\n\n", "commands:\n")

    def check_verb(self, words: Sequence[str]) -> None:
        """End with exit code 2 where the first word is not a verb."""
        names = [verb.__name__ for verbs in VERBS.values() for verb, _ in verbs]
        if words and words[0] in GONE:
            self.error(f"'{words[0]}' is no command any more: {GONE[words[0]]}")
        if words and not words[0].startswith("-") and words[0] not in names:
            near = nearest(words[0], names)
            meant = f"did you mean '{near}'? " if near else ""
            self.error(f"unknown command '{words[0]}'; {meant}flipscale --help lists all commands")


class VerbParser(argparse.ArgumentParser):
    """Suggests the nearest option for an unknown one."""

    def refuse(self, words: Sequence[str]) -> None:
        """End with exit code 2, because no argument takes these words."""
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        for word in words:
            if word.startswith("--"):
                self.error(f"unknown option '{word}'; {did_you_mean(word.partition('=')[0], known)}")
        self.error(f"unrecognized arguments: {' '.join(words)}")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command. SystemExit, with exit code 2, if the words are not a command."""
    top = parser()
    top.check_verb(words)
    args, unknown = top.parse_known_args(words)
    if unknown and "parser" not in args:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    elif unknown:
        args.parser.refuse(unknown)
    return args


def parser() -> GroupedParser:
    top = GroupedParser(
        prog="flipscale",
        description="Scaling studies of language-image pre-training, or of a program of your own: one YAML file in, "
        "scaling curves and an honest comparison with a baseline out. compare and fit read any table.",
        epilog="A first study: flipscale init study.yaml; flipscale run study.yaml",
    )
    top.add_argument("--version", action="version", version=f"flipscale {__version__}")
    what = "print a script for bash or zsh that completes commands, options, study files and run ids"
    top.add_argument("--completion", action=completion.Completion, choices=completion.SHELLS, help=what)
    top.set_defaults(command=lambda _: _print_help(top), top=top)
    commands = top.add_subparsers(title="commands", metavar=COMMAND, parser_class=VerbParser)
    for verb, add_arguments in (pair for verbs in VERBS.values() for pair in verbs):
        about = (verb.__doc__ or "").strip()
        command = commands.add_parser(verb.__name__, help=about.splitlines()[0], description=about)
        command.set_defaults(command=verb, parser=command)
        add_arguments(command)
    return top


def _print_help(top: argparse.ArgumentParser) -> int:
    """The bare command prints the help, with exit code 0, as gh and cargo do."""
    top.print_help()
    return 0
