"""The lessons in a real browser: each on one screen, drawn whole, without an error; and the way into the glossary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lessons.contents import CONTENTS, text
from tests.served import follow, settled, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

pytestmark = pytest.mark.browser

PHONE_HEIGHT = 844
DESK: ViewportSize = {"width": 1440, "height": 900}
BEAMER: ViewportSize = {"width": 1280, "height": 720}
MEASURED = """() => {
    const box = name => document.querySelector(name).getBoundingClientRect(), main = box("[data-testid=stMain]")
    const whole = document.querySelector("[data-testid=stMain]")
    return {height: whole.scrollHeight, room: main.height, wide: whole.scrollWidth > Math.ceil(main.width),
            picture: box(".js-plotly-plot").top, controls: box(".st-key-lesson_controls").top,
            ends: [".st-key-lesson_idea", ".st-key-lesson_controls", ".js-plotly-plot", ".st-key-lesson_exercise"].map(
                name => Math.round(box(name).bottom)),
            rights: [...document.querySelectorAll(".st-key-lesson_parts > div > div")].map(
                e => Math.round(e.getBoundingClientRect().right)),
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
            assert max(size["rights"]) <= (390 if phone else DESK["width"]), f"{entry.name} is cut off: {size}"
            if phone:
                assert size["picture"] < size["controls"] < size["picture"] + PHONE_HEIGHT, f"{entry.name}: {size}"
            else:
                assert size["height"] <= size["room"] + 1, f"{entry.name} needs scrolling: {size}"
                beside_each_other(page, entry.name)
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
            beside_each_other(page, way)


def test_a_picture_changes_in_place(browser: Browser, address: str) -> None:
    """Each step of a slider draws into the same picture, which is never hidden."""
    hidden = """() => { window.hidden = 0; const look = () => {
        const drawing = document.querySelector(".js-plotly-plot .main-svg");
        window.hidden += !drawing || getComputedStyle(drawing).visibility === "hidden";
        requestAnimationFrame(look) }; look() }"""
    drawn = "JSON.stringify(document.querySelector('.js-plotly-plot').data)"
    with tab(browser) as page:
        page.goto(f"{address}/learn?lesson=8")
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        settled(page, "learn")
        page.evaluate(hidden)
        page.evaluate("document.querySelector('.js-plotly-plot').dataset.seen = 'yes'")
        page.locator(".st-key-lesson_controls").get_by_role("slider").first.focus()
        for _ in range(3):
            page.evaluate(f"window.before = {drawn}")
            page.keyboard.press("ArrowRight")
            page.wait_for_function(f"{drawn} !== window.before")
        assert page.evaluate("[document.querySelector('.js-plotly-plot').dataset.seen, window.hidden]") == ["yes", 0]


def beside_each_other(page: Page, name: str) -> None:
    """On a projector's 1280×720 the idea, the controls, the picture and the exercise are seen without scrolling."""
    page.set_viewport_size(BEAMER)
    size = page.evaluate(MEASURED)
    assert max(size["ends"]) <= BEAMER["height"], f"{name} needs scrolling at 1280×720: {size}"
    assert not size["wide"], f"{name} at 1280×720: {size}"
    page.set_viewport_size(DESK)


def test_larger_text_for_a_class_goes_along(page: Page, address: str) -> None:
    """The projector's switch writes the address, which keeps it from lesson to lesson and on other pages."""
    sizes = """() => [".st-key-lesson_idea p", ".js-plotly-plot .xtick text", ".js-plotly-plot .legendtext"].map(
        name => parseFloat(getComputedStyle(document.querySelector(name)).fontSize))"""
    page.goto(f"{address}/learn?lesson=2")
    page.locator(".js-plotly-plot .legendtext").first.wait_for()
    settled(page, "learn")
    usual = page.evaluate(sizes)
    page.get_by_text("Projector", exact=True).click()
    page.wait_for_url("**projector=1**")
    settled(page, "learn")
    page.wait_for_function(f"({sizes})().every((size, at) => size > 1.25 * {usual}[at])")
    page.get_by_role("button", name="Next: ").click()
    page.get_by_role("heading", name="3. ").wait_for()
    assert "projector=1" in page.url
    follow(page, "budget")
    assert "projector=1" in page.url
    assert page.evaluate("getComputedStyle(document.documentElement).fontSize") == "20.8px"


def test_a_help_icon_leads_to_the_glossary(page: Page, address: str) -> None:
    from playwright.sync_api import TimeoutError as Late

    page.goto(f"{address}/budget")
    settled(page, "budget")
    link = page.get_by_role("tooltip").get_by_role("link", name="Unit", exact=True)

    def pressed() -> bool:
        """Point at the icon and press the link; a page that is drawn meanwhile takes the help away."""
        page.mouse.move(0, 0)
        page.get_by_test_id("stSlider").first.get_by_test_id("stTooltipIcon").hover()
        try:
            link.click(timeout=5_000)
        except Late:
            return False
        return True

    with page.expect_popup() as opened:
        assert any(pressed() for _ in range(12))
    glossary = opened.value
    glossary.get_by_role("heading", name="Unit", exact=True).first.wait_for()
    assert "learn?view=glossary&term=unit" in glossary.url
