"""Several tabs on two servers that share one store, and live updates: the short version of ``tests.bench.sessions``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.bench import sessions
from tests.served import served
from tests.served import settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_tabs_on_two_servers_meet_no_error_and_live_updates_keep_the_memory(browser: Browser, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    logs = [tmp_path / "one.txt", tmp_path / "two.txt"]
    with served(store, logs[0]) as one, served(store, logs[1]) as two, sessions.going(store) as run:
        views, errors = sessions.crowd(browser, (one, two), run, tabs=3)
        memory = [megabytes for _, megabytes in sessions.growth(browser, one, run, minutes=0.25)]
    assert (views, errors) == (21, [])
    assert [log.read_text() for log in logs if sessions.troubles(log)] == []
    assert memory[-1] - memory[1] < sessions.MEMORY_REACH


def test_tabs_that_are_opened_again_and_again_keep_no_handles(browser: Browser, tmp_path: Path) -> None:
    """What a closed tab holds goes after some seconds: here as many are opened as would hold sixty handles."""
    with served(tmp_path / "runs", tmp_path / "log.txt") as app, sessions.going(tmp_path / "runs") as run:
        server = psutil.Process(app.pid)
        page = browser.new_page()
        page.goto(f"{app.address}/learn?run={run}")
        settled(page, "learn")
        before = server.num_fds()
        for _ in range(20):
            page.goto(f"{app.address}/learn?run={run}", wait_until="commit")
            page.get_by_test_id("stApp").wait_for()
        settled(page, "learn")
        until = time.monotonic() + 90
        while server.num_fds() > before + 15:
            assert time.monotonic() < until, server.num_fds()
            page.goto(f"{app.address}/learn?run={run}")  # what is over is cleared away when the next tab closes
            page.wait_for_timeout(2000)
        page.close()
