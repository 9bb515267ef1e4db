"""Whether a run fits the memory of its device with room to spare, as `cost` predicts it, and what would make it fit.

Each remedy is priced like the run: more parts of the batch, activation checkpointing, more devices. The first of each
kind that fits is named with its cost.
"""

from dataclasses import dataclass, replace

from flipscale.cost.arithmetic import cost, is_on_accelerator, memory_bytes
from flipscale.settings.declarations import Resources, Settings
from flipscale.settings.devices import device
from flipscale.words import times

REFUSED = 1.5
"""A run that needs over this multiple of its device's memory is refused: predictions are within 1.3 times of
published memory."""

TIGHT = 0.9
"""From this share of its device's memory on a run is warned of."""

MOST_DEVICES = 64
"""The largest factor by which a remedy raises the number of devices."""


@dataclass(frozen=True)
class Remedy:
    """A change of resources with which a run fits."""

    resources: Resources
    changes: str
    """As a study file writes them: 'accumulate: 4'."""
    memory_bytes: int
    slower: float
    """Device-hours over those of the run as it was asked for."""

    def __str__(self) -> str:
        more = f", {times(self.slower)} times the hours" if self.slower > 1.005 else ""
        return f"{self.changes} ({_gib(self.memory_bytes)} GiB{more})"


@dataclass(frozen=True)
class Shortage:
    """A run that is predicted to need more memory than its device has."""

    device: str
    memory_bytes: int
    """The predicted memory of one device."""
    device_bytes: int
    remedies: tuple[Remedy, ...]

    @property
    def times(self) -> float:
        """Predicted memory over the device's."""
        return self.memory_bytes / self.device_bytes

    def says(self, runs: str) -> str:
        """The memory that these runs need, and remedies."""
        lacking = (
            f"{runs} would need about {_gib(self.memory_bytes)} GiB, and {self.device} has {_gib(self.device_bytes)}"
        )
        if not self.remedies:
            return (
                f"{lacking}. Neither parts of the batch, activation checkpointing nor {MOST_DEVICES} times the devices "
                "make it fit: choose a smaller model, or devices with more memory."
            )
        fit = "fit" if self.times > 1 else "fit safely"
        which = "one of these" if len(self.remedies) > 1 else "this"
        return f"{lacking}. To {fit}, set {which} in resources: {'; or '.join(map(str, self.remedies))}."


def device_memory(resources: Resources) -> int | None:
    """The bytes of memory of the accelerator that a run is predicted for; None for a CPU, whose memory is not known."""
    if resources.device is None or not is_on_accelerator(resources):
        return None
    return device(resources.device).memory


def shortage(settings: Settings, resources: Resources) -> Shortage | None:
    """The memory that a stage of a run lacks on these resources; None if it fits with room to spare, or if its device's
    memory is unknown."""
    available = device_memory(resources)
    needed = memory_bytes(settings, resources)
    if available is None or needed <= TIGHT * available:
        return None
    return Shortage(str(resources.device), needed, available, tuple(_remedies(settings, resources, TIGHT * available)))


def _remedies(settings: Settings, resources: Resources, available: float) -> list[Remedy]:
    """The smallest change of each kind that fits."""
    checkpointed = [replace(resources, activation_checkpointing=True)]
    kinds = [_in_parts(settings, resources), checkpointed, _on_more(settings, resources)]
    first = [next((new for new in kind if memory_bytes(settings, new) <= available), None) for kind in kinds]
    fitting = [new for new in first if new is not None] or _with_both(settings, resources, available)
    return [_remedy(settings, resources, new) for new in fitting]


def _with_both(settings: Settings, resources: Resources, available: float) -> list[Resources]:
    """The fewest devices, and the fewest parts on them, that fit together; empty if none do."""
    both = (new for more in _on_more(settings, resources) for new in _in_parts(settings, more))
    return next(([new] for new in both if memory_bytes(settings, new) <= available), [])


def _remedy(settings: Settings, before: Resources, after: Resources) -> Remedy:
    hours = cost(settings, before).gpu_hours
    memory = memory_bytes(settings, after)
    return Remedy(after, _changes(before, after), memory, cost(settings, after).gpu_hours / hours if hours else 1.0)


def _in_parts(settings: Settings, resources: Resources) -> list[Resources]:
    """The same resources with more parts of equal size, the fewest first."""
    share = settings.batch_size // resources.devices
    parts = [parts for parts in range(resources.accumulate + 1, share + 1) if share % parts == 0]
    return [replace(resources, accumulate=number) for number in parts]


def _on_more(settings: Settings, resources: Resources) -> list[Resources]:
    """The same resources with more devices that divide the batch, the fewest first."""
    now = resources.devices
    parts = resources.accumulate
    numbers = [
        number for number in range(now + 1, MOST_DEVICES * now + 1) if settings.batch_size % (number * parts) == 0
    ]
    if resources.processes:
        return [replace(resources, processes=number, gpus=resources.gpus and number) for number in numbers]
    return [replace(resources, gpus=number) for number in numbers]


def _changes(before: Resources, after: Resources) -> str:
    names = ("accumulate", "activation_checkpointing", "gpus", "processes")
    new = {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}
    return ", ".join(f"{name}: {str(value).lower()}" for name, value in new.items())


def _gib(size: int) -> str:
    return f"{size / 2**30:,.0f}" if size >= 100 * 2**30 else f"{size / 2**30:.3g}"
