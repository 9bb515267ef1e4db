"""The effect of other test images on gains: the sampling error of the test set, paired by image."""

from collections.abc import Mapping, Sequence

from flipscale.collect import HitsOfRun
from flipscale.compare.parts import Pair
from flipscale.stats import ImageSampling, image_sampling

ImagesOfPairs = Mapping[tuple[str, str], ImageSampling]
"""(cell, arm) -> what other test images would do to that gain."""


def images_of_pairs(pairs: Sequence[Pair], hits: Mapping[str, HitsOfRun]) -> ImagesOfPairs:
    """The error of pairs whose runs all kept which test images they got right; `hits` has them by run id."""
    found = {(pair.cell, pair.arm): _sampled(pair, hits) for pair in pairs}
    return {key: sampling for key, sampling in found.items() if sampling is not None}


def _sampled(pair: Pair, hits: Mapping[str, HitsOfRun]) -> ImageSampling | None:
    twins = [(hits[base], hits[arm]) for base, arm in pair.ids if base in hits and arm in hits]
    if len(twins) < len(pair.ids):
        return None
    first = twins[0][0]
    if not all(first.is_of_same_items(run) for pair_of_runs in twins for run in pair_of_runs):
        return None
    return image_sampling([arm.hits for _, arm in twins], [base.hits for base, _ in twins])
