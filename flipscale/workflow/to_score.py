"""Which weights lack scores that their study asks for, or have scores of other data than its sets hold now: those of
finished runs, and checkpoints that a study scores as they are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from flipscale.cost.arithmetic import scored_steps
from flipscale.errors import RunFolderError
from flipscale.planning.identity import measures, scored, scored_sets, stage, trains
from flipscale.planning.runs import Plan, Run
from flipscale.planning.timing import Timings, evaluation_shape
from flipscale.run import RunFolder, lacks_weights, read_timings, set_of, unmeasured
from flipscale.words import count, duration
from flipscale.workflow.messages import say
from flipscale.workflow.opened import OpenStudy


@dataclass(frozen=True)
class ToScore:
    """The weights of a plan that lack scores."""

    trained: int
    """Finished runs."""
    progress: str = ""
    """'8 of 8 trained', or that the plan trains nothing."""
    runs: Mapping[str, float | None] = field(default_factory=dict)
    """Runs whose weights are here, by id, each with the seconds that it takes, where something tells."""
    gone: tuple[Run, ...] = ()
    """Finished runs whose weights are not here."""
    sets: tuple[str, ...] = ()
    """The names of the sets."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """The sets whose data changed after runs were scored on them, with the number of these runs."""

    @property
    def words(self) -> str:
        """'8 of 8 trained; 8 to score on "two" (about 2 min)'."""
        known = [seconds for seconds in self.runs.values() if seconds is not None]
        about = f" (about {duration(sum(known) * len(self.runs) / len(known))})" if known else ""
        return f"{self.progress}; {len(self.runs)} to score on {_listed(self.sets)}{about}"


def to_score(opened: OpenStudy, plan: Plan | None = None) -> ToScore:
    """A look at all finished runs of the plan, the study's own if left out. Each set's data is digested once."""
    timings = read_timings(opened.workspace.timings).at(opened.site)
    now: dict[str, dict[str, str]] = {}
    finished = 0
    trained = 0
    gone = []
    sets: dict[str, None] = {}
    changed: Counter[str] = Counter()
    paces: list[float] = []
    images: dict[str, float] = {}
    predicted: dict[str, float] = {}
    plan = plan or opened.plan
    for run in plan.runs:
        folder = RunFolder(opened.workspace.run(run.id))
        settings = run.settings
        try:
            if not folder.is_trained:
                if not trains(settings):
                    sets |= dict.fromkeys(scored_sets(settings))
                    images[run.id] = _images(run, set(measures(settings)))
                    predicted[run.id] = 3600 * run.cost.gpu_hours / run.resources.devices
                continue
            finished += 1
            trained += trains(settings)
            declared = repr((settings.data, settings.evaluation, settings.fine_tuning))
            if declared not in now:
                from flipscale.data.digest import digests  # It loads ssl for shards behind a URL.

                now[declared] = digests(settings)
            missing = unmeasured(folder, settings, now[declared])
            if settings.fine_tuning is not None and _is_of_other_data(folder, now[declared]):
                changed[""] += 1
            if missing:
                paces += _pace(folder, run, timings)
        except RunFolderError:
            continue  # `collect` names it.
        if not missing:
            continue
        names = dict.fromkeys(set_of(measure, settings) for measure in missing)
        sets |= names
        changed.update({set_of(measure, settings) for measure, is_other in missing.items() if is_other})
        if lacks_weights(folder):
            gone.append(run)
        else:
            images[run.id] = _images(run, set(missing))
    seconds = {run_id: median(paces) * number if paces else predicted.get(run_id) for run_id, number in images.items()}
    to_train = sum(trains(run.settings) for run in plan.runs)
    progress = f"{trained} of {to_train} trained" if to_train else "nothing to train"
    return ToScore(finished, progress, seconds, tuple(gone), tuple(sets), dict(changed))


def _is_of_other_data(folder: RunFolder, now: Mapping[str, str]) -> bool:
    """Whether the labelled images of a fine-tuning are others than those that it was scored on."""
    result = folder.result()
    then = result.digests.get("") if result else None
    return then is not None and now.get("", then) != then


def _pace(folder: RunFolder, run: Run, timings: Timings) -> list[float]:
    """Seconds of evaluation an image, by a probe or as it was measured; none where neither says."""
    if timed := timings.evaluation(evaluation_shape(scored(run.settings))):
        return [timed.seconds / timed.images] if timed.images else []
    result = folder.result()
    asked = folder.asked()
    if result is None or asked is None:
        return []
    settings = asked.settled
    seconds = result.evaluation_seconds
    images = _images(run, set(measures(settings))) * len(scored_steps(stage(settings)))
    return [seconds / images] if seconds and images else []


def _images(run: Run, wanted: set[str]) -> float:
    """At most how many images are encoded for these measures."""
    return float(sum(what.get("images", 0) for name, what in measures(run.settings).items() if name in wanted))


def say_to_score(opened: OpenStudy, scoring: ToScore) -> None:
    """Say which sets changed, and which scores cannot be had as weights are gone."""
    _say_changed(opened, scoring)
    if scoring.gone:
        hours = sum(run.cost.gpu_hours for run in scoring.gone)
        runs = count(len(scoring.gone), "finished run")
        say(
            f"{runs} cannot be scored on {_listed(scoring.sets)}, as the weights are not here: put each model.pt into "
            f"its run folder, or train again with --redo ID... (about {hours:.2g} {opened.plan.hours_unit})."
        )


def say_other_data(opened: OpenStudy) -> None:
    """Name each set whose data changed after finished runs were scored on it."""
    _say_changed(opened, to_score(opened, opened.finished_plan))  # Planned already, unlike `opened.plan`.


def _say_changed(opened: OpenStudy, scoring: ToScore) -> None:
    for name, number in sorted(scoring.changed.items()):
        what = f"'{name}'" if name else "the study's own data"
        again = "scores them anew" if name in scoring.sets else "--redo ID... retrains the runs"
        runs = f"{number} of {count(scoring.trained, 'finished run')}"
        say(
            f"warning: scores on {what} were measured on other data: {runs}."
            f" Put those data back, or flipscale submit {opened.arguments} {again}."
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(_named, names))


def _named(name: str) -> str:
    return f'"{name}"' if name else "the study's own data"
