"""Which rows and scores of a study a law is fitted to."""

import pandas as pd
import pytest

from flipscale.analysis.fitting.study_laws import fit_study, model_sizes
from flipscale.errors import ResultsError


def test_no_law_is_fitted_to_a_score_without_an_upper_end() -> None:
    table = pd.DataFrame({"samples": [1.0, 2.0, 4.0], "coco.cider": [0.5, 0.9, 1.2]})
    with pytest.raises(ResultsError, match=r"more of coco.cider is better and it has no upper end"):
        fit_study(table, axes=[], y="coco.cider")


def test_coarse_patches_and_small_images_are_no_model_size() -> None:
    """They have fewer patches than a model of as many parameters; another model with as few is a size."""
    table = pd.DataFrame(
        {
            "params": [45e3, 44e3, 44e3, 12e3],
            "model": ["ViT-w48d3-4", "ViT-w48d3-2", "ViT-w48d3-2", "ViT-w16d1-4"],
            "image_size": [28, 28, 14, 28],
            "patches": [49, 98, 49, 49],
            "mask_ratio": [0, 0.5, 0, 0],
        }
    )
    assert model_sizes(table).index.tolist() == [1, 3]
