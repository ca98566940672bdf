"""What every test shares: one thread, the project's root on the path, no silent skips where all tests must run; a
browser and the app in it for the tests that ask for one."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("COMPRESSION_DEVICE", "cpu")  # what is tested on others names them
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest

if TYPE_CHECKING:
    from opened import Open
    from playwright.sync_api import Browser, Page

NEEDS_DATA = "needs real data"
SKIPPED: dict[str, str] = {}
EXTENDED = {
    "test_architectures.py", "test_browser_notebook.py", "test_bundle_own_code.py", "test_bundle_safety.py",
    "test_cli_errors.py", "test_container.py", "test_damaged_runs.py", "test_devices.py", "test_export.py",
    "test_export_again.py", "test_export_families.py", "test_export_models.py", "test_export_rounding.py",
    "test_fuzz.py", "test_install.py", "test_layered_export.py", "test_learn.py", "test_learn_numbers.py",
    "test_lease.py", "test_notebook.py", "test_opq_survivor.py", "test_plain.py", "test_ray.py", "test_resume.py",
    "test_sessions.py", "test_site.py", "test_text.py",
}  # fmt: skip
"""Files of which only ``make test-all`` runs the tests: kills, clusters, hostile files, many architectures, exports."""


LONGEST = (
    "test_devices.py", "test_browser.py", "test_method_contract.py", "test_journeys.py", "test_detection.py",
    "test_segmentation.py", "test_resume.py", "test_sessions.py", "test_ray.py", "test_language.py", "test_export.py",
    "test_own_task.py", "test_text.py", "test_app.py", "test_gallery.py", "test_learn.py", "test_export_models.py",
    "test_architectures.py", "test_learn_numbers.py", "test_budget_page.py", "test_api.py", "test_cli.py",
    "test_rehearsal.py", "test_tasks.py", "test_browser_learn.py", "test_browser_layered.py", "test_plain.py",
    "test_notebook.py", "test_browser_notebook.py", "test_explore.py", "test_kernels.py", "test_site.py",
)  # fmt: skip
"""Files of tests that take longest. They come first, so that what ends last is short and all workers end together."""


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """A page opened in a test takes the place of ``__main__``, which processes started later would run again."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data files; tests that need it are skipped where there is none."""
    named = os.environ.get("COMPRESSION_DATA")
    if not named:
        pytest.skip(f"{NEEDS_DATA}: name their folder in COMPRESSION_DATA")
    assert Path(named).is_dir(), f"COMPRESSION_DATA names no folder: {named}"
    return Path(named)


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page of the app by its name on the runs folder ``runs`` of this test (see :func:`opened.opener`)."""
    from opened import opener

    return opener(tmp_path / "runs", monkeypatch)


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[None]:
    """Runs and sweeps are carried out here before their start returns, where tests are about what comes of them and not
    about workers, each of which takes seconds to import torch."""
    from compression.jobs.worker import RealWork
    from compression.runs.bisect import carry_out_find
    from compression.runs.folder import RunFolder
    from compression.runs.launcher import LocalLauncher
    from compression.runs.lifecycle import carry_out
    from compression.runs.process import Handle
    from compression.runs.sweep import carry_out_sweep

    def start(_: LocalLauncher, folder: RunFolder, threads: int) -> Handle:
        work = RealWork()
        kind = carry_out_find if "find" in folder.spec() else carry_out_sweep
        carry_out(folder, functools.partial(kind, work=work, stopped=bool) if folder.is_sweep else work)
        return Handle.current()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalLauncher, "start", start)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app of a browser test keeps its runs and its log."""
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The address of the real app, started as ``make app`` starts it, on a runs folder of its own."""
    from tests.served import served

    with served(folder / "runs", folder / "log.txt") as app:
        yield app.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    from tests.served import chromium

    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (requirements-dev.txt)")
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(chromium())
        except FileNotFoundError as problem:
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail(str(problem))
            pytest.skip(str(problem))
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh tab at desk width; an error of JavaScript or in the console fails the test."""
    from tests.served import tab

    with tab(browser) as fresh:
        yield fresh


def _remember(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Keep what was skipped with its reason; a test that only lacks real data may be skipped where none are named."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if NEEDS_DATA not in reason or os.environ.get("COMPRESSION_DATA"):
        SKIPPED[report.nodeid] = reason


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test was run or skipped."""
    _remember(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module may skip itself while it is collected."""
    _remember(report)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With REQUIRE_ALL=1 a skipped test fails the session: on a build machine nothing goes untested unnoticed."""
    if os.environ.get("REQUIRE_ALL") == "1" and SKIPPED and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what REQUIRE_ALL=1 does not accept."""
    if os.environ.get("REQUIRE_ALL") == "1" and SKIPPED:
        terminalreporter.section("REQUIRE_ALL=1: these must not be skipped", red=True, bold=True)
        for name, reason in SKIPPED.items():
            terminalreporter.write_line(f"{name}: {reason}")


def pytest_collection_finish() -> None:
    """Streamlit reads the metadata of every installed package for each page opened in a test; once is enough."""
    if "streamlit.testing.v1" in sys.modules:
        from streamlit.components.v2 import manifest_scanner

        manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what only the whole suite runs, and let the longest begin."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        if item.path.name in EXTENDED:
            item.add_marker(pytest.mark.extended)
