"""The claims of studies/paper/ are what the paper prints, and its numbers, read as results, bear them out.

Numbers are typed from FLIP (arXiv 2212.00794) with its table or figure named, unless another source is.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from docs.parts import paper
from docs.parts.paper import PaperStudy, paper_study
from flipscale.analysis.comparing.stated import Verdict
from flipscale.analysis.comparing.study_comparison import judge_study
from flipscale.analysis.plotting import draw, figure_data
from flipscale.cell import write_cell
from flipscale.cli import main
from flipscale.collecting import baseline_of, setting_value
from flipscale.collecting.columns import COLUMNS
from flipscale.collecting.record import as_in_tables, results_of
from flipscale.collecting.references import read_references
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.door.statements import Contrast, Values
from flipscale.planning.identity import dataset_name
from flipscale.planning.runs import Run
from flipscale.scores import INFERENCES, is_fraction
from flipscale.settings.declarations import Settings

EACH_STUDY = pytest.mark.parametrize("name", paper.ORDER)

Key = tuple[object, ...]
"""What tells the rows of the paper's tables apart."""


def key_of(settings: Settings, inference: str = "full") -> Key:
    tuning = settings.tuning
    return (
        settings.model,
        dataset_name(settings.data),
        settings.data_size,
        settings.samples,
        settings.mask_ratio,
        settings.mask_shape if settings.mask_ratio else "random",
        settings.batch_size,
        settings.text_mask if settings.text_mask_ratio else "",
        inference,
        "" if tuning is None else tuning.model or settings.model,
        settings.reconstruction is not None,
        settings.fine_tuning is not None,
    )


def row(
    mask: float,
    batch: float,
    samples: float = 2.56e9,
    *,
    model: str = "L/16",
    data: float = 4e8,
    shape: str = "random",
    text: str = "",
    inference: str = "full",
    tuned: bool | str = False,
    mae: bool = False,
    fine: bool = False,
) -> Key:
    """The same by the paper's words: a batch in units of 1,024, and the model that it was tuned as."""
    name, tuned_as = (f"ViT-{word.replace('/', '-')}" for word in (model, model if tuned is True else tuned or ""))
    of = {4e8: "laion-400m", 2e9: "laion-2b", 8e7: "laion-400m"}[data]
    as_model = tuned_as if tuned else ""
    return (
        *(name, of, int(data), int(samples), mask, shape, batch * 1024),
        *(text, inference, as_model, mae, fine),
    )


SCALING_LAWS = {
    # arXiv 2212.07143: unique pairs to zero-shot accuracy after 3, 13 and 34 billion samples
    "B/32": {8e7: (51.9, 56.5, 56.4), 4e8: (57.1, 63.2, 64.1), 2e9: (57.4, 62.5, 66.5)},
    "B/16": {8e7: (57.6, 60.2, 61.3), 4e8: (62.7, 67.0, 69.0), 2e9: (61.8, 68.1, 70.2)},
    "L/14": {8e7: (61.1, 64.0, 64.8), 4e8: (69.3, 73.1, 73.9), 2e9: (68.9, 73.1, 75.2)},
}

