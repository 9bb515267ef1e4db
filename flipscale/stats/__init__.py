"""How sure a difference is: one engine for comparisons, claims and laws.

Noise belongs to a study, not to a cell. Two or three seeds say little about how far the runs of one cell scatter, but
the cells of a study scatter about equally: their variances are pulled towards a common value (Smyth 2004), by a capped
weight. Differences between twins are taken on a scale on which noise is about equal: the logit of a fraction, the
logarithm of a loss.

    scales.py      the scale of a score, and back to its own unit
    student.py     Student's t: intervals, p values, equivalence
    pooling.py     one variance per cell, moderated by the other cells
    families.py    many comparisons at once (Holm)
    curve_draws.py draws of mean curves, by the noise of all runs
    blocks.py      means and slopes over cells, whose seeds go together
    power.py       the smallest detectable difference, and the seeds it takes
    test_images.py what other test images would do to a difference
"""

from flipscale.stats.blocks import WARN_P, Mean, SeedEffect, Slope, mean_over, seed_effect, slope_of
from flipscale.stats.curve_draws import Draws, RunKey, RunNoise, run_noise
from flipscale.stats.families import Judged, holm
from flipscale.stats.pooling import Noise, NoiseMethod, pool_variance
from flipscale.stats.power import Design, Sensitivity, sensitivity_of
from flipscale.stats.scales import WIDEST, Array, ScoreScale, Transform, scale_of
from flipscale.stats.student import ALPHA, Interval, Moments, moments, t_limit
from flipscale.stats.test_images import Bits, ImageSampling, image_sampling

__all__ = [
    "ALPHA",
    "WARN_P",
    "WIDEST",
    "Array",
    "Bits",
    "Design",
    "Draws",
    "ImageSampling",
    "Interval",
    "Judged",
    "Mean",
    "Moments",
    "Noise",
    "NoiseMethod",
    "RunKey",
    "RunNoise",
    "ScoreScale",
    "SeedEffect",
    "Sensitivity",
    "Slope",
    "Transform",
    "holm",
    "image_sampling",
    "mean_over",
    "moments",
    "pool_variance",
    "run_noise",
    "scale_of",
    "seed_effect",
    "sensitivity_of",
    "slope_of",
    "t_limit",
]
