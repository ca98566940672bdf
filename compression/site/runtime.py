"""What runs ONNX files in a browser: one pinned npm package, checked by its digest, of which a few files are taken."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from compression.errors import CompressionError
from compression.home import ROOT
from compression.reading import Text, read_object, typed

ASSETS = ROOT / "assets" / "site"
PIN = ASSETS / "runtime.json"
SECONDS = 600  # the package has 33 MB


class Pin(TypedDict):
    """The package, its exact version, the digest of its archive, and the ``files`` of it that a site needs."""

    package: Text
    version: Text
    integrity: Text
    files: list[Text]
    license: Text


_PIN = TypeAdapter(Pin)


def pin() -> Pin:
    """The pinned package."""
    return typed(_PIN, read_object(PIN, "pin"), PIN.name)


def install(folder: Path, archive: Path | None = None) -> None:
    """Put the package's files and its licence into ``folder``; from ``archive`` where there is one, else through npm.

    Raises:
        CompressionError: npm is missing or fails, or the archive is not the pinned one.
    """
    pinned = pin()
    with tempfile.TemporaryDirectory() as scratch:
        packed = archive or _packed(pinned, Path(scratch))
        _check(packed, pinned)
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(packed) as package:
            for name in pinned["files"]:
                stream = package.extractfile(f"package/{name}")
                if stream is None:
                    raise CompressionError(f"{packed.name} has no file {name}: {PIN.name} is not of this version")
                with stream, (folder / Path(name).name).open("wb") as target:
                    shutil.copyfileobj(stream, target)
    shutil.copyfile(ASSETS / pinned["license"], folder / "LICENSE.txt")


def _packed(pinned: Pin, scratch: Path) -> Path:
    """The archive, as npm fetches it."""
    name = f"{pinned['package']}@{pinned['version']}"
    if shutil.which("npm") is None:
        raise CompressionError(
            f"npm is not installed, which fetches {name} for the site: install it, or name the package's archive with "
            "--runtime FILE"
        )
    command = ["npm", "pack", name, "--silent", "--pack-destination", str(scratch)]
    try:
        ended = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CompressionError(f"npm did not fetch {name} within {SECONDS} seconds") from error
    archives = list(scratch.glob("*.tgz"))
    if ended.returncode or len(archives) != 1:
        lines = [line for line in ended.stderr.splitlines() if line.strip()] or ["it says nothing"]
        raise CompressionError(f"npm could not fetch {name}: {lines[0].strip()}")
    return archives[0]


def _check(packed: Path, pinned: Pin) -> None:
    try:
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode("ascii")
    except OSError as error:
        raise CompressionError(f"{packed}: {error.strerror or error}") from error
    if f"sha512-{digest}" != pinned["integrity"]:
        raise CompressionError(
            f"{packed.name} is not {pinned['package']} {pinned['version']} as {PIN.name} pins it: its digest is another"
        )
