"""The studies of studies/paper/ are FLIP's: their plans and headers agree with what the paper prints.

Numbers are typed from FLIP (arXiv 2212.00794) with its table or figure named, unless another source is.
"""

import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from docs.parts import paper
from docs.parts.paper import paper_studies, paper_study
from flipscale.cli import main
from flipscale.cost.arithmetic import cost, flops, parameters
from flipscale.planning.identity import stage
from flipscale.planning.runs import Run
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources
from flipscale.study.schema import study_schema

EACH_STUDY = pytest.mark.parametrize("name", paper.ORDER)

UNTUNED = {"tuning": None}
LONG = 12_800_000_000


def runs_of(name: str, **wanted: object) -> list[Run]:
    """The runs of a study with these settings."""
    return [run for run in paper_study(name).plan.runs if all(getattr(run.settings, k) == v for k, v in wanted.items())]


def run_of(name: str, **wanted: object) -> Run:
    (found,) = runs_of(name, **wanted)
    return found


# The files


def test_each_file_is_listed_and_no_other_is_there() -> None:
    assert sorted(path.stem for path in paper.FOLDER.glob("*.yaml")) == sorted(paper.ORDER)
    assert len(paper.ORDER) == 21


NETWORKED = {
    *("equal_batch_masks", "table1b_batch_size", "table2_model_size", "table3_transfer", "table8_joint_scaling"),
    "token_reduction",
}


@EACH_STUDY
def test_plan_prints_the_cost_that_the_header_states(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(paper.FOLDER / f"{name}.yaml"), "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    one = paper_study(name)
    assert one.header["Costs"] == paper.cost_line(one), "run `make docs`"
    (said,) = (line for line in printed.out.splitlines() if re.match(r"[\d,]+ runs?, ", line))
    assert one.header["Costs"].startswith(said)
    # Every run is scored. Resizing to half of the patches is noted, as it is 10 x 10 of 14 x 14.
    warnings = [line for line in printed.err.splitlines() if line.startswith("warning")]
    # B/16 at a quarter of its tokens would train faster than four cores decode.
    fed = [line for line in warnings if "4 runs limited by reading data" in line]
    assert len(fed) == (name == "token_reduction")
    # A step that a mask makes short, or one of a small batch on 256 GPUs, waits for the network.
    networked = [line for line in warnings if "limited by the network" in line]
    assert bool(networked) == (name in NETWORKED)
    others = [line for line in warnings if "mask_shape resize" not in line and line not in [*fed, *networked]]
    tight = name in ("table2_model_size", "figure4a_model_scaling", "table8_joint_scaling", "section43_cost")
    assert len(others) == tight
    assert all(
        "of ViT-H-14 at a batch of 65,536 would need about 77.5 GiB, and A100-80GB has 80." in line for line in others
    )


@pytest.mark.parametrize(
    ("model", "ours", "theirs"), [("ViT-B-16", 150, 141), ("ViT-L-16", 428, 414), ("ViT-H-14", 986, 967)]
)
def test_the_words_make_the_models_larger_than_those_of_table_9(model: str, ours: int, theirs: int) -> None:
    """FLIP's text towers read BERT's 30,523 word pieces, open_clip's 49,408."""
    found = architecture(model)
    words = (49_408 - 30_523) * found.open_clip_config["text_cfg"]["width"]
    assert round(parameters(found) / 1e6) == ours
    assert (parameters(found) - words) / 1e6 == pytest.approx(theirs, rel=0.01)
    assert f"{ours}M vs {theirs}M" in " ".join((paper.ROOT / "docs/paper.md").read_text().split())


def test_rows_of_80m_and_400m_pairs_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(paper.FOLDER / "scaling_laws.yaml"), "--results", str(tmp_path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [sum(f"{size} pairs," in row for row in rows) for size in ("80M", "400M", "2B")] == [9, 9, 11]


def test_tunings_at_64k_need_the_memory_that_the_documents_state() -> None:
    gib = {}
    for name, gpus in (("table1e_tuning", 256), ("table2_model_size", 512)):
        for run in runs_of(name):
            if run.settings.tuning is not None:
                assert run.resources.gpus == gpus
                small = replace(stage(run.settings), batch_size=16384)
                both = run.cost.memory_bytes, cost(small, run.resources).memory_bytes
                gib[run.settings.model, run.settings.mask_ratio, gpus] = [round(size / 2**30, 1) for size in both]
    assert gib["ViT-L-16", 0.75, 256] == [63.0, 21.8]
    assert gib["ViT-H-14", 0.5, 512] == [77.5, 32.5]


def test_every_file_follows_the_schema_that_it_names() -> None:
    validator = jsonschema.Draft202012Validator(study_schema())
    for path in paper.FOLDER.rglob("*.yaml"):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text()))), path
        named = path.read_text().partition("\n")[0].rpartition("$schema=")[2]
        assert (path.parent / named).resolve() == paper.ROOT / "studies" / "study.schema.json"


