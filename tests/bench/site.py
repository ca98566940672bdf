"""The site benchmark: how long until the page can be used and its networks answer, and what a stroke takes.

python -m tests.bench.site [--site FOLDER] [--write BENCHMARKS.md]     # after make site
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.graphs import write
from tests.bench.report import machine
from tests.served import chromium, static, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

OPENINGS, STROKES = 5, 20
USABLE_REACH, STROKE_REACH = 2000.0, 50.0  # milliseconds
WATCH = """
window.usable = window.ready = window.lifted = window.answered = 0;
addEventListener("pointerup", () => (window.lifted = performance.now()), true);
new MutationObserver(() => {
  const status = document.querySelector(".status")?.textContent ?? "";
  if (!window.usable && document.querySelector(".examples button")) window.usable = performance.now();
  if (!window.ready && status.startsWith("Draw")) window.ready = performance.now();
  window.answered = performance.now();
}).observe(document, { childList: true, subtree: true, characterData: true });
"""
WORDS = """\
The site of `make site` behind a plain server on this machine, each opening in a browser that has seen nothing of it.
Usable: the pad, the examples and both panels are there. Ready: the runtime is compiled and both networks have run once.
A stroke: from lifting the pen to the last change of the page, that is preparation, both networks, and their bars;
without the time until the next frame. This machine's cores also did the server."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.site", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--site", type=Path, default=Path("site"), metavar="FOLDER", help="a built site (site)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    arguments = parser.parse_args(argv)
    if not (arguments.site / "index.html").is_file():
        parser.error(f"there is no site in {arguments.site}: make site")
    with static(arguments.site) as address, chromium() as browser:
        opened = [opening(browser, address) for _ in range(OPENINGS)]
        times = strokes(browser, address)
    lines = [
        "## The site without a server",
        "",
        *machine(f"{OPENINGS} openings, {STROKES} strokes"),
        _reached("usable", [usable for usable, _ in opened], USABLE_REACH),
        _reached("ready", [ready for _, ready in opened], USABLE_REACH),
        _reached("a stroke", times, STROKE_REACH),
        "",
        WORDS,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0


def opening(browser: Browser, address: str) -> tuple[float, float]:
    """Milliseconds from the request of the page until it is usable, and until its networks are ready."""
    with tab(browser) as page:
        page.add_init_script(WATCH)
        page.goto(f"{address}/index.html")
        page.get_by_text("Draw a digit, or take one of the examples.").wait_for()
        usable, ready = page.evaluate("[window.usable, window.ready]")
    return float(usable), float(ready)


def strokes(browser: Browser, address: str) -> list[float]:
    """Milliseconds from lifting the pen to the page's last change, for strokes in all directions."""
    times = []
    with tab(browser) as page:
        page.add_init_script(WATCH)
        page.goto(f"{address}/index.html")
        page.get_by_text("Draw a digit, or take one of the examples.").wait_for()
        box = page.locator(".pad canvas").bounding_box()
        assert box is not None
        for number in range(STROKES):
            page.mouse.move(box["x"] + 40 + 9 * number, box["y"] + 40)
            page.mouse.down()
            page.mouse.move(box["x"] + 220 - 9 * number, box["y"] + 240, steps=8)
            page.mouse.up()
            page.wait_for_timeout(500)
            times.append(float(page.evaluate("window.answered - window.lifted")))
    return times


def _reached(what: str, times: Sequence[float], reach: float) -> str:
    middle, most = statistics.median(times), max(times)
    return f"- {what}: median {middle:.0f} ms, at most {most:.0f} ms (to reach: {reach:.0f} ms)"


if __name__ == "__main__":
    sys.exit(main())
