"""What is around every page: titles of tabs, the way back, and where the keyboard is."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

from app import nav
from tests.served import follow, settled

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_one_press_of_back_for_each_page(page: Page, address: str) -> None:
    page.goto(address)
    settled(page, "start")
    visited = ["start", "model", "budget", "runs"]
    for name in visited:
        if name != "start":
            follow(page, name)
        page.wait_for_function(
            "title => document.title === title", arg=f"{nav.PAGES[name].title} · Compression Explorer"
        )
        page.wait_for_url("**model=resnet8*")  # the address is complete
    for name in reversed(visited[:-1]):
        page.go_back()
        page.get_by_role("heading", name=nav.PAGES[name].question).wait_for()
        assert page.title().startswith(nav.PAGES[name].title)


def test_another_model_is_a_place_to_come_back_to(page: Page, address: str) -> None:
    page.goto(f"{address}/groups?model=resnet8&data=mnist5k")
    settled(page, "groups")
    entries = page.evaluate("history.length")
    for push, more in (
        ("/groups?model=resnet8&data=mnist5k&group=conv1", 0),  # completed: nothing else is opened
        ("/groups?model=resnet8&data=mnist5k&group=layer1.0.conv1", 1),
        ("/groups?model=mobilenet_small&data=cifar10", 2),
    ):
        page.evaluate("url => history.pushState({}, '', url)", push)
        assert (page.evaluate("history.length"), page.evaluate("location.pathname + location.search")) == (
            entries + more,
            push,
        )


def test_the_keyboard_is_seen(page: Page, address: str) -> None:
    page.goto(address)
    settled(page, "start")
    seen = "document.activeElement.matches('a, button') && getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(4):
        page.keyboard.press("Tab")
        page.wait_for_function(f"({seen}) === 'solid'")


def test_a_proxy_may_ask_whether_the_server_answers(address: str) -> None:
    with urllib.request.urlopen(f"{address}/healthz") as answer:
        assert (answer.status, answer.read()) == (200, b"ok")
        assert "script-src" in answer.headers["Content-Security-Policy"]
