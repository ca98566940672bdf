"""The lessons in a real browser: each on one screen, drawn whole, without an error; and the way into the glossary."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from app.lessons import texts
from app.lessons.lesson import CONTENTS
from tests.served import PAGE_SECONDS
from tests.served import chromium
from tests.served import served
from tests.served import settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import ConsoleMessage
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

WIDE, PHONE = (1440, 900), (390, 844)
PROBES = "_stcore"  # Streamlit looks for its server below the page's address first; on a deep link that is not found
MEASURED = """() => {
    const box = name => document.querySelector(name).getBoundingClientRect(), main = box("[data-testid=stMain]")
    const whole = document.querySelector("[data-testid=stMain]")
    return {height: whole.scrollHeight, room: main.height, wide: whole.scrollWidth > Math.ceil(main.width),
            picture: box(".js-plotly-plot").top, controls: box(".st-key-lesson_controls").top,
            drawn: document.querySelectorAll(".js-plotly-plot .main-svg").length,
            formulas: document.querySelectorAll(".st-key-lesson_formula .katex").length,
            broken: [...document.querySelectorAll(".katex-error, [data-testid=stException]")].map(e => e.textContent)}
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the real app on an empty runs folder."""
    folder = tmp_path_factory.mktemp("learn")
    with served(folder / "runs", folder / "log.txt") as app:
        yield app.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (requirements-dev.txt)")
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(chromium())
        except FileNotFoundError as problem:
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail(str(problem))
            pytest.skip(str(problem))
        yield found


@contextlib.contextmanager
def tab(browser: Browser, size: tuple[int, int], scheme: str) -> Iterator[Page]:
    """A fresh tab; an error in its console, or in its scripts, fails the test."""
    said: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and PROBES not in message.location["url"]:
            said.append(message.text)

    width, height = size
    with browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(PAGE_SECONDS * 1000)
        page.on("console", heard)
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
    assert said == []


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_every_lesson_is_drawn_on_one_screen(
    browser: Browser, address: str, size: tuple[int, int], scheme: str
) -> None:
    with tab(browser, size, scheme) as page:
        page.goto(f"{address}/learn?lesson=1")
        for found in CONTENTS:
            title = texts.read(found.text).title
            page.get_by_role("heading", name=f"{found.number}. {title}", exact=True).wait_for()
            page.locator(".js-plotly-plot .main-svg").first.wait_for()
            settled(page, "learn")
            seen = page.evaluate(MEASURED)
            assert seen["broken"] == [], found.text
            assert seen["drawn"], found.text
            assert seen["formulas"], found.text
            assert not seen["wide"], found.text
            if size == WIDE:
                assert seen["height"] <= seen["room"] + 1, f"{found.text} needs scrolling: {seen}"
            else:
                assert seen["picture"] < seen["controls"] < seen["picture"] + size[1], f"{found.text}: {seen}"
            if found is not CONTENTS[-1]:
                page.get_by_role("button", name="Next: ").click()


def test_a_help_icon_leads_to_the_glossary(browser: Browser, address: str) -> None:
    with tab(browser, WIDE, "light") as page:
        page.goto(f"{address}/budget")
        settled(page, "budget")
        page.get_by_test_id("stSlider").first.get_by_test_id("stTooltipIcon").hover()
        link = page.get_by_role("tooltip").get_by_role("link", name="Unit", exact=True)
        with page.expect_popup() as opened:
            link.click()
        glossary = opened.value
        glossary.get_by_role("heading", name="Unit", exact=True).first.wait_for()
        assert "learn?view=glossary&term=unit" in glossary.url
