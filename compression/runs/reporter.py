"""What a method reports to during a run: events, checkpoints, and whether the user requested an end."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression.errors import CompressionError, Paused
from compression.runs import checkpoint
from compression.runs.eventwriter import CHECK_SECONDS, EventWriter
from compression.runs.files import disk_full, write_bytes
from compression.runs.layout import PICTURES
from compression.runs.lease import Lease
from compression.runs.paths import make_folder

if TYPE_CHECKING:
    import torch

CHECKPOINT_SECONDS = 8.0
"""Seconds of training between two checkpoints at most, so that with one step more it is hardly ever above 10."""


class RunReporter(EventWriter):
    """The :class:`compression.methods.base.Reporter` of one attempt at a run.

    Args:
        path: the events file. attempt: 1 for a fresh run, one more each time it is resumed.
        checkpoint_path: where checkpoints are stored; from the second attempt on, what it holds is in ``saved``.
        cancel_files, pause_files: the run is to stop, or to write a checkpoint and then to stop, once one of these
        exists. clock, lease: see :class:`EventWriter`. bound: the run's id and spec, which its checkpoints name.
    """

    def __init__(
        self,
        path: str | Path,
        attempt: int = 1,
        *,
        checkpoint_path: Path,
        cancel_files: Iterable[Path] = (),
        pause_files: Iterable[Path] = (),
        clock: Callable[[], float] | None = None,
        lease: Lease | None = None,
        bound: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(path, attempt, cancel_files=cancel_files, clock=clock, lease=lease)
        self.saved: dict[str, Any] | None = None
        self._bound = dict(bound or {})
        self._checkpoint_path = checkpoint_path
        self._pause_files = tuple(pause_files)
        self._kept = self._clock()
        self._looked = 0.0
        self._in_loop = False
        self._full = False

    def load(self) -> None:
        """Fill ``saved`` from the last good checkpoint of an earlier attempt, if there is one.

        Raises:
            CompressionError: there are checkpoints, and none is a good one of this run.
        """
        if self.attempt > 1:
            self.saved = checkpoint.newest(self._checkpoint_path, self._bound, self.log)
            if self.saved is None:
                self.log("no checkpoint had been written yet: the run starts again")

    def bind(self, subject: str) -> None:
        """Set the digest of what the run begins with: from now on checkpoints name it, and the last one must agree.

        Raises:
            CompressionError: the last checkpoint comes from other weights, data or code.
        """
        self._bound["subject"] = subject
        if self.saved is not None and self.saved.get("subject", subject) != subject:
            raise CompressionError(
                "the weights, the data or the model's code changed since the last checkpoint was written: put them "
                f"back, or delete {self._checkpoint_path}, and the run starts again"
            )

    def plan(self, total_steps: int, **facts: Any) -> None:
        """How many steps the run will take.

        Raises:
            CompressionError: fewer than those after which the last checkpoint was written.
        """
        if self.saved is not None and self.saved["step"] > total_steps:
            raise CompressionError(
                f"checkpoint {self._checkpoint_path} is of step {self.saved['step']}, but the run has {total_steps}; "
                f"{checkpoint.RESTART}"
            )
        super().plan(total_steps, **facts)

    def checkpoint(self, step: int, capture: Callable[[], dict[str, Any]], *, due: bool = False) -> None:
        """See :meth:`compression.methods.base.Reporter.checkpoint`.

        Raises:
            Paused: the user requested it.
        """
        self._in_loop = True
        pausing = self._pause_requested()
        if due or pausing or self._clock() - self._kept >= CHECKPOINT_SECONDS:
            self._keep(step, capture())
        if pausing:
            raise Paused("asked to pause")

    def picture(self, step: int | str, pixels: torch.Tensor) -> None:
        """Store it as ``pictures/STEP.png``; on a full disk the run goes on without, and says so once."""
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "PNG")
        folder = self.path.parent / PICTURES
        self.confirm()
        try:
            make_folder(folder)
            write_bytes(folder / f"{step}.png", file.getvalue())
        except OSError as error:
            if not disk_full(error):
                raise
            if not self._full:
                self.log("the disk is full: pictures of the run are not stored")
            self._full = True

    def _keep(self, step: int, state: dict[str, Any]) -> None:
        bound = {**self._bound, "attempt": self.attempt}
        written = checkpoint.write(self._checkpoint_path, state, bound, self.confirm)
        self._kept = self._clock()
        if not written and not self._full:
            self.log(f"the disk is full: no checkpoint could be written at step {step}, the one before stays")
        self._full = not written

    def _look(self) -> None:
        super()._look()
        if not self._in_loop and any(path.exists() for path in self._pause_files):
            raise Paused("asked to pause")

    def _pause_requested(self) -> bool:
        now = self._clock()
        if now - self._looked < CHECK_SECONDS:
            return False
        self._looked = now
        return any(path.exists() for path in self._pause_files)
