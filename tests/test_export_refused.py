"""What stops an export is reported in one line, and nothing half-written stays behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from app.gallery import gallery
from compression.cli import main
from compression.errors import CompressionError
from compression.export import bundle
from compression.export.onnx_model import floats
from compression.export.program import traced
from compression.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run: a copy of the gallery's."""
    shutil.copytree(gallery.ROOT / "resnet8-mnist5k" / "geta", tmp_path / "runs" / "geta")
    return RunFolder(tmp_path / "runs" / "geta")


def refusal(run: RunFolder, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an export which fails says; the folder it would write to holds what it held."""
    before = sorted(out.parent.iterdir())
    assert main(["export", run.id, "--runs", str(run.path.parent), "--out", str(out), "--no-onnx"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sorted(out.parent.iterdir()) == before
    return line


def test_damaged_weights_are_named(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = run.bundle / "weights.packed"
    whole = packed.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], b""):
        packed.write_bytes(damaged)
        assert "weights.packed" in refusal(run, tmp_path / "b.zip", capsys)
    packed.unlink()
    assert "weights.packed" in refusal(run, tmp_path / "b.zip", capsys)


def test_weights_of_another_model_are_refused(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = gallery.ROOT / "resnet8-mnist5k" / "opq-01" / "bundle" / "weights.packed"
    shutil.copy(other, run.bundle / "weights.packed")
    assert "another model" in refusal(run, tmp_path / "b.zip", capsys)


def test_a_full_disk_is_reported(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**place: Any) -> tuple[int, str]:
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "temporary")

    monkeypatch.setattr(bundle.tempfile, "mkstemp", full)
    error = refusal(run, tmp_path / "b.zip", capsys)
    assert "no space left" in error
    assert "free some" in error


def test_an_operation_that_onnx_lacks_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(48, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.special.bessel_j0(x.flatten(1)))

    program = traced(Odd(), torch.zeros(2, 3, 4, 4))
    with pytest.raises(CompressionError, match=r"bessel_j0.*--no-onnx") as refused:
        floats(program)
    assert "\n" not in str(refused.value)


def test_a_program_that_looks_at_values_is_refused_in_one_line() -> None:
    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    with pytest.raises(CompressionError, match="cannot be exported") as refused:
        traced(Looks(), torch.zeros(2, 3, 4, 4))
    assert "\n" not in str(refused.value)
