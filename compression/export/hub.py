"""Bundles on the Hugging Face Hub: ``push`` puts one there, ``from_pretrained`` reads it back as ``load`` reads a zip.

A repository holds the files of the bundle beside one another, and a card. Whatever comes from there is untrusted: every
file is compared with the bundle's checksums, and nothing is unpickled or run.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compression import __version__, home
from compression.errors import CompressionError
from compression.export import card
from compression.export.archive import MOST_BYTES, opened
from compression.export.bundle import Bundle, export
from compression.export.hub_card import CARD, hub_card
from compression.export.manifest import CHECKSUMS, MOST_JSON
from compression.export.reader import Given, needed, read_files, read_folder, restored
from compression.reading import cut, expanded
from compression.runs.folder import RunFolder

TOKEN = "set HF_TOKEN, run `hf auth login`, or pass a token"


@dataclass(frozen=True)
class Pushed:
    """A bundle on the Hub: its ``repository`` (OWNER/NAME), ``url``, ``commit``, and the names of its ``files``."""

    repository: str
    url: str
    commit: str
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"repository": self.repository, "url": self.url, "commit": self.commit, "files": list(self.files)}


@home.optional()
def push(
    source: str | Path | Bundle | RunFolder,
    repository: str,
    *,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    runs: str | Path = home.RUNS,
    onnx: bool = True,
) -> Pushed:
    """Put a bundle into a model repository on the Hub, which is created where there is none.

    Args:
        source: a bundle (its zip, or what ``export`` returned), or a finished run (its folder, or its id below
            ``runs``), of which a bundle is made first, with ONNX files if ``onnx``.
        repository: OWNER/NAME.
        private: nobody else may see it; a public repository is refused then.
        token: default: HF_TOKEN, else what ``hf auth login`` stored.
        endpoint: the address of the Hub (default: HF_ENDPOINT, else huggingface.co).

    Raises:
        CompressionError: no such bundle or run, no token or one that may not write there, or the Hub cannot be reached.
    """
    api = _api(token, endpoint)
    with _refusals(api, repository), tempfile.TemporaryDirectory() as folder:
        api.whoami()  # refused before a bundle is made
        files = _files(_bundle(source, Path(folder), runs, onnx))
        contents = {**files, CARD: hub_card(repository, files).encode()}
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        present = api.model_info(repository)
        if private and not present.private:
            raise CompressionError(f"{repository} is there already and public: choose another name, or make it private")
        commit = api.create_commit(
            repository, _operations(contents, [each.rfilename for each in present.siblings or ()]),
            commit_message=f"Compressed model, compression-explorer {__version__}",
        )  # fmt: skip
    return Pushed(repository, str(address), commit.oid, tuple(sorted(contents)))


@home.optional()
def from_pretrained(
    repository: str,
    model: Given | None = None,
    *,
    revision: str | None = None,
    trust: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    cache: str | Path | None = None,
) -> nn.Module:
    """The compressed model of a repository on the Hub that ``push`` wrote, in evaluation mode.

    As :func:`compression.export.reader.load` of the bundle's zip, whose ``model`` and ``trust`` these are: every file
    is compared with the checksums of the bundle, and without ``trust`` no code in it is run. Where the Hub cannot be
    reached, files that were fetched before are read.

    Args:
        repository: OWNER/NAME.
        revision: a branch, tag or commit (default: the newest).
        token, endpoint: as of :func:`push`.
        cache: the folder of fetched files (default: that of huggingface_hub).

    Raises:
        CompressionError: no such repository or revision, the Hub cannot be reached, or as :func:`load`.
    """
    api = _api(token, endpoint)
    names = needed(model, trust)
    with _refusals(api, repository):
        folder = _fetched(api, repository, revision, {CHECKSUMS, *names}, cache)
    where = repository if revision is None else f"{repository} at {cut(revision)}"
    files, known = read_folder(folder, names, where)
    return restored(files, known, where, sum(map(len, files.values())), model, trust)


def _api(token: str | None, endpoint: str | None) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint, token, library_name="compression-explorer", library_version=__version__)


def _bundle(source: str | Path | Bundle | RunFolder, folder: Path, runs: str | Path, onnx: bool) -> Path:
    """The zip to push: the one named, or a new one of a run."""
    if isinstance(source, Bundle):
        return source.path
    if not isinstance(source, RunFolder):
        path = expanded(source)
        if path.is_file():
            return path
        if path.suffix == ".zip":
            raise CompressionError(f"there is no bundle {path}")
        source = RunFolder.open(runs, str(source))
    return export(source, folder / "bundle.zip", onnx=onnx, latency=False).path


def _files(bundle: Path) -> dict[str, bytes]:
    """Every file of a bundle, each equal to its checksum, and these."""
    files = read_files(bundle)
    with opened(bundle) as entries:
        return {**files, CHECKSUMS: b"".join(entries[CHECKSUMS].chunks())}


def _operations(contents: dict[str, bytes], present: list[str]) -> list[Any]:
    """Every file, and the removal of those of an earlier bundle that this one does not have."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    stale = [name for name in present if name in card.FILES and name not in contents]
    return [
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in contents.items()),
        *(CommitOperationDelete(path_in_repo=name) for name in stale),
    ]


