"""What the server takes for its visitors is bounded: memory of live answers, and jobs beside runs at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opened import Open, errors

from app import live
from app.budget.live_forecast import LiveSubject, forecast
from app.model import catalog
from compression import zoo
from compression.budget import Budget
from compression.errors import CompressionError


def test_what_is_kept_and_what_is_worked_on_never_take_more_than_the_limit() -> None:
    memory = live.Memory(100)
    at_work: list[int] = []

    def make(name: str, need: int) -> str:
        at_work.append(memory.bytes + need)
        return name

    for name, need in [("a", 40), ("b", 40), ("a", 40), ("c", 60), ("b", 40), ("d", 100), ("a", 40)]:
        assert memory.hold(name, name, need, lambda name=name, need=need: make(name, need)) == name  # type: ignore[misc]
        assert memory.bytes <= 100
    # the second "a" is a hit, "c" takes the place of "b" that was unused the longest, "d" of all others
    assert at_work == [40, 80, 100, 100, 100, 40]


def test_what_is_larger_than_all_the_room_is_never_begun() -> None:
    memory, begun = live.Memory(100), []
    memory.hold("a", "a", 90, lambda: "a")
    with pytest.raises(live.TooLarge, match="vit is too large to answer live; measured in a job"):
        memory.hold("vit", "vit", 101, lambda: begun.append(1))
    assert (begun, memory.bytes) == ([], 90)


def test_what_fails_is_not_kept_and_leaves_the_room_to_others() -> None:
    memory = live.Memory(100)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            memory.hold("a", "a", 90, lambda: 1 // 0)
    assert memory.hold("a", "a", 90, lambda: "whole") == "whole"


@contextmanager
def threads(*functions: object) -> Iterator[None]:
    running = [threading.Thread(target=function) for function in functions]  # type: ignore[arg-type]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join()


def test_visitors_who_ask_for_the_same_make_it_once_and_different_ones_wait_for_each_other() -> None:
    memory, computed, together, most = live.Memory(100), [], [0], [0]

    def make(name: str) -> str:
        together[0] += 1
        most[0] = max(most[0], together[0])
        computed.append(name)
        time.sleep(0.02)
        together[0] -= 1
        return name

    asking = [lambda name=name: memory.hold(name, name, 30, lambda: make(name)) for name in "abcabcabc"]
    with threads(*asking):
        pass
    assert (sorted(computed), most) == (["a", "b", "c"], [1])


def test_nobody_waits_for_ever() -> None:
    memory, inside, done = live.Memory(100, wait=0.05), threading.Event(), threading.Event()

    def slow() -> None:
        with memory.work("slow", 1):
            inside.set()
            done.wait(60)

    with threads(slow):
        inside.wait(60)
        with pytest.raises(CompressionError, match="busy with the networks of other visitors"), memory.work("b", 1):
            pass
        done.set()
    with memory.work("b", 1):
        pass


def test_the_default_limit_leaves_most_of_the_machine_and_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    live.memory.cache_clear()
    assert live.memory().limit <= 1e6 * live.MOST_MB
    for value, limit in (("123", 123_000_000), ("0", 0), ("many", None), ("-1", None), ("9" * 400, None)):
        live.memory.cache_clear()
        monkeypatch.setenv(live.LIMIT, value)
        if limit is None:
            with pytest.raises(CompressionError, match=live.LIMIT):
                live.memory()
        else:
            assert live.memory().limit == limit
    live.memory.cache_clear()


def test_tables_of_many_visitors_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-18 at three sizes would take three times its tables; there is room for one and a half."""
    subjects = [catalog.subject("torchvision:resnet18", data) for data in ("none", "cifar10")]
    need = LiveSubject(subjects[0], None).need
    monkeypatch.setattr(live.memory(), "limit", int(1.5 * need))
    live.memory().clear()
    budget = Budget(method="opq", sparsity=0.5, bits=4.0)
    for subject in subjects:
        assert forecast(subject, None, budget).error is not None
        assert live.memory().bytes <= 1.5 * need
    tables = sum(layer.magnitudes.nbytes + layer.first.nbytes + layer.second.nbytes for layer in _only().layers)
    assert tables + 4 * sum(p.numel() for p in zoo.build("torchvision:resnet18", empty=True).parameters()) <= need


def _only() -> Any:
    (held,) = live.memory()._held.values()
    return held.value


def test_a_run_of_what_is_too_large_to_answer_live_can_be_started(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not open_page("budget", method="OPQ").button(key="start").disabled
    monkeypatch.setattr(live.memory(), "limit", 1000)
    live.memory().clear()
    app = open_page("budget", method="OPQ")
    assert ["too large to answer live" in line for line in errors(app)] == [True]
    assert not app.button(key="start").disabled
