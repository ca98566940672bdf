"""Bundles on the Hub: the real huggingface_hub against a fake of the Hub's HTTP API on this machine (``fake_hub``)."""

from __future__ import annotations

import json
import logging
import shutil
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

import compression as cx
from compression import cli
from compression.errors import CompressionError
from compression.export.bundle import export
from compression.export.hub import Pushed
from compression.runs.folder import RunFolder

hub = pytest.importorskip("huggingface_hub", reason="install requirements-hub.txt")
constants = pytest.importorskip("huggingface_hub.constants", reason="install requirements-hub.txt")
import fake_hub  # noqa: E402

GALLERY = Path(__file__).resolve().parents[1] / "assets" / "gallery" / "resnet8-mnist5k"
NAME = f"{fake_hub.OWNER}/small"
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a real run of the gallery, without ONNX files."""
    root = tmp_path_factory.mktemp("runs")
    shutil.copytree(GALLERY / "geta", root / "geta")
    return export(RunFolder.open(root, "geta"), root / "bundle.zip", onnx=False).path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[fake_hub.FakeHub]:
    """The fake, and no token or cache of whoever runs this; large files go by LFS, as where Xet is not installed."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with fake_hub.running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        address = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        yield server


def pushed(server: fake_hub.FakeHub, bundle: Path, name: str = NAME, **options: bool) -> Pushed:
    return cx.push(bundle, name, token=fake_hub.TOKEN, endpoint=server.endpoint, **options)


def refusal(call: Callable[[], object]) -> str:
    """The line that a call is refused with; the token is in no text that belongs to it."""
    with pytest.raises(CompressionError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400 and "Traceback" not in line
    assert fake_hub.TOKEN not in line
    return line


def test_what_is_pushed_comes_back_bit_by_bit(server: fake_hub.FakeHub, bundle: Path, tmp_path: Path) -> None:
    result = pushed(server, bundle)
    repository = server.repositories[NAME]
    assert repository.head == result.commit and not repository.private
    with zipfile.ZipFile(bundle) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    files = repository.commits[result.commit]
    assert {name: files[name] for name in inside} == inside and files.keys() - inside == {"README.md"}
    assert server.stored  # the large ones went by LFS
    again = cx.from_pretrained(NAME, cache=tmp_path / "own")
    here = cx.load(bundle)
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(images), here(images))
    assert not again.training
    fetched = {path.rpartition("/")[2] for method, path, _ in server.requests if "/resolve/" in path}
    assert not {"model.pt2", "model.safetensors", "load.py"} & fetched  # what is not needed is not fetched


def test_the_card_says_what_was_measured(server: fake_hub.FakeHub, bundle: Path) -> None:
    commit = pushed(server, bundle).commit
    text = server.repositories[NAME].commits[commit]["README.md"].decode()
    _, header, body = text.split("---\n", 2)
    about = yaml.safe_load(header)
    result = json.loads((GALLERY / "geta" / "result.json").read_text())
    score = result["final"].get("score", result["final"].get("accuracy"))
    (metric,) = about["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", score)
    assert about["pipeline_tag"] == "image-classification" and about["library_name"] == "compression-explorer"
    assert f'cx.from_pretrained("{NAME}")' in body and f"{result['final']['bytes']:,.0f} B" in body
    hub.ModelCard(text)  # as the Hub reads it


def test_a_second_push_replaces_the_files_of_the_first_and_no_others(server: fake_hub.FakeHub, bundle: Path) -> None:
    first = pushed(server, bundle)
    head = server.repositories[NAME].commits[first.commit]
    head |= {"model.onnx": b"of an earlier bundle", "picture.png": b"the owner's"}
    second = pushed(server, bundle)
    files = server.repositories[NAME].commits[second.commit]
    assert "model.onnx" not in files and files["picture.png"] == b"the owner's"
    assert (first.commit, second.commit) != (second.commit, first.commit)
    assert "model.onnx" in server.repositories[NAME].commits[first.commit]


