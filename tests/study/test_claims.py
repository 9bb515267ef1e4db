"""Claims of a study file: what a few lines stand for, and what is said of those that no run can decide."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from flipscale.door.statements import Contrast, Expectation, StatedClaim
from flipscale.errors import StudyError
from flipscale.planning.runs import plan
from flipscale.study import Study, read_study
from flipscale.study.schema import study_schema

HEAD = """\
schema: 1
base: {model: ViT-w32d2-4, samples: 16k, batch_size: 64, mask_ratio: 0, text_mask_ratio: 0}
axes:
  mask_ratio: [0, 0.5, 0.75]
  batch_size: [64, 128]
  text_mask_ratio: [0, 0.5]
design: {grids: {batch: {mask_ratio: all, batch_size: all}, text: {mask_ratio: [0.5, 0.75], text_mask_ratio: all}}}
seeds: 2
"""  # 8 lines: a claim begins on line 10


def study_with(claims: str, folder: Path, head: str = HEAD) -> Study:
    path = folder / "study.yaml"
    path.write_text(f"{head}claims:\n{claims}\n")
    return read_study(path)


def cell(mask: float, batch: int = 64, text: float = 0.0) -> dict[str, object]:
    return {"mask_ratio": mask, "batch_size": batch, "text_mask_ratio": text}


def test_what_a_side_does_not_say_is_at_the_base(tmp_path: Path) -> None:
    study = study_with("  a mask costs: {left: {mask_ratio: 0.5}, expect: worse, published: -0.1}", tmp_path)
    contrast = Contrast(cell(0.5), cell(0.0))
    assert study.claims == (StatedClaim("a mask costs", contrast, None, Expectation.WORSE, -0.1),)
    assert study.margin == 1.0


def test_both_sides_share_at_and_a_list_makes_several_claims(tmp_path: Path) -> None:
    line = (
        "  masks hurt:\n    {at: {mask_ratio: [0.5, 0.75]}, left: {text_mask_ratio: 0.5}, expect: worse, "
        "published: [-3.2, -7.3]}"
    )
    first, second = study_with(line, tmp_path).claims
    assert first.name == "masks hurt (mask_ratio=0.5)"
    assert first.contrast == Contrast(cell(0.5, text=0.5), cell(0.5))
    assert second.name == "masks hurt (mask_ratio=0.75)"
    assert second.contrast == Contrast(cell(0.75, text=0.5), cell(0.75))
    assert (first.published, second.published) == (-3.2, -7.3)


def test_than_takes_one_contrast_from_another(tmp_path: Path) -> None:
    line = "  more so: {at: {mask_ratio: 0.75}, left: {text_mask_ratio: 0.5}, than: {mask_ratio: 0.5}, expect: worse}"
    (claim,) = study_with(line, tmp_path).claims
    assert claim.contrast == Contrast(cell(0.75, text=0.5), cell(0.75))
    assert claim.than == Contrast(cell(0.5, text=0.5), cell(0.5))


ALONG = HEAD.replace("  batch_size: [64, 128]", "  samples: [4k, 8k, 16k]").replace("batch_size: all", "samples: all")


def test_than_may_be_the_same_curves_at_another_score(tmp_path: Path) -> None:
    line = (
        "  shrinks: {left: {mask_ratio: 0.5}, expect: faster, score: {samples: 4k}, than: {score: {samples: 8k}}}\n"
        "  further: {left: {mask_ratio: 0.5}, expect: faster, score: 0.5, than: {mask_ratio: 0.75, score: 0.6}}"
    )
    shrinks, further = study_with(line, tmp_path, ALONG).claims
    assert shrinks.contrast == shrinks.than
    baseline = {"mask_ratio": 0.0, "text_mask_ratio": 0.0}
    assert shrinks.score == baseline | {"samples": 4000}
    assert shrinks.than_score == baseline | {"samples": 8000}
    assert further.than
    assert (further.than.left, further.score, further.than_score) == (shrinks.contrast.left, 0.5, 0.6)


@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        (
            "{left: {mask_ratio: 0.5}, expect: faster, score: 0.5, than: {score: 0.5}}",
            "'than' is the same contrast; give it other settings than `at`",
        ),
        (
            "{left: {mask_ratio: 0.5}, expect: faster, score: 0.5, than: {score: held_out_loss}}",
            "the score of 'than' is a number or a cell, at which curves are read, in a claim of 'faster'",
        ),
        (
            "{left: {mask_ratio: 0.5}, expect: better, than: {mask_ratio: 0.75, score: 0.6}}",
            "the score of 'than' is a column, in a claim of 'better'",
        ),
        (
            "{left: {mask_ratio: 0.5, score: held_out_loss}, expect: faster, score: 0.5}",
            "curves are read at `score` of the claim; leave 'score' out",
        ),
        (
            "{left: {mask_ratio: 0.5}, expect: faster, score: 0.5, than: {score: {samples: 5k}}}",
            "no run of this study has samples 5k; it has 4k, 8k, 16k",
        ),
    ],
)
def test_a_score_at_which_no_curve_can_be_read_is_a_complaint(claim: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        study_with(f"  a: {claim}", tmp_path, ALONG)
    assert complaint in str(raised.value)


def test_a_side_may_name_its_score(tmp_path: Path) -> None:
    head = HEAD + "evaluation: {inference: [masked]}\n"
    line = "  masked is worse: {at: {mask_ratio: 0.5}, left: {score: masked.zero_shot_top1}, expect: worse}"
    (claim,) = study_with(line, tmp_path, head).claims
    assert claim.contrast == Contrast(cell(0.5) | {"score": "masked.zero_shot_top1"}, cell(0.5))
    with pytest.raises(StudyError, match="'top' is not a score; write a column of results"):
        study_with(line.replace("masked.zero_shot_top1", "top"), tmp_path, head)


def test_a_schedule_in_flops_is_known_by_its_samples(tmp_path: Path) -> None:
    head = HEAD.replace("  batch_size: [64, 128]", "  samples: [1e12 FLOPs, 2e12 FLOPs]").replace(
        "batch_size: all", "samples: all"
    )
    claim = "  longer helps: {left: {samples: 2e12 FLOPs}, right: {samples: 1e12 FLOPs}, expect: better}"
    (stated,) = study_with(claim, tmp_path, head).claims
    assert stated.contrast.left["samples"] == pytest.approx(2 * stated.contrast.right["samples"], abs=1)


@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        (
            "  a: {left: {mask_ration: 0.5}, expect: worse}",
            "10: unknown setting 'mask_ration'; did you mean 'mask_ratio'?",
        ),
        (
            "  a:\n    left: {mask_ratio: 0.6}\n    expect: worse",
            "11: no run of this study has mask_ratio 0.6; it has 0, 0.5, 0.75",
        ),
        (
            "  a: {left: {mask_ratio: 0.5, batch_size: 128, text_mask_ratio: 0.5}, expect: worse}",
            "10: no run of this study has mask_ratio=0.5, batch_size=128, text_mask_ratio=0.5 with all else at the",
        ),
        ("  a: {left: {mask_ratio: lots}, expect: worse}", "10: 'lots' is not a number; write a number from 0 below 1"),
        (
            "  a: {left: {mask_ratio: 0.5}}",
            "10: claim lacks 'expect'; add it: the expected result of left: better, worse or level",
        ),
        ("  a: {left: {mask_ratio: 0.5}, expect: beter}", "10: 'beter' is not a choice of expect; "),
        ("  a: {lefft: {mask_ratio: 0.5}, expect: better}", "10: unknown key 'lefft' in claim; did you mean 'left'?"),
        (
            "  a: {left: {mask_ratio: 0}, expect: better}",
            "10: left and right are the same runs; give `left` a setting that differs",
        ),
        ("  a: {left: {mask_ratio: 0.5, seed: 1}, expect: better}", "10: a claim is about all seeds; leave 'seed' out"),
        (
            "  a: {at: {mask_ratio: [0.5, 0.75]}, left: {text_mask_ratio: 0.5}, expect: worse, published: -3.2}",
            "10: 1 published values for 2 claims; list one for each, null where none is known",
        ),
        (
            "  a: {at: {mask_ratio: 0.5}, left: {text_mask_ratio: 0.5}, than: {mask_ratio: 0.5}, expect: worse}",
            "10: 'than' is the same contrast; give it other settings than `at`",
        ),
        (
            "  a: {left: {mask_ratio: [0.5, 0.5]}, expect: worse}",
            "10: two claims are called 'a (mask_ratio=0.5)'; keep one, or",
        ),
    ],
)
def test_a_claim_that_no_run_can_decide_is_a_complaint_with_its_line(
    claim: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as raised:
        study_with(claim, tmp_path)
    assert f"study.yaml:{complaint}" in str(raised.value)


def test_an_axis_that_neither_claim_nor_base_gives_is_asked_for(tmp_path: Path) -> None:
    head = "schema: 1\nbase: {model: ViT-w32d2-4, samples: 16k}\naxes: {mask_ratio: [0, 0.5], batch_size: [64, 128]}\n"
    with pytest.raises(StudyError, match=r"study\.yaml:5: 2 cells match mask_ratio=0\.5; give batch_size as well"):
        study_with("  a: {left: {mask_ratio: 0.5}, right: {mask_ratio: 0}, expect: worse}", tmp_path, head)


def test_claims_and_margin_are_no_part_of_a_run(tmp_path: Path) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text(HEAD)
    stated = study_with("  a: {left: {mask_ratio: 0.5}, expect: level}\nmargin: 2", tmp_path)
    assert stated.margin == 2.0
    assert [run.id for run in plan(stated).runs] == [run.id for run in plan(read_study(bare)).runs]


def test_the_schema_accepts_claims_and_refuses_a_misspelt_one() -> None:
    validator = Draft202012Validator(study_schema())
    claim = {
        "at": {"mask_ratio": [0.5, 0.75]},
        "left": {"text_mask_ratio": 0.5},
        "expect": "worse",
        "published": [-3.2, None],
    }
    assert validator.is_valid({"schema": 1, "claims": {"masks hurt": claim}, "margin": 0.5})
    assert not validator.is_valid({"schema": 1, "claims": {"masks hurt": claim | {"expect": "worst"}}})
    assert not validator.is_valid({"schema": 1, "margin": 0})
