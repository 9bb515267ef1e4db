"""Hostile studies, expressions, sites, run folders, shards and tables, each read by the command line or its reader.

Each case has a seed of its own, which is in its name. A case may end with any exit code and any sentence. Counted are
exceptions that leave `main`, cases of over 30 s, and cases that take over 2 GB.
"""

import contextlib
import functools
import gzip
import io
import json
import os
import random
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.run_folders import fill, planned_study
from flipscale.errors import FlipscaleError
from tests.torture import mutate
from tests.torture.counts import Counts, Extent
from tests.torture.verbs import Case, Outcome, count, judged, ran

STUDY: dict[str, Any] = {
    "schema": 1,
    "question": "Does it pay?",
    "base": {
        "model": "ViT-w16d1-4", "image_size": 28, "text_length": 16, "data": "shapes", "data_size": 320,
        "samples": "640", "mask_ratio": 0, "batch_size": 32, "lr": 1e-3, "warmup": 64, "precision": "fp32",
        "mask_shape": "random", "schedule": "cosine", "normalization": "imagenet", "crop": 0.5, "flip": True,
    },
    "axes": {"mask_ratio": [0, 0.5], "samples": [320, 640], "tuning": [None, {"samples": 64}]},
    "couple": {"lr": "1e-3 * batch_size / 64"},
    "where": ["samples <= 1B or mask_ratio == 0"],
    "exclude": [{"mask_ratio": 0.5, "samples": 640}],
    "seeds": 2,
    "baseline": {"mask_ratio": 0},
    "evaluation": {"images": 160},
    "budget": {"gpu_hours": 100},
    "resources": {"gpus": 0, "accumulate": 1},
    "figures": ["gains", "learning_curves"],
    "claims": {
        "a mask is worse": {
            "left": {"mask_ratio": 0.5, "samples": 320}, "right": {"samples": 320}, "expect": "worse",
        },
    },
    "margin": 0.01,
}  # fmt: skip

SITE: dict[str, Any] = {
    "schema": 1, "partition": "main", "account": "lab", "qos": "normal", "time": "10m", "warning": 60,
    "gpus_per_node": 4, "cpus_per_process": 2, "memory_per_process": "4G", "exclude": ["n1"],
    "setup": ["module load x"], "srun": ["--mpi=none"],
    "container": {"image": "x.sif", "runtime": "apptainer", "mounts": ["/data"]},
    "pack": {"time": "1h", "share": 2}, "price": {"gpu_hour": 2, "currency": "EUR"}, "max_array_size": 1000,
}  # fmt: skip

TINY = """schema: 1
base: {model: ViT-w16d1-4, image_size: 28, text_length: 16, data: shapes, samples: 640, batch_size: 32, lr: 1e-3}
axes: {mask_ratio: [0, 0.5]}
baseline: {mask_ratio: 0}
seeds: 2
"""

SHARE = {"studies": 700, "bytes": 250, "expressions": 500, "sites": 250, "folders": 600, "data": 150, "tables": 200}
"""Cases of each kind in full; together over 2,000."""

SHORT = {"studies": 30, "bytes": 15, "expressions": 60, "sites": 25, "folders": 30, "data": 10, "tables": 8}


def torture(extent: Extent) -> Counts:
    counts = Counts()
    made = prepare(extent.work)
    for kind, full in SHARE.items():
        number = extent.cases(full, SHORT[kind])
        cases = [case_of(kind, f"{extent.seed}-{index}", made) for index in range(number)]
        found = count(cases, say=extent.say)
        extent.say(f"  {kind}: {found.cases:,} cases, {sum(found.wrong.values())} wrong")
        counts.add(found)
    counts.add(monsters(made, extent))
    return counts


def prepare(work: Path) -> Path:
    """A folder with good files to spoil: a study with its tables, shards and images. Does the heavy imports, too."""
    made = work / "good"
    planned = planned_study(made, TINY)
    fill(made / "results", planned, records=5)
    results = made / "results"
    for number, run in enumerate(planned.runs):
        folder = results / "runs" / run.id
        log = results / "local" / "20260101-000000-aaaaaa"
        job = {"schema": 1, "launcher": "local", "id": log.name, "submitted": 1.7e9, "log": str(log)}
        (folder / "job.json").write_text(json.dumps(job))
        (folder / "log.txt").write_text("it trains\n")
        (folder / "failures.jsonl").write_text('{"kind": "node", "reason": "lost", "then": "resumed", "time": 1.7e9}\n')
        (folder / "life.json").write_text('{"doing": "training"}')
        if number == len(planned.runs) - 1:  # One run is not over, so its job is looked for.
            (folder / "result.json").unlink()
            lease = {"token": "t", "host": "elsewhere", "pid": 1, "born": "1", "time": 1.7e9, "attempt": 0}
            (folder / "lease.json").write_text(json.dumps({**lease, "job": f"local/{log.name}/0", "node": "n1"}))
            os.utime(folder / "lease.json", (1.7e9, 1.7e9))  # A living holder would keep `cancel` waiting.
    workers = [{"pid": 2**22 - 1, "born": "1", "slots": ["core-0"]}]
    log.mkdir(parents=True)
    runs = [run.id for run in planned.runs]
    held = {"schema": 1, "host": os.uname().nodename, "runs": runs, "workers": workers}
    (log / "workers.json").write_text(json.dumps(held))
    with contextlib.chdir(made), silenced():
        Path("whole.yaml").write_bytes(_dump(STUDY))
        for words in (
            ["plan", "whole.yaml"],  # STUDY must plan, or all its spoilt versions end at the same fault
            ["plan", "study.yaml"],
            ["collect", "study.yaml", "--no-mlflow"],
            ["compare", "study.yaml"],
            ["report", "study.yaml"],
        ):
            ended = ran(words, seconds=300)
            assert ended.code == 0, ended.said
    _write_data(made)
    return made