def _fetched(api: Any, repository: str, revision: str | None, names: set[str], cache: str | Path | None) -> Path:
    """The folder of the fetched files of one commit; without the Hub that of those fetched before.

    Raises:
        CompressionError: a file is larger than those of a bundle are.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    options = {"revision": revision, "allow_patterns": sorted(names), "cache_dir": cache}
    try:
        about = api.model_info(repository, revision=revision, files_metadata=True)
    except HfHubHTTPError:
        raise
    except (HTTPError, OfflineModeIsEnabled):
        return Path(api.snapshot_download(repository, **options, local_files_only=True))
    for file in about.siblings or ():
        most = MOST_JSON if file.rfilename.endswith(".json") else MOST_BYTES
        if file.rfilename in names and (file.size or 0) > most:
            raise CompressionError(f"{repository}: {file.rfilename} is larger than the {most:,} bytes that are read")
    return Path(api.snapshot_download(repository, **options))


@contextlib.contextmanager
def _refusals(api: Any, repository: str) -> Iterator[None]:
    """What the Hub, or the way to it, refuses, in one line that never holds the token.

    Raises:
        CompressionError: naming the reason, and what to do about it.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise CompressionError(f"{cut(repository)} is no name of a repository: OWNER/NAME") from error
    except errors.RevisionNotFoundError as error:
        raise CompressionError(f"{repository} has no such revision") from error
    except errors.GatedRepoError as error:
        raise CompressionError(f"{repository} asks for permission first: request it on {api.endpoint}") from error
    except errors.RepositoryNotFoundError as error:
        raise CompressionError(f"{api.endpoint} has no {repository}, or not for this token: {TOKEN}") from error
    except (errors.LocalTokenNotFoundError, errors.EntryNotFoundError) as error:
        missing = isinstance(error, errors.LocalTokenNotFoundError)
        away = f"cannot reach {api.endpoint}, and {repository} was not fetched before"
        raise CompressionError(f"{api.endpoint} asks for a token: {TOKEN}" if missing else away) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        why = f"refuses this token: {TOKEN}" if status in (401, 403) else f"answers {status} ({_reason(error, api)})"
        raise CompressionError(f"{api.endpoint} {why}") from error
    except (errors.HTTPError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        raise CompressionError(f"cannot reach {api.endpoint}: {_reason(error, api)}") from error


def _reason(error: Exception, api: Any) -> str:
    """The first line of an error, without the token, whoever put it there."""
    message = getattr(error, "server_message", None) or str(error)
    line = cut((message.strip().splitlines() or [type(error).__name__])[0])
    return line.replace(api.token, "…") if isinstance(api.token, str) and api.token else line
