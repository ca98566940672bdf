"""Devices: their names, what is refused, and every method on a simulated accelerator beside the CPU."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from compression import devices, methods, runs
from compression.budget import Budget
from compression.cli import main
from compression.data import Batches
from compression.errors import CompressionError, RunFailed
from compression.explain.models import Pair
from compression.graph import trace
from compression.quant import kernels
from compression.quant.fused import Fused
from compression.runs import RunFolder, side_by_side
from compression.runs.cluster import _gpus
from compression.runs.launch_config import RayLauncher
from compression.runs.store import Store
from compression.runs.submit import check_devices
from compression.runs.sweep import carry_out_sweep
from compression.training.recipe import Recipe, choose_recipe
from tests.contract.runs import network
from tests.stripes import striped

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says that there are two CUDA devices, which nothing is computed on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


# Names ----------------------------------------------------------------------------------------------------------------


def test_auto_is_the_cpu_without_an_accelerator_and_what_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    monkeypatch.setattr(devices, "_count", lambda kind: 0)
    assert devices.choose() == devices.choose("cpu") == CPU
    monkeypatch.setattr(devices, "_count", lambda kind: {"xpu": 1, "mps": 1}.get(kind, 0))
    assert devices.choose() == torch.device("xpu", 0), "CUDA, XPU, MPS, in this order"
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.choose() == CPU
    assert devices.choose("mps") == torch.device("mps", 0), "who names one gets it"
    monkeypatch.setenv(devices.VARIABLE, "")
    assert devices.choose() == torch.device("xpu", 0)
    monkeypatch.setenv(devices.VARIABLE, "tpu")
    with pytest.raises(CompressionError, match=r"auto, cpu, cuda, cuda:N, mps or xpu, not 'tpu'"):
        devices.choose()


@pytest.mark.usefixtures("two_gpus")
def test_a_number_names_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    assert [devices.choose(name) for name in ("auto", "cuda", "cuda:0", "cuda:1")] == [
        CUDA, CUDA, CUDA, torch.device("cuda", 1),
    ]  # fmt: skip
    with pytest.raises(CompressionError, match=r"no cuda:2 on this machine: its cuda devices are 0 to 1"):
        devices.choose("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:1", "CUDA", "", "cuda:1234", "mps:0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(CompressionError, match="device must be"):
        devices.check_name(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize(
    "command",
    [
        ["run", "--epochs", "0.1"], ["train", "--epochs", "0.1"], ["sweep", "--sparsity", "0.2,0.4"],
        ["sensitivity"], ["untrained", "--method", "opq"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_cuda_without_cuda_is_one_line_and_starts_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *more = command
    runs = ["--runs", str(tmp_path / "runs")] if name in ("run", "sweep", "sensitivity") else []
    assert main([name, "--model", "resnet8", "--data", "mnist5k", "--device", "cuda", *more, *runs]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and "cuda" in line
    assert not list(tmp_path.iterdir())


def test_on_a_cluster_only_the_worker_can_know(tmp_path: Path) -> None:
    store = Store(tmp_path, launcher=RayLauncher())
    check_devices("cuda:7", store=store)
    check_devices("cuda", 4, store)
    with pytest.raises(CompressionError, match="device must be"):
        check_devices("tpu", store=store)
    specs: list[dict[str, Any]] = [{}, {"device": "auto"}, {"device": "cuda"}, {"gpus": 2}]
    assert [_gpus(spec) for spec in specs] == [0, 0, 1, 2]


@pytest.mark.usefixtures("two_gpus")
def test_several_gpus_are_counted(tmp_path: Path) -> None:
    check_devices("cuda", 2, Store(tmp_path))
    for gpus, device, reason in (
        (3, "cuda", "3 GPUs: torch sees 2"), (2, "cuda:1", "cuda:1 is one device"), (0, "cuda", "from 1 to 64"),
    ):  # fmt: skip
        with pytest.raises(CompressionError, match=reason):
            check_devices(device, gpus, Store(tmp_path))


# What is decided by the device ----------------------------------------------------------------------------------------


def test_out_of_memory_names_the_batch_size_to_try() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"),
        MemoryError(),
    ):
        with (
            pytest.raises(RunFailed, match=r"on cpu with batches of 96: try --batch-size 48"),
            devices.fitting(CPU, 96),
        ):
            raise error
    with pytest.raises(RunFailed, match="smaller model"), devices.fitting(CUDA):
        raise MemoryError
    with pytest.raises(RuntimeError, match="another"), devices.fitting(CPU, 8):
        raise RuntimeError("another")


def test_the_recipe_of_an_accelerator_follows_from_the_size_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    small, example = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 4)), torch.randn(8, 1, 12, 12)
    large = nn.Sequential(nn.Conv2d(1, 400, 9, padding=4), nn.Conv2d(400, 40, 3), nn.Flatten(), nn.Linear(4000, 4))
    monkeypatch.setattr(devices, "device_of", lambda model: CUDA)
    monkeypatch.setattr("compression.training.recipe._computes_in_bf16", lambda device: True)
    chosen = [choose_recipe(model, example) for model in (small, large)]
    assert [recipe.precision for recipe in chosen] == ["fp32", "bf16"]
    assert {recipe.device for recipe in chosen} == {"cuda"}
    assert choose_recipe(small, example, "bf16").why == "bf16: asked for"
    monkeypatch.setattr("compression.training.recipe._computes_in_bf16", lambda device: False)
    assert choose_recipe(large, example).precision == "fp32"


def test_a_recipe_casts_for_its_device_only() -> None:
    with Recipe("bf16").autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype is torch.bfloat16
    with Recipe("bf16").on(CUDA, nn.Identity(), 1).autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype is torch.float32


def test_a_recipe_that_moves_to_the_cpu_keeps_clear_of_a_layout_that_writes_past_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    pointwise, recipe = nn.Conv2d(4, 8, 1, stride=2), Recipe("bf16", device="cuda")
    assert [recipe.on(CPU, pointwise, images).channels_last for images in (32, 31)] == [True, False]
    assert recipe.on(CUDA, pointwise, 31).channels_last


def test_a_large_split_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    split, meta = striped().train, torch.device("meta")
    assert split.on(meta).device == meta
    assert split.on(meta) is split.on(meta), "it is sent once"
    monkeypatch.setattr("compression.data.types.LARGEST_ON_DEVICE", 1000)
    assert striped().validation.on(meta).device == CPU


def test_short_runs_are_not_compiled_for_and_a_compiler_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_fused", {})
    refusal = str(kernels.compile_kernels(CUDA, 100))
    assert "100" in refusal and "few" in refusal

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no Triton\nand more")

    monkeypatch.setattr(torch, "compile", fails)
    assert str(kernels.compile_kernels(CUDA)).endswith("cuda:0: no Triton")
    assert kernels._fused == {}


def test_compiled_rows_are_those_of_the_version_for_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a step and a bound for each channel, in both memory orders."""
    fused = Fused.__new__(Fused)  # the functions as they are: whether they can be compiled is tried in test_kernels.py
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    Fused.__init__(fused, CPU)
    steps, clips = torch.rand(6, 1, 1, 1) * 0.1 + 0.01, torch.rand(6, 1, 1, 1) + 0.3
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(6, 4, 3, 3).contiguous(memory_format=layout)
        upstream = torch.randn(6, 4, 3, 3)
        with kernels.using(False):
            plain = kernels.values(x, steps, clips)
            expected = kernels.gradients(upstream, x, plain, steps, clips)
        monkeypatch.setitem(kernels._fused, "cpu", fused)
        with kernels.using(True):
            assert torch.equal(kernels.values(x, steps, clips), plain)
            assert kernels.values(x, steps, clips).stride() == x.stride()
            gradients = kernels.gradients(upstream, x, plain, steps, clips)
        assert torch.equal(gradients[0], expected[0])
        torch.testing.assert_close(gradients, expected)
        monkeypatch.delitem(kernels._fused, "cpu")


