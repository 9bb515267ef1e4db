"""Figures that would be drawn the same are left as they are."""

from pathlib import Path

import pandas as pd
import pytest

from flipscale.plot import FigureData, figure_data, plot_all, unchanged

FIGURES = ["accuracy_vs_samples", "claims"]


def results(score: float = 0.5) -> FigureData:
    rows = [
        {
            "id": f"{mask}-{samples}",
            "cell": f"samples={samples}",
            "model": "ViT-w48d3-4",
            "samples": samples,
            "samples_seen": samples,
            "mask_ratio": mask,
            "seed": 0,
            "train_flops": samples * 1e6,
            "zero_shot_top1": score + samples / 1e6 - mask / 10,
            "finished": 1.7e9,
        }
        for mask in (0, 0.5)
        for samples in (16000, 32000)
    ]
    return figure_data(pd.DataFrame(rows), study="mask", baseline={"mask_ratio": 0})


def stamps(folder: Path) -> dict[str, int]:
    """When each figure's file was written; a file that is replaced has another inode as well."""
    found = {path.name: path.stat() for path in folder.iterdir() if not path.name.startswith(".")}
    return {name: hash((stat.st_mtime_ns, stat.st_ino)) for name, stat in found.items()}


def test_a_figure_is_drawn_again_only_where_its_data_or_its_files_changed(tmp_path: Path) -> None:
    out, note = tmp_path / "plots", tmp_path / "plots" / ".drawn.json"
    first = plot_all(results(), out, FIGURES, note=note)
    assert (len(first.files), list(first.skipped), first.unchanged) == (3, ["claims"], ())
    drawn = stamps(out)
    again = plot_all(results(), out, FIGURES, note=note)
    assert (again.files, list(again.skipped), again.unchanged) == (first.files, ["claims"], ("accuracy_vs_samples",))
    assert stamps(out) == drawn

    bytes_before = first.files[0].read_bytes()
    first.files[0].write_text("edited")
    first.files[2].unlink()
    assert plot_all(results(), out, FIGURES, note=note).unchanged == ()
    assert first.files[0].read_bytes() == bytes_before
    assert first.files[2].exists()

    assert plot_all(results(0.6), out, FIGURES, note=note).unchanged == ()
    assert first.files[0].read_bytes() != bytes_before


def test_without_a_note_every_figure_is_drawn(tmp_path: Path, in_svg_alone: None) -> None:
    plot_all(results(), tmp_path, FIGURES)
    drawn = stamps(tmp_path)
    plot_all(results(), tmp_path, FIGURES)
    assert not set(drawn.values()) & set(stamps(tmp_path).values())


def test_other_code_draws_anew_and_a_damaged_note_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_svg_alone: None
) -> None:
    note = tmp_path / ".drawn.json"
    for damaged in ("", "[]", '{"figures": [1]}', '{"figures": {"accuracy_vs_samples": 1}}'):
        note.write_text(damaged)
        assert plot_all(results(), tmp_path, FIGURES, note=note).unchanged == ()
    assert plot_all(results(), tmp_path, FIGURES, note=note).unchanged == ("accuracy_vs_samples",)
    monkeypatch.setattr(unchanged, "digest_of_code", lambda: "of tomorrow")
    assert plot_all(results(), tmp_path, FIGURES, note=note).unchanged == ()


@pytest.mark.parametrize("change", ["score", "study", "chance", "order"])
def test_what_a_figure_shows_is_in_the_digest_of_its_data(change: str) -> None:
    from dataclasses import replace

    data = results()
    changed = {
        "score": results(0.501),
        "study": replace(data, study="other"),
        "chance": replace(data, chance=0.1),
        "order": replace(data, rows=data.rows.iloc[::-1]),
    }[change]
    assert unchanged.digest_of_data(data) == unchanged.digest_of_data(results())
    assert unchanged.digest_of_data(data) != unchanged.digest_of_data(changed)
