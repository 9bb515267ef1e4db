"""Data sets that flipscale builds: data."""

import argparse
import os
from pathlib import Path

from flipscale.workflow.talk import say


def data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", choices=["icons"], help="which: icons")
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the shards go")
    parser.add_argument("--from", dest="source", metavar="PATH", type=Path, help="the npm package, a folder or a .tgz")
    parser.add_argument("--size", type=int, default=32, help="side of a picture in pixels (32)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw (one a core)")


def data(args: argparse.Namespace) -> int:
    """Build a data set: icons, some 350,000 captioned pictures from the npm package @iconify/json, as tar shards."""
    from flipscale.icons import build_icons

    build_icons(args.folder, args.source, args.size, args.workers, say)
    return 0
