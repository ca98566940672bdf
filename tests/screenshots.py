"""Pictures of the real app with the runs it comes with: those of the README, or every page in every look.

python -m tests.screenshots [--only runs,budget]
python -m tests.screenshots --all FOLDER [--only runs,budget]
python -m tests.screenshots --film          # the moving picture of a run, from the click on Start to its result
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from app import nav
from tests.served import chromium, served, settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = nav.ROOT / "assets" / "screenshots"
GETA = "gallery.resnet8-mnist5k.geta"
VIEWS = {
    "runs": ("runs", f"runs?run={GETA}"),
    "budget": ("budget", "budget?method=OPQ"),
    "explain": ("explain", f"explain?run={GETA}"),
}
EVERY = {
    **{name: (name, "" if name == "start" else f"{name}?run={GETA}") for name in nav.PAGES},
    "learn": ("learn", "learn?lesson=5"),
}
DESK, SMALL, PHONE = (1440, 900), (1280, 720), (390, 844)
LOOKS = {
    "desk-light": (DESK, "light", ""), "desk-dark": (DESK, "dark", ""), "small-light": (SMALL, "light", ""),
    "phone-light": (PHONE, "light", ""), "phone-dark": (PHONE, "dark", ""),
    "projector": (SMALL, "light", "projector=1"),
}  # fmt: skip
"""Name → (width and height, colour scheme, what is added to the address)."""
FILM, FILM_WIDTH = (1200, 1320), 840
FRAMES, FRAME_MS, END_MS = 40, 400, 5000
"""Of the film: frames at most, and how long one and the last are shown."""


def main(argv: list[str] | None = None) -> int:
    """Take the pictures named, or all."""
    parser = argparse.ArgumentParser(prog="tests.screenshots", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="names of pictures or pages, separated by commas")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every page in every look, into this folder")
    parser.add_argument("--film", action="store_true", help="the moving picture of a run instead")
    requested = parser.parse_args(argv)
    views = VIEWS if requested.all is None else EVERY
    selected = [name for name in requested.only.split(",") if name] or list(views)
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium() as browser,
        served(Path(folder) / "runs", Path(folder) / "log.txt") as app,
    ):
        if requested.film:
            film(browser, app.address, FOLDER / "run.webp")
            return 0
        for name in selected:
            if requested.all is None:
                take(browser, f"{app.address}/{views[name][1]}", views[name][0], FOLDER / f"{name}.png")
                continue
            for look, (size, scheme, more) in LOOKS.items():
                query = views[name][1]
                address = f"{app.address}/{query}{('&' if '?' in query else '?') if more else ''}{more}"
                take(browser, address, views[name][0], requested.all / f"{name}-{look}.png", size, scheme)
    return 0


def take(
    browser: Browser, address: str, name: str, file: Path, size: tuple[int, int] = DESK, scheme: str = "light"
) -> None:
    """One picture, once the page is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    page.goto(address)
    settled(page, name)
    page.wait_for_timeout(3000)  # charts arrive and fade in
    page.screenshot(path=file, animations="disabled", timeout=120_000)
    page.close()
    print(f"{file.name}: {file.stat().st_size // 1000} kB", flush=True)


def film(browser: Browser, address: str, file: Path) -> None:
    """A real run as a moving picture: pictures of the Runs page while it trains, evenly thinned, and its result."""
    page = browser.new_page(viewport={"width": FILM[0], "height": FILM[1]}, color_scheme="light")
    page.set_default_timeout(120_000)
    page.goto(address)
    settled(page, "start")
    page.wait_for_timeout(3000)
    start = _frame(page)
    page.get_by_role("button", name="Try it now").click()
    page.get_by_role("heading", name=nav.PAGES["runs"].question).wait_for()
    page.get_by_text("best so far at each size").first.wait_for()
    frames = [_frame(page)]
    export = page.get_by_role("button", name="Export", exact=True)
    while not export.is_visible():
        frame = _frame(page)
        if ImageChops.difference(frame, frames[-1]).getbbox():
            frames.append(frame)
        page.wait_for_timeout(300)
    page.wait_for_timeout(3000)
    end = _frame(page)
    page.close()
    step = max(1.0, len(frames) / FRAMES)
    shown = [frames[int(i * step)] for i in range(min(FRAMES, len(frames)))]
    durations = [5 * FRAME_MS, *[FRAME_MS] * len(shown), END_MS]
    start.save(file, save_all=True, append_images=[*shown, end], duration=durations, loop=0, quality=60, method=6)
    print(f"{file.name}: {len(shown) + 2} pictures, {file.stat().st_size // 1000} kB", flush=True)


def _frame(page: Page) -> Image.Image:
    picture = Image.open(io.BytesIO(page.screenshot(timeout=120_000))).convert("RGB")
    return picture.resize((FILM_WIDTH, FILM_WIDTH * FILM[1] // FILM[0]), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    sys.exit(main())