silenced = functools.partial(contextlib.redirect_stderr, io.StringIO())


def _write_data(made: Path) -> None:
    import numpy as np
    from PIL import Image

    from flipscale.data.training import open_data  # loaded here, once, and not in each worker

    assert open_data is not None
    image = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(image, "PNG")
    with tarfile.open(made / "00000.tar", "w") as tar:
        for number in range(6):
            for name, content in (("png", image.getvalue()), ("txt", b"a cat"), ("json", b"{}"), ("cls", b"3")):
                member = tarfile.TarInfo(f"{number:04}.{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    for split in ("train", "t10k"):
        pixels = np.zeros((40, 28, 28), np.uint8)
        labels = (np.arange(40) % 10).astype(np.uint8)
        for name, array in ((f"{split}-images-idx3-ubyte.gz", pixels), (f"{split}-labels-idx1-ubyte.gz", labels)):
            head = struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape)
            (made / name).write_bytes(gzip.compress(head + array.tobytes()))


def case_of(kind: str, seed: str, made: Path) -> Case:
    """A hostile case, which its kind and seed reproduce."""
    return Case(f"{kind} {seed}", functools.partial(MAKERS[kind], f"{kind}-{seed}", made))


@contextlib.contextmanager
def here(made: Path) -> Iterator[Path]:
    """A new working folder beside `made` while the block runs. No file that is read may start or signal a process."""
    folder = made.parent / f"case-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with contextlib.chdir(folder), no_orders():
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def no_orders() -> Iterator[None]:
    """Signals to other processes and starts of unknown programs raise, so they count as tracebacks."""
    kill, killpg, start = os.kill, os.killpg, subprocess.Popen.__init__

    def refuse(how: Callable[[int, int], None], pid: int, signum: int) -> None:
        if signum and pid != os.getpid():
            raise AssertionError(f"signal {signum} would go to process {pid}")
        how(pid, signum)

    def start_known(self: Any, command: Any, *rest: Any, **more: Any) -> None:
        words = [command] if isinstance(command, str) else [str(word) for word in command]
        if Path(words[0]).name not in KNOWN_PROGRAMS:
            raise AssertionError(f"this would be started: {words}")
        start(self, command, *rest, **more)

    os.kill, os.killpg = functools.partial(refuse, kill), functools.partial(refuse, killpg)
    subprocess.Popen.__init__ = start_known  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        os.kill, os.killpg = kill, killpg
        subprocess.Popen.__init__ = start  # type: ignore[method-assign]


KNOWN_PROGRAMS = {"git", "nvidia-smi", "squeue", "scontrol", "sacct", "sinfo", "lscpu", "uname"}
"""Programs that flipscale itself may start while it reads."""


def _dump(data: Any) -> bytes:
    try:
        return yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, RecursionError, ValueError):
        return b"schema: 1\n"


def study(seed: str, made: Path) -> Outcome:
    draw = random.Random(seed)
    with here(made):
        name = draw.choice(
            ("study.yaml",) * 6 + ("...yaml", "a'b.yaml", "$\\frac{x$.yaml", "é\U0001f600.yaml", "-x.yaml")
        )
        data = mutate.mutated(json.loads(json.dumps(STUDY)), draw, draw.choice((1, 1, 2, 4)))
        Path(name).write_bytes(_dump(data))
        verb = draw.choice((["plan"], ["plan", "--json"], ["plan", "--check"], ["status"], ["submit", "--dry-run"]))
        return ran([*verb, "--", name] if name.startswith("-") else [*verb, name])


def study_bytes(seed: str, made: Path) -> Outcome:
    draw = random.Random(seed)
    with here(made):
        text = draw.choice((_dump(STUDY), TINY.encode()))
        for _ in range(draw.choice((1, 1, 3))):
            text = mutate.bytes_changed(text, draw)
        Path("study.yaml").write_bytes(text)
        return ran(["plan", "study.yaml"])


