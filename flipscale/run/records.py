"""The records of a run folder, as types."""

import base64
import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from flipscale.cell import Cell, read_cell
from flipscale.cost.arithmetic import Cost
from flipscale.errors import RunFolderError, printable
from flipscale.guard import Names
from flipscale.kinds import By, Integer, JsonObject, OrElse
from flipscale.planning.identity import RECIPE
from flipscale.planning.runs import Run, Trunk
from flipscale.settings.declarations import KeepWeights, Resources, ResourcesRead, Settings, plain
from flipscale.study.settings import read_settings

MetricsRecord = Mapping[str, Any]
"""A line of metrics.jsonl: `step`, and whatever a trainer has measured there, by name."""

Words = Annotated[str, By(str)]
"""A text; anything else is written as one."""


@dataclass(frozen=True)
class RunRequest:
    """The request for a run: run.json."""

    id: Annotated[str, By(lambda value: printable(str(value)))]
    settings: JsonObject = field(hash=False)
    """As run.json has them; `settled` has their types."""
    parents: tuple[str, ...] = ()
    """Ids of the runs whose weights it starts from."""
    resources: ResourcesRead = field(default_factory=Resources)
    cost: Annotated[Cost | None, OrElse(None)] = None
    """As predicted; None where it is not all there."""
    cell: Annotated[Cell | None, By(lambda text: read_cell(text) if isinstance(text, str) else None)] = None
    recipe: int | None = None
    """Version of what training does with the same settings."""
    seconds: float | None = None
    """How long it takes on the clock with start and evaluations, predicted from a probe; None without one."""
    keep_weights: Annotated[KeepWeights, OrElse(KeepWeights.ALWAYS)] = KeepWeights.ALWAYS
    trunk: Trunk | None = None

    @classmethod
    def of(cls, run: Run) -> "RunRequest":
        return cls(
            id=run.id,
            settings=plain(run.settings),
            parents=tuple(run.parents),
            resources=run.resources,
            cost=run.cost if run.is_priced else None,
            cell=run.cell,
            recipe=RECIPE,
            seconds=None if run.timed is None else run.timed.seconds + run.timed.program_seconds,
            keep_weights=run.keep_weights,
            trunk=run.trunk,
        )

    @property
    def after(self) -> tuple[str, ...]:
        """The runs that come before it: its parents, and the run of its trunk."""
        return (*self.parents, self.trunk.run) if self.trunk else self.parents

    @property
    def runs_a_command(self) -> bool:
        """Whether a program of the user's own trains it."""
        return "command" in (self.settings.get("trainer") or {})

    @property
    def starts_its_processes(self) -> bool:
        """Whether its trainer is a program that one process starts, and that starts one for each device itself."""
        return "open_clip" in (self.settings.get("trainer") or {}) and not self.settings.get("fine_tuning")

    @functools.cached_property
    def settled(self) -> Settings:
        """The settings; those that run.json lacks are at their defaults. RunFolderError where they are
        not settings of a run."""
        try:
            return read_settings(self.settings)
        except ValueError as error:
            raise RunFolderError(
                f"{self.id}: its run.json holds something that is not a setting here ({error}). It was changed "
                "by hand, or a newer flipscale wrote it; submit it again, or upgrade."
            ) from error


@dataclass(frozen=True)
class PlanFile:
    """A plan, as plan.json has it for those who read it again."""

    study: str
    runs: tuple[RunRequest, ...]
    baseline: JsonObject = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Spent:
    """The cost of a run's parents before it began. A value that one of them did not measure is None."""

    id: Words
    """The id of the parent itself."""
    samples_seen: Integer | None = None
    train_seconds: float | None = None
    cpu_seconds: float | None = None
    gpu_hours: float | None = None
    unique_pairs: Integer | None = None
    """Different pairs that they saw and the run itself did not."""


@dataclass(frozen=True)
class Result:
    """The measurements of a finished run: result.json. Absent ones are None. The columns of results.csv describe each
    number."""

    scores: Mapping[str, float | None] = field(default_factory=dict, hash=False)
    samples_seen: Integer | None = None
    steps: Integer | None = None
    unique_pairs: Integer | None = None
    repeats: float | None = None
    train_seconds: float | None = None
    cpu_seconds: float | None = None
    evaluation_seconds: float | None = None
    images_per_second: float | None = None
    attempts: Integer | None = None
    device: str | None = None
    devices: Integer | None = None
    gpu_hours: float | None = None
    peak_memory_bytes: Integer | None = None
    final_loss: float | None = None
    params: Integer | None = None
    corrupt_samples: Integer | None = None
    corrupt_evaluation_images: Integer | None = None
    started: float | None = None
    finished: float | None = None
    versions: Mapping[str, Words | None] = field(default_factory=dict, hash=False)
    """Versions of the programs that trained it."""
    chance: Mapping[str, float | None] = field(default_factory=dict, hash=False)
    """Chance level on the same items, by score; empty if unknown."""
    missing_scores: Mapping[str, Words] = field(default_factory=dict, hash=False)
    """Why a score is missing that a user's program should have given, by its column."""
    digests: Mapping[str, Words] = field(default_factory=dict, hash=False)
    """The content that it was scored on, by the name of the set; empty if unknown."""
    parent: Spent | None = None
    trunk: Spent | None = None
    """The part of these costs that the run of its trunk had."""
    more: JsonObject = field(default_factory=dict, hash=False)
    """Further values that a user's own training command wrote."""

    @property
    def own_gpu_hours(self) -> float | None:
        """Device-hours without those of its trunk."""
        taken_over = self.trunk.gpu_hours if self.trunk else 0.0
        return None if self.gpu_hours is None or taken_over is None else self.gpu_hours - taken_over


