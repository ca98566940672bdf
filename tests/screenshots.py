"""The pictures of the README, taken of the real app with the runs it comes with.

python -m tests.screenshots [--only runs,budget]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from app import nav
from tests.served import chromium, served, settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER = nav.ROOT / "assets" / "screenshots"
GETA = "gallery.resnet8-mnist5k.geta"
VIEWS = {
    "runs": ("runs", f"runs?run={GETA}"),
    "budget": ("budget", "budget?method=OPQ"),
    "explain": ("explain", f"explain?run={GETA}"),
}
SIZE = {"width": 1440, "height": 900}


def main(argv: list[str] | None = None) -> int:
    """Take the pictures named, or all."""
    parser = argparse.ArgumentParser(prog="tests.screenshots", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help=f"of {', '.join(VIEWS)}, separated by commas")
    selected = [name for name in parser.parse_args(argv).only.split(",") if name] or list(VIEWS)
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium() as browser,
        served(Path(folder) / "runs", Path(folder) / "log.txt") as app,
    ):
        for name in selected:
            take(browser, app.address, name)
    return 0


def take(browser: Browser, address: str, name: str) -> None:
    """One picture, once the page is whole."""
    page_name, query = VIEWS[name]
    page = browser.new_page(viewport=SIZE, color_scheme="light")
    page.set_default_timeout(120_000)
    page.goto(f"{address}/{query}")
    settled(page, page_name)
    page.locator(".js-plotly-plot").first.wait_for()
    page.wait_for_timeout(2000)  # charts fade in
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled", timeout=120_000)
    page.close()
    print(f"{name}: {(FOLDER / f'{name}.png').stat().st_size // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