def expression(seed: str, made: Path) -> Outcome:
    draw = random.Random(seed)
    data = json.loads(json.dumps(STUDY))
    written = mutate.expression(draw)
    if draw.random() < 0.5:
        data["couple"] = {draw.choice(("lr", "batch_size", "samples", "warmup", "model")): written}
    else:
        data[draw.choice(("where", "exclude"))] = [written]
    with here(made):
        Path("study.yaml").write_bytes(_dump(data))
        return ran(["plan", "study.yaml"])


def site(seed: str, made: Path) -> Outcome:
    draw = random.Random(seed)
    with here(made):
        changed = mutate.mutated(json.loads(json.dumps(SITE)), draw, draw.choice((1, 2, 4)))
        text = _dump(changed)
        Path("site.yaml").write_bytes(mutate.bytes_changed(text, draw) if draw.random() < 0.2 else text)
        Path("study.yaml").write_text(TINY)
        verb = draw.choice((["submit", "--dry-run", "--on", "slurm"], ["submit", "--dry-run", "--on", "ray"], ["plan"]))
        return ran([*verb, "--site", "site.yaml", "study.yaml"])


LOOKS: tuple[tuple[str, ...], ...] = (
    ("status", "study.yaml"), ("status", "--json", "study.yaml"), ("collect", "--no-mlflow", "study.yaml"),
    ("report", "study.yaml"), ("gc",), ("status", "--spent"), ("archive", "study.yaml"),
    ("compare", "study.yaml"), ("plan", "study.yaml"), ("cancel", "study.yaml"), ("submit", "--dry-run", "study.yaml"),
    ("export", "--to", "latex", "study.yaml"), ("logs", "RUN"), ("status", "--why", "RUN"), ("fit", "study.yaml"),
)  # fmt: skip


def folder(seed: str, made: Path) -> Outcome:
    """One to three spoilt files of a results folder, read by two random commands."""
    draw = random.Random(seed)
    with here(made):
        shutil.copytree(made / "results", "results")
        shutil.copy(made / "study.yaml", "study.yaml")
        files = sorted(path for path in Path("results").rglob("*") if path.is_file())
        runs = sorted(path for path in Path("results/runs").iterdir())
        extra = [runs[-1] / name for name in ("error.json", "result.json", "probe.json", "code.json", "hits.json")]
        several = sorted({*files, *extra})  # Each once: a file that is now a pipe or a link must not be written to.
        spoilt = [
            f"{path.name} {mutate.file_changed(path, draw)}" for path in draw.sample(several, draw.choice((1, 1, 2, 3)))
        ]
        run_id = (draw.choice(runs)).name
        for words in (draw.choice(LOOKS), draw.choice(LOOKS)):
            ended = ran([run_id if word == "RUN" else word for word in words])
            if ended.wrong:
                return Outcome(ended.code, f"{' '.join(words)} with {', '.join(spoilt)}:\n{ended.said}", ended.wrong)
        return ended


def data(seed: str, made: Path) -> Outcome:
    """A spoilt shard or IDX file, read as training reads it."""
    import numpy as np

    from flipscale.data.pairs import Form
    from flipscale.data.training import open_data
    from flipscale.settings import Fashion, WebDataset

    draw = random.Random(seed)
    with here(made) as place:
        names = ["00000.tar"] if draw.random() < 0.7 else sorted(path.name for path in made.glob("*ubyte.gz"))
        for name in names:
            shutil.copy(made / name, name)
        spoilt = Path(draw.choice(names))
        content = spoilt.read_bytes()
        if spoilt.suffix == ".gz" and draw.random() < 0.7:
            content = gzip.compress(_head_changed(gzip.decompress(content), draw))
        else:
            content = _head_changed(content, draw) if draw.random() < 0.5 else mutate.bytes_changed(content, draw)
        spoilt.write_bytes(content)

        def tokens(texts: list[str]) -> Any:
            return np.zeros((len(texts), 8), np.int64)

        def read() -> int:
            form = Form(image_size=16, text_length=8, cache=place / "cache", tokenize=tokens)
            with contextlib.suppress(FlipscaleError):
                if names == ["00000.tar"]:
                    decode = draw.choice(("once", "always", None))
                    pairs: Any = WebDataset(str(place / "00000.tar"), name=None, decode=decode, sizes=None)
                else:
                    pairs = Fashion(str(place))
                opened = open_data(pairs, form, data_size=None, samples=32, crop=None)
                opened.batch(np.arange(min(opened.size, 6)), None)
            return 0

        return judged(read)


