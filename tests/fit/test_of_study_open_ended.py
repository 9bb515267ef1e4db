"""A score without an upper end has no error that a law could follow."""

import pandas as pd
import pytest

from flipscale.errors import ResultsError
from flipscale.fit.of_study import fit_study


def test_no_law_is_fitted_to_a_score_without_an_upper_end() -> None:
    table = pd.DataFrame({"samples": [1.0, 2.0, 4.0], "coco.cider": [0.5, 0.9, 1.2]})
    with pytest.raises(ResultsError, match=r"more of coco.cider is better and it has no upper end"):
        fit_study(table, axes=[], y="coco.cider")
