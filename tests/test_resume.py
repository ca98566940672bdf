"""Interrupted runs go on: what was interrupted and resumed is what an uninterrupted run gives, bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compression import methods, runs
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError, Paused, RunFailed
from compression.graph import trace
from compression.methods.base import Setup
from compression.methods.geta.schedule import Schedule
from compression.runs import checkpoint
from compression.runs.events import Event, last_attempts, last_state, read_events
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.reporter import CHECKPOINT_SECONDS, RunReporter
from compression.training.recipe import Recipe
from compression.training.resume import captured
from compression.zoo import build
from tests.stripes import striped
from tests.waiting import PATIENCE, until

SHORT = Schedule(warmup=0.1, projection=0.3, projection_periods=2, joint=0.4, pruning_periods=2)
TOTAL = 30


class Killed(BaseException):
    """Stands for the end of the process."""


DATA = striped("shift")


class Dropping(torch.nn.Sequential):
    """A network that draws random numbers while it trains."""

    def __init__(self) -> None:
        super().__init__(build("resnet8", input=(1, 12, 12), classes=8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 4))


def task(budget: Budget) -> Setup:
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = Dropping()
    return Setup(model, trace(model, torch.randn(2, 1, 12, 12)), DATA, budget)


class Fragile(RunReporter):
    """Writes a checkpoint after step ``keep`` only, and is killed when step ``stop`` is to begin."""

    def __init__(self, folder: Path, attempt: int, keep: int = 0, stop: int | None = None) -> None:
        super().__init__(folder / "events", attempt, checkpoint_path=folder / "checkpoint.pt", clock=lambda: 7.0)
        self.keep, self.stop, self.done = keep, stop, 0
        self.load()

    def step(self, step: int, epoch: float, **values: float) -> None:
        super().step(step, epoch, **values)
        self._flush_step()  # all of them, to compare all of them

    def checkpoint(self, step: int, capture: Callable[[], dict[str, Any]], *, due: bool = False) -> None:
        super().checkpoint(step, capture, due=step == self.keep)
        self.done = step

    def check(self) -> None:
        if self.stop is not None and self.done >= self.stop:
            raise Killed


def attempt(folder: Path, budget: Budget, number: int, keep: int = 0, stop: int | None = None) -> dict[str, Any]:
    work = task(budget)
    random.seed(number)
    np.random.seed(number)
    with Fragile(folder, number, keep, stop) as report:
        done = methods.get(budget.method).run(work, report)
    return done.model.state_dict()


def story(path: Path) -> list[Event]:
    """Every event but the messages, without what tells the attempts apart."""
    events = [event for event in last_attempts(read_events(path)[0]) if event["kind"] not in ("log", "state")]
    plain = [{k: v for k, v in event.items() if k not in ("t", "attempt")} for event in events]
    return sorted(plain, key=lambda event: (event["step"], event["kind"], json.dumps(event, sort_keys=True)))


GETA = Budget(method="geta", epochs=1.5, batch_size=32, precision="fp32", sparsity=0.5, schedule=SHORT, lr=0.02)
BUDGETS = {
    "geta": GETA.replace(activation_bits=(4, 8), options={"saliency_batches": 3, "recalibrate": 4, "unsigned": True}),
    "geta adamw": GETA.replace(optimizer="adamw", lr=1e-3, options={"preset": "paper"}),
    "geta under a price": GETA.replace(
        weight_bits=(3, 8),
        activation_bits=(4, 8),
        options={
            "bit_rule": "priced",
            "renew_prices": True,
            "rise": "damage",
            "tied_ranges": True,
            "saliency_batches": 3,
        },
    ),
    "opq": GETA.replace(method="opq", bits=3),
    "magnitude": GETA.replace(method="magnitude", optimizer="adam", lr=1e-3),
    "sequential": GETA.replace(method="sequential", activation_bits=(6, 6), options={"unsigned": True}),
    "bsq": GETA.replace(method="bsq", bits=3, activation_bits=6, optimizer="adam", lr=1e-3),
    "hesso": GETA.replace(method="hesso", activation_bits=(6, 6), options={"periods": 3, "saliency_batches": 3}),
    "anybits frozen": GETA.replace(method="anybits", weight_bits=(2, 4), options={"freeze": True}),
    "sbs": GETA.replace(method="sbs", activation_bits=(2, 8), weight_bits=(2, 8), options={"distill": 0.0}),
    "sbs by bops": GETA.replace(
        method="sbs", sparsity=None, asks={"bops": 0.985, "weight_bits": (2, 8), "activation_bits": (2, 8)}
    ),
    "qap": GETA.replace(method="qap", bits=3, options={"rounds": 4, "pruning": 0.6, "l1": 1e-3}),
    "qap rewound": GETA.replace(
        method="qap",
        bits=3,
        activation_bits=(6, 6),
        optimizer="adam",
        options={"rounds": 4, "pruning": 0.6, "rewind": True},
    ),
}
EVERY = {"distill": 0.5, "temperature": 2.0, "noise": 0.5, "ema": 0.7, "lr_warmup": 0.2, "recalibrate": 3}
EVERY |= {"distill_features": 0.3, "distill_rise": "rising", "ends": "eight", "oscillation": "freeze"}
EVERY |= {"inherit": 2}
CHOOSING = {"saliency_batches": 2, "criteria": {"taylor_first_order": 1.0, "movement": 0.5}, "cost": "parameters"}
CHOOSING |= {"lr_restart": 1.5}
REFUSED = {
    "geta": {"inherit": 0},  # bits are learned
    "bsq": {"inherit": 0},  # bits are learned
    "sbs": {"inherit": 0},  # bits are learned
    "pq": {"oscillation": "none", "inherit": 0},  # a block of a book is the mean of many weights
    "anybits": {"oscillation": "none", "inherit": 0},  # a weight has a grid for every bit-width
    "codeq": {"oscillation": "none", "inherit": 0},  # levels begin at a threshold
    "hesso": {"oscillation": "none", "noise": 1.0, "inherit": 0},  # there are no quantizers while it trains
}
for each in [name for name, method in methods.all_methods().items() if method.info.trains]:
    offered = {option.name for option in methods.get(each).Config.table()}
    choosing = {name: value for name, value in CHOOSING.items() if name in offered}
    options = {**EVERY, **choosing, **REFUSED.get(each, {})}
    BUDGETS[f"{each} with every option"] = GETA.replace(method=each, bits=3, options=options)
# The stages of GETA end after 3, 12 and 24 steps; those of the sequence after 8 and 15. Units of HESSO fade in steps 3
# to 6, 7 to 10 and 11 to 15; the rounds of pruning with quantizers come after 4, 9, 13 and 18 steps. BSQ's planes are
# re-quantized after 2, 4, 7, 9, 11, 14, 16 and 18. The gates of SBS
# decide after each of 15 steps, with the last for good.
KEEPS = {
    "geta": (1, 3, 7, 12, 14, 18, 19, 23, 24, 27, TOTAL),
    "geta under a price": (9, 11, 12, 17, 20, 24, 25),
    "sequential": (1, 5, 8, 11, 15, 16, TOTAL),
    "bsq": (3, 5, 11, 18, 22),
    "bsq with every option": (9, 14, 24, TOTAL),
    "hesso": (1, 2, 4, 6, 9, 13, 15, 20, TOTAL),
    "qap": (2, 4, 5, 9, 18, 20, TOTAL),
    "sbs": (1, 2, 8, 14, 15, 16, 23, TOTAL),
    "sbs by bops": (5, 11, 12, 15, 19),
    "qap rewound": (4, 5, 11, 13, 19, TOTAL),
    "geta with every option": (5, 13, 26, TOTAL),
    "sequential with every option": (5, 15, 21, TOTAL),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(name: str, tmp_path: Path) -> None:
    budget = BUDGETS[name]
    (tmp_path / "whole").mkdir()
    expected, expected_story = attempt(tmp_path / "whole", budget, 1), story(tmp_path / "whole" / "events")
    assert sum(event["kind"] == "step" for event in expected_story) == TOTAL
    for keep in KEEPS.get(name, (7, 15, TOTAL)):
        folder = tmp_path / f"after {keep}"
        folder.mkdir()
        with contextlib.suppress(Killed):
            attempt(folder, budget, 1, keep, min(keep + 2, TOTAL))
        assert (folder / "checkpoint.pt").is_file()
        resumed = attempt(folder, budget, 2)
        assert resumed.keys() == expected.keys()
        assert all(torch.equal(resumed[key], expected[key]) for key in expected), keep
        assert story(folder / "events") == expected_story, keep
        again = [event["step"] for event in read_events(folder / "events")[0] if event["attempt"] == 2]
        assert not set(again) & set(range(1, keep)) - starts(expected_story), keep  # nothing was trained twice


@pytest.mark.parametrize("name", ["geta", "sequential"])
def test_checkpoints_of_earlier_versions_go_on(name: str, tmp_path: Path) -> None:
    """They hold a schedule of their own, and optimizers without the rates that it starts from."""
    (tmp_path / "whole").mkdir()
    expected = attempt(tmp_path / "whole", BUDGETS[name], 1)
    folder = tmp_path / "earlier"
    folder.mkdir()
    with pytest.raises(Killed):
        attempt(folder, BUDGETS[name], 1, 7, 9)
    state = checkpoint.read(folder / "checkpoint.pt")
    assert state is not None
    for group in state["parts"]["optimizer"]["param_groups"]:
        del group["initial_lr"]
    state["parts"]["schedule"] = {"base_lrs": [0.02, 0.001], "last_epoch": 7, "_step_count": 8, "lr_lambdas": [None]}
    checkpoint.write(folder / "checkpoint.pt", state)
    result = attempt(folder, BUDGETS[name], 2)
    assert all(torch.equal(result[key], expected[key]) for key in expected)


def starts(events: list[Event]) -> set[int]:
    """The first steps of stages: a resumed run says again which stage it is in."""
    return {event["step"] for event in events if event["kind"] == "phase"}


def test_a_run_interrupted_twice_and_before_its_first_checkpoint(tmp_path: Path) -> None:
    budget = BUDGETS["geta"]
    (tmp_path / "whole").mkdir()
    expected = attempt(tmp_path / "whole", budget, 1)
    folder = tmp_path / "often"
    folder.mkdir()
    for number, keep, stop in ((1, 0, 5), (2, 9, 11), (3, 16, 20)):
        with pytest.raises(Killed):
            attempt(folder, budget, number, keep, stop)
    resumed = attempt(folder, budget, 4)
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)
    assert story(folder / "events") == story(tmp_path / "whole" / "events")
    events = [event for event in read_events(folder / "events")[0] if event["kind"] == "step"]
    first = [min(event["step"] for event in events if event["attempt"] == number) for number in (1, 2, 3, 4)]
    assert first == [1, 1, 10, 17], "after no checkpoint, and after those of steps 9 and 16"


# --- checkpoints ------------------------------------------------------------------------------------------------------


def reporter(folder: Path, clock: Callable[[], float], **asks: list[Path]) -> RunReporter:
    return RunReporter(folder / "events", checkpoint_path=folder / "checkpoint.pt", clock=clock, **asks)


def stored_step(folder: Path) -> int | None:
    state = checkpoint.read(folder / "checkpoint.pt")
    return None if state is None else int(state["step"])


def test_checkpoints_come_by_time_and_at_the_end_of_stages(tmp_path: Path) -> None:
    now = [0.0]
    with reporter(tmp_path, lambda: now[0]) as report:
        report.checkpoint(1, lambda: {"step": 1})
        assert stored_step(tmp_path) is None
        report.checkpoint(2, lambda: {"step": 2}, due=True)
        assert stored_step(tmp_path) == 2
        now[0] = CHECKPOINT_SECONDS - 0.1
        report.checkpoint(3, lambda: {"step": 3})
        assert stored_step(tmp_path) == 2
        now[0] += 0.2
        report.checkpoint(4, lambda: {"step": 4})
        assert stored_step(tmp_path) == 4
    assert CHECKPOINT_SECONDS <= 10
    assert not list(tmp_path.glob("*.partial"))


def test_pausing_writes_a_checkpoint_first(tmp_path: Path) -> None:
    now, requests = [0.0], tmp_path / "pause"
    with reporter(tmp_path, lambda: now[0], pause_files=[requests]) as report:
        report.check()
        report.checkpoint(1, lambda: {"step": 1})
        requests.touch()
        now[0] = 1.0
        report.check()  # between two steps there is nothing to keep yet
        with pytest.raises(Paused):
            report.checkpoint(2, lambda: {"step": 2})
    assert stored_step(tmp_path) == 2
    with reporter(tmp_path, lambda: now[0], pause_files=[requests]) as report:
        now[0] = 2.0
        with pytest.raises(Paused):  # while it prepares, there is nothing to keep
            report.check()


def test_what_cannot_be_trained_on_is_not_kept() -> None:
    model = torch.nn.Linear(2, 2)
    assert captured("fine-tuning", 1, Recipe(), {"model": model})["parts"]["model"].keys() == {"weight", "bias"}
    with torch.no_grad():
        model.bias[1] = float("nan")
    with pytest.raises(RunFailed, match="bias is no longer finite"):
        captured("fine-tuning", 2, Recipe(), {"model": model})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CompressionError, match=r"checkpoint\.pt is damaged; delete it, and the run starts again"):
        checkpoint.read(tmp_path / "checkpoint.pt")


def test_a_checkpoint_holds_no_code(tmp_path: Path) -> None:
    torch.save({"version": 1, "parts": Path("x")}, tmp_path / "checkpoint.pt")
    with pytest.raises(CompressionError, match="is damaged"):
        checkpoint.read(tmp_path / "checkpoint.pt")
    torch.save({"version": 99}, tmp_path / "checkpoint.pt")
    with pytest.raises(CompressionError, match="99"):
        checkpoint.read(tmp_path / "checkpoint.pt")
    torch.save([1], tmp_path / "checkpoint.pt")
    with pytest.raises(CompressionError, match="is no checkpoint"):
        checkpoint.read(tmp_path / "checkpoint.pt")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        with reporter(disk, lambda: 0.0) as report:
            report.checkpoint(1, lambda: {"step": 1, "weights": torch.zeros(50_000)}, due=True)
            for step in (2, 3):
                report.checkpoint(step, lambda: {"step": 2, "weights": torch.zeros(500_000)}, due=True)
            assert stored_step(disk) == 1
            report.checkpoint(4, lambda: {"step": 4}, due=True)
        assert stored_step(disk) == 4
        messages = [event["message"] for event in read_events(disk / "events")[0] if event["kind"] == "log"]
        assert [re.findall(r"step (\d+)", message) for message in messages] == [["2"]]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_last_state_is_what_reading_all_events_reports(tmp_path: Path) -> None:
    path = tmp_path / "events"
    assert last_state(path) is None
    with reporter(tmp_path, lambda: 0.0) as report:
        report.log("no state yet")
        assert last_state(path) is None
        for state in ("running", "paused", "queued"):
            report.state(state)
            report.log('one "kind":"state","state":"done" in the words of a message')
            assert last_state(path) == state
    with path.open("ab") as stream:
        stream.write(b'{"v":1,"t":0,"attempt":1,"kind":"state","step":0,"epoch":0,"state":"do')  # torn
    assert last_state(path) == "queued"


# --- real processes ---------------------------------------------------------------------------------------------------


def real(epochs: float = 1.5, **changes: Any) -> Budget:
    return Budget(method="geta", model="resnet8", data="mnist5k", sparsity=0.4, epochs=epochs, batch_size=64, **changes)


def furthest(folder: RunFolder) -> int:
    return max((event["step"] for event in folder.events()), default=0)


def test_kill_9_at_three_moments_and_pause_change_nothing(tmp_path: Path) -> None:
    whole = RunFolder.open(tmp_path, runs.start(real(), tmp_path))
    assert runs.wait(whole.id, tmp_path, timeout=PATIENCE)["status"] == "done"
    assert not whole.checkpoint_path.exists()
    folder = RunFolder.open(tmp_path, runs.start(real(), tmp_path))
    for share in (0.0, 0.4, 0.8):  # while it prepares, in the middle, near the end
        until(lambda share=share: furthest(folder) >= share * 84 and folder.process_path.is_file())
        os.kill(json.loads(folder.process_path.read_text())["pid"], signal.SIGKILL)
        until(lambda: folder.state == "lost")
        assert runs.resume(folder.id, tmp_path) in ("queued", "running")
    until(lambda: last_state(folder.events_path) == "running")
    if runs.pause(folder.id, tmp_path, grace=60) == "paused":
        assert folder.checkpoint_path.is_file()
        assert runs.resume(folder.id, tmp_path) in ("queued", "running")
    result = runs.wait(folder.id, tmp_path, timeout=PATIENCE)
    assert result["status"] == "done"
    assert result["seconds"] > 0
    packed = [each.bundle / "weights.packed" for each in (whole, folder)]
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert [point.to_dict() for point in whole.points()] == [point.to_dict() for point in folder.points()]


def test_a_diverging_run_fails_and_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path, runs.start(real(), tmp_path))
    until(lambda: folder.checkpoint_path.is_file())
    assert runs.pause(folder.id, tmp_path, grace=60) == "paused"
    state = torch.load(folder.checkpoint_path, weights_only=True)
    state["parts"]["model"]["linear.bias"][0] = 3e38
    state["parts"]["model"]["linear.bias"][
        1
    ] = -3e38  # the largest finite number: every label but one costs infinitely much
    checkpoint.write(folder.checkpoint_path, state)
    runs.resume(folder.id, tmp_path)
    result = runs.wait(folder.id, tmp_path, timeout=PATIENCE)
    assert result["status"] == "failed"
    assert "training diverged" in result["error"]
    assert stored_step(folder.path) == state["step"]


# --- the verbs --------------------------------------------------------------------------------------------------------


def created(store: runs.Store, name: str, *states: str, **spec: Any) -> RunFolder:
    """A run that went through these states, carried out by nobody."""
    folder = RunFolder.create(store.root, {"id": name, "created": 1.0, "budget": Budget().to_dict(), **spec})
    if states:
        with RunReporter(folder.events_path, checkpoint_path=folder.checkpoint_path, clock=lambda: 100.0) as events:
            for state in states:
                events.state(state)
    return folder


@pytest.fixture
def quiet(tmp_path: Path) -> runs.Store:
    """A store in which a long dead run takes the only slot, so that nothing starts by itself."""
    return runs.Store(tmp_path / "runs", slots=0)


@pytest.mark.parametrize("state", ["paused", "failed", "cancelled", "lost"])
def test_resume_puts_back_what_stopped(quiet: runs.Store, state: str) -> None:
    folder = created(quiet, "one", "running", *([] if state == "lost" else [state]))
    if state == "lost":
        folder.process_path.write_text(
            '{"version": 1, "host": "elsewhere", "pid": 1, "start": 1.0, "launcher": "local"}'
        )
        os.utime(folder.process_path, (1, 1))
    if state == "cancelled":
        folder.cancel_path.touch()
    folder.reserve_path.unlink()
    assert folder.state == state
    assert runs.resume("one", quiet.root, store=quiet) == "queued"
    assert [info.state for info in quiet.list()] == ["queued"]
    assert folder.reserve_path.is_file()
    assert runs.resume("one", quiet.root, store=quiet) == "queued"  # twice is no harm
    assert [event["state"] for event in folder.events()].count("queued") == 1
    assert carry_out(folder, lambda folder, events: {}) == "done"
    assert folder.events()[-1]["attempt"] == 2
    assert runs.resume("one", quiet.root, store=quiet) == "done"
    assert quiet.get("one").ended is not None


def test_a_waiting_run_is_paused_at_once_and_can_be_cancelled_then(quiet: runs.Store) -> None:
    folder = created(quiet, "one")
    assert runs.pause("one", quiet.root, store=quiet) == "paused"
    assert [info.state for info in quiet.list()] == ["paused"]
    assert runs.resume("one", quiet.root, store=quiet) == "queued"
    assert [info.state for info in quiet.list()] == ["queued"]
    runs.pause("one", quiet.root, store=quiet)
    assert runs.cancel("one", quiet.root, store=quiet) == "cancelled"
    assert [info.state for info in quiet.list()] == ["cancelled"]
    begun = created(quiet, "two", "running", "paused")
    assert runs.cancel("two", quiet.root, store=quiet) == begun.state == "cancelled"
    assert folder.events() == []


def test_a_sweep_is_paused_and_resumed_with_its_runs(quiet: runs.Store) -> None:
    names = ["s-01", "s-02", "s-03"]
    children = [
        created(quiet, "s-01", "running", "done", sweep="s"),
        created(quiet, "s-02", "running", "paused", sweep="s"),
        created(quiet, "s-03", sweep="s"),
    ]
    created(quiet, "s", "running", "paused", children=names)
    states = {info.id: info.state for info in quiet.list()}
    assert states == {"s": "paused", "s-01": "done", "s-02": "paused", "s-03": "paused"}
    for verb in (runs.pause, runs.resume):
        with pytest.raises(CompressionError, match="belongs to sweep s; name the sweep"):
            verb("s-02", quiet.root, store=quiet)
    assert runs.resume("s", quiet.root, store=quiet) == "queued"
    states = {info.id: info.state for info in quiet.list()}
    assert states == {"s": "queued", "s-01": "done", "s-02": "queued", "s-03": "queued"}
    assert [child.state for child in children] == ["done", "queued", "queued"]


def test_delete_takes_only_what_is_over_and_ours(quiet: runs.Store) -> None:
    created(quiet, "old", "running", "done")
    created(quiet, "s", "running", "failed", children=["s-01"])
    created(quiet, "s-01", "running", "failed", sweep="s")
    going = created(quiet, "going", "running")
    going.process_path.write_text(json.dumps({"version": 1, **own_process()}))
    foreign = quiet.root / "foreign"
    foreign.mkdir()
    (foreign / "spec.json").write_text('{"their": "file"}')
    for name, words in (("going", "is going on; cancel it first"), ("s-01", "belongs to sweep s"), ("no", "no run")):
        with pytest.raises(CompressionError, match=words):
            runs.delete(["old", name], quiet.root, store=quiet)
    with pytest.raises(CompressionError, match="spec"):
        runs.delete(["foreign"], quiet.root, store=quiet)
    assert len(list(quiet.root.glob("*/spec.json"))) == 5
    assert runs.delete(["old", "s"], quiet.root, store=quiet) == ["old", "s", "s-01"]
    assert sorted(path.name for path in quiet.root.iterdir() if path.is_dir()) == ["foreign", "going"]
    assert [info.id for info in quiet.list()] == ["going"]


def own_process() -> dict[str, Any]:
    from compression.runs.process import Handle

    me = Handle.current()
    return {"host": me.host, "pid": me.pid, "start": me.start, "launcher": "local"}


def test_what_is_outdated_stopped_long_ago(quiet: runs.Store) -> None:
    created(quiet, "done", "running", "done")
    created(quiet, "waits")
    created(quiet, "s", "running", "done", children=["s-01"])
    created(quiet, "s-01", "running", "done", sweep="s")
    infos = quiet.list()
    assert sorted(runs.outdated(infos, 2, now=100 + 3 * 86_400)) == ["done", "s"]
    assert runs.outdated(infos, 4, now=100 + 3 * 86_400) == []


def test_the_highest_priority_starts_first(tmp_path: Path) -> None:
    class Starting:
        def __init__(self) -> None:
            self.started: list[str] = []

        def start(self, folder: RunFolder, threads: int) -> None:
            self.started.append(folder.id)
            assert carry_out(folder, lambda folder, events: {}) == "done"

    launcher = Starting()
    waiting = runs.Store(tmp_path, slots=0)
    for name, priority in (("first", 0), ("urgent", 5), ("later", -1), ("second", 0)):
        created(waiting, name, priority=priority, created=2.0 if name == "second" else 1.0)
    waiting.sync()
    store = runs.Store(tmp_path, slots=1, launcher=launcher)  # type: ignore[arg-type]
    for _ in range(4):
        store.sync()
    assert launcher.started == ["urgent", "first", "second", "later"]


def test_the_command_line_pauses_resumes_and_deletes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*words: str) -> tuple[int, Any, str]:
        status = main([*words, "--runs", str(tmp_path), "--json", "-"])
        printed = capsys.readouterr()
        return status, json.loads(printed.out) if printed.out else None, printed.err

    run = command(*"run --model resnet8 --data mnist5k --method opq --epochs 2 --detach --priority 3".split())[1]["run"]
    folder = RunFolder.open(tmp_path, run)
    assert folder.spec()["priority"] == 3
    until(lambda: furthest(folder) > 5)
    assert command("pause", run)[:2] == (0, {"run": run, "status": "paused"})
    assert command("pause", run)[:2] == (0, {"run": run, "status": "paused"})
    status, result, _ = command("resume", run)
    assert (status, result["status"]) == (0, "done")
    assert command("resume", run)[:2] == (0, result)
    status, _, error = command("delete")
    assert status == 2
    assert "--older-than" in error
    assert command("delete", "--older-than", "1")[:2] == (0, [])
    assert command("delete", run)[:2] == (0, [run])
    assert not folder.path.exists()
    assert command("resume", run)[0] == 2
