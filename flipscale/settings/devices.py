"""Devices: peaks, memory, and the rates and hours of training on them, as others have measured them.

**The rate.** A device sustains a share of its bf16 peak that grows with the width of the image tower:

    share = u0 * (width / 1024) ** 0.3, at most 0.6

`u0` is fitted to published trainings of CLIP-like models (bench/published/hours.csv, one row a figure, each with its
source): FLOPs as `cost` counts them, over the device-hours or samples per second that the source gives. Software is as
large an effect as the device: with the fused attention of torch 2 an A100 trains twice as fast as with the software of
2022. A device without published trainings takes `BALANCE` over its FLOPs per byte of memory bandwidth: a device with
much arithmetic for its bandwidth sustains a smaller share. fp32 is half as fast as bf16, as its values are twice as
large; on a GPU it means TF32 if the GPU has it.

**The cap.** Reading and decoding images, or drawing them, limits the pairs a second that feed a device, see
`pairs_read` and `pairs_drawn`.

**The range.** `python -m bench.hours` predicts each published row from the rows of other sources. Nine of ten lie
within 1.5 times, so hours are given with that range.
"""

import math
import re
from dataclasses import dataclass, replace

from flipscale import words
from flipscale.door.run_states import Hours
from flipscale.errors import FlipscaleError, did_you_mean

REFERENCE_WIDTH = 1024
"""The width of the image tower (ViT-L) at which `u0` is the share of the peak."""

WIDTH_EXPONENT = 0.3
"""How the share grows with the width. With fused attention on an A100 widths of 768, 1024, 1280 and 1408 sustain 0.23,
0.31, 0.36 and 0.38 of the peak; on a TPU v3 width 384 sustains 0.275 and width 1024 sustains 0.37."""

MOST = 0.6
"""No training sustains a larger share of a peak: one RTX 3090 without data loading reached 0.61 (timm's benchmark)."""

BALANCE = 45.0
"""`u0` times a device's FLOPs per byte of bandwidth, where no training on the device is published: 0.29 on an A100 of
80 GB, 0.15 on an H100."""

LOADERS = 4
"""Processes or threads that read and decode the next batches of a process, a core each, where no study says more."""

DECODED_PER_SECOND = 570.0
"""JPEGs of 256 px that a core decodes to 224 px in a second; 9,100 PNGs of 32 px were measured too (docs/data.md)."""

DECODING_EXPONENT = 1.4
"""How the time of an image grows with its side, by these two measurements."""

DRAWN_PER_SECOND = 850.0
"""Images of `shapes` that a core draws at 224 px in a second: 820 to 870 on busy cores, up to 2,400 on a quiet one."""

DRAWING_LOCKED = 0.26
"""The share of that time in which a thread holds the interpreter's lock, so that no other draws."""

INTERCONNECT = 400.0
"""Gigabits a second of the network between nodes, for each of their GPUs, where no site file says otherwise."""

PUBLISHED = 1.5
"""The range of a device on which trainings are published: `bench/hours.py` finds about nine of ten rows within it."""

EXTRAPOLATED = 2.0
"""The range of a device on which no training is published: a judgement, as there is nothing to measure it by."""

MEASURED = 1.2
"""The range of a rate that somebody measured on another model or batch: a judgement."""

FUSED_SINCE = 2023
"""The year from which torch has fused attention (2.0, March 2023). Earlier trainings are priced as software of 2022."""


@dataclass(frozen=True)
class Money:
    """The price of predicted hours, with its range."""

    about: float
    low: float
    high: float
    currency: str

    def __str__(self) -> str:
        return f"{words.predicted(self.about, self.low, self.high)} {self.currency}"


@dataclass(frozen=True)
class Price:
    """The price of a device-hour at a site; None if unknown."""

    gpu_hour: float | None
    core_hour: float | None
    currency: str

    def of(self, hours: Hours, device: str) -> Money | None:
        """The price of hours of such a device."""
        each = self.core_hour if device == "cpu" else self.gpu_hour
        if each is None:
            return None
        return Money(each * hours.about, each * hours.low, each * hours.high, self.currency)


