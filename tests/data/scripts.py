"""The builders of data sets, run as their users do."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "studies" / "data"


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