def test_the_parts_of_a_batch_are_the_batch() -> None:
    """Of several processes each augments its own examples as the whole batch would have them."""
    data = striped("shift-flip")
    whole = Batches(data, "train", 32, seed=4)
    parts = [Batches(data, "train", 32, seed=4, part=(i, 3)) for i in range(3)]
    for epoch, index in ((0, 0), (1, 7)):
        x, y = whole.batch(epoch, index)
        for i, part in enumerate(parts):
            own_x, own_y = part.batch(epoch, index)
            assert torch.equal(own_x, x[i::3])
            assert torch.equal(own_y, y[i::3])


def test_explanations_move_with_their_models() -> None:
    models = [nn.Conv2d(1, 1, 1) for _ in range(3)]
    pair = Pair(*models, striped(), (1, 12, 12))
    assert pair.images([0, 1]).shape == (2, 1, 12, 12)
    assert pair.on(torch.device("meta")).device.type == "meta"


# On a simulated accelerator -------------------------------------------------------------------------------------------


Seen = Callable[[str, Path], dict[str, Any]]


def _seen(what: str, folder: Path) -> dict[str, Any]:
    from tests.contract import on_device  # changes torch for the whole process

    return on_device.seen(what, folder)


@pytest.fixture(scope="module")
def on_device() -> Iterator[Seen]:
    """:func:`tests.contract.on_device.seen` in a process that does only this, one for all tests."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda what, folder: pool.submit(_seen, what, folder).result()


DECIDING = {"geta": 6, "sequential": 1, "bsq": 2, "hesso": 5, "qap": 2, "sbs": 4}
"""Method → plain steps in which its device may be waited for: units are chosen or cut, bits are decided or fall."""


OPTIONS = (
    "adaround?scope=block",
    "pq?weighting=inputs",
    "gptq?bias_correction=true&correction=formula&statistics=false",
)


@pytest.mark.parametrize("name", (*methods.names(), *OPTIONS))
def test_a_run_on_an_accelerator_is_that_of_the_cpu(name: str, on_device: Seen, tmp_path: Path) -> None:
    """Bit for bit, also where it changes the device half-way; between decisions nothing waits for the device."""
    seen = on_device(name, tmp_path)
    name = name.partition("?")[0]
    assert seen["differing"] == []
    assert seen["moved"] == ({"to": [], "from": []} if name == "geta" else {}), "all methods share the loop"
    assert seen["scores"][0] == seen["scores"][1]
    assert seen["finals"][0] == seen["finals"][1]
    assert seen["devices"] == ["elsewhere:0", "cpu"]
    assert seen["plain"] >= 9
    if methods.get(name).info.trains:  # a step of the others is a layer, about which is decided
        assert len(seen["waits"]) <= DECIDING.get(name, 0), seen["waits"]


TASKS = ("unet_small@digit-masks", "detector_tiny@digit-boxes", "causal_tiny@text:python-docs", "siren@picture:chelsea")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_on_an_accelerator_computes_what_it_does_on_the_cpu(name: str, on_device: Seen, tmp_path: Path) -> None:
    for what, (here, there) in on_device(name, tmp_path).items():
        assert (here is None) == (there is None) == (what == "picture" and name.startswith("causal"))
        assert here is None or here == pytest.approx(there, rel=1e-5)


def test_studies_and_maps_on_an_accelerator_are_those_of_the_cpu(on_device: Seen, tmp_path: Path) -> None:
    for kind, (here, there) in on_device("studies", tmp_path).items():
        assert here == there, kind


def test_a_device_without_fp64_compresses_all_the_same(on_device: Seen, tmp_path: Path) -> None:
    seen = on_device("without fp64", tmp_path)
    graph = trace(network(), torch.zeros(1, 1, 12, 12))
    assert seen["removed"] == int(0.4 * graph.prunable_units)
    assert set(seen["bits"]) <= {3, 4, 5, 6, 7, 8}
    here, there = seen["allocations"]
    assert here == there


# Several processes ----------------------------------------------------------------------------------------------------


def ran(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, RunFolder, str]:
    command = ["run", "--model", "resnet8", "--data", "mnist5k", "--epochs", "0.5", "--batch-size", "64"]
    status = main([*command, "--device", "cpu", "--runs", str(folder), *more])
    (run,) = (path for path in folder.iterdir() if path.is_dir())
    return status, RunFolder(run), capsys.readouterr().err


def test_two_processes_train_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They remove as many units, in their own steps, and the file holds what was measured."""
    results = []
    for gpus in ("1", "2"):
        activations = ["--activation-bits", "8", "--option", "preset=accurate"]  # ranges are measured on the way
        status, folder, _ = ran(tmp_path / gpus, capsys, "--gpus", gpus, *activations)
        assert status == 0, folder.log_path.read_text()
        results.append(json.loads(folder.result_path.read_text()))
    one, two = results
    assert (one["device"], two["device"]) == ("cpu", "2 × cpu")
    assert sum(map(len, one["units"].values())) == sum(map(len, two["units"].values()))
    assert two["equality"] < 1e-4
    assert [point["step"] for point in one["points"]] == [point["step"] for point in two["points"]]


