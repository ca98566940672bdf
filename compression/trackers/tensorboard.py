"""TensorBoard: a folder of event files, by default ``tensorboard/`` in the run's own: ``tensorboard --logdir runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from compression.errors import CompressionError
from compression.runs.events import Event
from compression.runs.folder import RunFolder
from compression.trackers import scalars, settings

FOLDER = "tensorboard"
FILES = "events.out.tfevents.*"


def tracker(folder: RunFolder, out: str | None) -> TensorBoard:
    """A writer for the run, below ``out`` if that is given; what was written for it before is written anew.

    Raises:
        CompressionError: nothing can be written there.
    """
    place = Path(out).expanduser() / folder.id if out else folder.path / FOLDER
    try:
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob(FILES):
            old.unlink()
    except OSError as error:
        raise CompressionError(f"TensorBoard at {place}: {error.strerror}") from error
    return TensorBoard(place, settings(folder))


class TensorBoard:
    """See :class:`compression.trackers.Tracker`; steps that a resumed run takes again replace those before."""

    offset = 0

    def __init__(self, place: Path, parameters: dict[str, str]) -> None:
        self.place, self._parameters, self._attempt = str(place), parameters, 1
        self._writer = SummaryWriter(self.place)
        rows = "\n".join(f"| {name} | {value} |" for name, value in parameters.items())
        self._writer.add_text("budget", f"| setting | value |\n|---|---|\n{rows}", 0)

    def write(self, events: list[Event], offset: int) -> None:
        """Numbers at their steps, messages and stages as text."""
        for event in events:
            if event["kind"] == "step" and event["attempt"] > self._attempt:
                self._attempt = event["attempt"]
                self._writer.close()
                self._writer = SummaryWriter(self.place, purge_step=event["step"])
            for each in scalars(event):
                self._writer.add_scalar(each.tag, each.value, each.step, each.seconds)
            for kind, text in (("log", "message"), ("phase", "phase")):
                if event["kind"] == kind:
                    self._writer.add_text(kind, event[text], event["step"], event["t"])
        self._writer.flush()

    def finish(self, state: str, outcome: dict[str, Any]) -> None:
        """How it ended, and a row for the table of hyperparameters."""
        final = {f"final/{name}": value for name, value in (outcome.get("final") or {}).items() if _is_number(value)}
        file: Any = self._writer.file_writer  # add_hparams itself would begin a second folder
        for summary in hparams({**self._parameters, "state": state}, final):
            file.add_summary(summary)
        for name, value in final.items():
            self._writer.add_scalar(name, value, outcome["final"].get("step") or 0)
        self._writer.close()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