IMAGENET = {
    # Table 1a and b
    row(0, 16): 68.6,
    row(0.5, 16): 68.5,
    row(0.5, 32): 69.6,
    row(0.5, 64): 70.4,
    row(0.75, 16): 65.8,
    row(0.75, 32): 67.3,
    row(0.75, 64): 68.2,
    # Table 1c
    row(0.75, 64, text="random"): 66.0,
    row(0.75, 64, text="prioritised"): 67.8,
    # Table 1d
    row(0.5, 32, inference="masked"): 66.4,
    row(0.75, 64, inference="masked"): 60.9,
    row(0.5, 32, inference="ensemble"): 68.1,
    row(0.75, 64, inference="ensemble"): 65.1,
    # Table 1e
    row(0.5, 32, tuned=True): 70.1,
    row(0.75, 64, tuned=True): 69.5,
    # Table 1f
    row(0.5, 32, mae=True): 69.4,
    row(0.75, 64, mae=True): 67.9,
    # Figure 3, as far as it is in no table
    row(0, 16, 5.12e9): 71.1,
    row(0, 16, 12.8e9): 72.4,
    row(0.5, 32, 5.12e9): 71.6,
    row(0.5, 32, 12.8e9): 73.1,
    row(0.5, 32, 5.12e9, tuned=True): 71.9,
    row(0.5, 32, 12.8e9, tuned=True): 73.3,
    row(0.75, 64, 5.12e9): 70.0,
    row(0.75, 64, 12.8e9): 71.7,
    row(0.75, 64, 5.12e9, tuned=True): 71.3,
    row(0.75, 64, 12.8e9, tuned=True): 73.0,
    # Figure 4: the ends of its curves
    row(0.5, 64, 12.8e9): 74.1,
    row(0.5, 64, 12.8e9, model="H/14"): 75.5,
    row(0.5, 64, 12.8e9, data=2e9): 75.6,
    row(0.5, 64, 25.6e9): 73.8,
    # Table 8, and L/16 on 2B with 25.6B samples from the paper's repository
    row(0.5, 64, 12.8e9, tuned=True): 74.3,
    row(0.5, 64, 12.8e9, tuned=True, model="H/14"): 75.5,
    row(0.5, 64, 12.8e9, tuned=True, data=2e9): 75.8,
    row(0.5, 64, 25.6e9, tuned=True): 73.9,
    row(0.5, 64, 25.6e9, tuned=True, data=2e9): 76.6,
    row(0.5, 64, 12.8e9, tuned=True, model="H/14", data=2e9): 77.6,
    row(0.5, 64, 25.6e9, tuned=True, model="H/14", data=2e9): 78.8,
    # Table 2
    row(0, 16, 12.8e9, model="B/16"): 68.2,
    row(0, 16, 12.8e9, model="L/14"): 73.1,
    row(0.5, 64, 12.8e9, model="B/16", tuned=True): 68.0,
    row(0.5, 64, 12.8e9, tuned="L/14"): 74.6,
    # arXiv 2305.07017 by a secondary source: L/16, a quarter of the tokens
    row(0.75, 32, shape="resize", tuned=True): 68.9,
    row(0.75, 32, shape="block", tuned=True): 68.5,
    row(0.75, 32, tuned=True): 67.6,
    row(0.75, 32, shape="grid", tuned=True): 67.3,
    # arXiv 2212.07143
    **{
        row(0, 86, samples, model=model, data=data): score
        for model, of_model in SCALING_LAWS.items()
        for data, scores in of_model.items()
        for samples, score in zip((3e9, 13e9, 34e9), scores, strict=True)
    },
    row(0, 77.25, 34e9, model="H/14", data=2e9): 78.0,
    row(0, 62.5, 13e9, model="g/14", data=2e9): 76.7,
}
"""Zero-shot accuracy on ImageNet in percent."""

BREADTH = {
    # Table 4: unmasked training ("CLIP, our repro") and FLIP
    "Food101": (88.1, 89.3),
    "CIFAR10": (96.0, 97.2),
    "CIFAR100": (81.3, 84.1),
    "Birdsnap": (60.5, 63.0),
    "SUN397": (72.3, 73.1),
    "Cars": (89.1, 90.7),
    "Aircraft": (25.8, 29.1),
    "VOC2007": (81.1, 83.1),
    "DTD": (59.3, 60.4),
    "Pets": (93.2, 92.6),
    "Caltech101": (93.2, 93.8),
    "Flowers102": (74.6, 75.0),
    "MNIST": (69.1, 80.3),
    "STL10": (96.5, 98.5),
    "EuroSAT": (50.7, 53.5),
    "RESISC45": (69.2, 70.8),
    "GTSRB": (50.2, 41.4),
    "KITTI": (29.4, 34.8),
    "Country211": (21.4, 23.1),
    "PCam": (53.1, 50.3),
    "UCF101": (71.5, 74.1),
    "Kinetics700": (53.5, 55.8),
    "CLEVR": (18.5, 22.7),
    "HatefulMemes": (53.3, 54.0),
    "SST2": (57.2, 58.5),
}

