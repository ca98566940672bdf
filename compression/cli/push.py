"""``push``: a bundle on the Hugging Face Hub."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from compression import home
from compression.cli.export import NoOnnx
from compression.cli.options import Json, Runs
from compression.cli.output import answer


def push(
    source: Annotated[str, Parameter(name="RUN|BUNDLE", help="a finished run, or the zip that `export` wrote")],
    /,
    *,
    to: Annotated[str, Parameter(metavar="OWNER/NAME", help="the repository, which is made where there is none")],
    private: Annotated[bool, Parameter(help="nobody else may see it; a public repository is refused")] = False,
    token: Annotated[
        str | None,
        Parameter(
            metavar="TOKEN",
            help="default: HF_TOKEN, else what `hf auth login` stored (better: a command line is seen by others)",
        ),
    ] = None,
    no_onnx: NoOnnx = False,
    runs: Runs = home.RUNS,
    json: Json = None,
) -> None:
    """Push it and say where it is; HF_ENDPOINT names another Hub."""
    from huggingface_hub.utils import disable_progress_bars

    from compression.export.hub import push as send

    if not sys.stderr.isatty():
        disable_progress_bars()
    pushed = send(source, to, private=private, token=token, runs=runs, onnx=not no_onnx)
    line = f"{pushed.url}: {len(pushed.files)} files, commit {pushed.commit[:12]}"
    load = f'load it: {home.PACKAGE}.from_pretrained("{pushed.repository}")'
    answer(pushed.to_dict(), f"{line}\n{load}", json)
