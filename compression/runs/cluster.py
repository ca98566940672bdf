"""Runs on many machines: each worker is a job of a Ray cluster, reading and writing its run folder on a shared disk.

Nothing is uploaded: run folders, this project and its Python lie at the same paths on every machine. A job first waits
in the cluster for as many CPUs as the run has threads; meanwhile ``process.json`` names the job, but no process yet.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from compression import home
from compression.errors import CompressionError
from compression.runs.folder import LOST, QUEUED, RunFolder
from compression.runs.launcher import WORKER, settings, tail
from compression.runs.process import JOB, Handle

NAME = "ray"
ADDRESS = "http://127.0.0.1:8265"
TOKENLESS = "COMPRESSION_RAY_WITHOUT_TOKEN"
"""The environment variable that allows, by 1, a cluster without a token."""
ASK_SECONDS = 5.0
_ANSWER_SECONDS = 3.0
_FOLDERS = ("COMPRESSION_DATA", "COMPRESSION_CACHE", "COMPRESSION_MODELS")
_GAVE_UP = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"  # Ray's word for: no CPUs became free in RAY_JOB_START_TIMEOUT_SECONDS


class RayLauncher:
    """Workers as jobs of the Ray cluster that RAY_ADDRESS names (default: one on this machine)."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        self._command = tuple(command)

    def start(self, folder: RunFolder, threads: int) -> Handle:
        """Submit the worker as a job that asks for ``threads`` CPUs, its words going to ``log.txt``.

        A run whose spec names CUDA asks for a GPU, one on several for so many.

        Raises:
            CompressionError: Ray is not installed, does not answer, or refuses the token or the job.
        """
        gpus = _gpus(folder.spec())
        handle = Handle.waiting(NAME, f"{folder.id}-{secrets.token_hex(4)}")
        with cluster() as client:
            handle.save(folder.process_path)
            try:
                command = entrypoint(folder, self._command, threads, str(handle.job))
                client.submit_job(
                    entrypoint=command, submission_id=handle.job, entrypoint_num_cpus=threads, entrypoint_num_gpus=gpus
                )
            except BaseException:
                folder.process_path.unlink(missing_ok=True)  # should the job start all the same, it sees that and ends
                raise
        resources = f"{threads} CPUs" + (f" and {gpus} GPUs" if gpus else "")
        folder.log(f"{_now()} waits for {resources} of {address()} as job {handle.job}")
        return handle

    def status(self, folder: RunFolder) -> str:
        """The state; of a run that waits in the cluster, Ray is asked, at most every 5 seconds.

        A job that Ray gave up for lack of CPUs is queued again; one that ended before its worker began is lost.

        Raises:
            CompressionError: Ray is not installed, does not answer, or refuses the token.
        """
        handle = folder.handle()
        if handle is None or not handle.waits or folder.state != QUEUED or not _due(folder):
            return folder.state
        job = str(handle.job)
        with cluster() as client:
            details = _about(client, job)
        if details is None or details.status.is_terminal():
            self._ended_early(folder, job, details)
        return folder.state

    def _ended_early(self, folder: RunFolder, job: str, details: Any) -> None:
        handle = folder.handle()
        if handle is None or not handle.waits or handle.job != job:
            return  # its worker has begun in between, or it was withdrawn
        if details is not None and details.error_type == _GAVE_UP:
            folder.log(f"{_now()} no machine had the CPUs for job {job} in time: the run is queued again")
            folder.process_path.unlink(missing_ok=True)
            return
        message = (details.message or "").strip() if details is not None else "Ray does not know it any more"
        last = message.splitlines()[-1] if message else "no reason given"
        folder.add_state(LOST, error=f"job {job} ended before its worker began: {last}")

    def stop(self, folder: RunFolder, *, insist: bool = False) -> None:
        """Have Ray send SIGTERM, and SIGKILL 3 seconds later whether ``insist`` or not; nothing when it has ended.

        Raises:
            CompressionError: Ray is not installed, does not answer, or refuses the token.
        """
        handle = folder.handle()
        job = handle.job if handle else None
        if job is None or not job.startswith(f"{folder.id}-"):  # a job of this name is not this run's
            return
        with cluster() as client:
            if _about(client, job) is not None:
                client.stop_job(job)

    def logs(self, folder: RunFolder, lines: int = 50) -> str:
        """The tail of ``log.txt``, which needs no Ray."""
        return tail(folder.log_path, lines)