@dataclass(frozen=True)
class Hits:
    """Which items of a test set a finished run got right by one score: an entry of hits.json.

    An item is what the score asks about: an image of zero-shot classification, the linear probe and text retrieval, a
    text of image retrieval.
    """

    items: str
    """The test set in words: two runs with the same words and count were scored on the same items, in one order."""
    count: int
    bits: Annotated[bytes, By(functools.partial(base64.b64decode, validate=True))]
    """One bit an item, 1 for a hit, in the order of numpy.packbits: the first item is the highest bit of a byte."""

    def __post_init__(self) -> None:
        if len(self.bits) != (right := -(-self.count // 8)):
            raise ValueError(f"has {len(self.bits)} bytes for {self.count} items, where {right} are right")


@dataclass(frozen=True)
class Measured:
    """The scores of one measure."""

    measure: str
    what: JsonObject | None = field(hash=False)
    """What was measured, see `identity.measures`; None for scores that a trainer gave itself."""
    digest: str | None = None
    """That of the data; None where it is not known."""
    scores: Mapping[str, float | None] = field(default_factory=dict, hash=False)
    """By column."""
    chance: Mapping[str, float] = field(default_factory=dict, hash=False)
    hits: Mapping[str, Hits] = field(default_factory=dict, hash=False)
    missing_scores: Mapping[str, str] = field(default_factory=dict, hash=False)
    seconds: float = 0.0
    finished: float = 0.0
    """Unix time."""


class FailureKind(enum.StrEnum):
    """Why a run failed, as in error.json. The answer to it depends on the kind alone."""

    OOM = "oom"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    NODE = "node"
    GPU = "gpu"
    STALLED = "stalled"
    DISK = "disk"
    DATA = "data"
    DIVERGED = "diverged"
    PARENT = "parent"
    CODE = "code"

    @property
    def may_be_the_nodes(self) -> bool:
        """Whether the run goes on elsewhere, as its node or GPU may be at fault."""
        return self in (FailureKind.NODE, FailureKind.GPU)


@dataclass(frozen=True)
class Failure:
    """Why a run failed: error.json."""

    kind: Annotated[FailureKind, OrElse(FailureKind.CODE)] = FailureKind.CODE
    reason: Words = ""
    """A sentence."""
    time: float | None = None
    """Unix time."""
    job: str | None = None
    """The job of the process that wrote it, as FLIPSCALE_JOB named it."""
    seconds: float | None = None
    """From the taking of the run to the failure."""
    noted: bool = False
    """Whether an attendant has decided the answer to it."""
    node: str | None = None
    """The node of the process that failed, where the fault may be the node's."""


@dataclass(frozen=True)
class FailedAttempt:
    """The failure of an attempt and the answer to it: a line of failures.jsonl."""

    kind: FailureKind
    reason: Words = ""
    then: Words = ""
    """The answer to it, for a person."""
    given_up: bool = False
    """Whether that was to give the run up."""
    samples_seen: Integer = 0
    """How far the run was, by its record."""
    job: str | None = None
    attempt: Integer | None = None
    node: str | None = None
    accumulate: Integer | None = None
    """Parts of a batch that the next attempt computes one after another, where that was changed."""
    time: float | None = None
    """Unix time."""
    seconds: float | None = None
    """From its start to the failure, where that is known."""


@dataclass(frozen=True)
class Job:
    """One submission of one run to one launcher: job.json. A run may need several, one after the other."""

    run_id: str
    launcher: str
    """The launcher's name in LAUNCHERS."""
    id: Names
    """The launcher's key of the job. Several jobs may share an id if they share workers."""
    submitted: float
    """Unix time."""
    log: str
    """The file or folder that gets what the job's processes print."""
    cancelled: float | None = None
    """Unix time of the cancellation. A worker skips a run whose job is cancelled."""


@dataclass(frozen=True)
class Reached:
    """The progress of a run, by the last records of its metrics.jsonl. Values that were not recorded yet are None."""

    samples_seen: Integer = 0
    step: Integer = 0
    steps: Integer = 0
    """How many there will be, where a program says so."""
    loss: float | None = None
    images_per_second: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The scores of the last evaluation."""

    @property
    def progress(self) -> int:
        """Samples, or steps where a program records no samples."""
        return self.samples_seen or self.step