@EACH_STUDY
def test_header_says_where_a_question_is_from_and_what_was_found(name: str) -> None:
    one = paper_study(name)
    assert "arXiv" in one.source
    assert one.study.question.endswith("?")
    assert len(one.header["Found"]) > 40


def test_all_studies_measure_the_same_but_for_the_prompts_of_other_papers() -> None:
    flip = paper_study("table1a_mask_ratio").plan.runs[0].settings.evaluation
    assert flip.templates is not None
    assert list(flip.templates) == ["imagenet_simple"]
    for one in paper_studies():
        templates = ["openai_imagenet"] if one.name == "scaling_laws" else flip.templates
        assert one.study.score
        for run in one.plan.runs:
            shown = ["masked", "ensemble"] if one.name == "table1d_inference" else []
            assert run.settings.evaluation == replace(flip, templates=templates, inference=shown), run.id


# Which runs there are


def test_equal_cells_of_two_files_are_one_run() -> None:
    ids = {one.name: set(one.runs) for one in paper_studies()}
    in_1a = ids["table1a_mask_ratio"]
    assert in_1a < ids["table1b_batch_size"]
    assert in_1a < ids["figure3_accuracy_vs_time"]
    for ablation in ("table1d_inference", "table1e_tuning", "table1f_reconstruction"):
        assert len(in_1a & ids[ablation]) == 2, ablation
    assert ids["table1e_tuning"] < ids["figure3_accuracy_vs_time"]
    assert len(in_1a & ids["table1c_text_mask"]) == 1
    assert len(ids["table1b_batch_size"] & ids["equal_batch_masks"]) == 3
    for scaling in ("figure4a_model_scaling", "figure4b_data_scaling", "figure4c_schedule_scaling", "section43_cost"):
        assert ids[scaling] < ids["table8_joint_scaling"], scaling
    unmasked = run_of("figure3_accuracy_vs_time", samples=LONG, mask_ratio=0).id
    assert ids["table2_model_size"] & ids["figure3_accuracy_vs_time"] == {unmasked}
    assert ids["table4_datasets"] == ids["table5_retrieval"] == ids["table6_robustness"]
    assert ids["table4_datasets"] | ids["table7_generation"] < ids["table2_model_size"]
    assert unmasked in ids["table3_transfer"] & ids["table7_generation"]
    fine_tuned = {run.id for run in paper_study("table3_transfer").plan.runs if run.settings.fine_tuning}
    assert len(fine_tuned & ids["table8_joint_scaling"]) == 1
    assert ids["figure4a_model_scaling"] < ids["table2_model_size"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("table1a_mask_ratio", 3),
        ("table1b_batch_size", 6 + 1),  # and the unmasked run of Table 1a
        ("table1c_text_mask", 3),
        ("table1d_inference", 2),
        ("table1e_tuning", 4),
        ("table1f_reconstruction", 4),
        ("figure3_accuracy_vs_time", 15),
        ("table2_model_size", 3 + 4),  # CLIP, our repro: B/16, L/16, L/14; FLIP: and H/14
        ("table3_transfer", 2 + 3),  # and with FLIP's L/14 fine-tuned
        ("table4_datasets", 2),
        ("table5_retrieval", 2),
        ("table6_robustness", 2),
        ("table7_generation", 2),
        ("figure4a_model_scaling", 2 * 2),  # before and after tuning
        ("figure4b_data_scaling", 2 * 2),
        ("figure4c_schedule_scaling", 2 * 2),
        ("table8_joint_scaling", 7 * 2),  # 6 rows and one of the repository, zero-shot and fine-tuned
    ],
)
def test_cells_are_the_rows_of_the_table_that_were_trained_for_it(name: str, rows: int) -> None:
    assert len(paper_study(name).plan.cells) == rows


