"""One file, many qualities in the browser: made by a job from the Export page, then a slider moves how much is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.served import settled

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.extended]

RUN, JOB_SECONDS = "gallery.resnet8-mnist5k.geta", 400


def figures(page: Page) -> list[str]:
    """What stands in the page's figures."""
    return page.get_by_test_id("stMetricValue").all_inner_texts()


@pytest.mark.timeout(900)  # seconds for a machine that is busy with other things; alone it takes half a minute
def test_a_layered_file_is_made_and_read_in_part(page: Page, address: str) -> None:
    page.goto(f"{address}/export?run={RUN}")
    settled(page, "export")
    page.get_by_role("button", name="Make a layered file").click()
    slider = page.get_by_role("slider").last
    slider.wait_for(timeout=JOB_SECONDS * 1000)
    settled(page, "export")
    whole = figures(page)
    slider.press("ArrowLeft")
    page.wait_for_function(
        "before => [...document.querySelectorAll('[data-testid=stMetricValue]')].some((each, i) => "
        "each.innerText !== before[i])",
        arg=whole,
    )
    settled(page, "export")
    page.get_by_role("button", name="Download the layered file").wait_for()
    page.goto(f"{address}/compare?run={RUN}&gallery=true")
    settled(page, "compare")
