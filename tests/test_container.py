"""The container, as far as it can be checked without one: its files are well-formed and agree with the program."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from installed import ROOT, build

from compression import cli
from compression.runs.launch_config import LAUNCHERS

PORT = "8501"


@cache
def _instructions() -> list[tuple[str, str]]:
    """The instructions of the last stage: name, arguments on one line."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return [(name, arguments) for name, _, arguments in (line.partition(" ") for line in lines[last:])]


def _one(name: str) -> str:
    (arguments,) = [arguments for each, arguments in _instructions() if each == name]
    return arguments


@cache
def _compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return read


def test_the_linter_has_nothing_to_say() -> None:
    named = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if named is None:
        pytest.skip("hadolint is not installed (requirements-dev.txt)")
    process = subprocess.run([named, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout


def test_it_is_nobody_with_rights_and_writes_into_its_volume() -> None:
    assert _one("USER").isdigit()
    assert int(_one("USER")) > 0
    assert _one("VOLUME") == "/data"
    places = dict(word.split("=", 1) for word in _one("ENV").split() if word.startswith("COMPRESSION_"))
    assert all(place.startswith("/data/") for place in places.values())
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "compression").rglob("*.py"))
    assert all(f'"{name}"' in source for name in places)


def test_its_command_is_one_of_the_program() -> None:
    words = json.loads(_one("CMD"))
    assert json.loads(_one("ENTRYPOINT")) == ["compression-explorer"]
    _, bound, _ = cli.parser().parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments == {"headless": True, "address": "0.0.0.0"}
    assert _one("EXPOSE") == PORT


class Healthy(BaseHTTPRequestHandler):
    """Answers where the app answers to whoever asks whether it lives."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[str]:
    """The port of a server that is healthy."""
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield str(server.server_port)
    server.shutdown()
    server.server_close()


def test_the_health_check_asks_the_app(port: str) -> None:
    words = json.loads(_one("HEALTHCHECK").partition("CMD ")[2])
    assert f":{PORT}/healthz" in words[-1]
    for place, status in ((f":{port}/healthz", 0), (f":{port}/elsewhere", 1)):
        command = [sys.executable, *words[1:-1], words[-1].replace(f":{PORT}/healthz", place)]
        assert subprocess.run(command, capture_output=True).returncode == status


def test_what_reaches_the_image_makes_the_whole_wheel(tmp_path: Path) -> None:
    """The files that ``.dockerignore`` lets through, built in a clean folder, are the checkout's wheel."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (requirements-dev.txt)")
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    source = tmp_path / "source"
    for line in lines:
        if line.startswith("!"):
            place = ROOT / line[1:]
            copy = shutil.copytree if place.is_dir() else shutil.copy
            (source / line[1:]).parent.mkdir(parents=True, exist_ok=True)
            copy(place, source / line[1:])
    assert lines[1] == "*"
    assert _names(build("wheel", source, tmp_path / "image")) == _names(build("wheel", ROOT, tmp_path / "checkout"))


def _names(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


def test_the_services_share_a_folder_and_a_token() -> None:
    """Both see the runs at one path; only the app is reached from outside, by this machine alone."""
    app, ray = (_compose()["services"][name] for name in ("app", "ray"))
    assert app["volumes"] == ray["volumes"] == ["data:/data"]
    assert app["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert "ports" not in ray
    assert app["environment"].items() >= ray["environment"].items()
    assert ray["environment"]["RAY_AUTH_MODE"] == "token"
    assert ray["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
    assert app["environment"]["COMPRESSION_LAUNCHER"] in LAUNCHERS
    assert ray["entrypoint"][:3] == ["ray", "start", "--head"]


def test_the_services_are_healthy_by_the_dashboard_that_the_app_asks(port: str) -> None:
    app, ray = (_compose()["services"][name] for name in ("app", "ray"))
    words = ray["healthcheck"]["test"]
    dashboard = app["environment"]["RAY_ADDRESS"].rpartition(":")[2]
    for number, status in ((port, 0), ("1", 1)):
        command = [sys.executable, *words[2:-1], words[-1].replace(dashboard, number)]
        assert subprocess.run(command, capture_output=True).returncode == status
