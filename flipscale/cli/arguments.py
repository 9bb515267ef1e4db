"""Arguments that several verbs share, and their values."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.errors import FlipscaleError
from flipscale.settings.devices import INTERCONNECT
from flipscale.workspace import USUAL_PLOTS, Workspace, usual_results

if TYPE_CHECKING:
    from flipscale.settings.devices import Price
    from flipscale.workflow.opened import OpenStudy


def add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help="the study's YAML file")


def add_changes(parser: argparse.ArgumentParser) -> None:
    what = "lr=1e-3, seeds=5, evaluation.images=1k: take a copy of the study with these changes, named by --name"
    parser.add_argument("changes", metavar="KEY=VALUE", nargs="*", help=what)
    parser.add_argument("--name", help="name of the changed study, written beside STUDY as NAME.yaml")


def change_study(args: argparse.Namespace, folder: Path | None = None) -> None:
    """Write the changed study that a command was given, by default beside the other; the command goes on with it."""
    from flipscale.study import write_changed
    from flipscale.workflow.messages import say

    if bool(args.changes) != bool(args.name):
        raise FlipscaleError(
            f"A changed study has a name of its own: {args.parser.prog} STUDY KEY=VALUE ... --name NAME."
        )
    if args.changes:
        args.study = write_changed(Path(args.study), args.changes, args.name, folder)
        if not folder:
            say(f"wrote {args.study}")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print data for a program")


def add_results(parser: argparse.ArgumentParser) -> None:
    what = "where runs and tables are (FLIPSCALE_RESULTS, or else results/)"
    parser.add_argument("--results", type=Path, default=usual_results(), help=what)


def add_plots(parser: argparse.ArgumentParser, *, written: bool = True) -> None:
    what = f"where figures {'go' if written else 'are'} (plots/)"
    parser.add_argument("--plots", type=Path, default=USUAL_PLOTS, help=what)


def add_where(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    what = "only these rows, in the words of pandas' query: \"set == 'c4' and N > 4e8\""
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION", help=what)


def add_direction(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Whether higher or lower is better for y; None decides by its name."""
    better = parser.add_mutually_exclusive_group()
    for option, lower, y in (
        ("--higher-is-better", False, "an accuracy"),
        ("--lower-is-better", True, "a loss or an error"),
    ):
        what = f"y is {y}, whatever its name"
        better.add_argument(option, action="store_const", dest="lower_is_better", const=lower, help=what)


def workspace_of(args: argparse.Namespace) -> Workspace:
    """The folders that a command was given; a verb without --plots draws nothing."""
    return Workspace(args.results, vars(args).get("plots", USUAL_PLOTS))


def add_site(parser: argparse.ArgumentParser) -> None:
    what = (
        "site file: describes the cluster and its prices (default: FLIPSCALE_SITE, if set); local runs use only "
        "its price, and only if --site is given"
    )
    parser.add_argument("--site", metavar="FILE", help=what)


def site_file_of(args: argparse.Namespace) -> str | None:
    """The site file that a command uses: the given one, or else FLIPSCALE_SITE's, except for local runs."""
    given = vars(args)
    is_local = given.get("on") == "local"
    return given.get("site") or (None if is_local else os.environ.get("FLIPSCALE_SITE"))


def open_study_of(args: argparse.Namespace, site: str | None = None) -> "OpenStudy":
    """The study that a command was given. FlipscaleError if its folder holds another study's results.

    site: where its runs go.
    """
    from flipscale.workflow.opened import open_study

    return open_study(args.study, workspace_of(args), site, price=price_of(args), interconnect=_interconnect_of(args))


def price_of(args: argparse.Namespace) -> "Price | None":
    """The price of time at the site of a command that takes one, if its file states it."""
    file = site_file_of(args) if "site" in vars(args) else None
    if file is None:
        return None
    from flipscale.launch import price_at, read_site

    return price_at(read_site(file))


def _interconnect_of(args: argparse.Namespace) -> float:
    """The network between nodes at that site, or what is taken for it."""
    file = site_file_of(args) if "site" in vars(args) else None
    if file is None:
        return INTERCONNECT
    from flipscale.launch import read_site

    return float(read_site(file)["interconnect"])


def column_names(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def add_figure(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw a figure: .png, .svg or .pdf")


def add_columns(parser: argparse.ArgumentParser | argparse._ArgumentGroup, flag: str, what: str) -> None:
    parser.add_argument(flag, type=column_names, action="extend", default=[], metavar="COLUMN,...", help=what)


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
