"""A committed study in a fresh clone, without run folders: what its commands find, and what they leave alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flipscale
from docs.parts.studies import committed
from flipscale.cli import main
from flipscale.errors import ResultsError
from flipscale.workflow.results import agree

ROOT = Path(__file__).parents[1]

NAME = "plateau_sets"
"""A committed study of 20 runs, of 5 seeds and 4 arms."""

FITTED = [path.parent.name for path in committed("results/*/fits.json")]

LOOKS = (
    "plan",
    "status",
    "collect --no-mlflow",
    "fit",
    "compare",
    "plot",
    "report",
    "export --to csv",
    "status --spent",
)


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=a reader", "-c", "user.email=reader@localhost")
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout


def cloned(place: Path, name: str) -> Path:
    """A repository with what is committed of one study; the file of the study."""
    for path in (
        ROOT / ".gitignore",
        ROOT / f"studies/{name}.yaml",
        *committed(f"results/{name}/*"),
        *committed(f"plots/{name}/*"),
    ):
        there = place / path.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)
    os.chdir(place)
    git("init", "--quiet")
    git("add", "--force", ".")  # The figures that pages link are tracked; git ignores the others.
    git("commit", "--quiet", "--message", "as it is")
    return Path(f"studies/{name}.yaml")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a committed study in a clone of its own, which is the working directory."""
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    return cloned(tmp_path, NAME)


def edited(study: Path, pattern: str, new: str) -> None:
    text, number = re.subn(pattern, new, study.read_text(), flags=re.MULTILINE)
    assert number == 1
    study.write_text(text)
    git("commit", "--quiet", "--all", "--message", "another study")


# Looking changes nothing


@pytest.mark.slow
@pytest.mark.parametrize("name", [NAME, "mosaic", "flip_lr"])
def test_looking_at_a_committed_study_changes_no_tracked_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    study = cloned(tmp_path, name)
    for look in LOOKS:
        main([*look.split(), str(study)])
        assert git("status", "--short") == "", look


def test_plan_json_of_no_study_is_committed() -> None:
    assert committed("results/*/plan.json") == []


@pytest.mark.slow
def test_another_processor_fits_the_committed_laws() -> None:
    """By the kernels that BLAS and numpy choose on a processor without AVX-512."""
    about = Path("/proc/cpuinfo")
    flags = about.read_text() if about.exists() else ""
    if "avx2" not in flags:
        pytest.skip("this processor has no avx2, which these kernels need")
    variables = {"OPENBLAS_CORETYPE": "Haswell"}
    if "avx512f" in flags:
        variables["NPY_DISABLE_CPU_FEATURES"] = "X86_V4"
    each = "import sys; from flipscale.cli import main; [main(['fit', file, '--json']) for file in sys.argv[1:]]"
    command = [sys.executable, "-c", each, *(f"studies/{name}.yaml" for name in FITTED)]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    said, decoder = done.stdout, json.JSONDecoder()
    for name in FITTED:
        found, end = decoder.raw_decode(said)
        said = said[end:].lstrip()
        kept = json.loads((ROOT / f"results/{name}/fits.json").read_text())
        for now, then in zip(found["fits"], kept["fits"], strict=True):
            assert agree(then, now), (name, now["law"], now["group"])
        assert agree(kept, found), name
    assert said == ""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ({"a": [0.5, 2]}, {"a": [0.5004, 2]}, True),
        ({"a": [0.5, 2]}, {"a": [0.502, 2]}, False),
        ({"seeds": 2000}, {"seeds": 2001}, False),
        ({"a": 0}, {"a": 1e-17}, True),
        ({"a": None}, {"a": 0.0}, False),
        ({"a": 1.0, "b": 1.0}, {"a": 1.0}, False),
        ({"a": "16k"}, {"a": "32k"}, False),
        ({"a": 0.5, "agree": 23}, {"a": 0.5, "agree": 22}, True),
    ],
)
def test_values_agree_if_rounding_explains_their_difference(old: object, new: object, same: bool) -> None:
    assert agree(old, new) is same


# A table that is not of the study


