"""docs/full-scale.md in its parts: its files, its commands, and the numbers in it that the planner gives."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.cost.arithmetic import cost as cost_of
from flipscale.cost.arithmetic import rate_of
from flipscale.launch import price_at, read_site
from flipscale.launch.launcher import Request
from flipscale.launch.memory import host_memory
from flipscale.planning.identity import stage
from flipscale.planning.runs import Plan, Run, plan
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.declarations import Resources
from flipscale.settings.devices import DECODED_PER_SECOND, Money, device
from flipscale.study import read_study
from flipscale.words import exact, hours, percent

PAGE = Path(__file__).parents[2] / "docs" / "full-scale.md"

STUDY, SITE = "masking.yaml", "hall.yaml"

BYTES_OF_AN_IMAGE = 25_000
"""Bytes of a JPEG of 256 px, as in docs/data.md."""


@dataclass(frozen=True)
class Block:
    """Commands of the page that stand together."""

    lines: tuple[str, ...]
    why_not: str
    """Why no test can run them; '' if one does."""


def files() -> dict[str, str]:
    """The files that the page has the reader write, by the name in their first line."""
    found = re.findall(r"^```(?:yaml|python)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {text.split()[1].rstrip(":"): text for text in found}


def blocks() -> list[Block]:
    """Its indented commands, in order. One that the test cannot run has a comment before it: <!-- not run: WHY -->."""
    text = re.sub(r"^```.*?^```$", "", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"(?:<!-- not run: (.*?) -->\n\n)?((?:^    .*\n)+)", text, re.MULTILINE)
    return [Block(tuple(line[4:] for line in lines.splitlines()), why) for why, lines in found]


def script_lines() -> list[str]:
    """What the page shows of a run's batch script."""
    (shown,) = re.findall(r"<!-- script -->\n\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(shown).splitlines()


def write(folder: Path) -> None:
    """Write the page's files into the folder."""
    for name, text in files().items():
        (folder / name).write_text(text)


def _planned(folder: Path) -> tuple[Plan, Money, int]:
    """The plan of the page's study, its price at the page's site, and the GPUs of a node."""
    write(folder)
    planned, site = plan(read_study(folder / STUDY)), read_site(folder / SITE)
    price = price_at(site)
    assert price is not None
    money = price.of(planned.total.hours, planned.device)
    assert money is not None
    return planned, money, site["gpus_per_node"]


def cost(folder: Path) -> str:
    """What each run of the page's study costs, and all of them."""
    planned, money, _ = _planned(folder)
    rows = [
        "| schedule | mask | batch | GPU-hours | hours on 256 GPUs | images/s of a GPU | GiB of a GPU |",
        "|---|---|---|---|---|---|---|",
    ]
    tunings = [run for run in planned.runs if run.parents]
    trainings = [run for run in planned.runs if not run.parents]
    for run in (*trainings, tunings[0]):
        settings = stage(run.settings)
        name = exact(settings.samples)
        if run.parents:
            assert len({tuning.cost for tuning in tunings}) == 1
            name = f"each of {len(tunings)} tunings, {name}"
        took, rate, gib = run.cost.gpu_hours / run.resources.gpus, _rate(run), run.cost.memory_bytes / 2**30
        of_run = (name, percent(settings.mask_ratio), f"{settings.batch_size:,}", run.cost.hours)
        rows.append(f"| {' | '.join((*map(str, of_run), hours(took), f'{rate:,.0f}', f'{gib:.0f}'))} |")
    gpus = planned.runs[0].resources.gpus
    fastest = float(f"{max(map(_rate, planned.runs)) * gpus:.2g}")
    total = planned.total
    days = total.gpu_hours / gpus / 24
    return "\n".join(
        [
            *rows,
            "",
            f"Together {total.runs} runs, {total.train_flops:.3g} FLOPs, {total.hours} GPU-hours on A100s of 80 GB: "
            f"{days:.1f} days of {gpus} GPUs. At 2 USD a GPU-hour that is {money}. The fastest runs read about "
            f"{fastest:,.0f} images a second: {fastest * BYTES_OF_AN_IMAGE / 1e9:.1f} GB/s from the file system.",
            "",
        ]
    )


def _rate(run: Run) -> float:
    """Images a second on one of its GPUs."""
    return run.cost.samples_seen / run.cost.gpu_hours / 3600


def feeding(folder: Path) -> str:
    """How many images a second a GPU asks for, and the cores that decode them, by model and mask."""
    rows = [
        "| model | mask | images/s of an H100, as the plan has it | at 45 % of its peak | cores to decode these |",
        "|---|---|---|---|---|",
    ]
    card, like = device("H100"), stage(_planned(folder)[0].runs[0].settings)
    resources = Resources(gpus=256, device="H100", samples_per_second=1e9)
    for model in ("ViT-B-16", "ViT-L-16", "ViT-H-14"):
        for ratio in (0.0, 0.5, 0.75):
            settings = replace(like, model=model, batch_size=65536, mask_ratio=ratio)
            each = cost_of(settings, resources)
            rate = each.samples_seen / each.gpu_hours / 3600
            most = rate * 0.45 * card.peak("bf16") / rate_of(settings, resources).flops_per_second
            cores = f"{rate / DECODED_PER_SECOND:.1f} to {most / DECODED_PER_SECOND:.1f}"
            rows.append(f"| {model} | {percent(ratio)} | {rate:,.0f} | {most:,.0f} | {cores} |")
    return "\n".join([*rows, ""])


def needed_memory(folder: Path) -> str:
    """How much main memory the page's jobs ask for."""
    planned, _, per_node = _planned(folder)
    requests = [Request(RunFolder(folder / run.id), RunRequest.of(run)) for run in planned.runs]
    one, node = (max(host_memory(request, processes) or 0 for request in requests) for processes in (1, per_node))
    each = (node - one) / (per_node - 1)
    return (
        f"Each job also asks for `--mem={node / 2**30:.0f}G` on a node: {each / 2**30:.1f} GiB for each process, and "
        f"{(one - each) / 2**30:.1f} GiB for the 50,000 validation images, which one process opens. Where nodes have "
        "less, `memory_per_process: 10G` asks for another amount and `memory_per_process: null` for none.\n"
    )
