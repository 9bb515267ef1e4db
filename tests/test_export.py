"""Results for a paper and for other programs, and in one call in Python."""

import io
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import flipscale
from flipscale.analysis.export import exported, latex_table
from flipscale.collecting import COLUMNS, read_results, setting_value
from flipscale.collecting.study_table import as_written
from flipscale.door.columns import COLUMN_DTYPES
from flipscale.errors import ResultsError
from tests import commands
from tests.parts import need

ROOT = Path(__file__).parents[1]


def table(*rows):
    columns = {
        name: pd.Series([row.get(name) for row in rows], dtype=COLUMN_DTYPES[c.kind]) for name, c in COLUMNS.items()
    }
    return pd.DataFrame(columns)


def rows(cell, mask_ratio, scores, **more):
    return [
        {
            "id": f"{cell}-{mask_ratio}-{seed}",
            "cell": cell,
            "mask_ratio": mask_ratio,
            "seed": seed,
            **more,
            "zero_shot_top1": score,
        }
        for seed, score in enumerate(scores)
    ]


RESULTS = table(
    *rows("model=A_1, samples=8k", 0.0, [0.50, 0.54]),
    *rows("model=A_1, samples=8k", 0.5, [0.60, 0.60]),
    *rows("model=A_1, samples=16k", 0.0, [0.70, 0.72]),
    *rows("model=A_1, samples=16k", 0.5, [0.705]),
    *rows("model=B, samples=8k", 0.0, [0.1, 0.3, 0.2]),
)

PAPER = r"""% needs \usepackage{booktabs}
\begin{table}
\centering
\caption{CAPTION}
\label{tab:mask}
\begin{tabular}{lccc}
\toprule
model & \multicolumn{2}{c}{A\_1} & B \\
samples & 8k & 16k & 8k \\
\midrule
mask\_ratio=0 & $52.0 \pm 2.8$ & $\mathbf{71.0} \pm 1.4$ & $20.0 \pm 10.0$ \\
mask\_ratio=0.5 & $\mathbf{60.0} \pm 0.0$ & $70.5$ & -- \\
\bottomrule
\end{tabular}
\end{table}
"""

CAPTION = (
    r"Is it faster? \texttt{zero\_shot\_top1} in \%, mean $\pm$ standard deviation over 1 to 3 seeds, 10 runs. "
    "The best of each cell is bold."
)


def test_the_paper_s_table_is_arms_by_cells_with_the_best_of_each_in_bold():
    assert latex_table(RESULTS, {"mask_ratio": 0.0}, study="mask", question="Is it faster?") == PAPER.replace(
        "CAPTION", CAPTION
    )


def test_many_cells_are_rows():
    many = table(
        *(row for n in range(8) for mask in (0.0, 0.5) for row in rows(f"samples={n}k", mask, [n / 10, n / 10]))
    )
    text = latex_table(many, {"mask_ratio": 0.0}, study="mask")
    assert r"samples & mask\_ratio=0 & mask\_ratio=0.5 \\" in text
    assert r"3k & $\mathbf{30.0} \pm 0.0$ & $\mathbf{30.0} \pm 0.0$ \\" in text
    assert text.count(r" \\") == 9


def test_of_a_loss_less_is_better_and_it_is_in_nats():
    losses = table(
        {"cell": "", "mask_ratio": 0.0, "seed": 0, "held_out_loss": 1.5},
        {"cell": "", "mask_ratio": 0.5, "seed": 0, "held_out_loss": 1.25},
    )
    text = latex_table(losses, {"mask_ratio": 0.0}, study="mask")
    assert r"mask\_ratio=0 & $1.500$ \\" in text
    assert r"mask\_ratio=0.5 & $\mathbf{1.250}$ \\" in text
    assert r"\texttt{held\_out\_loss}, 1 seed, 2 runs." in text


def test_no_score_is_said():
    with pytest.raises(ResultsError, match="has a score"):
        latex_table(table({"cell": "", "mask_ratio": 0.0}), {"mask_ratio": 0.0}, study="mask")


@pytest.mark.slow
@pytest.mark.parametrize("study", ["joint", "fashion", "recipe"])
def test_latex_takes_the_tables_of_the_committed_studies(tmp_path, study):
    need(shutil.which("pdflatex") is not None, "pdflatex; apt-get install texlive-latex-base texlive-latex-recommended")
    read = flipscale.read_study(ROOT / "studies" / f"{study}.yaml")
    baseline = {name: setting_value(value) for name, value in read.baseline.items()}
    results = read_results(ROOT / "results" / study / "results.csv")
    text = latex_table(results, baseline, study=study, question=read.question)
    page = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{text}\\end{{document}}\n"
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 1000


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_the_whole_table_goes_out_and_comes_back(tmp_path, to):
    data = exported(as_written(RESULTS), to, study="mask")
    if to == "csv":
        (tmp_path / "results.csv").write_bytes(data)
        back, whole = read_results(tmp_path / "results.csv"), RESULTS
    else:
        # Both leave out columns that all runs have at their default.
        back, whole = pd.read_parquet(io.BytesIO(data)), RESULTS.drop(columns=["stages", "items"])
        assert ",".join(back) == exported(as_written(RESULTS), "csv", study="mask").decode().partition("\n")[0]
    pd.testing.assert_frame_equal(back, whole)


def test_csv_is_what_collect_wrote():
    text = (ROOT / "results/fashion/results.csv").read_bytes()
    assert exported(as_written(read_results(ROOT / "results/fashion/results.csv")), "csv", study="fashion") == text


def test_results_in_one_call(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    by_file = flipscale.results("studies/fashion.yaml")
    assert (len(by_file), by_file["model"].nunique(), str(by_file["seed"].dtype)) == (90, 4, "Int64")
    for other in ("results/fashion", Path("results/fashion/results.csv")):
        pd.testing.assert_frame_equal(flipscale.results(other), by_file)
    pd.testing.assert_frame_equal(flipscale.results("studies/fashion.yaml", root=ROOT / "results"), by_file)
    with pytest.raises(ResultsError, match="flipscale collect"):
        flipscale.results("studies/fashion.yaml", root=tmp_path)


def test_export_writes_a_file_or_to_stdout(tmp_path):
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return commands.flipscale("export", "studies/fashion.yaml", *arguments, code=code)

    assert run("--to", "csv").stdout == (ROOT / "results/fashion/results.csv").read_text()
    assert run("--to", "latex", "--score", "held_out_loss").stdout.startswith("% needs")
    assert "--out FILE.parquet" in run("--to", "parquet", code=1).stderr
    run("--to", "parquet", "--out", str(tmp_path / "a" / "q.parquet"))
    assert len(pd.read_parquet(tmp_path / "a" / "q.parquet")) == 90
    assert "No run has the score" in run("--to", "latex", "--score", "zero_shot", code=1).stderr
