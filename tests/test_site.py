"""The site without a server: links, policy, and in a browser, below a path, its networks beside ONNX Runtime."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
import onnxruntime
import pytest
from test_report import HOSTILE, Elements

from compression import data
from compression.cli import main
from compression.errors import CompressionError
from compression.report.sources import GALLERY
from compression.runs import gallery
from compression.site import pages, runtime
from lessons.contents import CONTENTS
from lessons.published import publish
from tests.served import draw, static, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PREFIX = "/compression-explorer/"
NAME = "<img src=x onerror=hack()>"  # a run's, as a folder may be called
LARGEST_REPORT = 3_000_000  # bytes
LESSONS = tuple(entry for entry in CONTENTS if entry.name in ("channels", "waterline"))
DIGITS = 24


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime as npm fetches it; where it cannot, its tests are skipped."""
    try:
        return runtime._packed(runtime.pin(), tmp_path_factory.mktemp("npm"))
    except CompressionError as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def site(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All collections; of the digits' one two runs, one of them with a name that is markup, as is the title."""
    own = tmp_path_factory.mktemp("gallery") / pages.DIGITS
    about = json.loads((GALLERY / pages.DIGITS / "about.json").read_text())
    for run, name in ((about["tour"], about["tour"]), ("opq-03", NAME)):
        shutil.copytree(GALLERY / pages.DIGITS / run, own / name)
    (own / "about.json").write_text(json.dumps(about | {"title": HOSTILE}))
    real = gallery.read(GALLERY)
    (hostile,) = gallery.read(own.parent).collections
    shown = tuple(hostile if each.name == pages.DIGITS else each for each in real.collections)
    folder = tmp_path_factory.mktemp("www") / PREFIX.strip("/")
    publish(folder / "learn", LESSONS)
    value = pages.build(folder, shown=dataclasses.replace(real, collections=shown), archive=archive)
    assert not value["problems"]
    return folder


@pytest.fixture(scope="module")
def served_site(site: Path) -> Iterator[str]:
    with static(site.parent) as address:
        yield address + PREFIX


def html_files(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_link_leads_to_a_file_of_the_site(site: Path) -> None:
    links = 0
    for page in html_files(site):
        for tag, attributes, _ in Elements(page.read_text(encoding="utf-8")).elements:
            for address in (attributes.get(name) for name in ("href", "src")):
                if address is None or address.startswith(("#", "https://arxiv.org/abs/")):
                    continue  # papers are links that somebody follows, in lessons
                parts = urlsplit(address)
                assert not parts.scheme and not parts.netloc and not parts.path.startswith("/"), (page, tag, address)
                assert (page.parent / unquote(parts.path)).is_file(), (page, tag, address)
                links += 1
    assert links > 50


def test_policies_allow_nothing_from_elsewhere(site: Path) -> None:
    for page in html_files(site):
        elements = Elements(page.read_text(encoding="utf-8"))
        (policy,) = [a["content"] or "" for a, _ in elements.all("meta") if a.get("http-equiv")]
        assert policy.startswith("default-src 'none'") and "http" not in policy and "*" not in policy
        (scripts,) = re.findall(r"script-src ([^;]*)", policy)
        assert "'unsafe-eval'" not in scripts and "'unsafe-inline'" not in scripts
        if "reports" in page.parts:
            continue  # one file each: tests/test_report.py
        for attributes, code in elements.all("script"):
            assert attributes.get("src") or attributes.get("type") == "application/json", code[:80]
        assert not any(name.startswith("on") or name == "style" for _, has, _ in elements.elements for name in has)
    assert "wasm-unsafe-eval" in pages.POLICY


def test_every_collection_has_its_report_and_its_fronts(site: Path) -> None:
    for collection in gallery.read(GALLERY).collections:
        report = site / "reports" / f"{collection.name}.html"
        assert report.stat().st_size <= LARGEST_REPORT
        stored = json.loads((site / "fronts" / f"{collection.name}.json").read_text())
        runs = [run for subject in stored["subjects"] for run in subject["runs"]]
        text = report.read_text(encoding="utf-8")
        assert runs and all(
            json.dumps(run)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e") in text for run in runs
        )
        if collection.name != pages.DIGITS:
            assert len(runs) == sum(not exhibit.info.runs for exhibit in collection.exhibits)
    assert (site / ".nojekyll").exists(), "GitHub Pages would leave out files that begin with an underscore"


def test_the_runtime_is_what_is_pinned_with_its_licence(site: Path, tmp_path: Path) -> None:
    pinned = runtime.pin()
    folder = site / "runtime"
    assert {path.name for path in folder.iterdir()} == {Path(name).name for name in pinned["files"]} | {"LICENSE.txt"}
    package = json.loads((folder / "package.json").read_text())
    assert (package["version"], package["license"]) == (pinned["version"], "MIT")
    other = tmp_path / "other.tgz"
    other.write_bytes(b"another archive")
    with pytest.raises(CompressionError, match="its digest is another"):
        runtime.install(tmp_path / "runtime", other)


def test_without_npm_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["site", "--out", str(tmp_path / "site")]) == 2
    error = capsys.readouterr().err.strip()
    assert re.match("error: npm is not installed", error) and "\n" not in error
    assert not (tmp_path / "site").exists()


def opened(page: Page, address: str) -> list[str]:
    """Open the first page and wait for its networks; every address that the tab asks for."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{address}index.html")
    page.get_by_text("Draw a digit, or take one of the examples.").wait_for()
    return requests


def test_networks_in_the_page_answer_as_in_onnx_runtime(page: Page, served_site: str, site: Path) -> None:
    opened(page, served_site)
    text = dict(Elements((site / "index.html").read_text(encoding="utf-8")).all("script")[0][0])
    assert text["id"] == "data"
    about = json.loads(page.locator("#data").text_content() or "")["digits"]
    digits = data.load("mnist5k")
    pictures = digits.split("test").take(np.arange(DIGITS))[0].numpy()
    files = [about["dense"]["file"], *(model["file"] for model in about["models"])]
    assert len(files) == 3
    answers = page.evaluate(
        "async ([files, pictures, data]) => {"
        " const { classify } = await import(new URL('site/classify.js', location).href);"
        " const all = []; for (const file of files) for (const each of pictures) {"
        " const { logits, shares } = await classify(file, Uint8Array.from(each), data); all.push([logits, shares]) }"
        " return all }",
        [files, pictures.reshape(DIGITS, -1).tolist(), about],
    )
    scaled = ((pictures / 255 - digits.mean[0]) / digits.std[0]).astype(np.float32)
    for place, file in enumerate(files):
        session = onnxruntime.InferenceSession(site / unquote(file), providers=["CPUExecutionProvider"])
        expected = session.run(None, {session.get_inputs()[0].name: scaled})[0]
        logits, shares = (np.array(part) for part in zip(*answers[place * DIGITS :][:DIGITS], strict=True))
        assert np.abs(logits - expected).max() < 1e-4
        powers = np.exp(expected - expected.max(1, keepdims=True))
        assert np.abs(shares - powers / powers.sum(1, keepdims=True)).max() < 1e-4


def test_a_visitor_draws_digits_and_picks_runs(page: Page, served_site: str) -> None:
    page.add_init_script("window.hack = () => { window.hacked = true }")
    requests = opened(page, served_site)
    answers, status = page.locator(".answer"), page.locator(".status")
    draw(page, [(90, 60), (180, 60), (185, 70), (140, 220)])
    status.filter(has_text="7").wait_for()
    assert answers.all_inner_texts() == ["7", "7"]
    assert page.locator(".network .bars rect").count() == 20
    page.get_by_role("button", name="Clear").click()
    answers.first.filter(has_text="–").wait_for()
    for digit in ("4", "0"):
        page.get_by_role("button", name=f"Example: a handwritten {digit}").press("Enter")
        answers.nth(1).filter(has_text=digit).wait_for()
    choice = page.locator("#digits select")
    choice.select_option(index=1)
    answers.nth(1).filter(has_text="0").wait_for()
    assert choice.locator("option").count() == 2
    marks = page.locator("#fronts .mark[data-id^='gallery.']")
    marks.first.wait_for()
    hostile = page.locator("#fronts .mark").filter(has=page.locator(f"xpath=self::*[contains(@data-id, '{NAME}')]"))
    hostile.press("Enter")
    assert page.locator("#fronts .card h3").inner_text() == NAME
    assert page.locator("#fronts option").first.inner_text().startswith(HOSTILE)
    page.locator(".report").click()
    page.locator(".run", has_text=NAME).locator("xpath=ancestor::tr[contains(@class, 'picked')]").wait_for()
    page.locator(".eyebrow a").click()
    page.get_by_text("Draw a digit, or take one of the examples.").wait_for()
    assert not page.evaluate("window.hacked")
    addresses = [url for url in requests if not url.startswith(("data:", "blob:"))]
    assert addresses and all(url.startswith(served_site) for url in addresses)


def test_another_collection_on_a_phone(browser: Browser, served_site: str) -> None:
    with tab(browser, phone=True) as page:
        opened(page, served_site)
        page.locator("#fronts select").select_option(index=2)
        page.locator("#fronts .card").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("link", name="Lessons").click()
        page.get_by_role("link").nth(1).click()
        page.locator("#figure .main-svg").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_lesson_shows_what_its_function_computes(page: Page, served_site: str) -> None:
    entry = next(entry for entry in LESSONS if entry.name == "waterline")
    page.goto(f"{served_site}learn/{entry.name}.html")
    page.locator("#figure .main-svg").first.wait_for()
    control = page.locator("#control")
    seen = set()
    for key in ("Home", "ArrowRight", "End"):
        control.press(key)
        percent = int(page.locator("output").inner_text())
        lesson = entry.load()
        view = lesson.show({"gone": percent, "layer": lesson.fields({})[1].default})
        bold = re.findall(r"\*\*(.+?)\*\*", view.caption)
        assert page.locator("#caption strong").all_inner_texts() == bold
        drawn = page.evaluate("Array.from(document.getElementById('figure').data[2].y)")
        assert drawn == pytest.approx(list(view.figure.data[2].y))
        assert page.locator("#table tbody tr").count() == len(view.rows)
        seen.add(percent)
    assert (min(seen), max(seen), len(seen)) == (5, 95, 3)