def test_a_revision_is_the_files_of_that_commit(server: fake_hub.FakeHub, bundle: Path, tmp_path: Path) -> None:
    first = pushed(server, bundle)
    server.repositories[NAME].commits["f" * 40] = {"README.md": b"emptied"}
    assert cx.from_pretrained(NAME, revision=first.commit, cache=tmp_path / "a") is not None
    assert "checksums.json" in refusal(lambda: cx.from_pretrained(NAME, cache=tmp_path / "b"))
    assert "revision" in refusal(lambda: cx.from_pretrained(NAME, revision="v9", cache=tmp_path / "c"))


@pytest.mark.parametrize("name", ["weights.packed", "config.json", "budget.json", "checksums.json"])
@pytest.mark.parametrize("change", ["flipped", "absent"])
def test_changed_files_are_refused(
    server: fake_hub.FakeHub, bundle: Path, tmp_path: Path, name: str, change: str
) -> None:
    commit = pushed(server, bundle).commit
    files = server.repositories[NAME].commits[commit]
    if change == "absent":
        del files[name]
    else:
        files[name] = files[name][:40] + bytes([files[name][40] ^ 1]) + files[name][41:]
    assert NAME in refusal(lambda: cx.from_pretrained(NAME, cache=tmp_path / "own"))


def test_a_private_repository_needs_the_token_and_is_never_public(
    server: fake_hub.FakeHub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(server, bundle, private=True)
    assert server.repositories[NAME].private
    assert NAME in refusal(lambda: cx.from_pretrained(NAME, cache=tmp_path / "a"))
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    assert cx.from_pretrained(NAME, cache=tmp_path / "b") is not None
    server.repositories["team/open"] = fake_hub.Repository()
    assert "public" in refusal(lambda: pushed(server, bundle, "team/open", private=True))
    assert list(server.repositories["team/open"].commits) == ["0" * 40]


def test_without_token_network_or_name_one_line_says_so(server: fake_hub.FakeHub, bundle: Path, tmp_path: Path) -> None:
    assert "HF_TOKEN" in refusal(lambda: cx.push(bundle, NAME, endpoint=server.endpoint))
    assert "HF_TOKEN" in refusal(lambda: cx.push(bundle, NAME, token="hf_other", endpoint=server.endpoint))
    assert UNREACHABLE in refusal(lambda: cx.push(bundle, NAME, token=fake_hub.TOKEN, endpoint=UNREACHABLE))
    assert UNREACHABLE in refusal(lambda: cx.from_pretrained(NAME, endpoint=UNREACHABLE, cache=tmp_path))
    for name in ("a/b/c", "bad name", "", "../x", "<script>"):
        assert "OWNER/NAME" in refusal(lambda name=name: pushed(server, bundle, name))  # type: ignore[misc]
    assert "no bundle" in refusal(lambda: pushed(server, tmp_path / "none.zip"))
    assert server.repositories == {}


def test_the_token_is_in_no_error(
    server: fake_hub.FakeHub, bundle: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even where a server sends it back in its message."""
    server.refusal = (500, f"bad header Bearer {fake_hub.TOKEN}")
    with caplog.at_level(logging.INFO), pytest.raises(CompressionError) as caught:
        pushed(server, bundle)
    assert fake_hub.TOKEN not in str(caught.value)
    server.refusal = None
    status = cli.main(["push", str(bundle), "--to", "bad name", "--token", fake_hub.TOKEN])
    printed = capfd.readouterr()
    assert status == 2 and fake_hub.TOKEN not in printed.out + printed.err + caplog.text
    assert fake_hub.TOKEN not in "".join(traceback.format_exception_only(caught.value))


def test_what_was_fetched_before_is_read_without_the_hub(
    server: fake_hub.FakeHub, bundle: Path, tmp_path: Path
) -> None:
    pushed(server, bundle)
    first = cx.from_pretrained(NAME, cache=tmp_path / "own")
    second = cx.from_pretrained(NAME, cache=tmp_path / "own", endpoint=UNREACHABLE)
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_the_command_pushes_a_run(
    server: fake_hub.FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    shutil.copytree(GALLERY / "ptq", tmp_path / "ptq")
    options = ["--to", NAME, "--private", "--no-onnx", "--runs", str(tmp_path), "--json", str(tmp_path / "answer.json")]
    assert cli.main(["push", "ptq", *options]) == 0, capfd.readouterr().err
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["repository"] == NAME and answer["commit"] == server.repositories[NAME].head
    assert server.repositories[NAME].private
