"""``site``: the gallery as web pages that need no server of ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from compression.cli.options import Json
from compression.cli.output import answer, size
from compression.cli.progress import progress_bar
from compression.errors import CompressionError

Out = Annotated[str, Parameter(metavar="DIR", help="the folder to write into")]
Runtime = Annotated[
    str | None,
    Parameter(metavar="FILE", help="the archive of the runtime, as `npm pack` writes it, where npm shall not fetch it"),
]


def site(*, out: Out = "site", runtime: Runtime = None, json: Json = None) -> None:
    """Write the pages; what of the gallery is left out is named."""
    from compression.site import build

    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise CompressionError(f"--out {out} is a file; name a folder")
    with progress_bar() as show:
        value = build(folder, archive=None if runtime is None else Path(runtime), say=show)
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    runs = sum(each["count"] for each in value["collections"])
    text = f"{out}/index.html: {runs} runs in {len(value['collections'])} reports, {len(value['networks'])} networks, "
    answer(value, f"{text}{size(whole)} in all", json)
    for problem in value["problems"]:
        print(f"note: {problem}", file=sys.stderr)
