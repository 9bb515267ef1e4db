"""The results for others: the whole table for another program, or one score of it as a table for a paper.

The paper's table has FLIP's form (arXiv 2212.00794, tables 1a and 2): an arm a row, a cell a column, the mean over
seeds with its standard deviation, the best of each cell in bold. With more cells than fit the width of a page, rows
and columns are swapped.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from flipscale.analysis.comparing import arms_of, labels, pick_score
from flipscale.cell import read_cell
from flipscale.errors import require
from flipscale.scores import is_fraction, lower_is_better

FORMS = ("csv", "parquet", "latex")

WIDE = 6
"""With more cells than this, each is a row: a column of text holds six columns of `89.2 ± 1.3` and the arms' names."""

_ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def exported(
    results: pd.DataFrame,
    to: str,
    *,
    study: str,
    question: str = "",
    baseline: Mapping[str, object] | None = None,
    score: str | None = None,
) -> bytes:
    """The table in one of FORMS. `question`, `baseline` and `score` matter only for LaTeX."""
    if to == "latex":
        return latex_table(results, baseline or {}, study=study, question=question, score=score).encode()
    if to == "csv":
        return results.to_csv(index=False, lineterminator="\n").encode()
    require("pyarrow")
    return results.to_parquet(None, engine="pyarrow", index=False)


def latex_table(
    results: pd.DataFrame, baseline: Mapping[str, object], *, study: str, question: str = "", score: str | None = None
) -> str:
    """One score as a LaTeX table. Raises ResultsError if no run has it.

    Fractions are in percent. A cell of one seed has no deviation, and one that was not measured is a dash.
    """
    score = pick_score(results, score)
    table = _long(results[results[score].notna()], baseline, score, 100 if is_fraction(score) else 1)
    arms = [*table[table["baseline"]]["arm"].unique(), *table[~table["baseline"]]["arm"].unique()]
    cells = list(table["cell"].unique())
    groups = table.groupby(["arm", "cell"])["value"]
    lower = bool(lower_is_better(score))
    fraction = is_fraction(score)
    texts = _texts(groups.mean(), groups.std(), lower, fraction)
    names, values = _axes(cells)
    entries = [[texts.get((arm, cell), "--") for cell in cells] for arm in arms]
    heads = [tuple(map(_escaped, path)) for path in values]
    columns = pd.MultiIndex.from_tuples(heads, names=list(map(_escaped, names)))
    page = pd.DataFrame(entries, index=list(map(_escaped, arms)), columns=columns)
    count = groups.count()
    style = page.style
    if len(cells) > WIDE:
        style = page.T.reset_index().style.hide(axis="index")
    body = style.to_latex(
        hrules=True,
        position_float="centering",
        caption=_caption(question, score, int(count.min()), int(count.max()), len(table), len(arms)),
        label=f"tab:{study}",
        column_format="l" * len(names) + "c" * len(arms) if len(cells) > WIDE else "l" + "c" * len(cells),
        multicol_align="c",
    )
    return "% needs \\usepackage{booktabs}\n" + body


def _long(results: pd.DataFrame, baseline: Mapping[str, object], score: str, scale: int) -> pd.DataFrame:
    """Each run's arm, cell and value, and whether its arm is the baseline."""
    arm = arms_of(results, baseline)
    name = labels(results, list(baseline)) if len(baseline) == 1 else "baseline" if baseline else "mean"
    return pd.DataFrame(
        {
            "arm": arm.where(arm != "", name),
            "cell": results["cell"].fillna("").astype("str"),
            "value": results[score] * scale,
            "baseline": arm == "",
        }
    )


def _texts(
    means: "pd.Series[float]", deviations: "pd.Series[float]", lower: bool, fraction: bool
) -> dict[tuple[str, str], str]:
    """The table's entry for each arm and cell. The best of a cell is bold, and so are all that read the same."""
    digits = 1 if fraction else 3
    best = means.groupby(level="cell").min() if lower else means.groupby(level="cell").max()
    arms = means.groupby(level="cell").count()
    texts = {}
    for arm, cell in means.index:
        mean = f"{means[arm, cell]:.{digits}f}"
        if arms[cell] > 1 and mean == f"{best[cell]:.{digits}f}":
            mean = rf"\mathbf{{{mean}}}"
        deviation = deviations[arm, cell]
        texts[arm, cell] = f"${mean}$" if pd.isna(deviation) else rf"${mean} \pm {deviation:.{digits}f}$"
    return texts


def _axes(cells: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The axes that cells are named by, and each cell's values; one column of names where they differ in their axes."""
    if list(cells) == [""]:
        return ["arm"], [["score"]]
    read = [read_cell(cell) for cell in cells]
    axes, *others = [[axis for axis, _ in cell] for cell in read]
    if "" not in axes and all(other == axes for other in others):
        return axes, [[value for _, value in cell] for cell in read]
    return ["cell"], [[cell] for cell in cells]


def _caption(question: str, score: str, least: int, most: int, runs: int, arms: int) -> str:
    seeds = f"{most} seed{'s' * (most > 1)}" if least == most else f"{least} to {most} seeds"
    mean = f"mean $\\pm$ standard deviation over {seeds}" if most > 1 else seeds
    unit = r" in \%" if is_fraction(score) else ""
    parts = [
        _escaped(question) + ("" if question.endswith(("?", ".")) else ".") if question else "",
        rf"\texttt{{{_escaped(score)}}}{unit}, {mean}, {runs} runs.",
        "The best of each cell is bold." if arms > 1 else "",
    ]
    return " ".join(filter(None, parts))


def _escaped(text: str) -> str:
    return text.translate(_ESCAPED)
