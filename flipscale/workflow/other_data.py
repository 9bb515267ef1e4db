"""Finished runs that were scored on other data than their sets hold now."""

import contextlib
from collections import Counter

from flipscale.errors import RunFolderError
from flipscale.inputs.digest import digests
from flipscale.run import RunFolder
from flipscale.words import count
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.talk import say


def say_other_data(opened: OpenStudy) -> None:
    """Name each set that changed after finished runs were scored on it, where both digests are known."""
    now: dict[str, dict[str, str]] = {}
    scored: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for run in opened.plan.runs:
        with contextlib.suppress(RunFolderError):  # `collect` names it.
            settings, result = run.settings, RunFolder(opened.workspace.run(run.id)).result()
            then = result.digests if result else {}
            declared = repr((settings.data, settings.evaluation, settings.fine_tuning))
            if then and declared not in now:
                now[declared] = digests(settings)
            scored.update(then.keys())
            changed.update(name for name in then if now[declared].get(name, then[name]) != then[name])
    for name, number in sorted(changed.items()):
        what = f"'{name}'" if name else "the study's own data"
        say(
            f"warning: scores on {what} were measured on other data: {number} of {count(scored[name], 'finished run')}."
            f" Put those data back, or flipscale submit {opened.arguments} --redo ID... retrains the runs."
        )