def test_a_process_that_ends_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its words are in the log of the run, and no process stays."""
    import psutil

    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif '-m' in sys.orig_argv and 'compression.jobs.ranks' in sys.orig_argv:\n"
        "    import atexit\n    sys.stderr.write('broken on purpose\\n')\n    import os\n    os._exit(3)\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), before])
    try:
        status, folder, error = ran(tmp_path / "runs", capsys, "--gpus", "2")
    finally:
        os.environ["PYTHONPATH"] = before
    assert status == 1
    assert "process 1 " in error
    assert "broken" in folder.log_path.read_text()
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    remaining = [command for command in commands if "compression.jobs.ranks" in command and str(folder.path) in command]
    assert remaining == []


def test_batches_that_cannot_be_divided_and_methods_that_take_one_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--model", "resnet8", "--data", "mnist5k", "--device", "cpu", "--gpus", "3"]
    assert main([*command, "--batch-size", "64", "--runs", str(tmp_path)]) == 2
    assert "among 3" in capsys.readouterr().err
    search = ["sweep", *command[1:], "--find", "smallest", "--min-score", "0.9"]
    assert main([*search, "--runs", str(tmp_path)]) == 2
    assert "--gpus" in capsys.readouterr().err


def test_a_sweep_carries_out_so_many_runs_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in a worker that sees its own GPU, and all with a result."""
    command = ["sweep", "--model", "resnet8", "--data", "mnist5k", "--epochs", "0.2", "--sparsity", "0.2,0.4,0.6"]
    assert main([*command, "--device", "cpu", "--gpus", "2", "--runs", str(tmp_path)]) == 0, capsys.readouterr().err
    folders = [RunFolder(path) for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith("sweep")]
    spans = sorted((events[0]["t"], events[-1]["t"]) for events in (folder.events() for folder in folders))
    assert [folder.state for folder in folders] == ["done"] * 3
    assert spans[1][0] < spans[0][1], "the second begins while the first goes on"
    assert spans[2][0] >= min(end for _, end in spans[:2]) - 0.5, "the third waits for one of them"


