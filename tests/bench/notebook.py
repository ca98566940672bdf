"""How fast a slider is answered in a notebook; and the same slider as a component of the app beside the app's own kind.

python -m tests.bench.notebook [--only notebook|app] [--turns N] [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.graphs import write
from tests.bench.report import machine
from tests.notebooks import answer_times, jupyterlab, run_first_cell, streamlit, write_notebook
from tests.served import PAGE_SECONDS, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TURNS = 30
REACH = 100.0  # milliseconds
PAGE = "tests/bench/slider_page.py"
SOURCE = "import compression as cx\npanel = cx.explore({model!r}, {data!r}, runs={runs!r})\npanel"
SUBJECTS = (("resnet8", "mnist5k"), ("unet_small", "digit-masks"))
LEGEND = """\
In the page, from the input event of the sparsity slider to other figures of the forecast: JavaScript, the notebook's
server, the kernel's forecast and back (`cx.explore` in JupyterLab). App: one Streamlit page that does nothing but
forecast the same budget, once with Streamlit's slider (from the key) and once with the notebook's slider as a component
(`assets/components/sliders.js`, from the input event). This machine's two cores also did the browser."""
NATIVE = """() => new Promise((resolve) => {
  const figure = document.querySelector("[data-testid=stMetricValue]"), before = figure.innerText;
  const watcher = new MutationObserver(() => {
    const now = document.querySelector("[data-testid=stMetricValue]").innerText;
    if (now === before) return;
    watcher.disconnect();
    resolve(performance.now() - begun);
  });
  watcher.observe(document.body, { childList: true, subtree: true, characterData: true });
  let begun = 0;
  document.addEventListener("keydown", () => { begun = performance.now(); }, { capture: true, once: true });
  window.ready = true;
})"""
COMPONENT = """(value) => new Promise((resolve) => {
  const read = () => document.querySelector("[data-testid=stMetricValue]").innerText, before = read();
  const watcher = new MutationObserver(() => {
    if (read() === before) return;
    watcher.disconnect();
    resolve(performance.now() - begun);
  });
  watcher.observe(document.body, { childList: true, subtree: true, characterData: true });
  const inside = (root) => root.querySelector(".cx-ask input[type=range]") ??
    [...root.querySelectorAll("*")].map((each) => each.shadowRoot && inside(each.shadowRoot)).find(Boolean);
  const handle = inside(document);
  handle.value = value;
  const begun = performance.now();
  handle.dispatchEvent(new Event("input", { bubbles: true }));
})"""


def main(argv: list[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.notebook", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("notebook", "app"), help="one part (default: both)")
    parser.add_argument("--turns", type=int, default=TURNS, metavar="N", help=f"moves of each slider ({TURNS})")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    arguments = parser.parse_args(argv)
    lines = machine(f"{arguments.turns} moves")
    with chromium() as browser:
        if arguments.only != "app":
            lines += [_reached(f"JupyterLab, {model}", in_jupyterlab(browser, model, data, arguments.turns))
                      for model, data in SUBJECTS]  # fmt: skip
        if arguments.only != "notebook":
            native, component = in_the_app(browser, arguments.turns)
            lines += [_reached("a bare page of the app, Streamlit's slider", native)]
            lines += [_reached("a bare page of the app, the notebook's slider", component)]
    text = "\n\n".join(["## The panel in a notebook: answers", "\n".join(lines), LEGEND]) + "\n"
    print(text, flush=True)
    if arguments.write:
        write(arguments.write, text)
    return 0


def in_jupyterlab(browser: Browser, model: str, data: str, turns: int) -> list[float]:
    """Milliseconds of each move."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_notebook(folder, SOURCE.format(model=model, data=data, runs=str(folder / "runs")))
        with jupyterlab(folder) as address:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(PAGE_SECONDS * 1000)
            run_first_cell(page, address)
            answer_times(page, "sparsity", [0.1, 0.2])
            times = answer_times(page, "sparsity", _places(turns))
            page.close()
    return times


def in_the_app(browser: Browser, turns: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each move of Streamlit's slider, and of the component."""
    times: dict[str, list[float]] = {}
    for kind in ("native", "component"):
        with (
            tempfile.TemporaryDirectory() as name,
            streamlit(Path(name), PAGE, kind) as address,
        ):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(PAGE_SECONDS * 1000)
            page.goto(address)
            page.get_by_test_id("stMetricValue").first.wait_for()
            page.wait_for_timeout(1000)
            if kind == "native":
                slider = page.get_by_role("slider").first
                slider.focus()
                for _ in range(turns + 2):
                    page.evaluate(f"void (window.answer = ({NATIVE})())")
                    slider.press("ArrowRight")
                    times.setdefault(kind, []).append(float(page.evaluate("window.answer")))
                    page.wait_for_timeout(200)
            else:
                for value in [0.1, 0.2, *_places(turns)]:
                    times.setdefault(kind, []).append(float(page.evaluate(COMPONENT, value)))
                    page.wait_for_timeout(200)
            page.close()
    return times["native"][2:], times["component"][2:]


def _places(turns: int) -> list[float]:
    return [round(0.3 + 0.01 * turn, 2) for turn in range(turns)]


def _reached(what: str, milliseconds: Sequence[float]) -> str:
    median, slowest = statistics.median(milliseconds), max(milliseconds)
    return f"- {what}: {median:.0f} ms (median), {slowest:.0f} ms (slowest of {len(milliseconds)}), to reach: {REACH:g}"


if __name__ == "__main__":
    sys.exit(main())