def address() -> str:
    """The cluster's address: RAY_API_SERVER_ADDRESS or RAY_ADDRESS (Ray looks at both, in this order).

    Raises:
        CompressionError: it is no http address.
    """
    named = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or ADDRESS
    parts = urlsplit(named)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CompressionError(f"RAY_ADDRESS must be the head's dashboard, such as {ADDRESS}, not {named!r}")
    return named


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """A ``JobSubmissionClient``; what goes wrong with it in the ``with`` block becomes one line.

    Raises:
        CompressionError: Ray is not installed, does not answer, wants no token, or refuses it or the request.
    """
    where = address()
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise CompressionError(f"runs on a cluster need Ray: {home.install('ray')}") from error
    try:
        check_token(where)
        yield JobSubmissionClient(where)
    except AuthenticationError as error:
        way_out = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the token of its head"
        raise CompressionError(f"the Ray cluster at {where} refuses the token: {way_out}") from error
    except OSError as error:
        way_out = "start one with `ray start --head`, or name its address in RAY_ADDRESS"
        raise CompressionError(f"no Ray cluster answers at {where}: {way_out}") from error
    except RuntimeError as error:
        raise CompressionError(f"the Ray cluster at {where} says: {str(error).splitlines()[0]}") from error


def entrypoint(folder: RunFolder, command: Sequence[str], threads: int, job: str) -> str:
    """The shell line of a job: the same command as on one machine, with the settings of the project and no others."""
    named = {name: str(Path(os.environ[name]).resolve()) for name in _FOLDERS if os.environ.get(name)}
    values = {**settings(threads), **named, JOB: job}
    path = folder.path.resolve()
    words = ("env", *(f"{name}={value}" for name, value in values.items()), *command, str(path))
    return f"exec {shlex.join(words)} >> {shlex.quote(str(path / folder.log_path.name))} 2>&1"


def check_token(where: str) -> None:
    """Ask the head something without a token, and refuse a cluster that answers: whoever reaches it runs code there.

    Fails within 3 seconds where Ray's own client would try for minutes.

    Raises:
        CompressionError: the cluster wants no token, and the environment does not allow that.
        OSError: nobody answers.
    """
    parts = urlsplit(where)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with contextlib.closing(kind(str(parts.hostname), parts.port, timeout=_ANSWER_SECONDS)) as connection:
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/api/version")
            status = connection.getresponse().status
        except HTTPException as error:
            raise OSError(f"no HTTP: {error!r}") from error
    if 200 <= status < 300 and os.environ.get(TOKENLESS) != "1":
        way_out = "start its nodes with RAY_AUTH_MODE=token and a token (docs/cluster.md)"
        raise CompressionError(
            f"the Ray cluster at {where} wants no token, so that whoever reaches it can run code there: {way_out}, or "
            f"set {TOKENLESS}=1 where nobody else can reach it"
        )


def _gpus(spec: Mapping[str, Any]) -> int:
    """How many GPUs the run of a spec needs: several if it says so, one with CUDA, with a device of ``auto`` none."""
    gpus = int(spec.get("gpus", 1))
    return gpus if gpus > 1 or str(spec.get("device", "")).startswith("cuda") else 0


def _about(client: Any, job: str) -> Any:
    """What Ray knows of the job, or None when it does not know it."""
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        if "status code 404" in str(error):
            return None
        raise


def _due(folder: RunFolder) -> bool:
    """Is it time to ask again? The age of ``process.json`` is the time since anybody did."""
    try:
        age = time.time() - folder.process_path.stat().st_mtime
        due = not 0 <= age < ASK_SECONDS  # below 0: the clock was set back
        if due:
            os.utime(folder.process_path)
    except FileNotFoundError:  # withdrawn at this moment
        return False
    return due


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