def test_a_run_that_never_ended_fails_its_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its worker is killed before it begins, or on the way."""
    budget = Budget(model="resnet8", data="mnist5k", epochs=1, sparsity=0.2)
    sweep = runs.sweep(budget, [0.2, 0.4], root=tmp_path, device="cpu", gpus=2, store=Store(tmp_path, slots=0))
    monkeypatch.setattr(side_by_side, "carried_out", lambda children, gpus, events: (each for each in children))
    with pytest.raises(RunFailed, match="2 of 2 runs failed"):
        carry_out_sweep(RunFolder(tmp_path / sweep), mock.MagicMock(), work=mock.MagicMock(), stopped=lambda: False)


def test_a_run_that_is_paused_leaves_the_others_time_for_their_checkpoints(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import pathlib, sys, time\nplace = pathlib.Path(sys.argv[1])\n"
        "time.sleep(2 * (place.name == 'slow'))\n(place.parent / f'{place.name}.checkpoint').touch()\n"
    )
    children = [mock.Mock(path=tmp_path / name, state="paused") for name in ("quick", "slow")]
    ended = side_by_side.carried_out(children, 2, mock.MagicMock(), [sys.executable, str(script)])  # type: ignore[arg-type]
    assert next(ended) is children[0]
    ended.close()
    assert sorted(path.name for path in tmp_path.glob("*.checkpoint")) == ["quick.checkpoint", "slow.checkpoint"]


def test_another_split_has_copies_of_its_own() -> None:
    split, meta = striped().train, torch.device("meta")
    split.on(meta)
    assert len(dataclasses.replace(split, images=split.images[:3], labels=split.labels[:3]).on(meta)) == 3
