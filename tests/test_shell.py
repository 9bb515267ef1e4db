"""The command line in a shell: help in groups, names that were meant, completion."""

import re
import subprocess
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.cli.parser import VERBS, parser


def usage_error(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_help_lists_every_verb_once_in_its_group() -> None:
    text = parser().format_help()
    listed = re.findall(r"^    (\w+) ", text, re.MULTILINE)
    assert listed == [verb.__name__ for verbs in VERBS.values() for verb, _ in verbs]
    assert list(re.findall(r"^  (\w.*):$", text, re.MULTILINE)) == list(VERBS)


def test_every_line_of_the_help_is_a_whole_sentence() -> None:
    for verbs in VERBS.values():
        for verb, _ in verbs:
            first = (verb.__doc__ or "").strip().splitlines()[0]
            assert first.endswith("."), f"{verb.__name__}: {first}"


def test_a_misspelt_command_or_option_names_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown command 'staus'; did you mean 'status'?" in usage_error("staus", "x.yaml", capsys=capsys)
    assert "unknown command 'fly'; flipscale --help lists" in usage_error("fly", capsys=capsys)
    gone = usage_error("data", "mosaic", capsys=capsys)
    assert "'data' is no command any more: run python studies/data/icons.py, mosaic.py or digits.py" in gone
    for verb, heir in (
        ("why", "status --why"), ("ledger", "status --spent"), ("doctor", "plan --check"), 
        ("diff", "compare OLD.csv NEW.csv"),
        ("forecast", "fit SOURCE --forecast"), ("completion", "flipscale --completion"),
    ):  # fmt: skip
        assert f"'{verb}' is no command any more: " in (said := usage_error(verb, "x", capsys=capsys))
        assert heir in said
    assert "unknown option '--detatch'; did you mean '--detach'?" in usage_error(
        "submit", "x.yaml", "--detatch", capsys=capsys
    )
    assert "unrecognized arguments: b" in usage_error("report", "a.yaml", "b", capsys=capsys)
    assert "unrecognized arguments: --nonsense" in usage_error("--nonsense", capsys=capsys)


def completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["--completion", shell])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("st", ["status"]),
        ("submit --det", ["--detach"]),
        ("plan stu", ["study.yaml"]),
        ("plan sub", ["subfolder"]),
        ("logs ViT", ["ViT-1"]),
        ("export study.yaml --to ", ["csv", "parquet", "latex"]),
    ],
)
def test_bash_completes_commands_options_studies_and_runs(
    words: str, offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = completion_script("bash", capsys)
    (tmp_path / "study.yaml").touch()
    (tmp_path / "studies.txt").touch()
    (tmp_path / "subfolder").mkdir()
    (tmp_path / "elsewhere/runs/ViT-1").mkdir(parents=True)
    typed = ["flipscale", *words.split(" ")]
    asked = f"""
        COMP_WORDS=({" ".join(f"'{word}'" for word in typed)}); COMP_CWORD={len(typed) - 1}
        _shtab_flipscale; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script + asked],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "FLIPSCALE_RESULTS": "elsewhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [word for word in done.stdout.split() if word != "elsewhere"] == offered


def test_zsh_gets_a_script_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    script = completion_script("zsh", capsys)
    assert script.startswith("#compdef flipscale")
    assert script.count("_flipscale_study_files") > 5
    assert script.count("_flipscale_runs") > 3
