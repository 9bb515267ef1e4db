"""docs/report.png: the first view of the report of studies/flip.yaml. `make docs-pictures` draws it, with Chromium."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from flipscale.planning import plan
from flipscale.reporting import write_report
from flipscale.study import read_study

ROOT = Path(__file__).parents[1]


def start_chromium(playwright: Any, **options: Any) -> Any:
    """Headless Chromium: that of FLIPSCALE_CHROMIUM, or of the PATH, or playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("FLIPSCALE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    # Root, as CI is, has no sandbox of Chromium's; the page is our own.
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], **options)


def main() -> None:
    from playwright.sync_api import sync_playwright

    file = ROOT / "studies/flip.yaml"
    study = read_study(file)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        plots = Path(folder)
        shutil.copytree(ROOT / "plots/flip", plots / "flip")
        report = write_report(study, plan(study), file, ROOT / "results", plots)
        chromium = start_chromium(playwright)
        page = chromium.new_page(viewport={"width": 1400, "height": 800}, color_scheme="light")
        page.goto(report.path.as_uri())
        page.screenshot(path=ROOT / "docs/report.png")
        chromium.close()


if __name__ == "__main__":
    main()
