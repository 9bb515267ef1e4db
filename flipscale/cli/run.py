"""All of a study in one command: run."""

import argparse

from flipscale.cli.arguments import add_changes, add_plots, add_results, add_study, change_study, price_of, workspace_of
from flipscale.cli.jobs import add_force, add_launcher, launcher_of
from flipscale.cli.output import terminal_width
from flipscale.cli.tables import add_tracking


def run_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_changes(parser)
    add_results(parser)
    add_launcher(parser)
    add_force(parser)
    add_plots(parser)
    add_tracking(parser)


def run(args: argparse.Namespace) -> int:
    """Do everything in order: plan, submit, wait, collect, fit, plot, compare, report."""
    from flipscale.analysis.comparing import comparison_text
    from flipscale.workflow.collected import Tracking
    from flipscale.workflow.run import run_study
    from flipscale.workflow.submitted import Guards

    change_study(args)
    done = run_study(
        args.study,
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
    print(f"laws         {done.fits or f'none can be fitted; flipscale fit {done.opened.arguments} says why'}")
    print(f"report       {files.report}")
    print(f"MLflow       {done.mlflow.look if done.mlflow else 'not written'}")
    return 1 if done.unfinished else 0
