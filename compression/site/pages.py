"""The whole site as files: the first page, fronts and reports of every collection, networks, scripts, the runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from compression import __version__
from compression.errors import CompressionError
from compression.home import ROOT
from compression.plots import words
from compression.report import collect, document, report
from compression.report.page import FONT, embedded
from compression.report.page import STYLES as REPORT_STYLES
from compression.report.sources import GALLERY
from compression.runs import gallery
from compression.runs.files import finite, write_bytes
from compression.site import runtime
from compression.site.digits import Digits, digits

ASSETS = ROOT / "assets"
MODULES = ("components/front.js", "components/bars.js", "components/pad.js", "components/ink.js",
           "site/classify.js", "site/digits.js", "site/index.js")  # fmt: skip
LESSON = "site/lesson.js"  # of the pages that lessons/published writes
STYLES = (*REPORT_STYLES, "components/pad.css", "site/site.css")
PAD, LICENSE = "components/pad.html", "fonts/OFL.txt"
DIGITS = "resnet8-mnist5k"
"""The collection whose networks classify digits."""
BESIDE = {"learn": ("learn/index.html", "Lessons"), "docs": ("docs/index.html", "Documentation")}
"""Other parts of the site, which are built by others: linked where they are there."""
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'"
)
Data = dict[str, Any]
Say = Callable[[str, float], None]


def quiet(message: str, share: float) -> None:
    """Progress that nobody watches."""


def build(
    folder: Path, *, shown: gallery.Gallery | None = None, archive: Path | None = None, say: Say = quiet
) -> Data:  # fmt: skip
    """Write the site into ``folder``, beside what is there already; returns what was written, as JSON values.

    ``shown``: the gallery (default: the one that came with the project); ``archive``: the npm package of the runtime,
    where npm shall not fetch it.

    Raises:
        CompressionError: the runtime cannot be had, or the gallery is empty.
    """
    shown = gallery.read(GALLERY) if shown is None else shown
    if not shown.exhibits:
        raise CompressionError("the gallery has no finished run: there is nothing to show")
    say("fetching the runtime", 0.0)
    runtime.install(folder / "runtime", archive)
    listed, problems, networks = [], list(shown.problems), Digits()
    for place, collection in enumerate(shown.collections):
        say(f"reporting {collection.title}", 0.1 + 0.4 * place / len(shown.collections))
        about = _reported(folder, collection)
        problems += [f"{each['run']}: {each['problem']}" for each in about.pop("missing")]
        runs = about.pop("runs")
        listed.append(about)
        if collection.name == DIGITS:
            say("exporting networks", 0.5)
            networks = digits(collection, runs, "models")
    problems += networks.problems
    for name, content in networks.files.items():
        _write(folder / "models" / name, content)
    _copy_assets(folder)
    beside = [{"href": href, "title": title} for href, title in BESIDE.values() if (folder / href).is_file()]
    _write(folder / "index.html", index(listed, networks.data, beside).encode())
    _write(folder / ".nojekyll", b"")
    return {"site": str(folder), "collections": listed, "networks": sorted(networks.files), "problems": problems}


def _reported(folder: Path, collection: gallery.Collection) -> Data:
    """Write a collection's report and its fronts; what the first page lists of it."""
    value = report(collect([exhibit.info.id for exhibit in collection.exhibits], folder, lambda: _alone(collection)))
    text = document(value, "../index.html").encode()
    file = f"reports/{quote(collection.name)}.html"
    _write(folder / "reports" / f"{collection.name}.html", text)
    runs = {run["id"]: run for subject in value["subjects"] for run in subject["runs"]}
    subjects = [
        {"report": file, "fronts": subject["fronts"], "runs": {run["id"]: _shown(run) for run in subject["runs"]}}
        for subject in value["subjects"]
    ]
    _write(folder / "fronts" / f"{collection.name}.json", embedded(finite({"subjects": subjects})).encode())
    return {
        "name": collection.name, "title": collection.title, "report": file, "bytes": len(text),
        "size": words.size(len(text)), "count": len(runs), "runs": runs, "missing": value["missing"],
    }  # fmt: skip


def _alone(collection: gallery.Collection) -> gallery.Gallery:
    return gallery.Gallery((collection,))


def _shown(run: Mapping[str, Any]) -> Data:
    return {**{name: run[name] for name in ("request", "method", "figures")}, "name": run["name"] or run["id"]}


def index(collections: list[Data], networks: Data, beside: list[Data]) -> str:
    """The first page: names are text in it, also those in its data; without scripts it lists the reports."""
    data = {"collections": [{name: each[name] for name in ("name", "title")} for each in collections]}
    if networks:
        data["digits"] = networks  # type: ignore[assignment]
    return str(_template().render(
        policy=POLICY, data=embedded(finite(data)), collections=collections, networks=networks, beside=beside,
        pad=(ASSETS / PAD).read_text(encoding="utf-8"), modules=MODULES, program=f"Compression Explorer {__version__}",
        runtime=runtime.pin(), runs=sum(each["count"] for each in collections),
    ))  # fmt: skip


def _copy_assets(folder: Path) -> None:
    for name in (*MODULES, LESSON, FONT, LICENSE):
        _write(folder / name, (ASSETS / name).read_bytes())
    face = f'@font-face {{ font-family: "Report"; font-weight: 200 900; font-display: swap; src: url({FONT}); }}'
    rules = [face, *((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)]
    _write(folder / "site.css", "\n".join(rules).encode())
    shutil.copyfile(ASSETS / "theme" / "icon.svg", folder / "icon.svg")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return environment.get_template("index.html.j2")