@dataclass(frozen=True)
class Rate:
    """How fast one device trains."""

    flops_per_second: float
    samples_per_second: float = math.inf
    """At most, as reading data takes time too."""
    spread: float = MEASURED
    """How far off it may be, as a factor."""

    def hours(self, flops: float, samples: int) -> Hours:
        """The device-hours of computing `flops` on `samples` image-text pairs."""
        seconds = max(flops / self.flops_per_second, samples / self.samples_per_second)
        return Hours.within(seconds / 3600, self.spread)


@dataclass(frozen=True)
class Device:
    """A device by its vendor's dense peaks in FLOPs per second, its memory, and the share of the peak it sustains."""

    bf16: float
    """Also that of fp16."""
    fp32: float
    """TF32 where the device has it; on a TPU, which multiplies fp32 as bf16, that of bf16."""
    memory: int
    """Bytes."""
    bandwidth: float
    """Bytes a second, of its memory."""
    source: str
    utilisation: float | None = None
    """`u0`, the sustained share of the bf16 peak at `REFERENCE_WIDTH` with today's software; None follows `BALANCE`."""
    slower_in_2022: float = 2.0
    """How many times as slow software without fused attention is: as on an A100, unless published."""
    is_tpu: bool = False
    """Whether it is a TPU, whose compiler fused attention already in 2022 and which multiplies fp32 as bf16."""

    def peak(self, precision: str) -> float:
        """The peak FLOPs per second in `precision`: those of fp16 are those of bf16."""
        return self.fp32 if precision == "fp32" else self.bf16

    def share(self, width: int, software: int | None = None) -> float:
        """The share of the bf16 peak that a tower of this width sustains, with software of this year or today's."""
        base = min(MOST, BALANCE * self.bandwidth / self.bf16) if self.utilisation is None else self.utilisation
        slower = 1.0 if is_fused(software) else self.slower_in_2022
        grown = math.pow(width / REFERENCE_WIDTH, WIDTH_EXPONENT)
        return min(MOST, base / slower * grown)

    def rate(self, width: int, precision: str, software: int | None = None) -> Rate:
        """The rate that training in `precision` sustains, with software of this year or today's."""
        sustained = self.share(width, software) * self.bf16
        if precision == "fp32" and not self.is_tpu:
            sustained = min(sustained / 2, MOST * self.fp32)
        return Rate(sustained, spread=EXTRAPOLATED if self.utilisation is None else PUBLISHED)


@dataclass(frozen=True)
class Core:
    """One core of a CPU: its rate depends on neither the width nor the precision as far as was measured."""

    flops_per_second: float
    source: str
    memory: None = None

    def peak(self, precision: str) -> float:
        """The rate that it sustains: a core's peak is not known."""
        return self.flops_per_second

    def rate(self, width: int, precision: str, software: int | None = None) -> Rate:
        """The rate that training sustains. A CPU gains nothing from bf16: 0.6 to 1.2 times fp32's was measured."""
        return Rate(self.flops_per_second, spread=PUBLISHED)


def pairs_read(image_size: int, loaders: int = LOADERS) -> float:
    """Pairs that the process of one device reads and decodes in a second, where images are decoded as they are read.

    The fastest published rates of a device are 1,831 (CLIPA's B/16, mostly on images of 112 px) and 850 (LAION's B/32).
    """
    return loaders * DECODED_PER_SECOND * math.pow(224 / image_size, DECODING_EXPONENT)


def pairs_drawn(image_size: int) -> float:
    """Pairs of `shapes` that the LOADERS threads of a process draw in a second, if one always holds the lock."""
    return DRAWN_PER_SECOND / DRAWING_LOCKED * (224 / image_size) ** 2


def is_fused(software: int | None) -> bool:
    """Whether software of this year has fused attention; None is today's."""
    return software is None or software >= FUSED_SINCE


def has_fused_attention(name: str, software: int | None) -> bool:
    """Whether attention on the device of that name keeps no scores, with software of this year or today's."""
    chip = DEVICES[name]
    return is_fused(software) or isinstance(chip, Core) or chip.is_tpu