def test_figure_3_has_nine_trainings_and_six_tunings() -> None:
    tuned = [run.settings.tuning is not None for run in paper_study("figure3_accuracy_vs_time").plan.runs]
    assert (tuned.count(False), tuned.count(True)) == (9, 6)


def test_all_files_together_have_so_many_runs() -> None:
    assert sum(paper.all_runs().values()) == 186
    assert len(paper.all_runs()) == 130
    assert not set(paper_study("scaling_laws").runs) & set(paper_study("token_reduction").runs)


# What they cost


def test_flops_of_masked_runs_are_those_of_table_1a() -> None:
    none, half, most = (run_of("table1a_mask_ratio", mask_ratio=mask).cost for mask in (0, 0.5, 0.75))
    assert round(half.flops_per_sample / none.flops_per_sample, 2) == 0.52
    assert round(most.flops_per_sample / none.flops_per_sample, 2) == 0.28


def test_the_text_tower_takes_the_share_of_the_image_tower_that_section_4_1_states() -> None:
    found = flops(architecture("ViT-L-16"), 0, 32)
    assert round(found.text_forward / found.image_forward, 3) == 0.044


def test_masking_half_of_the_text_saves_what_table_1c_says() -> None:
    """Its times are 0.92 of those with whole texts."""
    none, *masked = (run.cost.flops_per_sample for run in runs_of("table1c_text_mask"))
    assert [found / none for found in masked] == pytest.approx([0.92, 0.92], abs=0.01)


@pytest.mark.parametrize(
    ("mask", "hours"),
    # Figure 3, after 6.4, 12.8 and 32 epochs: hours on 256 TPU-v3 cores, without tuning.
    [(0, (46.7, 93.3, 233.5)), (0.5, (22.9, 46.3, 115.4)), (0.75, (15.6, 30.9, 77.4))],
)
def test_hours_on_the_paper_s_machine_hold_those_of_figure_3(mask: float, hours: tuple[float, ...]) -> None:
    machine = Resources(gpus=256, device="TPU-v3", software=2022)
    runs = runs_of("figure3_accuracy_vs_time", mask_ratio=mask, **UNTUNED)
    for run, published in zip(runs, hours, strict=True):
        found = cost(run.settings, machine).hours
        assert found.low < 256 * published < found.high


def test_training_flops_are_those_of_the_models_at_12_8b_samples() -> None:
    """6 x forward multiply-adds x samples, of L/16 at 0, 50 and 75 %, and of H/14 at 50 %."""
    runs = [run_of("figure3_accuracy_vs_time", samples=LONG, mask_ratio=m, **UNTUNED) for m in (0, 0.5, 0.75)]
    large = [
        run_of("table8_joint_scaling", model="ViT-H-14", data_size=2_000_000_000, samples=samples, tuning=None)
        for samples in (LONG, 2 * LONG)
    ]
    found = [run.cost.train_flops for run in (*runs, *large)]
    assert found == pytest.approx([4.9e21, 2.6e21, 1.4e21, 7.1e21, 1.4e22], rel=0.03)


def test_the_joint_run_takes_the_share_of_openclip_s_that_section_4_3_states() -> None:
    """1.25 times fewer samples and half the time by the mask: 2.5 times less, and 5 times less at 12.8B samples."""
    openclip = 32e9 * flops(architecture("ViT-H-14"), 0, 77).total  # arXiv 2212.07143: 32B samples, texts of 77 tokens
    for samples, times in ((2 * LONG, 2.5), (LONG, 5.0)):
        masked, tuned = runs_of("section43_cost", samples=samples)
        assert openclip / (masked.cost.train_flops + tuned.cost.train_flops) == pytest.approx(times, rel=0.03)


def test_memory_is_that_of_footnote_1() -> None:
    """25.5, 23.9 and 24.5 GB on 256 GPUs with the software of 2022, at 0, 50 and 75 %."""
    machine = Resources(gpus=256, device="A100-80GB", software=2022)
    runs = [run_of("table1a_mask_ratio", mask_ratio=mask) for mask in (0, 0.5, 0.75)]
    found = [cost(run.settings, machine).memory_bytes / 1e9 for run in runs]
    assert found == pytest.approx([25.5, 23.9, 24.5], rel=0.3)