def _head_changed(content: bytes, draw: random.Random) -> bytes:
    """Change some bytes of a header, or of one of the headers of a tar file."""
    spoilt = bytearray(content)
    start = 512 * draw.randrange(max(1, len(spoilt) // 512)) if len(spoilt) > 4096 else 0
    for _ in range(draw.choice((1, 4, 12))):
        if spoilt:
            spoilt[min(len(spoilt) - 1, start + draw.randrange(156))] = draw.choice(
                (0, 0x37, 0xFF, draw.randrange(256))
            )
    return bytes(spoilt)


def rows(seed: str, made: Path) -> Outcome:
    """A hostile table."""
    draw = random.Random(seed)
    with here(made):
        table = Path(draw.choice(("table.csv", "table.csv", "table.tsv", "table.parquet")))
        if draw.random() < 0.3:
            text = mutate.bytes_changed(next(made.glob("results/*/results.csv")).read_bytes(), draw)
        else:
            heads = [draw.choice(("hours", "accuracy", "model", "samples", "x", "", "a b", "loss")) for _ in range(4)]
            lines = [",".join(heads)]
            for _ in range(draw.choice((0, 1, 3, 30))):
                value = [draw.choice((str(draw.random()), "1e5", str(draw.choice(mutate.VALUES))[:200])) for _ in heads]
                lines.append(",".join(one.replace("\n", " ") for one in value[: draw.choice((4, 4, 4, 3, 5))]))
            text = "\n".join(lines).encode("utf-8", "surrogatepass")
        table.write_bytes(text)
        verbs = (
            ["compare", str(table), "--baseline", "model=1e5", "--x", "hours", "--y", "accuracy"],
            ["compare", str(table), "--baseline", "x=1", "--deltas", "--y", "loss"],
            ["fit", str(table), "--law", "power", "--x", "samples", "--y", "loss", "--draws", "10"],
            ["fit", str(table), "--x", "samples,hours", "--y", "accuracy", "--draws", "10"],
            ["fit", str(table), "--x", "samples", "--y", "loss", "--draws", "10", "--forecast", "samples=1e9"],
        )
        return ran(draw.choice(verbs))


MAKERS: dict[str, Callable[[str, Path], Outcome]] = {
    "studies": study,
    "bytes": study_bytes,
    "expressions": expression,
    "sites": site,
    "folders": folder,
    "data": data,
    "tables": rows,
}


def monsters(made: Path, extent: Extent) -> Counts:
    """Studies that are far too large, or refer to too much."""
    names = list(MONSTERS)
    cases = [Case(f"monster {name}", functools.partial(_monster, name, made)) for name in names]
    found = count(cases[: 3 if extent.short else None], say=extent.say)
    extent.say(f"  monsters: {found.cases:,} cases, {sum(found.wrong.values())} wrong")
    return found


def _monster(name: str, made: Path) -> Outcome:
    with here(made):
        MONSTERS[name]()
        return ran(["plan", "study.yaml"])


def _study_of(**changes: Any) -> None:
    Path("study.yaml").write_bytes(_dump({**yaml.safe_load(TINY), **changes}))


def _doubling_includes() -> None:
    for level in range(18):
        Path(f"{level}.yaml").write_text(f"include: [{level + 1}.yaml, {level + 1}.yaml]\n")
    Path("18.yaml").write_text("seeds: 1\n")
    Path("study.yaml").write_text("include: 0.yaml\n" + TINY)


def _circle() -> None:
    Path("other.yaml").write_text("include: study.yaml\n")
    Path("study.yaml").write_text("include: other.yaml\n" + TINY)


def _aliases() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 30))]
    Path("study.yaml").write_text("\n".join(lines) + "\n" + TINY)


MONSTERS: dict[str, Callable[[], None]] = {
    "aliases": _aliases,
    "circle": _circle,
    "power": lambda: _study_of(where=["round(1, -10**9) == 1", "9**9**9**9 > 1"]),
    "includes": _doubling_includes,
    "unknown keys": lambda: _study_of(**{f"key{n}": n for n in range(20_000)}),
    "a long line": lambda: Path("study.yaml").write_text(TINY + "question: " + "x" * 10**8 + "\n") and None,
    "braces": lambda: _study_of(base={**yaml.safe_load(TINY)["base"], "data": {"webdataset": "{0..10000000}.tar"}}),
    "seeds": lambda: _study_of(seeds=10**7),
    "cells": lambda: _study_of(axes={"mask_ratio": [n / 4000 for n in range(3000)], "lr": list(range(1, 3000))}),
    "deep": lambda: Path("study.yaml").write_text(TINY + "where: " + "[" * 50_000 + "\n") and None,
    "deep expression": lambda: _study_of(where=["(" * 200 + "1" + ")" * 200]),
    "an endless file": lambda: Path("study.yaml").symlink_to("/dev/zero"),
    "a pipe": lambda: os.mkfifo("study.yaml"),
}
