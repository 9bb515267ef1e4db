"""The verb that jobs call: train."""

import argparse
from pathlib import Path

from flipscale.cli.arguments import add_results, workspace_of
from flipscale.cli.names import run_folder


def train_arguments(parser: argparse.ArgumentParser) -> None:
    add_results(parser)
    parser.add_argument("folders", metavar="RUN", nargs="+", help="run folders, or ids of runs")
    parser.add_argument("--profile", action="store_true", help="show where their time goes instead of training them")


def train(args: argparse.Namespace) -> int:
    """Train the runs of these folders, one after the other; jobs call this."""
    folders = [_folder(args, name) for name in args.folders]
    if args.profile:
        from flipscale.train.profile import profile

        for folder in folders:
            print(profile(folder))
        return 0
    from flipscale.train import train as train_folders

    return train_folders(folders)


def _folder(args: argparse.Namespace, name: str) -> Path:
    """A run's folder by its path, or else by the run's id."""
    path = Path(name)
    return path if path.is_dir() or path.parent != Path() else run_folder(workspace_of(args), name).path
