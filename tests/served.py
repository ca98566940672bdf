"""The real app on a port of its own, and a headless Chromium to open it in: for browser tests and benchmarks."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app import nav

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
START_SECONDS, PAGE_SECONDS, END_SECONDS = 120, 120, 60
# A Streamlit page opened by its own address asks for its server below that address first and at the root next; that the
# first is not there says the console. No setting changes it (the client tries both for every base path).
LOOKS_FOR_ITS_SERVER = re.compile(rf"/(?:{'|'.join(nav.PAGES)})/_stcore/(?:health|host-config)")


@dataclass(frozen=True)
class Served:
    """A running app: its ``address``, the process id of its server, and the file with what it says."""

    address: str
    pid: int
    log: Path


@contextlib.contextmanager
def served(runs: Path, log: Path, *arguments: str) -> Iterator[Served]:
    """The app on ``runs`` with more ``arguments``, started as ``make app`` starts it; ended at the end of the block."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true", "--", "--runs", str(runs), *arguments]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, cwd=nav.ROOT, stdout=stream, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, "the app did not start"
            time.sleep(0.05)
        yield Served(f"http://127.0.0.1:{port}", server.pid, log)
    finally:
        server.terminate()
        server.wait(END_SECONDS)


@contextlib.contextmanager
def static(folder: Path) -> Iterator[str]:
    """The address of a folder behind the plainest of servers, on this machine only."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium: the system's, else the one Playwright installed.

    Raises:
        FileNotFoundError: there is none.
    """
    from playwright.sync_api import sync_playwright

    named = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    with sync_playwright() as playwright:
        path = next((candidate for candidate in named if candidate), playwright.chromium.executable_path)
        if not Path(path).exists():
            raise FileNotFoundError("no Chromium: install the system's package, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def overheard(page: Page) -> list[str]:
    """What goes wrong in a tab from now on, growing as it happens: JavaScript errors, errors in the console."""
    broken: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        source = str(message.location.get("url", ""))
        if message.type == "error" and not LOOKS_FOR_ITS_SERVER.fullmatch(urlsplit(source).path):
            broken.append(f"{message.text} ({source})")

    page.on("console", listen)
    page.on("pageerror", lambda error: broken.append(str(error)))
    return broken


@contextlib.contextmanager
def tab(browser: Browser, phone: bool = False) -> Iterator[Page]:
    """A tab of a browser that has been nowhere yet; anything in its console fails at the end of the block."""
    size: ViewportSize = {"width": 390, "height": 844} if phone else {"width": 1440, "height": 900}
    page = browser.new_page(viewport=size, color_scheme="dark" if phone else "light")
    page.set_default_timeout(PAGE_SECONDS * 1000)
    broken = overheard(page)
    yield page
    page.close()
    assert not broken, "\n".join(broken)


def count_clicks(page: Page) -> None:
    """Count how often a person presses the pointer in this tab, from its next address on, over all its pages.

    Charts take a press and leave no click.
    """
    page.add_init_script(
        "addEventListener('pointerdown', event => {"
        " if (event.isTrusted) sessionStorage.clicks = 1 + Number(sessionStorage.clicks || 0) }, true)"
    )


def clicks(page: Page) -> int:
    """How many there were; see :func:`count_clicks`."""
    return int(page.evaluate("Number(sessionStorage.clicks || 0)"))


def settled(page: Page, name: str) -> None:
    """Wait for the page's question and for the script to end; no exception box, no error line."""
    page.get_by_role("heading", name=nav.PAGES[name].question).wait_for()
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'")
    for wrong in ("stException", "stAlertContentError"):
        assert not (texts := page.get_by_test_id(wrong).all_inner_texts()), f"{name}: {texts}"


def follow(page: Page, name: str) -> None:
    """Click the page's link in the navigation."""
    page.get_by_role("link", name=nav.PAGES[name].title, exact=True).first.click()
    settled(page, name)


def draw(page: Page, path: list[tuple[int, int]]) -> None:
    """Draw a line through these places, of 280, on the pad for digits."""
    canvas = page.locator(".pad canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"] / 280, box["y"] + y * box["height"] / 280) for x, y in path]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
