"""results.csv edited by hand, torn, or saved by a spreadsheet: each verb says the line and what would be right."""

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flipscale.cli import main
from flipscale.collecting import read_curves, read_results
from flipscale.errors import ResultsError
from flipscale.run import Result, RunFolder, RunRequest
from flipscale.workflow.opened import open_study, write_plan
from flipscale.workspace import Workspace
from tests.test_damaged_files import DAMAGE, NO_FILES, STUDY, patience

Rows = list[list[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of eight finished runs, made by hand and collected."""
    here = tmp_path_factory.mktemp("made")
    (here / "mask.yaml").write_text(STUDY)
    opened = open_study(here / "mask.yaml", Workspace(here / "results", here / "plots"))
    write_plan(opened)
    for number, run in enumerate(opened.plan.runs):
        folder = RunFolder(here / "results" / "runs" / run.id)
        folder.ask(RunRequest.of(run))
        with folder.hold() as lease:
            assert lease is not None
            lease.append([{"step": step, "samples_seen": 32 * step, "loss": 1.0} for step in range(1, 5)])
            lease.write_result(
                Result(scores={"zero_shot_top1": 0.4 + number / 100}, samples_seen=320, gpu_hours=0.1 + number)
            )
    assert main(["collect", str(here / "mask.yaml"), "--results", str(here / "results"), "--no-mlflow"]) == 0
    return here


@pytest.fixture
def table(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results.csv of a study of its own for each test, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    shutil.copy(made / "mask.yaml", "mask.yaml")
    shutil.copytree(made / "results" / "mask", "results/mask")
    return Path("results/mask/results.csv")


def rows_of(table: Path) -> Rows:
    return list(csv.reader(io.StringIO(table.read_text())))


def write(table: Path, rows: Rows, delimiter: str = ",") -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    table.write_text(text.getvalue())


def cell(name: str, value: str) -> Callable[[Path], None]:
    """One cell of the third line has another value."""

    def edit(table: Path) -> None:
        rows = rows_of(table)
        rows[2][rows[0].index(name)] = value
        write(table, rows)

    return edit


def by_rows(edit: Callable[[Rows], Rows], delimiter: str = ",") -> Callable[[Path], None]:
    return lambda table: write(table, edit(rows_of(table)), delimiter)


def by_bytes(edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(table: Path) -> None:
        table.write_bytes(edit(table.read_bytes()))

    return change


def without(*names: str) -> Callable[[Path], None]:
    def edit(rows: Rows) -> Rows:
        kept = [number for number, name in enumerate(rows[0]) if name not in names]
        return [[row[number] for number in kept] for row in rows]

    return by_rows(edit)


WHOLE = "where a whole number is expected (empty if missing). Correct it"
SEMICOLONS = "its cells are separated by semicolons, as a spreadsheet may write them"

REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no column id": (without("id"), "results.csv:1: has no column 'id'"),
    "a column twice": (by_rows(lambda rows: [[*row, row[0]] for row in rows]), "results.csv:1: has two columns 'id'"),
    "text for an integer": (cell("seed", "lots"), f"results.csv:3: seed is 'lots', {WHOLE}"),
    "a fraction for an integer": (cell("samples", "1.5"), f"results.csv:3: samples is '1.5', {WHOLE}"),
    "too many digits": (cell("params", "9" * 20), "results.csv:3: params is '99999999999999999999', where a whole"),
    "very many digits": (cell("params", "9" * 5000), "results.csv:3: params is '999999"),
    "1e400": (cell("gpu_hours", "1e400"), "results.csv:3: gpu_hours is '1e400', where a number from 0 is expected"),
    "a cost below 0": (cell("gpu_hours", "-1"), "results.csv:3: gpu_hours is '-1', where a number from 0 is expected"),
    "text for a number": (cell("lr", "fast"), "results.csv:3: lr is 'fast', where a number is expected"),
    "1e300": (cell("final_loss", "-1e300"), "results.csv:3: final_loss is '-1e300', where a number is expected"),
    "inf": (cell("train_flops", "inf"), "results.csv:3: train_flops is 'inf', where a number from 0 is expected"),
    "percent": (cell("zero_shot_top1", "41.5"), "zero_shot_top1 is '41.5', where a fraction from 0 to 1 is expected"),
    "a decimal comma": (
        cell("gpu_hours", "1,5"),
        "results.csv:3: gpu_hours is '1,5', where a number from 0 is expected",
    ),
    "orders to a terminal": (cell("cell", "\x1b[31mred"), r"results.csv:3: is not CSV (it has the character '\x1b')"),
    "no id": (cell("id", ""), "results.csv:3: '' is not the id of a run. Make the table again"),
    "a path for an id": (cell("id", "../../secret"), "results.csv:3: '../../secret' is not the id of a run"),
    "text for a set's score": (
        by_rows(lambda rows: [[*rows[0], "pets.zero_shot_top1"], *([*row, "high"] for row in rows[1:])]),
        "results.csv:2: pets.zero_shot_top1 is 'high', where a fraction from 0 to 1 is expected",
    ),
    "a row twice": (by_rows(lambda rows: [*rows, rows[1]]), "results.csv:10: has the run ViT-"),
    "a header twice": (by_rows(lambda rows: [rows[0], *rows]), "results.csv:2: recipe is 'recipe'"),
    "a short row": (by_rows(lambda rows: [*rows[:2], rows[2][:5], *rows[3:]]), "results.csv:3: has 5 of"),
    "a long row": (by_rows(lambda rows: [*rows[:2], [*rows[2], "x"], *rows[3:]]), "so a comma is not in quotes"),
    "only long rows": (by_rows(lambda rows: [rows[0], *([*row, "x"] for row in rows[1:])]), "results.csv:2: has "),
    "cut off": (by_bytes(lambda data: data[:-40]), "results.csv:9: has "),
    "a quote": (by_bytes(lambda data: data.replace(b",ViT", b',"ViT', 1)), "results.csv:2: is not CSV"),
    "NUL bytes": (by_bytes(lambda data: data.replace(b"shapes", b"sha\0es", 1)), "results.csv:2: is not CSV (it has a"),
    "nothing but NUL bytes": (by_bytes(lambda data: bytes(3000)), "results.csv:1: is not CSV (it has a NUL byte)"),
    "UTF-16": (by_bytes(lambda data: data.decode().encode("utf-16")), "results.csv: is not UTF-8 text; save it"),
    "Latin-1": (by_bytes(lambda data: data.replace(b"shapes", b"caf\xe9", 1)), "results.csv: is not UTF-8 text"),
    "semicolons": (by_rows(lambda rows: rows, ";"), SEMICOLONS),
    "semicolons and decimal commas": (
        by_rows(lambda rows: [[value.replace(".", ",") for value in row] for row in rows], ";"),
        SEMICOLONS,
    ),
    "tabs": (by_rows(lambda rows: rows, "\t"), "its cells are separated by tabs"),
    "empty": (by_bytes(lambda data: b""), "results.csv: is empty. Make the table again with `flipscale collect`."),
    "a long line": (by_bytes(lambda data: data + b"x" * 100_000_000), "results.csv:10: is not CSV (field larger than"),
    "a long cell": (cell("model", "x" * 200_000), "results.csv:3: is not CSV (field larger than"),
    "a page": (by_bytes(lambda data: b"<html>404</html>\n"), "results.csv:1: has no column 'id'"),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_a_table_that_no_collect_has_written_is_refused_with_its_line(
    table: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All verbs read it by the same function, so only the first damage is shown to all."""
    edit, said = REFUSED[damage]
    edit(table)
    for verb in ("compare", "fit", "plot", "report") if damage == "no column id" else ("compare",):
        with patience():
            assert main([verb, "mask.yaml"]) == 1
        assert said in (err := capsys.readouterr().err), f"{verb}: {err[:400]}"
        assert "Warning" not in err


READ: dict[str, Callable[[Path], None]] = {
    "columns in another order": by_rows(lambda rows: [row[::-1] for row in rows]),
    "rows in another order": by_rows(lambda rows: [rows[0], *rows[:0:-1]]),
    "a column more": by_rows(lambda rows: [[*rows[0], "note"], *([*row, 'a "note", mine'] for row in rows[1:])]),
    "fewer columns": without("samples", "gpu_hours", "train_flops", "recipe", "study", "data", "patches"),
    "nan": cell("gpu_hours", "nan"),
    "missing": cell("zero_shot_top1", ""),
    "as pandas writes integers": cell("samples", "320.0"),
    "fewer rows": by_rows(lambda rows: rows[:-1]),
    "CRLF": by_bytes(lambda data: data.replace(b"\n", b"\r\n")),
    "a byte order mark": by_bytes(lambda data: b"\xef\xbb\xbf" + data),
    "blank lines": by_bytes(lambda data: data.replace(b"\n", b"\n\n")),
    "orders to TeX": cell("cell", r"$\frac{x$"),
}


@pytest.mark.parametrize("edit", READ.values(), ids=READ)
def test_an_edited_table_that_is_one_is_read(
    table: Path, edit: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(table)
    assert len(read_results(table)) in (7, 8)
    assert main(["compare", "mask.yaml"]) == 0
    assert "Warning" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["fewer columns", "orders to TeX", "missing"])
def test_plot_draws_an_edited_table(table: Path, damage: str) -> None:
    READ[damage](table)
    assert main(["plot", "mask.yaml"]) == 0


def test_a_header_alone_has_no_runs(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(table, rows_of(table)[:1])
    assert main(["compare", "mask.yaml"]) == 1
    assert "No run of these results has finished" in capsys.readouterr().err
    assert main(["report", "mask.yaml"]) == 0


@pytest.mark.parametrize("kind", NO_FILES)
def test_no_verb_waits_for_a_table_that_is_not_a_file(
    table: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table.unlink()
    NO_FILES[kind](table)
    for words in (["compare", "mask.yaml"], ["fit", "mask.yaml"], ["compare", str(table), *OF_A_TABLE]):
        with patience():
            assert main(words) == 1
        assert "results.csv: " in capsys.readouterr().err
    table.rmdir() if table.is_dir() and not table.is_symlink() else table.unlink()
    curves = table.with_name("curves.parquet")
    curves.unlink()
    NO_FILES[kind](curves)
    with patience(), pytest.raises(ResultsError, match=r"curves\.parquet: is "):
        read_curves(curves)


def test_a_table_that_links_out_of_the_results_is_not_read(table: Path, tmp_path: Path) -> None:
    table.rename(tmp_path / "secret.csv")
    table.symlink_to(tmp_path / "secret.csv")
    with pytest.raises(ResultsError, match="is a link, and flipscale follows none"):
        read_results(table)


def test_curves_of_other_types_are_named(tmp_path: Path) -> None:
    whole: dict[str, list[object]] = {name: ["a"] for name in ("id", "metric")}
    whole |= {name: [1] for name in ("step", "samples", "seconds", "value", "time")}
    for wrong in ({"step": ["first"]}, {"metric": [7]}, {"value": [{"a": 1}]}):
        pd.DataFrame({**whole, **wrong}).to_parquet(tmp_path / "curves.parquet")
        with pytest.raises(ResultsError, match=r"curves\.parquet: cannot be read"):
            read_curves(tmp_path / "curves.parquet", ["a"])


# Any table


OF_A_TABLE = ["--baseline", "mask_ratio=0", "--x", "gpu_hours", "--y", "zero_shot_top1", "--where", "samples > 300"]

FIT = ["--x", "gpu_hours", "--y", "zero_shot_top1"]

OF_ANY: dict[str, tuple[Callable[[Path], None], str]] = {
    "semicolons": (REFUSED["semicolons"][0], SEMICOLONS),
    "tabs": (REFUSED["tabs"][0], "its cells are separated by tabs"),
    "Latin-1": (REFUSED["Latin-1"][0], "results.csv: is not UTF-8 text; save it as UTF-8."),
    "UTF-16": (REFUSED["UTF-16"][0], "results.csv: is not UTF-8 text"),
    "empty": (REFUSED["empty"][0], "results.csv: cannot be read as a table (No columns to parse from file)"),
    "a header alone": (by_rows(lambda rows: rows[:1]), "results.csv: has no rows."),
    "a long row": (REFUSED["a long row"][0], "in line 3, saw"),
    "a quote": (REFUSED["a quote"][0], "EOF inside string"),
    "text": (cell("zero_shot_top1", "high"), "zero_shot_top1 is 'high', which is not a number"),
    "no column": (without("zero_shot_top1"), "The table has no column 'zero_shot_top1'"),
}


@pytest.mark.parametrize("damage", OF_ANY)
def test_anybodys_table_is_refused_with_a_sentence(
    table: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, said = OF_ANY[damage]
    edit(table)
    for words in (
        ["compare", str(table), *OF_A_TABLE],
        ["fit", str(table), *FIT],
    ):
        assert main(words) == 1
        assert said in (err := capsys.readouterr().err), f"{words[0]}: {err[:400]}"


def test_anybodys_names_are_printed_without_orders_to_a_terminal(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_bytes(table.read_bytes().replace(b"samples=320", b"samples=\x1b[31m320"))
    assert main(["compare", str(table), *OF_A_TABLE, "--series", "cell"]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert r"\x1b[31m320" in said.out + said.err


@pytest.mark.parametrize("value", ["inf", "1e400", "nan", "", "-5", "0"])
@pytest.mark.parametrize("name", ["gpu_hours", "zero_shot_top1", "samples"])
def test_anybodys_numbers_are_no_traceback(
    table: Path, name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cell(name, value)(table)
    for words in (
        ["compare", str(table), *OF_A_TABLE],
        ["fit", str(table), *FIT],
    ):
        main(words)
        assert "Warning" not in capsys.readouterr().err


# fits.json, which `report` shows


def test_report_refuses_fits_that_no_fit_has_written(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = (
        b'{"fits": 7}',
        b'{"fits": [{}]}',
        b'{"fits": [[1]]}',
        b'{"fits": {"a": 1}}',
        b'{"schema": 1, "fits": ["x"]}',
    )
    path = table.with_name("fits.json")
    for content in (*DAMAGE.values(), *shapes):
        path.write_bytes(content)
        code = main(["report", "mask.yaml"])
        said = capsys.readouterr().err
        assert (code, "fits.json" in said) in ((0, False), (1, True)), content