# Schedules


def test_epochs_are_those_of_the_paper() -> None:
    """Table 10 and Table 8: 6.4, 12.8, 32 and 64 epochs of 400M, and 6.4 and 12.8 of 2B."""

    def epochs(name: str) -> set[float]:
        return {run.settings.samples / (run.settings.data_size or 0) for run in paper_study(name).plan.runs}

    assert epochs("table1a_mask_ratio") == {6.4}
    assert epochs("figure3_accuracy_vs_time") == {6.4, 12.8, 32}
    assert epochs("figure4b_data_scaling") == {32, 6.4}
    assert epochs("figure4c_schedule_scaling") == {32, 64}
    assert epochs("table8_joint_scaling") == {32, 64, 6.4, 12.8}


def test_steps_are_those_of_the_released_code_but_for_its_shorter_epochs() -> None:
    """Its epochs are of 1,281,167 samples in whole batches, 2,000 or 10,000 of them: 64k batches see 2.7 % fewer."""
    for name, epochs in (("table1b_batch_size", 2000), ("figure3_accuracy_vs_time", 10_000)):
        runs = [run for run in runs_of(name, **UNTUNED) if run.settings.samples in (2_560_000_000, 12_800_000_000)]
        for run in runs:
            if run.settings.samples != epochs * 1_280_000:
                continue
            batch, samples = run.settings.batch_size, run.settings.samples
            whole = 1_281_167 // batch
            assert run.cost.steps == (2 * samples + batch) // (2 * batch)
            assert abs(run.cost.samples_seen - samples) < batch
            assert {16384: 78, 32768: 39, 65536: 19}[batch] == whole
            assert run.cost.steps / (epochs * whole) == pytest.approx(1.028 if batch == 65536 else 1.002, abs=0.001)


def test_learning_rates_and_warmups_are_those_of_table_10_and_the_released_configurations() -> None:
    for one in paper_studies():
        for run in one.plan.runs:
            settings = run.settings
            if one.name in ("scaling_laws", "token_reduction"):
                continue
            halved = settings.data_size == 2_000_000_000 and settings.samples == 25_600_000_000
            base = 2e-6 if halved else 4e-6
            assert settings.lr == pytest.approx(base * settings.batch_size / 256)
            assert settings.warmup == (256_000_000 if settings.model == "ViT-H-14" else 51_200_000)
            assert (settings.weight_decay, settings.beta1, settings.beta2, settings.text_length) == (0.2, 0.9, 0.95, 32)
    rates = {run.settings.batch_size: run.settings.lr for run in paper_study("table1b_batch_size").plan.runs}
    assert rates == pytest.approx({16384: 2.56e-4, 32768: 5.12e-4, 65536: 1.024e-3})


def test_tunings_are_0_32_epochs_at_a_hundredth_of_the_learning_rate() -> None:
    tuned = [run.settings for one in paper_studies() if one.name != "token_reduction" for run in one.plan.runs]
    tuned = [one for one in tuned if one.tuning is not None and one.fine_tuning is None]
    assert len(tuned) > 10
    for settings in tuned:
        own = stage(settings)
        assert own.samples == 0.32 * 400_000_000
        assert own.mask_ratio == 0
        assert own.lr == pytest.approx(settings.lr / 100)
        assert own.warmup == 25_600_000


def test_fine_tuning_is_that_of_table_12() -> None:
    """50 epochs of ImageNet's 1,281,167 images in batches of 1,024, a tenth of them warm-up."""
    for name in ("table3_transfer", "table8_joint_scaling"):
        fine = [run.settings.fine_tuning for run in paper_study(name).plan.runs if run.settings.fine_tuning]
        assert len(fine) in (3, 7)
        for options in fine:
            assert options.samples == pytest.approx(50 * 1_281_167, rel=0.001)
            assert (options.batch_size, options.weight_decay, options.beta1, options.beta2) == (1024, 0.05, 0.9, 0.999)
            assert (options.layer_decay, options.label_smoothing, options.mixup, options.cutmix) == (0.75, 0.1, 0.8, 1)
            assert (options.drop_path, options.randaugment) == (0.2, 9)
