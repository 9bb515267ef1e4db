"""What a study should run next."""

import argparse
from pathlib import Path

from flipscale.cli.arguments import add_results, add_study, open_study_of
from flipscale.cli.output import refuse_existing, terminal_width
from flipscale.errors import FlipscaleError
from flipscale.workflow.messages import say


def next_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_results(parser)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--budget", metavar="HOURS", help="core-hours or GPU-hours that the runs may take")
    asked.add_argument("--rung", metavar="FLOPS", help="the model and samples on which these FLOPs are best spent")
    what = "what they should tell: a claim's name, 'speedup of ARM', 'forecast SETTING=VALUE,...', 'PARAMETER of ...'"
    parser.add_argument("--for", dest="of", metavar="WHAT", help=f"{what} (the undecided claims)")
    parser.add_argument("--add", action="append", default=[], metavar="AXIS=VALUE,...", help="more values of an axis")
    effect = "a difference that matters, in points or percent of a loss: the seeds that find it (the study's margin)"
    parser.add_argument("--effect", type=float, metavar="SIZE", help=effect)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a study with these runs and those it has")


def next(args: argparse.Namespace) -> int:
    """Say which runs would tell most about a study's open questions for their cost."""
    from flipscale.kinds import is_number
    from flipscale.next_runs import proposal_parts, rung_parts, study_with, with_grids
    from flipscale.study.expression import plain_value
    from flipscale.tables import as_text
    from flipscale.workflow.proposed import next_rung, next_runs

    text, units, such = (
        (args.rung, ("", "FLOPs"), "FLOPs, such as 1e13")
        if args.budget is None
        else (args.budget, ("", "hours", "core-hours", "GPU-hours"), "hours, such as 10")
    )
    number, _, unit = text.strip().partition(" ")
    limit = plain_value(number)
    if not is_number(limit) or limit <= 0 or unit not in units:
        raise FlipscaleError(f"{text!r}: write a number of {such}.")
    if args.rung is not None and args.of:
        raise FlipscaleError("--for says what runs within a --budget should tell; leave it out beside --rung.")
    if args.effect is not None and args.effect <= 0:
        raise FlipscaleError(f"--effect {args.effect:g}: write a difference above 0, such as 1.")
    more = {}
    for added in args.add:
        name, equals, values = added.partition("=")
        if not equals:
            raise FlipscaleError(f"--add {added}: write AXIS=VALUE,VALUE.")
        more[name] = [plain_value(value) for value in values.split(",")]
    if args.write:
        refuse_existing(args.write, "--write NAME.yaml")
    opened = open_study_of(args)
    if args.rung:
        rung = next_rung(opened, float(limit), more)
        print(as_text(rung_parts(rung), terminal_width()))
        written = "" if rung.refusal else with_grids(opened.study, [rung.grid()], f"its next rung, {limit:g} FLOPs")
    else:
        proposal = next_runs(opened, float(limit), args.of, more, args.effect)
        print(as_text(proposal_parts(proposal), terminal_width()))
        written = study_with(proposal) if proposal.steps else ""
    if args.write and written:
        args.write.parent.mkdir(parents=True, exist_ok=True)
        args.write.write_text(written, encoding="utf-8")
        say(f"wrote {args.write}")
    return 0 if written else 1
