"""Bad input on the command line: one clear line, status 2, and nothing changed; never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compression.cli import main

RUN = ["run", "--model", "resnet8", "--data", "mnist5k"]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELS", "CACHE"):
        monkeypatch.setenv(f"COMPRESSION_{name}", str(tmp_path / name.lower()))
    monkeypatch.delenv("COMPRESSION_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    from compression import zoo
    from compression.zoo import weights as files

    return str(files.save(zoo.build("resnet8"), tmp_path / "initial.safetensors", {}))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    """The one line with which a command refuses, having left no file behind."""
    before = sorted(Path().rglob("*"))
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = int(str(leaving.code))
    output = capsys.readouterr()
    assert code == status, output
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return output.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["dance"], ["dance", "models", "sweep"]),
        (["run"], ["--model"]),
        (["run", "--model", "resnet8"], ["--data"]),
        ([*RUN, "--colour", "red"], ["--colour"]),
        ([*RUN, "--option.preset", "paper"], ["--option.preset"]),
        ([*RUN, "--_budget", "3"], ["--_budget"]),
        ([*RUN, "--seed", "1.5"], ["--seed"]),
        ([*RUN, "--json", "--detach"], ["--json", "--detach"]),
        (["graph", "resnet8", "--rank", "3"], ["--rank"]),
        (["graph", "resnet8", "resnet20"], ["resnet20"]),
        (["run", "--model", "resnet9", "--data", "mnist5k"], ["resnet9", "resnet8"]),
        (["graph", "resnet9"], ["resnet9", "resnet8"]),
        (["graph", "torchvision:resnet9999"], ["resnet9999"]),
        (["graph", "absent.py:net"], ["absent.py"]),
        (["run", "--model", "resnet8", "--data", "mnist6k"], ["mnist6k", "mnist5k"]),
        (["train", "--model", "resnet8", "--data", "mnist6k"], ["mnist6k", "mnist5k"]),
        ([*RUN, "--method", "magic"], ["magic", "geta"]),
        ([*RUN, "--sparsity", "1"], ["sparsity", "[0, 1)"]),
        ([*RUN, "--sparsity", "-0.1"], ["sparsity", "[0, 1)"]),
        ([*RUN, "--sparsity", "half"], ["--sparsity", "half"]),
        (["allocate", "resnet8", "--sparsity", "1.5"], ["sparsity", "[0, 1)"]),
        (["sweep", *RUN[1:], "--sparsity", "0.3,1.2"], ["sparsity", "1.2"]),
        (["sweep", *RUN[1:], "--sparsity", "0.3,,0.5"], ["--sparsity"]),
        (["sweep", *RUN[1:], "--bits", "4,4"], ["twice"]),
        ([*RUN, "--bits", "8:4"], ["lower bound 8", "upper bound 4"]),
        ([*RUN, "--bits", "1:8"], ["2..16"]),
        ([*RUN, "--bits", "4:17"], ["2..16"]),
        ([*RUN, "--bits", "four"], ["--bits", "four"]),
        ([*RUN, "--bits", "nan"], ["--bits", "nan"]),
        ([*RUN, "--activation-bits", "9:5"], ["lower bound 9"]),
        ([*RUN, "--method", "opq", "--bits", "4:8"], ["one average number"]),
        (["allocate", "resnet8", "--bits", "1"], ["bits", "2..16"]),
        (["allocate", "resnet8", "--method", "adaround"], ["--method adaround", "does not allocate", "opq", "riq"]),
        (["untrained", *RUN[1:], "--method", "geta"], ["--method geta", "does not allocate", "opq", "riq"]),
        ([*RUN, "--epochs", "0"], ["epochs", "above 0"]),
        ([*RUN, "--epochs", "-3"], ["epochs", "above 0"]),
        (["train", "--model", "resnet8", "--data", "mnist5k", "--epochs", "0"], ["epochs", "above 0"]),
        ([*RUN, "--batch-size", "0"], ["batch_size", "above 0"]),
        ([*RUN, "--optimizer", "magic"], ["--optimizer", "magic"]),
        ([*RUN, "--option", "word"], ["--option", "key=value"]),
        ([*RUN, "--input", "32"], ["--input", "3x32x32"]),
        ([*RUN, "--input", "3x32x32"], ["mnist5k", "1x28x28", "3x32x32"]),
        ([*RUN, "--classes", "7"], ["mnist5k", "10", "7"]),
        ([*RUN, "--classes", "1"], ["classes"]),
        (["train", "--model", "resnet20", "--data", "mnist5k", "--epochs", "1"], ["mnist5k", "--input 1x28x28"]),
        ([*RUN, "--weights", "absent.safetensors"], ["absent.safetensors", "does not exist"]),
        (["graph", "resnet8", "--weights", "absent.pt"], ["absent.pt", "does not exist"]),
        ([*RUN, "--config", "absent.json"], ["absent.json", "No such file"]),
        ([*RUN, "--json", "absent/result.json"], ["--json", "absent", "does not exist"]),
        ([*RUN, "--json", "."], ["--json", "folder"]),
        (["train", *RUN[1:], "--out", "weights.bin"], ["--out", "safetensors"]),
        (["train", *RUN[1:], "--out", "absent/w.safetensors"], ["--out", "does not exist"]),
        (["show", "nothing"], ["nothing"]),
        (["cancel", "../elsewhere"], ["../elsewhere"]),
        (["show"], ["RUN"]),
        (["graph", "resnet8", "--json", "-", "--dot", "-"], ["--json", "--dot"]),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]) -> None:
    line = refused(capsys, *arguments)
    assert all(word in line for word in words), line


def test_missing_weights_name_the_train_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "sweep"):
        line = refused(capsys, command, "--model", "vgg7", "--data", "mnist5k", "--input", "1x28x28")
        line_to_type = "python -m compression train --model vgg7 --data mnist5k --input 1x28x28 --epochs"
        assert line_to_type in line


def test_wrong_shaped_and_unreadable_weights_are_named(capsys: pytest.CaptureFixture[str], weights: str) -> None:
    error = refused(
        capsys, "run", "--model", "resnet20", "--input", "1x28x28", "--data", "mnist5k", "--weights", weights
    )
    assert "conv1.weight has shape 8x1x3x3, the model needs 16x1x3x3" in error
    Path("broken.safetensors").write_bytes(b"not weights")
    assert "cannot be read" in refused(capsys, *RUN, "--weights", "broken.safetensors")
    Path("broken.pt").write_bytes(b"not weights")
    assert "cannot be read" in refused(capsys, "graph", "resnet8", "--weights", "broken.pt")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("{", ["not valid JSON"]),
        ("[]", ["one JSON object"]),
        ('{"version": 3}', ["version 3"]),
        ('{"sparsty": 0.5}', ["sparsty", "sparsity"]),
        ('{"sparsity": 1.5}', ["sparsity"]),
        ('{"weight_bits": [8, 4]}', ["weight_bits"]),
        ('{"epochs": 0}', ["epochs"]),
        ('{"schedule": {"joint": 2}}', ["joint"]),
    ],
)
def test_budget_files_are_checked_by_name(capsys: pytest.CaptureFixture[str], budget: str, words: list[str]) -> None:
    Path("budget.json").write_text(budget)
    line = refused(capsys, "run", "--config", "budget.json")
    assert all(word in line for word in words), line


def test_groups_and_layers_that_the_model_lacks_are_named(capsys: pytest.CaptureFixture[str], weights: str) -> None:
    Path("groups.json").write_text(json.dumps({"groups": {"conv99": {"sparsity": [0, 0.5]}}}))
    Path("layers.json").write_text(json.dumps({"method": "opq", "layers": {"conv99": {"sparsity": 0.5}}}))
    for name, known in (("groups", "layer1.0.conv1"), ("layers", "layer1.0.conv1")):
        line = refused(capsys, "run", "--config", f"{name}.json", "--weights", weights)
        assert "conv99" in line
        assert known in line


def test_an_unreadable_image_folder_is_named(capsys: pytest.CaptureFixture[str], weights: str) -> None:
    for label in ("cat", "dog"):
        Path("pictures", label).mkdir(parents=True)
        for number in range(4):
            Path("pictures", label, f"{number}.png").write_bytes(b"no image")
    assert "pictures" in refused(capsys, *RUN[:-1], "pictures", "--weights", weights)
    assert "nowhere/pictures" in refused(capsys, *RUN[:-1], "nowhere/pictures", "--weights", weights)
    Path("empty").mkdir()
    assert "empty" in refused(capsys, *RUN[:-1], "empty", "--weights", weights)


def test_a_runs_folder_that_cannot_be_written_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], weights: str
) -> None:
    Path("file").write_text("in the way")
    error = refused(capsys, *RUN, "--weights", weights, "--runs", "file/runs")
    assert error.startswith("error: runs folder file/runs cannot be written: Not a directory")
    assert "--runs" in error


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 64 KB without a free byte, where the machine allows one to be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        with pytest.raises(OSError, match="No space left"), (disk / "filling").open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 512)
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], weights: str, full_disk: Path) -> None:
    assert main([*RUN, "--weights", weights, "--runs", str(full_disk / "runs")]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.startswith(f"error: no space left on the disk of runs folder {full_disk}/runs; `delete RUN`")
    assert not list(full_disk.glob("runs/*/spec.json"))


def test_an_answer_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No space left on device" in refused(capsys, "runs", "--json", "/dev/full")


def test_a_data_set_that_needs_a_download_without_network_names_the_offline_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:  # a port that nobody answers on
        unused.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{unused.getsockname()[1]}")
        main(["run", "--model", "resnet20", "--data", "cifar10"])
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert "cifar10" in output.err
    assert "mnist5k" in output.err
    assert not Path("runs").exists()


def test_an_unforeseen_error_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    Path("runs").mkdir()
    monkeypatch.setattr("compression.runs.Store.list", broken)
    line = refused_but_started(capsys, "runs")
    assert "ZeroDivisionError: first line (COMPRESSION_DEBUG=1" in line
    monkeypatch.setenv("COMPRESSION_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["runs"])


def refused_but_started(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    return output.err


@pytest.mark.parametrize("method", ["geta", "opq"])
def test_an_unknown_option_is_refused_before_a_run_starts(
    method: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = ["run", "--model", "resnet8", "--data", "mnist5k", "--method", method, "--option", "foo=1"]
    assert main([*words, "--runs", str(runs)]) == 2
    output = capsys.readouterr().err.strip()
    assert output.startswith(f"error: {method}: unknown option 'foo'; known: ")
    assert len(output.splitlines()) == 1
    assert not [path for path in runs.glob("*") if path.is_dir()]


@pytest.mark.parametrize("bits", ["inf", "nan", "4:inf"])
def test_bits_that_are_no_numbers(bits: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(["run", "--model", "resnet8", "--data", "mnist5k", "--method", "geta", "--bits", bits]))
    assert ended.value.code == 2
    assert "unforeseen" not in capsys.readouterr().err


def test_options_that_are_no_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    path.write_text(json.dumps({"method": "geta", "options": ["a"]}))
    assert main(["run", "--config", str(path), "--runs", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.strip() == "error: options must be an object of names and values, not ['a']"


def test_a_number_of_images_that_no_spec_holds_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sensitivity", "--model", "resnet8", "--data", "mnist5k", "--runs", str(tmp_path / "runs")]
    assert main([*command, "--images", "9" * 20]) == 2
    assert "--images must be 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["data", "weights", "model", "config", "runs"])
def test_a_home_of_nobody_is_a_path_that_does_not_exist(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = "~no-such-user-here/x.py:f" if option == "model" else "~no-such-user-here/x"
    named = {"model": "resnet8", "data": "mnist5k", "runs": str(tmp_path), option: nobody}
    words = [word for name, value in named.items() for word in (f"--{name}", value)]
    if option == "runs":
        assert main(["runs", "--runs", nobody]) == 0
        return
    assert main(["run", *words]) == 2
    assert "unforeseen" not in capsys.readouterr().err