def test_a_table_of_runs_with_another_rate_is_refused_and_nothing_is_written(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(study, r"^  weight_decay: 0.1$", "  weight_decay: 0.2")
    for verb in ("compare", "fit", "plot", "export --to csv"):
        assert main([*verb.split(), str(study)]) == 1
        assert f"none of its 20 runs is one of {study} as it is now" in capsys.readouterr().err
    with pytest.raises(ResultsError, match="none of its 20 runs"):
        flipscale.results(study)
    main(["report", str(study)])
    assert "No finished run has been collected yet" in Path(f"plots/{NAME}/report.html").read_text()
    main(["collect", str(study), "--no-mlflow"])
    assert git("status", "--short") == ""


def test_of_a_table_with_more_seeds_only_the_study_s_count(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(study, r"^seeds: .*$", "seeds: 2")
    assert main(["compare", str(study), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pairs"]) == 3
    assert sorted(flipscale.results(study)["seed"]) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert git("status", "--short") == ""


def test_runs_that_a_committed_table_lacks_are_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(study, r"^seeds: .*$", "seeds: 7")
    for verb in ("compare", "plot", "report"):
        assert main([verb, str(study)]) == 0
        said = capsys.readouterr().err
        assert f"results/{NAME}/results.csv lacks 8 runs of 28: " in said
        assert len(re.findall(r"_s[56]_", said)) == 3
        assert "and 5 more" in said
    assert git("status", "--short") == ""


# Run folders


@pytest.fixture
def merged(study: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    main(["merge", f"results/{NAME}/runs.tar.bz2"])
    return study


def finished(study: Path) -> list[str]:
    return [run.id for run in flipscale.plan(study).cells]


def test_after_a_merge_everything_is_found(merged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(flipscale.results(merged)) == 20
    main(["compare", str(merged)])
    said = capsys.readouterr().err
    assert f"up to date: results/{NAME}/comparison.json" in said
    assert git("status", "--short") == ""


def test_collect_leaves_a_table_alone_that_has_more_runs_of_the_study(
    merged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *others = finished(merged)
    for run_id in others:
        shutil.rmtree(f"results/runs/{run_id}")
    main(["collect", str(merged), "--no-mlflow"])
    said = capsys.readouterr().err
    assert f"kept results/{NAME}/results.csv as it is: the folders of 19 runs are not here." in said
    assert "`flipscale merge results/" in said
    assert git("status", "--short") == ""
    main(["merge", f"results/{NAME}/runs.tar.bz2"])
    main(["collect", str(merged), "--no-mlflow"])
    assert f"results/{NAME}/results.csv is up to date (20 of 20 runs" in capsys.readouterr().err


def test_a_table_of_other_runs_is_kept_beside_that_of_the_study(
    merged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, other = Path(f"results/{NAME}/results.csv"), Path(f"results/{NAME}/results.without_runs.csv")
    rows = re.sub(r"(?m)^(ViT-[^,]*),", r"\1x,", table.read_text())
    table.write_text(rows)
    main(["collect", str(merged), "--no-mlflow"])
    assert f"is copied to {other.name}. `flipscale merge results/" in capsys.readouterr().err
    assert other.read_text() == rows
    assert list(flipscale.results(merged)["id"]) == finished(merged)


@pytest.mark.parametrize("look", [["compare"], ["plot"]], ids=" ".join)
def test_runs_that_have_finished_since_are_collected_first(
    look: list[str], merged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path(f"results/{NAME}/results.csv")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:5]))
    assert main([*look, str(merged)]) == 0
    assert f"wrote {table} (20 of 20 runs" in capsys.readouterr().err
    changed = [line[3:] for line in git("status", "--short").splitlines()]
    # A run folder says what guessing gives, which a committed table does not: figures show it where there are folders.
    assert [path for path in changed if not (look == ["plot"] and path.startswith("plots/"))] == []


def test_numbers_that_other_runs_would_change_are_written(merged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = Path(f"results/{NAME}/comparison.json")
    kept = comparison.read_text()
    comparison.write_text(kept.replace('"gain": ', '"gain": 1'))
    main(["compare", str(merged)])
    assert f"wrote {comparison} and " in capsys.readouterr().err
    assert comparison.read_text() == kept
