"""All of a study in one command: run."""

import argparse
from pathlib import Path

from flipscale.cli.arguments import add_plots, add_results, add_study, price_of, workspace_of
from flipscale.cli.jobs import add_force, add_launcher, launcher_of
from flipscale.cli.output import terminal_width
from flipscale.cli.tables import add_tracking
from flipscale.errors import FlipscaleError


def run_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    what = "lr=1e-3, seeds=5, evaluation.images=1k: run a copy of the study with these changes, named by --name"
    parser.add_argument("changes", metavar="KEY=VALUE", nargs="*", help=what)
    parser.add_argument("--name", help="name of the changed study, written beside STUDY as NAME.yaml")
    add_results(parser)
    add_launcher(parser)
    add_force(parser)
    add_plots(parser)
    add_tracking(parser)


def run(args: argparse.Namespace) -> int:
    """Do everything in order: plan, submit, wait, collect, fit, plot, compare, report."""
    from flipscale.comparing import comparison_text
    from flipscale.study import write_changed
    from flipscale.workflow.collected import Tracking
    from flipscale.workflow.messages import say
    from flipscale.workflow.run import run_study
    from flipscale.workflow.submitted import Guards

    study = Path(args.study)
    if bool(args.changes) != bool(args.name):
        raise FlipscaleError("A changed study has a name of its own: flipscale run STUDY KEY=VALUE ... --name NAME.")
    if args.changes:
        study = write_changed(study, args.changes, args.name)
        say(f"wrote {study}")
    done = run_study(
        study,
        workspace_of(args),
        launcher=launcher_of(args),
        guards=Guards(inputs=not args.no_check, memory=not args.force),
        tracking=None if args.no_mlflow else Tracking(),
        price=price_of(args),
    )
    files = done.files
    if done.comparison:
        print(comparison_text(done.comparison, width=terminal_width()))
    runs = len(done.opened.plan.cells)
    print(f"\ntable        {files.results}   ({done.rows} of {runs} runs)")
    print(f"figures      {f'{files.figures}/' if done.figures is not None else 'none can be drawn from these runs'}")
    print(f"comparison   {files.comparison('.md') if done.comparison else 'these runs cannot be compared'}")
    print(f"laws         {done.fits or 'none can be fitted to these runs'}")
    print(f"report       {files.report}")
    print(f"MLflow       {done.mlflow.look if done.mlflow else 'not written'}")
    return 1 if done.unfinished else 0
