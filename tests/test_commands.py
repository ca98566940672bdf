"""A printed command means what it says when copied: to the shell, to make, and to the command line's parser."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from opened import Open

from app import options
from app.runs import permissions
from compression import cli, commands, zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs.prepare import train_line

ROOT = Path(__file__).resolve().parents[1]
STRANGE = ["my digits (v3)", 'it\'s "mine"', "$HOME & `id` ; *", "a#b %d !x", "ümlaut\\n", "-v"]


def shell(line: str) -> list[str]:
    """The words that bash makes of a line."""
    subprocess.run(["bash", "-n", "-c", line], check=True)
    output = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], check=True, capture_output=True)
    return output.stdout.decode().split("\0")[:-1]


def arguments(words: list[str]) -> dict[str, Any]:
    """What the command line's parser takes from the words of a command, without carrying it out."""
    _, bound, _ = cli.parser().parse_args(words, exit_on_error=False, print_error=False)
    return dict(bound.arguments)


@pytest.mark.parametrize("name", STRANGE)
def test_the_train_line_is_parsed_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "spec", lambda model: Spec())
    model = f"{tmp_path / name}.py:net"
    line = train_line(Budget(model=model, data=name, input=(3, 32, 32), classes=4))
    words = shell(line)
    assert words == shlex.split(line)
    assert arguments(words[3:]) == {
        "model": model, "data": name, "input": (3, 32, 32), "classes": 4, "epochs": 7, "seed": 0,
    }  # fmt: skip


class Spec:
    """What a train line reads of a model."""

    epochs = 7


@pytest.mark.parametrize("name", STRANGE)
def test_the_line_that_resumes_is_parsed_back(name: str) -> None:
    words = shell(commands.line("resume", "geta-1", options={"runs": name}))[3:]
    assert arguments(words) == {"run": "geta-1", "runs": name}


@pytest.mark.parametrize("name", STRANGE)
def test_the_way_to_start_the_app_survives_make_and_shell(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make expands the variable before its shell reads it."""
    (tmp_path / "Makefile").write_text("SHELL := /bin/bash\napp:\n\t@printf '%s\\0' main.py $(ARGS)\n")
    (tmp_path / f"{name}.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CompressionError) as refused:
        permissions.check(Budget(model=f"{tmp_path / name}.py:net"))
    line = str(refused.value).partition("start the app with ")[2].removesuffix(" to work on it")
    for name_of_make in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # these tests may be run by make themselves
        monkeypatch.delenv(name_of_make, raising=False)
    output = subprocess.run(["bash", "-c", line], check=True, capture_output=True).stdout.decode()
    assert options.read(output.split("\0")[:-1]).models == (f"{tmp_path / name}.py:net",)


def test_the_pages_print_the_quoted_line(open_page: Open, tmp_path: Path) -> None:
    root = tmp_path / "all (v3)"
    for kind in ("cats", "dogs"):
        (root / "my digits" / kind).mkdir(parents=True)
        (root / "my digits" / kind / "1.png").write_bytes(b"")
    for page in ("budget", "model"):
        app = open_page(page, "--data-root", str(root), model="resnet8", data=str(root / "my digits"))
        (line,) = (element.value for element in app.code)
        assert arguments(shlex.split(line)[3:])["data"] == str(root / "my digits")


PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_is_understood(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^(?:\.venv/bin/)?python -m compression (.*)$", text, re.MULTILINE)
    assert lines or page.name != "README.md"
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[0] in cli.COMMANDS
        arguments(words)
