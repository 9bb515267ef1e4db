"""The list of verbs, in the order of a study's life."""

import argparse
from collections.abc import Callable

from flipscale import __version__
from flipscale.cli import comparison, data, jobs, laws, storage, studies, tables, times, training, whole, why

Verb = Callable[[argparse.Namespace], int]
"""What a verb does: its name is the command, its docstring the help, its answer the exit code."""

VERBS: tuple[tuple[Verb, Callable[[argparse.ArgumentParser], None]], ...] = (
    (studies.init, studies.init_arguments),
    (studies.plan, studies.plan_arguments),
    (times.probe, times.probe_arguments),
    (jobs.submit, jobs.submit_arguments),
    (jobs.status, jobs.status_arguments),
    (jobs.watch, jobs.watch_arguments),
    (times.ledger, times.ledger_arguments),
    (jobs.logs, jobs.logs_arguments),
    (jobs.cancel, jobs.cancel_arguments),
    (tables.collect, tables.collect_arguments),
    (tables.plot, tables.plot_arguments),
    (comparison.compare, comparison.compare_arguments),
    (comparison.diff, comparison.diff_arguments),
    (laws.fit, laws.fit_arguments),
    (laws.forecast, laws.forecast_arguments),
    (tables.report, tables.report_arguments),
    (tables.export, tables.export_arguments),
    (whole.run, whole.run_arguments),
    (why.why, why.why_arguments),
    (storage.archive, storage.archive_arguments),
    (storage.merge, storage.merge_arguments),
    (storage.gc, storage.gc_arguments),
    (storage.du, storage.du_arguments),
    (training.train, training.train_arguments),
    (data.data, data.data_arguments),
)
"""Each verb, and what adds its arguments."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="flipscale",
        description="Scaling studies of language-image pre-training: one YAML file in, scaling curves and an honest "
        "comparison with the no-mask baseline out.",
        epilog="A first study: flipscale init study.yaml; flipscale run study.yaml",
    )
    top.add_argument("--version", action="version", version=f"flipscale {__version__}")
    top.set_defaults(command=lambda _: _print_help(top))
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for verb, add_arguments in VERBS:
        about = (verb.__doc__ or "").strip()
        command = commands.add_parser(verb.__name__, help=about.splitlines()[0], description=about)
        command.set_defaults(command=verb)
        add_arguments(command)
    return top


def _print_help(top: argparse.ArgumentParser) -> int:
    """What the bare command does, as gh and cargo do it: the help, and exit code 0."""
    top.print_help()
    return 0
