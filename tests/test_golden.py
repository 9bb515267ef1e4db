"""What must stay as it is while the code changes: plans, tables, comparisons, fits, figures, sentences, exit codes.

tests/golden/ has what is committed nowhere else; tables, comparisons and fits are held to those of results/. A change
that is meant: `pytest tests/test_golden.py --update-golden`, then read the difference.
"""

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from docs.parts.studies import committed
from flipscale.analysis.plotting import FIGURES
from flipscale.cli import main
from flipscale.planning.runs import plan
from flipscale.run import RunFolder, State
from flipscale.study import read_study
from tests.commands import flipscale
from tests.conftest import Golden, same_but_for_rounding

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/golden"

PLANNED = [str(path.relative_to(ROOT / "studies").with_suffix("")) for path in committed("studies/*.yaml")]
PLANNED = [name for name in PLANNED if "shared" not in name]
"""Studies by their paths in studies/; those of studies/paper/shared are parts of others."""

ARCHIVED = [path.parent.name for path in committed("results/*/runs.tar.bz2")]
FITTED = [path.parent.name for path in committed("results/*/fits.json")]


def run(*arguments: str) -> tuple[int, str]:
    """The exit code of a command, and its stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue()


# Plans


@pytest.mark.parametrize("name", PLANNED)
def test_every_study_plans_the_same_runs_at_the_same_cost(name: str, tmp_path: Path, golden: Golden) -> None:
    code, out = run("plan", str(ROOT / f"studies/{name}.yaml"), "--json", "--results", str(tmp_path))
    assert code == 0
    planned = json.loads(out)
    rows = ["id,parents,train_flops,gpu_hours,memory_bytes"]
    for each in planned["runs"]:
        cost = each["cost"]
        numbers = (cost["train_flops"], f"{cost['gpu_hours']:.4g}", cost["memory_bytes"])
        rows.append(",".join(map(str, (each["id"], " ".join(each["parents"]), *numbers))))
    golden(GOLDEN / f"plans/{Path(name).name}.csv", "\n".join(rows) + "\n")


# What an archive gives


class Analysed:
    """A study whose archive alone was merged into a folder of its own, and all that is made of it there."""

    def __init__(self, name: str, place: Path) -> None:
        self.file, self.results, self.plots = ROOT / f"studies/{name}.yaml", place / "results", place / "plots"
        self.tables = self.results / name
        self._place = "--results", str(self.results)
        run("merge", str(ROOT / f"results/{name}/runs.tar.bz2"), *self._place)
        run("collect", str(self.file), *self._place, "--no-mlflow")
        if name in FITTED:
            run("fit", str(self.file), *self._place)
        self.comparison = run("compare", str(self.file), *self._place)[1]
        """What `compare` prints."""

    def figures(self) -> dict[str, str]:
        """What each figure draws."""
        drawn: dict[str, str] = {}

        def describe_in_place_of_saving(figure: Figure, file: Any, **_: object) -> None:
            name = Path(getattr(file, "name", file)).name.lstrip(".").partition(".")[0]
            if name not in drawn:
                drawn[name] = "".join(describe(axes) for axes in figure.axes)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", describe_in_place_of_saving)
            run("plot", str(self.file), *self._place, "--plots", str(self.plots))
        return drawn


@pytest.fixture(scope="module")
def analyse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Analysed]:
    """What a study's archive gives, by the study's name; each is merged once."""
    return cache(lambda name: Analysed(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(params=ARCHIVED)
def analysed(request: pytest.FixtureRequest, analyse: Callable[[str], Analysed]) -> Analysed:
    return analyse(request.param)


def test_no_run_is_left_to_do_after_its_archive_is_merged(analysed: Analysed) -> None:
    planned = plan(read_study(analysed.file))
    assert {RunFolder(analysed.results / "runs" / run.id).state() for run in planned.runs} == {State.FINISHED}


def cells(table: Path) -> list[list[object]]:
    """A table with its numbers as numbers; true and True are alike."""

    def value(text: str) -> object:
        with contextlib.suppress(ValueError):
            return float(text)
        return text.lower() if text.lower() in ("true", "false") else text

    with table.open(newline="", encoding="utf-8") as file:
        return [list(map(value, row)) for row in csv.reader(file)]


def test_an_archive_gives_the_committed_table_cell_by_cell(analysed: Analysed) -> None:
    assert cells(analysed.tables / "results.csv") == cells(ROOT / f"results/{analysed.file.stem}/results.csv")


def leaves(data: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Every number, word and null of JSON with its place."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, f"{place}.{key}")
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from leaves(value, f"{place}[{i}]")
    else:
        yield place, data


def same_json(made: Path, kept: Path, rel: float, without: str = "") -> None:
    """Compare two files of JSON, their numbers to `rel`; places that end with `without` may differ.

    How many starts of a search agree depends on the processor, in numbers and in sentences.
    """

    def read(file: Path) -> dict[str, object]:
        return dict(leaves(json.loads(re.sub(r"\d+ of \d+ starts agree", "starts agree", file.read_text()))))

    found, expected = read(made), read(kept)
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        if not (without and place.endswith(without)):
            close = pytest.approx(value, rel=rel, abs=1e-12) if isinstance(value, float) else value
            assert found[place] == close, place


def test_a_committed_comparison_is_what_its_archive_gives(analysed: Analysed) -> None:
    kept = ROOT / f"results/{analysed.file.stem}/comparison.json"
    same_json(analysed.tables / "comparison.json", kept, rel=1e-6)


def test_a_committed_comparison_in_words_is_what_its_archive_gives(analysed: Analysed, golden: Golden) -> None:
    kept = ROOT / f"results/{analysed.file.stem}/comparison.md"
    golden(kept, (analysed.tables / "comparison.md").read_text(), rounded=True)


@pytest.mark.parametrize("name", ["fashion", "recipe", "plateau_sets"])
def test_compare_prints_the_same(name: str, analyse: Callable[[str], Analysed], golden: Golden) -> None:
    golden(GOLDEN / f"compare/{name}.txt", analyse(name).comparison, rounded=True)


@pytest.mark.parametrize("name", FITTED)
def test_committed_laws_are_what_the_archive_gives(name: str, analyse: Callable[[str], Analysed]) -> None:
    # Rounding of another processor may bring one start of the search more or less to its end.
    same_json(analyse(name).tables / "fits.json", ROOT / f"results/{name}/fits.json", rel=1e-3, without=".agree")


# Figures


def describe(axes: Axes) -> str:
    """The numbers that a panel draws, in the units of its data: a line for each artist, in the order of letters."""
    titles = [axes.get_title(loc=where) for where in ("left", "center", "right")]
    names = [*titles, axes.get_xlabel(), axes.get_ylabel()]
    lines = ["[" + " | ".join(name.replace("\n", " / ") for name in names if name) + "]"]
    ends = {point for line in axes.lines for point in map(tuple, _points(line))}
    for artist in axes.get_children():
        # The stems of bars end where their caps stand, which are lines.
        if not ends.issuperset(map(tuple, points := _points(artist))) or (isinstance(artist, Line2D) and len(points)):
            label = str(artist.get_label())
            lines.append(f"{'line' if label.startswith('_') else label}: {_in_short(points)}")
    return "\n".join((lines[0], *sorted(lines[1:]), ""))


def _points(artist: Artist) -> "np.ndarray[Any, Any]":
    """The points of an artist in the coordinates of the data; none for what is in those of the panel."""
    if isinstance(artist, Line2D) and artist.axes and artist.get_transform() == artist.axes.transData:
        return np.asarray(artist.get_xydata(), float)
    if isinstance(artist, PathCollection):
        return np.ma.filled(artist.get_offsets(), np.nan)
    if isinstance(artist, Collection):
        return np.concatenate([np.empty((0, 2)), *(path.vertices for path in artist.get_paths())])
    return np.empty((0, 2))


WHOLE, SHOWN = 12, 6
"""The most points of an artist that are written; and of more, how many, spread evenly."""


def _in_short(points: "np.ndarray[Any, Any]") -> str:
    number = f"({len(points)}) " if len(points) > WHOLE else ""
    shown = SHOWN if number else WHOLE
    chosen = points[np.unique(np.linspace(0, len(points) - 1, shown).round().astype(int))]
    return number + " ".join(f"{x:.3g},{y:.3g}" for x, y in chosen)


DRAWN = ("icons", "isoflop", "mosaic", "recipe")
"""Studies whose figures are of every kind."""


def test_figures_draw_the_same_numbers(analyse: Callable[[str], Analysed], golden: Golden) -> None:
    kinds: set[str] = set()
    for name in DRAWN:
        figures = analyse(name).figures()
        kinds |= figures.keys()
        text = "".join(f"# {figure}\n{drawn}\n" for figure, drawn in figures.items())
        golden(GOLDEN / f"figures/{name}.txt", text, rounded=True)
    assert kinds == set(FIGURES) - {"tune"}  # No committed study has a sweep of its own: tests/test_tune.py draws one.


# The run folder, and exit codes


def keys(record: object) -> str:
    """The keys of a JSON object, with those of objects in it."""
    if not isinstance(record, dict):
        return ""
    inner = ((key, keys(value)) for key, value in record.items())
    return ", ".join(f"{key} ({below})" if below else key for key, below in inner)


@pytest.mark.slow
def test_a_run_leaves_the_same_files_with_the_same_keys(tmp_path: Path, golden: Golden) -> None:
    (tmp_path / "tiny.yaml").write_text(
        "schema: 1\nbase: {data: shapes, model: ViT-w16d1-4, samples: 320, batch_size: 32, lr: 1e-3}\n"
        "keep_weights: all\n"
    )
    flipscale("submit", "tiny.yaml", cwd=tmp_path)
    (folder,) = (tmp_path / "results/runs").iterdir()
    lines = [folder.name]
    for file in sorted(folder.iterdir()):
        text = file.read_text() if file.suffix in (".json", ".jsonl") else ""
        records = text.splitlines() if file.suffix == ".jsonl" else filter(None, [text])
        forms = dict.fromkeys(keys(json.loads(record)) for record in records)
        lines += [f"{file.name}: {form}" for form in forms] or [file.name]
    golden(GOLDEN / "run_folder.txt", "\n".join(lines) + "\n")


COMMANDS = """
--help
--version
nothing
init new.yaml
init study.yaml
doctor
plan
plan --check
plan missing.yaml
plan wrong.yaml
plan study.yaml
plan study.yaml --check
plan study.yaml --nothing
probe study.yaml --on nowhere
submit study.yaml --on nowhere
submit study.yaml
status study.yaml
watch study.yaml
logs nothing
cancel study.yaml
status
status --spent
status --why nothing
ledger
why
collect study.yaml --no-mlflow
compare study.yaml
compare other.yaml
compare study.yaml other.yaml
diff study.yaml other.yaml
fit study.yaml
forecast study.yaml
fit study.yaml --forecast samples=1M
plot study.yaml --plots missing.yaml
report study.yaml
export study.yaml --to csv
export study.yaml --to word
archive study.yaml
merge missing.tar.bz2
merge runs.tar.bz2
gc
train
completion bash
--completion bash
"""
"""Commands in a folder with a study whose runs are finished, one that has none, and a wrong one."""


def test_commands_end_with_the_same_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    study = (ROOT / "studies/plateau_sets.yaml").read_text()
    Path("study.yaml").write_text(study)
    Path("other.yaml").write_text(study.replace("weight_decay: 0.1", "weight_decay: 0.2"))
    Path("wrong.yaml").write_text(study.replace("seeds:", "seedz:"))
    Path("runs.tar.bz2").write_bytes((ROOT / "results/plateau_sets/runs.tar.bz2").read_bytes())
    assert run("merge", "runs.tar.bz2")[0] == 0
    golden(
        GOLDEN / "exit_codes.txt", "".join(f"{run(*line.split())[0]} {line}\n" for line in COMMANDS.split("\n")[1:-1])
    )


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("gain 1.2 points", "gain 1.3 points", True),
        ("gain 1.2 points", "gain 1.4 points", False),
        ("gain 1.2 points", "loss 1.2 points", False),
        ("2.84e+06,0.573", "2.85e+06,0.572", True),
        ("2.84e+06", "2.86e+06", False),
        ("1,075 of 3", "1,076 of 3", True),
        ("1 2", "1", False),
    ],
)
def test_rounding_moves_the_last_digit_by_one(old: str, new: str, same: bool) -> None:
    assert same_but_for_rounding(old, new) is same
