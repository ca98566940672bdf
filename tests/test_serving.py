"""Who the real server answers: its own names and its own pages, by HTTP and by websocket; what a browser may load."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers

from app import nav, options, serving
from compression.errors import CompressionError
from tests.served import served, settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LISTED = "compression.example.org"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
PATHS = {"page": ("/", 200), "health": ("/_stcore/health", 200), "stream": ("/_stcore/stream", 101)}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("gate")
    with served(folder / "runs", folder / "log.txt", "--host", LISTED) as app:
        yield int(urlsplit(app.address).port or 0)


def answer(port: int, path: str, *headers: tuple[str, str]) -> http.client.HTTPResponse:
    """What the server says to a request with exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in (*headers, *(UPGRADE.items() if path.endswith("stream") else ())):
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    if response.status != 101:
        response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


@pytest.mark.parametrize("what", PATHS)
@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:9", LISTED])
def test_the_names_of_the_server_are_answered(port: int, what: str, host: str) -> None:
    path, status = PATHS[what]
    name = host.format(port=port)
    assert answer(port, path, ("Host", name)).status == status
    assert answer(port, path, ("Host", name), ("Origin", f"http://{name}".lower())).status == status


@pytest.mark.parametrize("what", PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "elsewhere.example", "elsewhere.example:{port}", "localhost.elsewhere.example", "elsewhere.example#localhost",
        "x@localhost:{port}", "10.1.2.3:{port}", "127.0.0.1.nip.io", "[::2]:{port}", "localhost:99999", "localhost:x",
        "",
    ],
)  # fmt: skip
def test_another_host_is_refused_before_anything_is_answered(port: int, what: str, host: str) -> None:
    response = answer(port, PATHS[what][0], ("Host", host.format(port=port)))
    assert response.status == 421
    assert b"does not answer to that name" in response.body  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", PATHS)
@pytest.mark.parametrize(
    "origin",
    [
        "http://elsewhere.example", "https://elsewhere.example:{port}", "http://localhost:3000", "null", "file://",
        "http://localhost.elsewhere.example:{port}", "http://localhost:{port}.elsewhere.example",
        "chrome-extension://localhost:{port}", f"https://{LISTED}",
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(port: int, what: str, origin: str) -> None:
    response = answer(port, PATHS[what][0], ("Host", f"localhost:{port}"), ("Origin", origin.format(port=port)))
    assert response.status == 403
    assert b"pages of other sites" in response.body  # type: ignore[attr-defined]


def test_two_hosts_or_none_are_refused_and_one_own_origin_does_not_help_another(port: int) -> None:
    own = ("Host", f"localhost:{port}")
    two = (("Origin", f"http://localhost:{port}"), ("Origin", "http://elsewhere.example"))
    assert answer(port, "/").status in (400, 421)
    assert answer(port, "/", own, ("Host", "elsewhere.example")).status in (400, 421)
    assert answer(port, "/", own, *two).status == 403


def test_every_answer_says_what_a_browser_may_load(port: int) -> None:
    for path in ("/", "/_stcore/health", "/nosuch.js"):
        headers = answer(port, path, ("Host", f"localhost:{port}")).headers
        rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert rules["frame-ancestors"] == rules["object-src"] == "'none'"
        assert rules["default-src"] == rules["base-uri"] == "'self'"
        assert not {"'unsafe-inline'", "*", "http:", "https:", "data:"} & set(rules["script-src"].split())
        assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("0.0.0.0", "10.1.2.3:8501", None), ("0.0.0.0", "[fe80::1]:8501", None), ("", "10.1.2.3", None),
        ("0.0.0.0", "elsewhere.example", 421), ("10.1.2.3", "10.1.2.3:8501", None), ("10.1.2.3", "10.1.2.4:8501", 421),
        ("lab.example", "LAB.example:8501", None), ("lab.example", "lab.example.:8501", None),
    ],
)  # fmt: skip
def test_the_address_it_is_bound_to_is_a_name_of_its_own(address: str, host: str, status: int | None) -> None:
    gate = serving.Gate(lambda *_: None, (), address, "")  # type: ignore[arg-type, return-value]
    refusal = gate.refusal(serving.Headers({"host": host}))
    assert (refusal.status_code if refusal else None) == status


@pytest.mark.parametrize("name", ["https://lab.example", "lab.example:8501", "lab.example/x", "a b", "*", ""])
def test_a_host_is_a_name_alone(name: str) -> None:
    with pytest.raises(CompressionError, match="--host"):
        options.read(["app/main.py", "--host", name])


def test_wrong_arguments_end_the_server_with_one_line() -> None:
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.headless", "true"]
    command += ["--server.port", "0", "--", "--data-root", "nofolder"]
    ended = subprocess.run(command, cwd=nav.ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert "--data-root nofolder: no such folder" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.browser
def test_a_page_works_under_its_policy_and_in_no_frame(page: Page, browser: Browser, port: int, tmp_path: Path) -> None:
    """The console of ``page`` is watched: anything that the policy forbids would be an error there."""
    page.goto(f"http://127.0.0.1:{port}/model?model=resnet8")
    settled(page, "model")
    page.locator(".js-plotly-plot").first.wait_for()
    outside = browser.new_page()
    (tmp_path / "frame.html").write_text(f"<iframe src='http://127.0.0.1:{port}/'></iframe>")
    with outside.expect_event("console", lambda message: "frame" in message.text.lower()):
        outside.goto((tmp_path / "frame.html").as_uri())
    assert outside.frames[1].get_by_test_id("stApp").count() == 0
    outside.close()


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("lab.org:443", "https://lab.org", True),
        ("lab.org:80", "http://lab.org", True),
        ("lab.org", "https://lab.org:443", True),
        ("lab.org", "https://LAB.org.", True),
        ("[2001:db8::1]:9", "http://[2001:DB8:0::1]:9", True),
        ("lab.org:443", "http://lab.org", False),
        ("lab.org", "http://lab.org:443", False),
        ("lab.org:9", "http://lab.org", False),
    ],
)
def test_an_origin_is_the_asked_address_however_it_is_spelled(host: str, origin: str, own: bool) -> None:
    gate = serving.Gate(lambda *_: None, ("Lab.org.", "2001:db8:0::1"), "127.0.0.1", "")  # type: ignore[arg-type, return-value]
    refusal = gate.refusal(Headers({"host": host, "origin": origin}))
    assert (refusal.status_code if refusal else 200) == (200 if own else 403)


@pytest.mark.parametrize("host", ["lab:80", "ab:8501", "[::1]", "https://lab"])
def test_a_name_with_a_port_is_refused_at_the_start(host: str) -> None:
    with pytest.raises(CompressionError, match="without https://, port or path"):
        options.read(["main.py", "--host", host])
