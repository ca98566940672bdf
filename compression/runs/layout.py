"""The run folder is the truth about a run; whatever else knows of it can be rebuilt from here.

::

    runs/<id>/spec.json       the request: budget, versions, threads; written once
              events.jsonl    what happened; one writer, the worker
              process.json    who carries it out (machine, process id, start time; the job on a cluster)
              lease.3         the number of the attempt that may write here, while its process is the one named
              heartbeat       a counter that advances every 2 seconds while that process lives; heartbeat.heard is what
                              another machine noted of it when it looked first
              checkpoint.pt   where a run can be taken up again; checkpoint.previous.pt is the one before it
              result.json     written once, at the end of a run that is done
              labels.json     what somebody called it: a name and tags (may be missing; the run never reads it)
              log.txt         the worker's output, tracebacks included
              bundle/         the compressed model
              pictures/       of a task that can show its answers: STEP.png at each measured point, and original.png
              explain/        attributions of the two models, once requested
              cancel, pause   their presence asks the run to stop, or to write a checkpoint and then to stop
              reserve         16 KB given back when the disk is full, so that the run can still say so
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Self

from compression.errors import CompressionError
from compression.reading import short
from compression.runs.files import disk_full, write_json, written_in
from compression.runs.paths import append_to, create_fresh, is_run_id, remove, touch

VERSION = 1
RESERVE_BYTES = 16 * 1024
PICTURES = "pictures"


class RunFiles:
    """The paths of a run's files, and the small ones that need no reading to be written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.id = self.path.name
        self.spec_path = self.path / "spec.json"
        self.events_path = self.path / "events.jsonl"
        self.process_path = self.path / "process.json"
        self.heartbeat_path = self.path / "heartbeat"
        self.checkpoint_path = self.path / "checkpoint.pt"
        self.result_path = self.path / "result.json"
        self.labels_path = self.path / "labels.json"
        self.log_path = self.path / "log.txt"
        self.bundle = self.path / "bundle"
        self.pictures = self.path / PICTURES
        self.cancel_path = self.path / "cancel"
        self.pause_path = self.path / "pause"
        self.reserve_path = self.path / "reserve"

    @classmethod
    def create(cls, root: str | Path, spec: dict[str, Any]) -> Self:
        """Create the folder of a new run; ``spec.json`` comes last, so that an incomplete folder is no run.

        Raises:
            CompressionError: the runs folder cannot be written, its disk is full, or the id is taken or impossible.
        """
        if not is_run_id(spec["id"]):
            raise CompressionError(f"run {short(spec['id'])} cannot be written: that is no name of a run")
        folder = cls(Path(root) / spec["id"])
        with written_in(root):
            folder.path.mkdir(parents=True)
        try:
            with written_in(root):
                folder.fill_reserve()
                write_json(folder.spec_path, {"version": VERSION, **spec})
        except CompressionError:
            folder.discard()
            raise
        return folder

    def leave(self, path: Path) -> None:
        """Create a file that the worker looks for; on a full disk the reserve makes room for it."""
        with written_in(self.path.parent):
            try:
                touch(path)
            except OSError as error:
                if not disk_full(error):
                    raise
                self.give_back_reserve()
                touch(path)

    def log(self, text: str) -> None:
        """Add to ``log.txt``; on a full disk there is nowhere to say so, and the state event says it."""
        with contextlib.suppress(OSError), append_to(self.log_path) as stream:
            stream.write((text.rstrip("\n") + "\n").encode())

    def fill_reserve(self) -> None:
        """Keep space for the last words of a run on a full disk."""
        with create_fresh(self.reserve_path) as stream:
            stream.write(b"\0" * RESERVE_BYTES)

    def give_back_reserve(self) -> None:
        """Free the space kept for the last words of a run on a full disk."""
        with contextlib.suppress(OSError):
            self.reserve_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Take back a folder that no worker has seen."""
        with contextlib.suppress(OSError):
            remove(self.path)
