"""The law of the best value of a setting, on data drawn from a published law."""

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import optimum_law
from flipscale.errors import ResultsError
from tests.commands import flipscale

RATE, SIZE, TOKENS = 1.79, -0.713, 0.307
"""Step law: the best rate is 1.79 N^-0.713 D^0.307 (arXiv 2503.04715, equation 1)."""

SCATTER = 0.21
"""The scatter of its own best rates about it, in ln."""


def sweeps(seed: int, scatter: float = SCATTER) -> pd.DataFrame:
    """17 sweeps by factors of 2 whose losses rise by 0.47 % for each squared octave from the best."""
    draw, rows = np.random.default_rng(seed), []
    for number in range(17):
        size, tokens = 6e7 * 4 ** (number % 5), 2e9 * 3 ** (number // 4)
        best = RATE * size**SIZE * tokens**TOKENS * np.exp(draw.normal(0, scatter))
        grid = 2.0 ** np.arange(-16, -4)
        losses = 2.5 * (1 + 0.0047 * np.log2(grid / best) ** 2)
        rows += [{"N": size, "D": tokens, "lr": lr, "loss": loss} for lr, loss in zip(grid, losses, strict=True)]
    return pd.DataFrame(rows)


def test_a_law_without_scatter_is_found_and_written_as_a_rule() -> None:
    law = optimum_law(sweeps(0, scatter=0.0), "lr", x=("N", "D"), y="loss")
    assert law.exponents == pytest.approx((SIZE, TOKENS), abs=0.003)
    assert law.rule.endswith(" * N ** -0.713 * D ** 0.307")


def test_intervals_hold_the_published_exponents_in_about_95_of_100_draws() -> None:
    laws = [optimum_law(sweeps(seed), "lr", x=("N", "D"), y="loss") for seed in range(100)]
    for place, truth in enumerate((SIZE, TOKENS)):
        held = sum(law.intervals[place].low < truth < law.intervals[place].high for law in laws)
        assert 88 <= held <= 99
    assert np.mean([law.spread for law in laws]) == pytest.approx(SCATTER, abs=0.02)


def test_a_score_whose_direction_nobody_told_is_refused() -> None:
    table = sweeps(0, scatter=0.0).rename(columns={"loss": "mse"})
    with pytest.raises(ResultsError, match=r"Is more of mse better\?"):
        optimum_law(table, "lr", x=("N", "D"), y="mse")
    assert optimum_law(table, "lr", x=("N", "D"), y="mse", accuracy=False).exponents == pytest.approx(
        (SIZE, TOKENS), abs=0.003
    )


def test_a_sweep_with_its_best_at_an_edge_is_left_out_by_name() -> None:
    table = sweeps(0)
    low = (table["N"] == 6e7) & (table["D"] == 2e9) & (table["lr"] < 2**-6)
    law = optimum_law(table[~low], "lr", x=("N", "D"), y="loss")
    assert law.left_out == {"N=60000000.0, D=2000000000.0": "its best lr is the lowest or highest of 2 values"}
    assert len(law.points) == 16


def test_too_few_sweeps_and_variables_that_vary_together_are_refused() -> None:
    table = sweeps(0)
    with pytest.raises(ResultsError, match="1 sweep with a best lr, and the law takes 4"):
        optimum_law(table[(table["N"] == 6e7) & (table["D"] == 2e9)], "lr", x=("N", "D"), y="loss")
    with pytest.raises(ResultsError, match="N, twice vary together"):
        optimum_law(table.drop(columns="D").assign(twice=2 * table["N"]), "lr", x=("N", "twice"), y="loss")
    with pytest.raises(ResultsError, match="mask is 0 or less in some rows"):
        optimum_law(table.assign(mask=(table["N"] > 1e9) / 2), "lr", x=("N", "mask"), y="loss")


def test_the_command_prints_the_line_for_couple(tmp_path) -> None:
    table = tmp_path / "sweeps.csv"
    sweeps(0, scatter=0.0).to_csv(table, index=False)
    said = flipscale("fit", str(table), "--optimum", "lr", "--x", "N,D", "--y", "loss")
    assert "N ** -0.713 * D ** 0.307}" in said.stdout
