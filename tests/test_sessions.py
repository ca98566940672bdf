"""Several tabs on two servers that share one store, and live updates: the short version of ``tests.bench.sessions``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from app import nav
from tests.bench import sessions
from tests.served import served, settled

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


def test_tabs_that_are_closed_give_their_handles_back(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit keeps a closed tab, three handles each, for the seconds that the app's settings say: here for one."""
    settings = tomllib.loads((nav.ROOT / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["disconnectedSessionTTL"] <= 30
    monkeypatch.setenv("STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL", "1")
    with served(tmp_path / "runs", tmp_path / "log.txt") as app:
        server, page, handles = psutil.Process(app.pid), browser.new_page(), []
        for _ in range(5):
            page.goto(f"{app.address}/learn")
            settled(page, "learn")
            page.wait_for_timeout(1200)
            handles.append(server.num_fds())
        page.close()
    assert handles[-1] <= handles[1] + 6, handles
