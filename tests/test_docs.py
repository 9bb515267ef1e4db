"""What the documents say of the code is what the code says."""

import re
from pathlib import Path

import pytest

import flipscale
from docs.parts import generated
from docs.parts.studies import committed
from flipscale.planning.identity import stage
from flipscale.planning.runs import Plan, plan
from flipscale.settings.architecture import architecture
from flipscale.study import read_study

FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", generated.PARTS)
def test_generated_part_is_up_to_date(name: str) -> None:
    path, text, right = generated.filled(name)
    assert text == right, f"{path.name} is behind the code; run `make docs`"


def test_every_public_name_is_described() -> None:
    assert sorted(generated.SHOWN_NAMES) == dir(flipscale)


def test_links_between_documents_lead_somewhere() -> None:
    documents = [generated.ROOT / "README.md", *sorted((generated.ROOT / "docs").rglob("*.md"))]
    missing = [
        f"{document.name}: {link}"
        for document in documents
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", FENCED.sub("", document.read_text()))
        if not (document.parent / link).exists()
    ]
    assert missing == []


def test_the_committed_figures_are_those_that_pages_show() -> None:
    documents = [generated.ROOT / "README.md", *sorted((generated.ROOT / "docs").rglob("*.md"))]
    shown = {
        (document.parent / link).resolve()
        for document in documents
        for link in re.findall(r"!\[[^\]]*\]\(([^)]*plots/[^)]*)\)", document.read_text())
    }
    assert set(committed("plots")) == shown
    assert {path.suffix for path in shown} == {".svg"}


def test_a_checkout_is_small() -> None:
    """A machine that takes a working tree of at most 64 MB takes it."""
    assert len(committed("plots")) <= 90
    assert sum(path.stat().st_size for path in committed("plots")) <= 8_000_000
    assert sum(path.stat().st_size for path in committed(".")) <= 60_000_000


def by_hand(page: Path) -> str:
    """A page without the parts that come from the code."""
    text = page.read_text(encoding="utf-8")
    for name in generated.PARTS:
        file, _, part = name.partition("#")
        if page == generated.ROOT / file:
            text = re.sub(rf"(<!-- {part} -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.DOTALL)
    return text


def test_pages_stay_short_enough_to_be_read() -> None:
    docs = generated.ROOT / "docs"
    pages = [page for page in docs.rglob("*.md") if page.name != "log.md"]
    assert sum(len(by_hand(page).encode()) for page in pages) <= 180_000
    assert len((docs / "log.md").read_bytes()) <= 16_000
    assert len((generated.ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_every_page_begins_with_what_it_is_for() -> None:
    firsts = {page.name: by_hand(page).split("\n\n")[1] for page in (generated.ROOT / "docs").rglob("*.md")}
    assert [name for name, first in firsts.items() if not re.match(r"\*{0,2}`?\w", first)] == []


def test_the_first_page_lists_every_command() -> None:
    page = (generated.ROOT / "docs" / "index.md").read_text()
    commands = re.findall(r"^\$ flipscale (\w+) --help", generated.commands(), re.MULTILINE)
    assert len(commands) > 15
    assert [name for name in commands if f"`{name}`" not in page] == []


def recipe(name: str) -> Plan:
    """The plan of a study that docs/stages.md shows."""
    file = generated.ROOT / f"studies/stages/{name}.yaml"
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 12
    return plan(read_study(file))


def test_reclip_is_a_study_of_ten_lines() -> None:
    planned = recipe("reclip")
    (warning,) = planned.warnings  # Images of 64 px make a step so short that 64 GPUs wait for their network.
    assert warning.startswith("1 run limited by the network: ")
    assert [(run.settings.image_size, stage(run.settings).image_size, len(run.parents)) for run in planned.cells] == [
        (size, now, int(tuned)) for size in (224, 112, 64) for now, tuned in ((size, False), (224, True))
    ]
    tokens = {
        run.settings.image_size: architecture("ViT-L-16", run.settings.image_size).tokens(0) for run in planned.runs
    }
    assert tokens == {224: 197, 112: 50, 64: 17}
    full, _, _, _, small, tuning = planned.cells
    assert round(full.cost.flops_per_sample / small.cost.flops_per_sample, 1) == 8.1
    assert tuning.cost.flops_per_sample == full.cost.flops_per_sample
    assert tuning.id.startswith("ViT-L-16_laion_2.56B_m0_t128M-224px_s0_")


def test_growing_images_are_a_study_of_ten_lines() -> None:
    planned = recipe("progressive")
    full, *stages = planned.runs
    assert [stage(run.settings).image_size for run in (full, *stages)] == [224, 112, 160, 224]
    assert sum(run.cost.train_flops for run in stages) == pytest.approx(full.cost.train_flops, rel=0.01)
    # 49, 100 and 196 patches: the same FLOPs pay for over twice the samples.
    assert 2 < stages[-1].settings.samples / full.settings.samples < 3


def test_openvision_is_a_study_of_twelve_lines() -> None:
    first, second, third = recipe("openvision").runs
    assert first.settings.stages is None
    assert [stage(run.settings).image_size for run in (first, second, third)] == [84, 224, 336]
    assert [stage(run.settings).warmup for run in (first, second, third)] == [51_200_000, 25_600_000, 0]
    assert third.parents == (second.id,)


def test_clipa_is_a_study_of_ten_lines() -> None:
    planned = recipe("clipa")
    assert planned.warnings == []
    parent, child = planned.runs
    staged = stage(child.settings)
    assert [(each.image_size, each.text_length) for each in (parent.settings, staged)] == [(96, 8), (224, 32)]
    assert architecture("ViT-L-16", 96).tokens(0) == 37
    # Warm-up steps of its scripts: 1563 and 3571.
    assert [each.warmup / each.batch_size for each in (parent.settings, staged)] == pytest.approx([1563, 3571], abs=0.6)
    assert staged.lr == 2.24e-5
    assert child.cost.flops_per_sample > 3 * parent.cost.flops_per_sample
