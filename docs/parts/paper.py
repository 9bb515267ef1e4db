"""The studies of studies/paper/: their order, headers and costs, and the table of docs/paper.md."""

import functools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from flipscale.door.run_states import total_hours
from flipscale.planning.runs import Plan, Run, plan
from flipscale.study import Study, read_study
from flipscale.workflow.opened import cost_in_words

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "studies" / "paper"

ORDER = (
    "table1a_mask_ratio",
    "table1b_batch_size",
    "table1c_text_mask",
    "table1d_inference",
    "table1e_tuning",
    "table1f_reconstruction",
    "figure3_accuracy_vs_time",
    "table2_model_size",
    "table3_transfer",
    "table4_datasets",
    "table5_retrieval",
    "table6_robustness",
    "table7_generation",
    "figure4a_model_scaling",
    "figure4b_data_scaling",
    "figure4c_schedule_scaling",
    "table8_joint_scaling",
    "section43_cost",
    "token_reduction",
    "scaling_laws",
    "equal_batch_masks",
)
"""The studies as docs/paper.md lists them: the paper's tables and figures, then what later work asks."""


@dataclass(frozen=True)
class PaperStudy:
    """One of the files."""

    name: str
    study: Study
    plan: Plan
    source: str
    """Where the question is from, as the first line of the header says."""
    header: dict[str, str]
    """The header's paragraphs by their word: Costs, Found and Notes."""

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.yaml"

    @property
    def runs(self) -> dict[str, Run]:
        return {run.id: run for run in self.plan.runs}


@functools.cache
def paper_studies() -> tuple[PaperStudy, ...]:
    """All of them, in order."""
    return tuple(_read(name) for name in ORDER)


def paper_study(name: str) -> PaperStudy:
    return next(one for one in paper_studies() if one.name == name)


def _read(name: str) -> PaperStudy:
    path = FOLDER / f"{name}.yaml"
    study = read_study(path)
    source, header = _header(path.read_text())
    return PaperStudy(name, study, plan(study), source, header)


def _header(text: str) -> tuple[str, dict[str, str]]:
    """The first line of the comment that heads a file, and its paragraphs; each begins with a word at the margin."""
    comment = text.partition("\nschema:")[0].removeprefix("# yaml-language-server: $schema=../study.schema.json\n#\n")
    source, *lines = [line.removeprefix("#").removeprefix(" ") for line in comment.splitlines()]
    found: dict[str, str] = {}
    word = ""
    for line in lines:
        if begun := re.match(r"([A-Z]\w+)\s*(.*)", line):
            word, line = begun.groups()
        found[word] = f"{found.get(word, '')} {line.strip()}".strip()
    return source, found


def cost_line(one: PaperStudy) -> str:
    """What a study costs as `flipscale plan` prints it, on which device, and how many of its runs other files have."""
    shared = sum(all_runs()[run] > 1 for run in one.runs)
    others = "" if not shared else f"; {shared} of them in other files too"
    return f"{cost_in_words(one.plan)} of {one.plan.device}{others}"


@functools.cache
def all_runs() -> Counter[str]:
    """The id of each run of all files, with the number of files that have it."""
    return Counter(run for one in paper_studies() for run in one.runs)


def total_in_words() -> str:
    """What all files cost together, each run once."""
    runs = {run: found for one in paper_studies() for run, found in one.runs.items()}
    flops = sum(run.cost.train_flops for run in runs.values())
    hours = total_hours(run.cost.hours for run in runs.values())
    listed = sum(all_runs().values())
    different = f"{listed} runs, {len(runs)} of them different"
    return f"The {len(ORDER)} files have {different}: {flops:.2e} FLOPs, {hours} GPU-hours.\n"


def table() -> str:
    """The studies as docs/paper.md lists them."""
    rows = ["| | study | from | asks | runs | GPU-hours | found |", "|---|---|---|---|---|---|---|"]
    for number, one in enumerate(paper_studies(), 1):
        link = f"[{one.name}](../studies/paper/{one.name}.yaml)"
        source = one.source.replace("FLIP (arXiv 2212.00794), ", "").replace("Not a table of FLIP: ", "")
        hours, runs = one.plan.total.hours, len(one.plan.runs)
        rows.append(
            f"| {number} | {link} | {source} | {one.study.question} | {runs} | {hours} | {one.header['Found']} |"
        )
    return "\n".join([*rows, "", total_in_words()])


def write_costs() -> None:
    """Write the line of each header that says what the study costs."""
    for one in paper_studies():
        lines = re.sub(r"^# Costs.*$", f"# Costs       {cost_line(one)}", one.path.read_text(), flags=re.MULTILINE)
        one.path.write_text(lines)