def _gpu(bf16: float, fp32: float, gib: int, gb_per_second: float, source: str, u0: float | None = None) -> Device:
    """A device by the units of data sheets: TFLOP/s, GiB and GB/s."""
    return Device(bf16 * 1e12, fp32 * 1e12, gib * 2**30, gb_per_second * 1e9, source, u0)


def _tpu(bf16: float, gib: int, gb_per_second: float, source: str, u0: float | None = None) -> Device:
    """The same for a TPU."""
    return Device(bf16 * 1e12, bf16 * 1e12, gib * 2**30, gb_per_second * 1e9, source, u0, 1.0, is_tpu=True)


_A100 = "NVIDIA A100 data sheet, SXM"

DEVICES: dict[str, Device | Core] = {
    "cpu": Core(40e9, "one core: 28 to 59 GFLOP/s measured on models of the small family"),
    "V100": replace(
        _gpu(125, 15.7, 32, 900, "NVIDIA V100 data sheet, SXM2; no bf16, so the figure is fp16's, and no TF32", 0.22),
        slower_in_2022=1.0,  # Fused attention is for newer GPUs; rows of 2021 and 2024 agree.
    ),
    "A100": _gpu(312, 156, 80, 2039, _A100, 0.30),
    "A100-80GB": _gpu(312, 156, 80, 2039, _A100, 0.30),
    "A100-40GB": _gpu(312, 156, 40, 1555, _A100, 0.30),
    "A10G": _gpu(70, 35, 24, 600, "NVIDIA A10G data sheet; not the A10"),
    "L4": _gpu(121, 60.5, 24, 300, "NVIDIA L4 data sheet"),
    "L40S": _gpu(362, 183, 48, 864, "NVIDIA L40S data sheet"),
    "H100": _gpu(989, 494.7, 80, 3350, "NVIDIA H100 data sheet, SXM", 0.20),
    "H100-PCIe": _gpu(756, 378, 80, 2000, "NVIDIA H100 data sheet, PCIe"),
    "H200": _gpu(989, 494.7, 140, 4800, "NVIDIA H200 data sheet, SXM: 141 GB"),
    "B200": _gpu(2250, 1100, 180, 8000, "NVIDIA HGX B200 data sheet: 180 of 192 GB usable"),
    "GB200": _gpu(2500, 1250, 186, 8000, "NVIDIA GB200 data sheet: one of the two GPUs, 186 of 192 GB usable"),
    "MI250X": _gpu(191.5, 47.9, 64, 1638, "AMD MI250X data sheet: one of the two dies, which are devices of their own"),
    "MI300X": _gpu(1307, 653.7, 192, 5300, "AMD MI300X data sheet"),
    "RTX-3090": _gpu(71, 35.6, 24, 936, "NVIDIA GA102 white paper, with fp32 accumulation"),
    "RTX-4090": _gpu(165, 82.6, 24, 1008, "NVIDIA Ada white paper, with fp32 accumulation"),
    "RTX-5090": _gpu(209.5, 104.8, 32, 1792, "NVIDIA Blackwell white paper, with fp32 accumulation"),
    "TPU-v3": _tpu(61.5, 16, 450, "one core, half of a chip: Google Cloud's documentation of TPU v3", 0.37),
    "TPU-v4": _tpu(275, 32, 1200, "a chip: Google Cloud's documentation of TPU v4"),
    "TPU-v5e": _tpu(197, 16, 819, "a chip: Google Cloud's documentation of TPU v5e"),
}
"""The devices whose hours can be predicted by name. For any other, or a measured rate, give flops_per_second."""


def device(name: str) -> Device | Core:
    """The device of that name in `DEVICES`. FlipscaleError if there is none."""
    if name not in DEVICES:
        raise FlipscaleError(f"unknown device {name!r}, {did_you_mean(name, DEVICES)}; or give flops_per_second")
    return DEVICES[name]


def device_named(name: str) -> str | None:
    """The key in `DEVICES` of a device that calls itself, say, "NVIDIA H100 80GB HBM3"; None if it has none."""
    words_of = set(_words(name))  # An RTX A1000 is not an A100.
    known = [key for key in DEVICES if words_of.issuperset(_words(key))]
    return max(known, key=len, default=None)


def _words(name: str) -> list[str]:
    return re.split(r"[^A-Za-z0-9]+", name)