ROBUSTNESS = {
    # Table 6: unmasked training ("CLIP, our repro") and FLIP
    "ImageNet-V2": (65.6, 66.8),
    "ImageNet-A": (46.3, 51.2),
    "ImageNet-R": (84.7, 86.5),
    "ObjectNet": (58.0, 59.1),
    "ImageNet-Sketch": (58.7, 59.9),
    "ImageNet-Vid, PM-0": (89.3, 91.1),
    "ImageNet-Vid, PM-10": (80.5, 83.5),
    "YTBB, PM-0": (85.7, 89.4),
    "YTBB, PM-10": (77.8, 83.3),
}


RETRIEVAL = {
    # Table 5: unmasked training ("CLIP, our impl.") and FLIP; R@1, R@5, R@10
    "flickr30k.text": ((87.4, 89.1), (98.4, 98.5), (99.5, 99.6)),
    "flickr30k.image": ((74.4, 75.4), (92.2, 92.5), (95.5, 95.9)),
    "coco.text": ((59.1, 60.2), (82.5, 82.6), (89.4, 89.9)),
    "coco.image": ((43.2, 44.2), (68.5, 69.2), (77.5, 78.4)),
}

GENERATION = {
    # Table 7 but VQAv2: unmasked training ("CLIP, our repro") and FLIP
    "coco_captions.bleu4": (36.4, 37.4),
    "coco_captions.meteor": (29.3, 29.5),
    "coco_captions.rouge_l": (58.4, 58.8),
    "coco_captions.cider": (125.6, 127.7),
    "coco_captions.spice": (22.8, 23.0),
    "coco_captions.nocaps_cider": (82.8, 85.9),
    "coco_captions.nocaps_spice": (12.2, 12.4),
}


def of_l14(unmasked: float, flip: float) -> dict[Key, float]:
    """The two rows of Tables 4 to 6."""
    return {row(0, 16, 12.8e9, model="L/14"): unmasked, row(0.5, 64, 12.8e9, tuned="L/14"): flip}


PUBLISHED: Mapping[str, Mapping[Key, float]] = {
    "imagenet.zero_shot_top1": IMAGENET,
    # Table 3
    "fine_tune_top1": {
        row(0, 16, 12.8e9, fine=True): 86.3,
        row(0.5, 64, 12.8e9, tuned=True, fine=True): 86.9,
        row(0.5, 64, 12.8e9, tuned="L/14", fine=True): 87.1,
    },
    "breadth.mean": of_l14(*map(fmean, zip(*BREADTH.values(), strict=True))),
    **{
        f"{of}_retrieval_r{rank}": of_l14(*pair)
        for of, pairs in RETRIEVAL.items()
        for rank, pair in zip((1, 5, 10), pairs, strict=True)
    },
    "robustness.mean": of_l14(*map(fmean, zip(*ROBUSTNESS.values(), strict=True))),
    **{
        score: {row(0, 16, 12.8e9): unmasked, row(0.5, 64, 12.8e9, tuned=True): flip}
        for score, (unmasked, flip) in GENERATION.items()
    },
}
"""In percent, CIDEr as it is; by the score that a study is about."""


def published(one: PaperStudy, contrast: Contrast) -> float | None:
    """Left - right of a contrast by the numbers above; None where one of them is not published."""
    sides = (contrast.left, contrast.right)
    left, right = (of_score(one, side).get(key_of(cell(one, side), shown(side.get("score")))) for side in sides)
    return None if left is None or right is None else left - right


