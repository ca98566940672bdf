"""``track``: runs in TensorBoard or MLflow."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from compression import home
from compression import runs as library
from compression.cli.options import Json, Runs
from compression.cli.output import answer
from compression.errors import CompressionError
from compression.trackers import TRACKERS
from compression.trackers import track as follow


def track(
    *run: Annotated[str, Parameter(help="ids, as `runs` lists them; of a sweep all its runs")],
    to: Annotated[str, Parameter(choices=TRACKERS, help="which tracker")] = TRACKERS[0],
    out: Annotated[
        str | None,
        Parameter(
            metavar="PLACE",
            help="TensorBoard: a folder (default: tensorboard/ in the run's folder); MLflow: an address or a folder "
            "(default: MLFLOW_TRACKING_URI, else mlruns)",
        ),
    ] = None,
    runs: Runs = home.RUNS,
    json: Json = None,
) -> None:
    """Hand them over, and follow those that go on until they are at rest; again adds what is new."""
    if not run:
        raise CompressionError("name the runs to hand over")
    folders = [each for name in run for each in library.RunFolder.open(runs, name).parts()]
    places = {each.id: follow(each, to, out) for each in folders}
    lines = [f"{name}: {place}" for name, place in places.items()]
    answer([{"run": name, "tracker": to, "place": place} for name, place in places.items()], "\n".join(lines), json)
