"""The lessons in a real browser: each on one screen, drawn whole, without an error; and the way into the glossary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lessons.contents import CONTENTS, text
from tests.served import settled, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PHONE_HEIGHT = 844
MEASURED = """() => {
    const box = name => document.querySelector(name).getBoundingClientRect(), main = box("[data-testid=stMain]")
    const whole = document.querySelector("[data-testid=stMain]")
    return {height: whole.scrollHeight, room: main.height, wide: whole.scrollWidth > Math.ceil(main.width),
            picture: box(".js-plotly-plot").top, controls: box(".st-key-lesson_controls").top,
            drawn: document.querySelectorAll(".js-plotly-plot .main-svg").length,
            formulas: document.querySelectorAll(".st-key-lesson_formula .katex").length,
            broken: [...document.querySelectorAll(".katex-error, [data-testid=stException]")].map(e => e.textContent)}
}"""


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_every_lesson_is_drawn_on_one_screen(browser: Browser, address: str, phone: bool) -> None:
    with tab(browser, phone) as page:
        page.goto(f"{address}/learn?lesson=1")
        for entry in CONTENTS:
            title = text(entry.name)["Title"]
            page.get_by_role("heading", name=f"{entry.number}. {title}", exact=True).wait_for()
            page.locator(".js-plotly-plot .main-svg").first.wait_for()
            settled(page, "learn")
            size = page.evaluate(MEASURED)
            assert size["broken"] == [], entry.name
            assert size["drawn"], entry.name
            assert size["formulas"], entry.name
            assert not size["wide"], entry.name
            if phone:
                assert size["picture"] < size["controls"] < size["picture"] + PHONE_HEIGHT, f"{entry.name}: {size}"
            else:
                assert size["height"] <= size["room"] + 1, f"{entry.name} needs scrolling: {size}"
            if entry is not CONTENTS[-1]:
                page.get_by_role("button", name="Next: ").click()


def test_what_is_forgotten_and_what_is_cut_fits_on_one_screen(browser: Browser, address: str) -> None:
    """The part of lesson 5 with the most controls, in both of its ways."""
    with tab(browser) as page:
        for way in ("published", "uniform"):
            page.goto(f"{address}/learn?lesson=5&shown=forgetting&way={way}&at=500")
            page.locator(".js-plotly-plot .main-svg").first.wait_for()
            settled(page, "learn")
            size = page.evaluate(MEASURED)
            assert size["broken"] == [], way
            assert size["height"] <= size["room"] + 1, f"{way} needs scrolling: {size}"


def test_a_help_icon_leads_to_the_glossary(page: Page, address: str) -> None:
    page.goto(f"{address}/budget")
    settled(page, "budget")
    page.get_by_test_id("stSlider").first.get_by_test_id("stTooltipIcon").hover()
    link = page.get_by_role("tooltip").get_by_role("link", name="Unit", exact=True)
    with page.expect_popup() as opened:
        link.click()
    glossary = opened.value
    glossary.get_by_role("heading", name="Unit", exact=True).first.wait_for()
    assert "learn?view=glossary&term=unit" in glossary.url