def of_score(one: PaperStudy, side: Values) -> Mapping[Key, float]:
    """The numbers of the score that one side of a claim names, or else of the study's."""
    return PUBLISHED.get(str(side.get("score")), PUBLISHED[str(one.study.score)])


def cell(one: PaperStudy, side: Values) -> Settings:
    """The cell of one side of a claim."""
    wanted = {name: value for name, value in side.items() if name != "score"}
    (found,) = [c for c in one.study.cells if all(getattr(c, name) == value for name, value in wanted.items())]
    return found


def shown(score: object) -> str:
    """How images are shown for a score: full, or as its name says."""
    return next((name for name in INFERENCES if name in str(score).split(".")), "full")


@EACH_STUDY
def test_published_differences_are_those_of_the_paper_s_tables(name: str) -> None:
    one = paper_study(name)
    assert one.study.claims
    for claim in one.study.claims:
        if claim.expect.along_the_schedule:
            continue
        found = published(one, claim.contrast)
        if claim.than is not None and found is not None:
            other = published(one, claim.than)
            found = None if other is None else found - other
        assert claim.published == (None if found is None else pytest.approx(found, abs=0.01)), claim.name


# The paper's numbers as if flipscale had measured them


def sides_of(one: PaperStudy) -> list[Values]:
    """The sides of all contrasts."""
    contrasts = [each for claim in one.study.claims for each in (claim.contrast, claim.than) if each]
    return [side for contrast in contrasts for side in (contrast.left, contrast.right)]


def measured(one: PaperStudy) -> pd.DataFrame:
    """A table as of three seeds that scatter by 0.02 points, where each run of the paper has the score it prints."""
    score = str(one.study.score)
    units = {name: 100 if is_fraction(name) else 1 for name in (score, *PUBLISHED)}
    rows = []
    for number, run in enumerate(one.plan.cells):
        asked = {name: setting_value(getattr(run.settings, name)) for name in SETTING_COLUMNS}
        columns = {score, *(str(side["score"]) for side in sides_of(one) if "score" in side)}
        for seed, scatter in enumerate((-0.02, 0.0, 0.02)):
            levels = {c: of_score(one, {"score": c}).get(key_of(run.settings, shown(c)), float("nan")) for c in columns}
            values = {
                c: (level + (-1) ** (number + (c != score)) * scatter) / units.get(c, units[score])
                for c, level in levels.items()
            }
            cell_of_run = write_cell(run.cell or ())
            rows.append(asked | {"id": f"{run.id}-{seed}", "cell": cell_of_run, "seed": seed} | values)
    return pd.DataFrame(rows)


@EACH_STUDY
def test_the_paper_s_numbers_bear_its_claims_out(name: str) -> None:
    """All that is half a point off its threshold holds: level is within 1 point."""
    one = paper_study(name)
    of_cells = tuple(claim for claim in one.study.claims if not claim.expect.along_the_schedule)
    judged = judge_study(results_of(measured(one), replace(one.study, claims=of_cells), one.plan), str(one.study.score))
    assert judged is not None
    for found in judged.claims:
        claim = found.claim
        if claim.published is None:
            assert found.verdict is Verdict.NOT_TESTED, claim.name
            continue
        assert found.difference is not None, claim.name
        assert found.difference.mean == pytest.approx(claim.published, abs=0.05), claim.name
        is_clear = abs(claim.published) <= 0.5 if claim.expect == "level" else abs(claim.published) >= 0.5
        assert not is_clear or found.verdict is Verdict.HOLDS, claim.name


