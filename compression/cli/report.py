"""``report``: runs as one HTML file that opens anywhere, without a server."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

from cyclopts import Parameter

from compression import home
from compression.cli.options import Json, ReportOut, Runs
from compression.cli.output import answer, size, write
from compression.errors import CompressionError

RunIds = Annotated[str, Parameter(help="ids, as `runs` lists them; gallery.COLLECTION.RUN of the gallery")]


def report(*run: RunIds, out: ReportOut = "report.html", runs: Runs = home.RUNS, json: Json = None) -> None:
    """Write the file; runs that are gone or not done are named in it."""
    from compression.report import collect, document
    from compression.report import report as content

    if not run:
        raise CompressionError("name the runs to report: `python -m compression runs` lists them")
    if out == json == "-":
        raise CompressionError("--out and --json cannot both be standard output: name a file for one of them")
    value = content(collect(run, runs))
    text = document(value)
    write(text, out, "--out")
    reported = [each["id"] for subject in value["subjects"] for each in subject["runs"]]
    written = {"report": out, "bytes": len(text.encode()), "runs": reported, "missing": value["missing"]}
    listed = ", ".join(reported) or "no run that could be reported"
    with contextlib.redirect_stdout(sys.stderr if out == "-" else sys.stdout):  # where the file itself goes
        answer(written, f"{out}: {size(written['bytes'])}, {listed}", json)
    for each in value["missing"]:
        print(f"note: {each['run']}: {each['problem']}", file=sys.stderr)
