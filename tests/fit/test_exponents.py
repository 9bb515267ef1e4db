"""The exponents of two fits: known ones are recovered, and the interval of a difference is that of the two."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from flipscale.cli import main
from flipscale.fit import Options, StudyOfFits, compare_exponents, constants_of, fit_groups
from flipscale.fit.exponents import _SideOfDifference, _TwoExponents


def table(exponents, seed=0, noise=0.01, **constant):
    """y = 5 x^-a at 12 sizes, with noise: a law for each mask ratio."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {"mask": mask, "x": x, "loss": 5 * x**-a * math.exp(noise * rng.normal()), **constant}
            for mask, a in exponents.items()
            for x in np.geomspace(10, 1e4, 12)
        ]
    )


def fits(name, rows, group=("mask",)):
    found, _ = fit_groups(rows, "power", x=["x"], y="loss", group=list(group), options=Options(draws=400))
    return StudyOfFits(name, found, constants_of(rows, ["mask", "data"]))


def test_known_exponents_differ_by_what_they_differ():
    pair = compare_exponents(fits("old", table({0: 0.3, 0.5: 0.2})), fits("new", table({0: 0.34, 0.5: 0.2}, seed=1)))
    (changed,), (same,) = (law.exponents for law in pair.laws)
    assert (changed.name, same.name) == ("a", "a")
    assert changed.difference == pytest.approx(0.04, abs=0.01)
    assert changed.interval[0] < 0.04 < changed.interval[1]
    assert changed.significant
    assert same.interval[0] < 0 < same.interval[1]
    assert not same.significant
    assert (changed.judged.family, same.judged.family) == (2, 2)
    # The corrected interval holds 0 just when the difference is not significant.
    assert changed.corrected[0] > 0
    assert same.corrected[0] < 0 < same.corrected[1]
    assert pair.only == ((), ())


def test_intervals_of_a_difference_hold_it_as_often_as_they_say():
    held = 0
    for study in range(40):
        old, new = table({0: 0.3}, seed=2 * study), table({0: 0.35}, seed=2 * study + 1)
        ((found,),) = (law.exponents for law in compare_exponents(fits("old", old), fits("new", new)).laws)
        held += found.interval[0] <= 0.05 <= found.interval[1]
    assert held >= 34  # 95 % of 40 are 38; 33 or fewer have a chance of 0.3 % then


def test_half_widths_add_in_quadrature_on_the_side_that_faces():
    normal = math.inf
    both = _TwoExponents(_SideOfDifference(0.3, 0.04, 0.1, normal), _SideOfDifference(0.5, 0.03, 0.2, normal))
    low, high = both.interval(0.05)
    assert low == pytest.approx(0.2 - math.hypot(0.03, 0.1))
    assert high == pytest.approx(0.2 + math.hypot(0.2, 0.04))
    equal = _TwoExponents(
        _SideOfDifference(0.3, 0.0, 0.0, normal), _SideOfDifference(0.3 + 1.959964, 1.959964, 1.959964, normal)
    )
    assert equal.p == pytest.approx(0.05, abs=1e-6)
    assert _TwoExponents(_SideOfDifference(0.3, 0.1, 0.1, 5), _SideOfDifference(0.3, 0.1, 0.1, 5)).p == 1


def test_a_group_that_the_other_study_holds_fast_is_the_same_group():
    old = fits("old", table({0: 0.3, 0.5: 0.2}, data="A"))
    new = fits("new", table({0.5: 0.2}, seed=1, data="A").drop(columns="mask").assign(mask=0.5), group=())
    pair = compare_exponents(old, new)
    assert [law.first.group for law in pair.laws] == [{"mask": 0.5}]
    assert pair.only == (("loss against x at mask=0.0: power",), ())


def test_too_few_settings_say_why_there_is_no_interval():
    few = table({0: 0.3})
    few = few[few["x"].isin(sorted(few["x"])[:3])]
    ((found,),) = (law.exponents for law in compare_exponents(fits("old", few), fits("new", table({0: 0.3}))).laws)
    assert found.interval is None
    assert found.judged is None
    assert "3 different settings and 2 parameters" in found.why


def test_the_command_fits_two_tables(tmp_path, capsys):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    table({0: 0.3, 0.5: 0.2}).to_csv(old, index=False)
    table({0: 0.4, 0.5: 0.2}, seed=1).to_csv(new, index=False)
    how = ["--x", "x", "--y", "loss", "--group", "mask", "--law", "power", "--draws", "300"]
    assert main(["fit", str(old), str(new), *how]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split("  ")[0] == "law"
    assert "larger" in out[1]
    assert "no significant difference" in out[2]
    written = tmp_path / "pair.json"
    assert main(["fit", str(old), str(new), *how, "--json", "--out", str(written)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(written.read_text())
    assert printed["studies"] == [str(old), str(new)]
    assert printed["corrected"] == {"method": "Holm", "exponents": 2}
    (first,), (second,) = (law["exponents"] for law in printed["laws"])
    assert first["difference"] == pytest.approx(0.1, abs=0.02)
    assert (first["significant"], second["significant"]) == (True, False)


def test_without_a_law_in_common_nothing_is_compared(tmp_path, capsys):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    table({0: 0.3}).to_csv(old, index=False)
    table({0.5: 0.2}).to_csv(new, index=False)
    how = ["--x", "x", "--y", "loss", "--group", "mask", "--law", "power", "--draws", "100"]
    assert main(["fit", str(old), str(new), *how]) == 1
    assert "no law in common" in capsys.readouterr().err