def test_the_speed_up_of_3_7_is_the_figure_s_own_reading_and_its_claim_holds() -> None:
    """On a straight line between points it is 3.7; `compare` reads a curve through them, and 4.2."""
    one = paper_study("figure3_accuracy_vs_time")
    points = pd.read_csv(paper.ROOT / "studies/references/flip.csv").query("table == 'Fig 3'")
    hours = points.set_index(["mask_ratio", "tuning_samples", "samples"])["hours"]
    scores = points.set_index(["mask_ratio", "tuning_samples", "samples"])["score"]
    best, took = scores[0, 0].iloc[-1], hours[0, 0].iloc[-1]
    (claim,) = (each for each in one.study.claims if each.expect.along_the_schedule)
    assert took / np.interp(best, scores[0.75, 128_000_000], hours[0.75, 128_000_000]) == pytest.approx(3.7, abs=0.05)
    assert claim.published == 3.7
    table = measured(one)
    tuned = 128_000_000 * table["tuning"].notna()
    keys = zip(table["mask_ratio"], tuned, table["samples"], strict=True)
    table["gpu_hours"] = [hours[key] for key in keys]
    table["samples_seen"] = table["samples"]
    judged = judge_study(results_of(table, one.study, one.plan), str(one.study.score))
    assert judged is not None
    (found,) = (each for each in judged.claims if each.claim == as_in_tables(claim))
    assert found.verdict is Verdict.HOLDS
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(4.2, abs=0.05)


def line(one: PaperStudy, run: Run) -> list[Run]:
    """A run and those it comes from."""
    return [run, *(ancestor for parent in run.parents for ancestor in line(one, one.runs[parent]))]


def with_costs(one: PaperStudy, results: pd.DataFrame) -> pd.DataFrame:
    """The table with what its runs took, parents included."""
    lines = [line(one, one.runs[seed.rpartition("-")[0]]) for seed in results["id"]]
    return results.assign(
        train_flops=[sum(run.cost.train_flops for run in of) for of in lines],
        samples_seen=[sum(run.cost.samples_seen for run in of) for of in lines],
        flops_per_sample=[of[0].cost.flops_per_sample for of in lines],
    )


def run_command(one: PaperStudy, command: str, results: Path) -> int:
    """Run a command that the notes of a study's header give, on the paper's numbers as its results.csv."""
    (given,) = re.findall(rf"flipscale ({command} .*?)(?= flipscale |$)", one.header["Notes"])
    table = results / one.name / "results.csv"
    table.parent.mkdir(parents=True)
    rows = with_costs(one, measured(one))
    if command.startswith("fit"):  # It takes runs of the study alone: the seed of each that has the published score.
        rows = rows[rows["seed"] == 1].assign(id=rows["id"].str.removesuffix("-1"))
    rows.reindex(columns=[*COLUMNS, str(one.study.score)]).to_csv(table, index=False)
    arguments = [word.replace("results/", f"{results}/") for word in given.split()]
    return main([*arguments, *(["--full", "--results", str(results)] if command.startswith("fit") else [])])


def test_others_results_are_drawn_beside_the_studies_that_name_them() -> None:
    """section43_cost and table2_model_size say in their headers by which command."""
    references = read_references(paper.ROOT / "studies" / "references.csv")
    for name, published_as in (("section43_cost", 0.780), ("table2_model_size", 0.753)):
        one = paper_study(name)
        assert "--references studies/references.csv" in one.header["Notes"]
        results = with_costs(one, measured(one))
        _, ax = plt.subplots()
        data = figure_data(results, baseline=baseline_of(one.study), score=one.study.score, references=references)
        draw("error_vs_compute", data, ax)
        drawn = [float(y) for line in ax.lines for y in line.get_ydata()]
        assert min(abs(y - (1 - published_as)) for y in drawn) < 1e-9, name
        plt.close()


def test_the_law_of_more_data_is_steeper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the second command of the header of scaling_laws: the error's odds as a power of compute, by unique pairs."""
    one = paper_study("scaling_laws")
    assert run_command(one, "fit [^ ]+ --law odds-power", tmp_path) == 0
    exponents = [float(found) for found in re.findall(r"^a +(\S+)", capsys.readouterr().out, re.MULTILINE)]
    assert len(exponents) == 3
    assert exponents == sorted(exponents)
