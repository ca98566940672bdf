"""MLflow: a run of the experiment ``compression``, where MLFLOW_TRACKING_URI says or in ``mlruns/``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from compression.errors import CompressionError
from compression.runs import folder as states
from compression.runs.events import Event
from compression.runs.folder import RunFolder
from compression.trackers import scalars, settings

EXPERIMENT = "compression"
RUN, OFFSET = "compression.run", "compression.offset"
"""Tags: the id of our run, and the byte of its events up to which MLflow has them."""
MOST_METRICS, MOST_PARAMETERS = 1000, 100  # in one call
STATES = {
    states.DONE: "FINISHED",
    states.FAILED: "FAILED",
    states.CANCELLED: "KILLED",
    states.LOST: "KILLED",
    states.PAUSED: "SCHEDULED",
}


def tracker(folder: RunFolder, out: str | None) -> MLflow:
    """The run of MLflow that belongs to this one, made if there is none; ``out``: an address or a folder.

    Raises:
        CompressionError: it cannot be reached or written to.
    """
    address = out or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
    if "://" not in address:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # since 3.14 a folder has to be allowed by name
        address = Path(address).expanduser().resolve().as_uri()
    try:
        return MLflow(MlflowClient(address), address, folder)
    except (MlflowException, OSError) as error:
        raise CompressionError(f"MLflow at {address}: {str(error).splitlines()[0]}") from error


class MLflow:
    """See :class:`compression.trackers.Tracker`."""

    def __init__(self, client: MlflowClient, address: str, folder: RunFolder) -> None:
        self.place, self._client, self._folder = address, client, folder
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = client.create_experiment(EXPERIMENT) if known is None else known.experiment_id
        runs = client.search_runs([experiment], f"tags.`{RUN}` = '{folder.id}'", max_results=1)
        run = runs[0] if runs else self._create(experiment)
        self._id, self.offset = run.info.run_id, int(run.data.tags.get(OFFSET, 0))

    def _create(self, experiment: str) -> Run:
        begun = round(1000 * self._folder.spec()["created"])
        tags = {RUN: self._folder.id, OFFSET: "0"}
        run = self._client.create_run(experiment, start_time=begun, tags=tags, run_name=self._folder.id)
        parameters = [Param(name, value) for name, value in settings(self._folder).items()]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(run.info.run_id, params=parameters[first : first + MOST_PARAMETERS])
        return run

    def write(self, events: list[Event], offset: int) -> None:
        """Numbers at their steps; then the tag says up to where, so that nothing is written twice."""
        metrics = [
            Metric(each.tag, each.value, round(1000 * each.seconds), each.step)
            for event in events
            for each in scalars(event)
        ]
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + MOST_METRICS])
        self._client.set_tag(self._id, OFFSET, str(offset))

    def finish(self, state: str, outcome: dict[str, Any]) -> None:
        """How it ended; the request and the result are stored beside the numbers."""
        for path in (self._folder.spec_path, self._folder.result_path):
            if path.is_file():
                self._client.log_artifact(self._id, str(path))
        self._client.set_terminated(self._id, STATES[state])
