"""Starting runs and waiting for them: what the command line, the app and notebooks call."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compression import __version__, devices, home, methods
from compression.budget import Budget
from compression.devices import AUTO
from compression.errors import CompressionError
from compression.runs.folder import IDLE, RunFolder
from compression.runs.launch_config import configured_launcher
from compression.runs.launcher import LocalLauncher
from compression.runs.preflight import absolute, check
from compression.runs.results import result
from compression.runs.specfile import MOST_GPUS, MOST_GRADIENT_BITS
from compression.runs.store import Store

POLL_SECONDS = 0.1
SYNC_SECONDS = 1.0


def start(
    budget: Budget,
    root: str | Path = home.RUNS,
    *,
    priority: int = 0,
    device: str = AUTO,
    gpus: int = 1,
    gradient_bits: int | None = None,
    store: Store | None = None,
) -> str:
    """Check the budget, write the run folder, start its worker (or queue it behind another); returns the run id.

    Of the runs that wait, those of the highest ``priority`` start first, among equals the oldest. ``device`` is one of
    :data:`compression.devices.NAMES`; ``gpus`` of them train together, and send each other gradients of
    ``gradient_bits`` bits a value (default: fp32).

    Raises:
        CompressionError: unknown model, data or method, data that do not fit, missing or wrong-shaped weights, no such
            device, or a runs folder that cannot be written; nothing remains.
    """
    budget = absolute(budget)
    check_devices(device, gpus, store)
    if gpus > 1:
        check_divides(budget, gpus)
    check_gradient_bits(gradient_bits, gpus)
    identity = check(budget)
    store = store or Store(root)
    spec = new_spec(budget, store, device=device, priority=priority, subject=identity)
    spec |= {"gpus": gpus} if gpus > 1 else {}
    spec |= {} if gradient_bits is None else {"gradient_bits": gradient_bits}
    return store.add(spec)[0].id


def check_devices(device: str, gpus: int = 1, store: Store | None = None) -> None:
    """Refuse devices that runs (of this store) would not find; on a cluster only the worker can know.

    Raises:
        CompressionError: no such name, no such device, or fewer GPUs.
    """
    devices.check_name(device)
    if not 1 <= gpus <= MOST_GPUS:
        raise CompressionError(f"gpus must be from 1 to {MOST_GPUS}, not {gpus}")
    launcher = configured_launcher() if store is None else store.launcher
    if isinstance(launcher, LocalLauncher):
        devices.check_count(device, gpus)


def check_divides(budget: Budget, gpus: int) -> None:
    """Refuse to divide the batches of a run that does not allow it among GPUs.

    Raises:
        CompressionError: why not.
    """
    if not methods.get(budget.method).trains(budget):
        raise CompressionError(f"gpus: this run of {budget.method} does not train, and takes one")
    if budget.batch_size % gpus:
        raise CompressionError(f"gpus: a batch of {budget.batch_size} cannot be divided evenly among {gpus}")


def check_gradient_bits(bits: int | None, gpus: int) -> None:
    """Refuse bits for gradients that no process sends, or that are none.

    Raises:
        CompressionError: why not.
    """
    if bits is None:
        return
    if not 1 <= bits <= MOST_GRADIENT_BITS:
        raise CompressionError(f"gradient-bits must be from 1 to {MOST_GRADIENT_BITS}, not {bits}")
    if gpus == 1:
        raise CompressionError("gradient-bits: one process sends no gradients; add --gpus N to train on several")


def new_spec(budget: Budget, store: Store, prefix: str = "", device: str = AUTO, **more: Any) -> dict[str, Any]:
    """The content of ``spec.json`` for a new run of a checked budget: when, by which versions, on how many threads and
    what device.
    """
    budget = methods.get(budget.method).complete(budget)
    return {
        "id": new_id(budget, store.root, prefix),
        "created": round(time.time(), 6),
        "budget": budget.to_dict(),
        "versions": {
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
            "compression": __version__,
        },
        "threads": store.threads,
        "device": device,
        **more,
    }


def new_id(budget: Budget, root: Path, prefix: str = "") -> str:
    """A short, readable run id that no run below ``root`` has, such as ``geta-resnet8-20261122-0153-3f9a71``."""
    model = re.sub(r"[^a-z0-9]+", "-", budget.model.rsplit("/", 1)[-1].lower()).strip("-")
    while True:
        words = (prefix, budget.method, model, time.strftime("%Y%m%d-%H%M"), secrets.token_hex(3))
        run_id = "-".join(word for word in words if word)
        if not (root / run_id).exists():
            return run_id


def wait(
    run_id: str,
    root: str | Path = home.RUNS,
    *,
    timeout: float | None = None,
    watch: Callable[[RunFolder], None] | None = None,
) -> dict[str, Any]:
    """Wait until the run has ended or was paused and return its result.

    ``watch`` is called with the folder ten times a second.

    Raises:
        CompressionError: no such run.
        TimeoutError: it is still active after ``timeout`` seconds.
    """
    folder = RunFolder.open(root, run_id)
    store, begun, synced = Store(root), time.monotonic(), 0.0
    while folder.state not in IDLE:
        now = time.monotonic()
        if timeout is not None and now - begun > timeout:
            raise TimeoutError(f"run {run_id} is still {folder.state} after {timeout:g} seconds")
        if now - synced > SYNC_SECONDS:
            synced = now
            store.sync()
        if watch is not None:
            watch(folder)
        time.sleep(POLL_SECONDS)
    if watch is not None:
        watch(folder)
    return result(folder)
