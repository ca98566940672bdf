"""Several tabs on two servers that share one store, and live updates: the short version of ``tests.bench.sessions``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import sessions
from tests.served import served

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
