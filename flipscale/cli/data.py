"""Data sets that flipscale builds: data."""

import argparse
import os
from pathlib import Path

from flipscale.errors import FlipscaleError
from flipscale.workflow.talk import say


def data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        metavar="KIND",
        choices=["icons", "mosaic", "digits"],
        help="which: icons, mosaic or digits",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the files go")
    parser.add_argument(
        "--from", dest="source", metavar="PATH", type=Path, help="the npm package of the icons, a folder or a .tgz"
    )
    parser.add_argument("--size", type=int, help="side of a picture in pixels (icons 32, mosaic 56)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that draw icons (one a core)"
    )


def data(args: argparse.Namespace) -> int:
    """Build a data set to train on (icons or mosaic) or to transfer to (digits).

    icons are some 300,000 pictures from the npm package @iconify/json; mosaic is 30,000 pictures of small glyphs
    that differ in products of four pixels; digits are scikit-learn's 1,797 handwritten ones.
    """
    if args.source is not None and args.kind != "icons":
        raise FlipscaleError(f"--from is for icons; leave it out for {args.kind}.")
    if args.size is not None and args.kind == "digits":
        raise FlipscaleError("--size: digits are always 8 pixels wide; leave it out.")
    if args.kind == "icons":
        from flipscale.icons import build_icons

        build_icons(args.folder, args.source, args.size or 32, args.workers, say)
        return 0
    if args.kind == "digits":
        from flipscale.digits import build_digits

        built = build_digits(args.folder)
        say(f"wrote {built.train:,} training and {built.test:,} test images to {built.folder}")
        return 0
    from flipscale.mosaic import build_mosaics

    built = build_mosaics(args.folder, args.size or 56)
    say(f"wrote {built.train:,} training pairs and {built.test:,} test images to {built.folder}")
    return 0
