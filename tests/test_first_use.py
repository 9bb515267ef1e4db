"""What a new user meets first: the bare command, the cost before the start, a study without scores, results folders."""

import io
import re
import shutil
import tarfile
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import flipscale as package
from flipscale.planning.runs import plan
from flipscale.study import read_study
from flipscale.workflow.opened import cost_in_words
from tests.commands import flipscale

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

PLAIN = "schema: 1\nbase: {data: shapes, model: ViT-w16d1-4, samples: 320, batch_size: 32, lr: 1e-3}\n"
SHARDS = PLAIN.replace("shapes", "{webdataset: 'shards/{0..1}.tar'}")


def write_shards(folder: Path) -> None:
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for number in range(40):
                image = io.BytesIO()
                Image.new("RGB", (28, 28), (6 * number, 90, 100 * shard)).save(image, "PNG")
                for suffix, data in (("png", image.getvalue()), ("txt", f"colour {number}".encode())):
                    member = tarfile.TarInfo(f"{shard}{number:03}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def test_the_bare_command_prints_help_and_ends_well(tmp_path: Path) -> None:
    done = flipscale(cwd=tmp_path)
    assert done.stdout == flipscale("--help", cwd=tmp_path).stdout
    assert "A first study: flipscale init" in done.stdout


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert package.__version__ == version
    assert flipscale("--version", cwd=tmp_path).stdout == f"flipscale {version}\n"


def test_readme_and_quickstart_say_how_the_command_gets_onto_the_path() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    assert readme.index("source .venv/bin/activate") < readme.index("flipscale init")
    quickstart = makefile[makefile.index("\nquickstart:") : makefile.index("\ntest:")]
    assert quickstart.index("flipscale run") < quickstart.index("source .venv/bin/activate")


def test_the_study_of_the_study_page_plans_without_data_or_warnings(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "study.md").read_text()
    written = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert written
    (tmp_path / "headline.yaml").write_text(written[1])
    planned = plan(read_study(tmp_path / "headline.yaml"))
    assert len(planned.runs) == 9
    assert planned.warnings == []
    assert f"{cost_in_words(planned)}, and 22 to 25 GiB on each GPU" in page.replace("\n", " ")
    gib = [run.cost.memory_bytes / 2**30 for run in planned.runs]
    assert (round(min(gib)), round(max(gib))) == (22, 25)


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ("", "No evaluation is declared for shards, so the runs will have training loss and cost, but no scores"),
        ("axes: {data: [shapes, {webdataset: 'shards/{0..1}.tar'}]}\n", "for shards, so 1 of 2 runs will have"),
        ("evaluation: {data: shapes}\n", None),
        ("evaluation: {sets: {held: {webdataset: held.tar}}}\n", None),
        ("axes: {trainer: [{command: {arguments: [python, train.py]}}]}\n", None),
    ],
)
def test_a_plan_warns_of_runs_without_scores(tmp_path: Path, more: str, warned: str | None) -> None:
    base = re.sub(r"data: \{.*?\}, ", "", SHARDS) if more.startswith("axes: {data") else SHARDS
    (tmp_path / "study.yaml").write_text(base + more)
    warnings = plan(read_study(tmp_path / "study.yaml")).warnings
    assert len(warnings) == (warned is not None)
    assert (warned or "") in "".join(warnings)


def test_run_says_the_cost_first_and_reports_a_study_without_scores(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    (tmp_path / "study.yaml").write_text(SHARDS + "axes: {mask_ratio: [0, 0.5]}\n")
    planned = flipscale("plan", "study.yaml", cwd=tmp_path).stdout.splitlines()
    (total,) = [line for line in planned if line.startswith("2 runs, ")]
    done = flipscale("run", "study.yaml", "--no-mlflow", cwd=tmp_path)
    said = done.stderr
    order = [f"plan: {total}", "warning: No evaluation is declared for shards", "submitted 2 runs", "2 of 2 finished"]
    assert sorted(order, key=said.index) == order
    assert "comparison   these runs cannot be compared" in done.stdout
    page = (tmp_path / "plots/study/report.html").read_text()
    assert "2 of 2 runs finished" in page
    assert "Losses at different mask ratios are not comparable" in page
    assert "No run of these results has a score" in flipscale("compare", "study.yaml", cwd=tmp_path, code=1).stderr


def test_plan_and_status_name_the_results_folder(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(PLAIN)
    new = f"results folder: {tmp_path}/results/study (new; --results or FLIPSCALE_RESULTS names another)\n"
    assert new in flipscale("status", "study.yaml", cwd=tmp_path).stderr
    assert new in flipscale("plan", "study.yaml", cwd=tmp_path).stderr
    assert flipscale("plan", "study.yaml", cwd=tmp_path).stderr == f"results folder: {tmp_path}/results/study\n"
    (tmp_path / "other").mkdir()
    said = flipscale("status", "../study.yaml", "--results", "../results", cwd=tmp_path / "other").stderr
    assert said == f"results folder: {tmp_path}/results/study\n"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two studies of one name in the folders a and b, with one results folder; that of a is planned."""
    monkeypatch.setenv("FLIPSCALE_RESULTS", str(tmp_path / "results"))
    for name, samples in (("a", 320), ("b", 640)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mask.yaml").write_text(PLAIN.replace("320", str(samples)))
    flipscale("plan", "a/mask.yaml", cwd=tmp_path)
    return tmp_path


def test_two_studies_of_one_name_do_not_overwrite_each_other(two: Path) -> None:
    before = (two / "results/mask/plan.json").read_bytes()
    for verb in ("plan", "submit", "collect", "status", "report"):
        said = flipscale(verb, "b/mask.yaml", cwd=two, code=1).stderr
        assert said.startswith(
            f"{two}/results/mask holds the results of {two}/a/mask.yaml, and {two}/b/mask.yaml has the same name."
        )
    assert (two / "results/mask/plan.json").read_bytes() == before
    flipscale("plan", "b/mask.yaml", "--results", "elsewhere", cwd=two)
    (two / "results/mask/.study").unlink()
    flipscale("plan", "b/mask.yaml", cwd=two)
    assert f"results of {two}/b/mask.yaml" in flipscale("plan", "a/mask.yaml", cwd=two, code=1).stderr


def test_an_edited_a_moved_and_a_linked_study_keep_their_results(two: Path) -> None:
    study = two / "a/mask.yaml"
    study.write_text(study.read_text().replace("320", "960"))
    flipscale("plan", "a/mask.yaml", cwd=two)
    flipscale("plan", "mask.yaml", cwd=two / "a")
    (two / "c").mkdir()
    (two / "c/mask.yaml").symlink_to(study)
    flipscale("plan", "c/mask.yaml", cwd=two)
    (two / "b/mask.yaml").unlink()
    study.rename(two / "b/mask.yaml")
    flipscale("plan", "b/mask.yaml", cwd=two)
    assert (two / "results/mask/.study").read_text().startswith("../../b/mask.yaml\n")


def test_a_copy_of_studies_and_results_together_can_be_edited(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "results"):
        shutil.copytree(two / name, two / "copy" / name)
    monkeypatch.setenv("FLIPSCALE_RESULTS", str(two / "copy/results"))
    study = two / "copy/a/mask.yaml"
    study.write_text(study.read_text().replace("320", "960"))
    flipscale("plan", "copy/a/mask.yaml", cwd=two)
    assert "has the same name" in flipscale("plan", "a/mask.yaml", cwd=two, code=1).stderr
