"""What a job calls: train."""

import argparse
from pathlib import Path

from flipscale.cli.arguments import add_results


def train_arguments(parser: argparse.ArgumentParser) -> None:
    add_results(parser)
    parser.add_argument("folders", metavar="RUN", nargs="+", help="run folders")
    parser.add_argument("--profile", action="store_true", help="say where their time goes instead; trains nothing")


def train(args: argparse.Namespace) -> int:
    """Train the runs of these folders, one after the other: what a job calls."""
    if args.profile:
        from flipscale.train.profile import profile

        for folder in args.folders:
            print(profile(Path(folder)))
        return 0
    from flipscale.train import train as train_folders

    return train_folders([Path(folder) for folder in args.folders])
