"""On how many named sets an arm is ahead of the baseline."""

import pandas as pd

from flipscale.compare.wins import SetWins, set_wins, wins_words
from flipscale.study.settings import EVALUATION

SETS = {
    name: {"folder": {"path": name, **({"metric": "mean_per_class"} if name == "pets" else {})}}
    for name in ("pets", "dtd", "cars", "pcam", "gone")
}


def table() -> pd.DataFrame:
    """Two seeds at two schedules; by the longer one pets and dtd are won, cars is level and pcam is lost."""
    scores = {"pets.mean_per_class": 0.1, "dtd.zero_shot_top1": 0.2, "cars.zero_shot_top1": 0.0}
    rows = []
    for samples, sign in ((1000, -1), (4000, 1)):
        for mask in (0.0, 0.5):
            for seed in (0, 1):
                gained = sign * (0.0 if mask == 0 else 1.0)
                row = {name: 0.5 + gained * gain for name, gain in scores.items()}
                row |= {"pcam.zero_shot_top1": 0.5 - gained * (0.1 if seed else 0.2), "gone.zero_shot_top1": None}
                row |= {"samples": samples, "mask_ratio": mask, "seed": seed, "cell": f"samples={samples}"}
                # Worse by the wrong column.
                rows.append(row | {"pets.zero_shot_top1": 0.9 - mask})
    return pd.DataFrame(rows)


def evaluation(sets: object) -> object:
    return EVALUATION.read({"sets": sets}, (), print)


def test_a_set_is_won_by_the_mean_over_seeds_of_its_own_metric_at_the_longest_schedule() -> None:
    (found,) = set_wins(table(), {"mask_ratio": 0.0}, evaluation(SETS))
    assert (found.ahead, found.behind) == (("pets", "dtd"), ("pcam",))
    assert (found.level, found.missing) == (("cars",), ("gone",))
    assert found.arm == "mask_ratio=0.5"


def test_only_twins_are_counted() -> None:
    rows = table()
    rows.loc[(rows["mask_ratio"] == 0) & (rows["seed"] == 0), "pcam.zero_shot_top1"] = None
    rows.loc[(rows["mask_ratio"] == 0.5) & (rows["seed"] == 1), "pcam.zero_shot_top1"] = 0.9
    (found,) = set_wins(rows, {"mask_ratio": 0.0}, evaluation(SETS))
    assert "pcam" in found.ahead


def test_a_study_of_one_set_has_no_count() -> None:
    assert set_wins(table(), {"mask_ratio": 0.0}, evaluation({"pets": SETS["pets"]})) == ()
    assert set_wins(table(), {"mask_ratio": 0.0}, evaluation({"a": {"captions": "a.csv"}, "b": SETS["dtd"]})) == ()


def test_the_sentence_names_sets_where_they_are_few() -> None:
    many = tuple(f"s{n}" for n in range(22))
    assert wins_words([SetWins("", "mask_ratio=0.5", many, ("gtsrb", "pcam", "pets"), (), ())]) == [
        "mask_ratio=0.5: ahead of the baseline on 22 of 25 sets, behind on 3 (gtsrb, pcam and pets)."
    ]
    assert wins_words([SetWins("model=B", "a", ("x",), many, ("y",), ("z",))]) == [
        "model=B, a: ahead of the baseline on 1 of 24 sets, behind on 22, level on 1 (y), not measured on 1 (z)."
    ]
