"""Runs on a real Ray cluster of one machine, started here with a token: follow, cancel, kill, resume, refuse."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from compression import runs
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs.cluster import TOKENLESS, RayLauncher, check_token
from compression.runs.folder import RunFolder
from compression.runs.launch_config import configured_launcher
from compression.runs.launcher import LocalLauncher
from compression.runs.process import Handle
from compression.runs.store import Store
from compression.runs.submit import new_spec
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -r requirements-ray.txt"
)
REAL = Budget(method="opq", model="resnet8", data="mnist5k", sparsity=0.5, bits=4, epochs=0.5, seed=0, precision="fp32")

# A worker whose work is set by the options of the budget; it waits until the file ``go`` beside the runs is there.
WORKER = """
    import sys, time
    from compression.runs.folder import RunFolder
    from compression.jobs.worker import serve

    def work(folder, events):
        deaf = folder.budget().options.get("deaf")
        go = folder.path.parent / "go"
        events.plan(3)
        while not go.exists():
            try:
                time.sleep(0.05)
                if not deaf:
                    events.check()
            except BaseException:
                if not deaf:
                    raise
        events.step(2, 1.0, loss=1.0)
        return {"final": None, "baseline": None}

    serve(RunFolder(sys.argv[1]), work)
"""


RAY_START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
RAY_START += ["--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
TOKEN = secrets.token_hex(32)  # one for all clusters: Ray reads it once in a process
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks without a proxy: ``urlopen`` would keep one that an earlier test had set."""


def looked_after(store: Store, condition: Callable[[], object]) -> None:
    """Wait while somebody has the list of runs open."""

    def look() -> object:
        store.sync()
        return condition()

    until(look)


def works(folder: RunFolder, attempt: int = 1) -> bool:
    """Is this attempt in the middle of its work? (A run has the state "running" a moment before its attempt begins.)"""
    planned = any((event["kind"], event["attempt"]) == ("plan", attempt) for event in folder.events())
    return planned and folder.state == "running"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a head with two CPUs that wants a token; the environment of this process names both."""
    with cluster(cpus=2) as (address, _):
        until(_takes_jobs)
        yield address


@contextlib.contextmanager
def cluster(cpus: int, **environment: str) -> Iterator[tuple[str, str]]:
    """A head with a token: the addresses of its dashboard and for its nodes, named in the environment here."""
    folder = Path(tempfile.mkdtemp(prefix="head-"))
    token = folder / "token"
    token.write_text(TOKEN)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        for name, value in environment.items():
            patch.setenv(name, value)
        process, address, nodes = _started(folder, token, cpus)
        try:
            patch.setenv("RAY_ADDRESS", address)
            patch.setenv("COMPRESSION_LAUNCHER", "ray")
            yield address, nodes
        finally:
            _end(process)
            shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, token: Path, cpus: int) -> tuple[subprocess.Popen[bytes], str, str]:
    """A head that answers, and its two addresses; another one where a port was taken meanwhile."""
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port", "metrics-export-port")
    command = [*RAY_START, "--head", f"--num-cpus={cpus}", f"--temp-dir={folder}", "--dashboard-host=127.0.0.1"]
    for _ in range(3):
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        with (folder / "head.txt").open("wb") as words:
            arguments = [*command, *(f"--{name}={port}" for name, port in ports.items())]
            process = subprocess.Popen(arguments, stdout=words, stderr=subprocess.STDOUT, start_new_session=True)
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if _answers(address, token):
                return process, address, f"127.0.0.1:{ports['port']}"
            time.sleep(0.2)
        _end(process)
    pytest.fail(f"no head answers; the last one said: {(folder / 'head.txt').read_text()[-2000:]}")


def _answers(address: str, token: Path) -> bool:
    request = urllib.request.Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token.read_text()}"})
    with contextlib.suppress(OSError), DIRECT.open(request, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _takes_jobs() -> bool:
    """A head answers some seconds before the part of it that takes jobs is there."""
    from ray.job_submission import JobSubmissionClient

    try:
        JobSubmissionClient(os.environ["RAY_ADDRESS"]).submit_job(entrypoint="true")
    except RuntimeError as error:
        assert "No available agent" in str(error), error
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head and everything below it, whatever session it is in."""
    own = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    process.kill()
    process.wait()
    for each in own:
        with contextlib.suppress(psutil.NoSuchProcess):
            own += [child for child in each.children(recursive=True) if child not in own]
            each.kill()
    assert not psutil.wait_procs(own, timeout=10)[1]


@pytest.fixture
def store(head: str, tmp_path: Path) -> Iterator[Store]:
    """Tiny workers on the cluster, up to three handed to it at a time."""
    script = tmp_path / "tiny_worker.py"
    script.write_text(textwrap.dedent(WORKER))
    opened = Store(tmp_path / "runs of mine", slots=3, launcher=RayLauncher((sys.executable, str(script))))
    yield opened
    (opened.root / "go").touch()
    for path in opened.root.glob("*/spec.json"):
        if RunFolder(path.parent).state in ("queued", "running"):
            runs.cancel(path.parent.name, opened.root, store=opened)


def add(store: Store, **options: Any) -> RunFolder:
    return store.add({**new_spec(Budget(options=options), store), "threads": 1})[0]


def job_of(folder: RunFolder) -> str:
    job = Handle.load(folder.process_path).job
    assert job is not None
    return job


def ray_says(job: str) -> str:
    from ray.job_submission import JobSubmissionClient

    return str(JobSubmissionClient(os.environ["RAY_ADDRESS"]).get_job_status(job))


def command(*words: str, **environment: str) -> tuple[int, Any, str]:
    done = subprocess.run(
        [sys.executable, "-m", "compression", *words, "--json", "-"],
        capture_output=True, text=True, timeout=500, env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


# --- on the cluster ---------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_killed_worker_is_lost_and_its_resumed_run_ends_in_the_same_file(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSION_SLOTS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole, broken = (RunFolder.open(tmp_path, runs.start(REAL, tmp_path)) for _ in range(2))
    job = job_of(broken)
    assert (job != job_of(whole), broken.state in ("queued", "running")) == (True, True)
    until(lambda: any(event["kind"] == "step" and event["step"] > 5 for event in broken.events()))
    handle = Handle.load(broken.process_path)
    assert (handle.launcher, handle.job, handle.host) == ("ray", job, socket.gethostname())
    executed = psutil.Process(handle.pid).cmdline()
    assert executed[-3:] == ["-m", "compression.runs.worker", str(broken.path)]  # the very command of one machine
    os.kill(handle.pid, signal.SIGKILL)
    until(lambda: broken.state == "lost")
    until(lambda: ray_says(job) == "FAILED")
    status, result, _ = command("resume", broken.id, "--runs", str(tmp_path))
    assert (status, result["status"], result["run"]) == (0, "done", broken.id)
    assert runs.wait(whole.id, tmp_path, timeout=400)["status"] == "done"
    packed = [(each.bundle / "weights.packed").read_bytes() for each in (whole, broken)]
    assert packed[0] == packed[1]
    assert (whole.attempts(), broken.attempts(), job_of(broken) != job) == (1, 2, True)
    until(lambda: {ray_says(job_of(each)) for each in (whole, broken)} == {"SUCCEEDED"})
    for line in ("as job", "attempt 1 by process", "attempt 2 by process", "done"):
        assert line in RayLauncher().logs(broken)


def test_a_run_that_waits_is_queued_and_a_job_taken_back_never_touches_it(store: Store) -> None:
    first, second, third = (add(store) for _ in range(3))
    until(lambda: works(first) and works(second))
    fourth = add(store)
    job = job_of(third)
    assert [folder.waits() for folder in (first, second, third)] == [False, False, True]
    assert not fourth.process_path.exists()  # three are in the hands of the cluster
    os.utime(third.process_path, (0, 0))
    store.sync()
    assert third.process_path.stat().st_mtime > 0  # Ray was asked
    assert {info.id: info.state for info in store.list()}[third.id] == third.state == "queued"
    assert runs.cancel(third.id, store.root, store=store) == "cancelled"
    assert ray_says(job) == "PENDING"
    runs.resume(third.id, store.root, store=store)
    (store.root / "go").touch()
    for folder in (first, second, third, fourth):
        looked_after(store, lambda folder=folder: folder.state == "done")  # type: ignore[misc]
    until(lambda: ray_says(job) in ("FAILED", "SUCCEEDED"))
    assert (third.attempts(), job_of(third) != job) == (1, True)
    assert f"job {job}" in third.log_path.read_text()


def test_cancelling_ends_a_worker_that_listens_and_one_that_does_not(store: Store) -> None:
    polite, deaf = add(store), add(store, deaf=True)
    until(lambda: works(polite) and works(deaf))
    assert runs.cancel(polite.id, store.root, store=store) == "cancelled"
    assert polite.events()[-1]["state"] == "cancelled"  # by its own hand
    store.launcher.stop(deaf)  # SIGTERM it does not hear; 3 seconds later Ray kills it
    until(lambda: ray_says(job_of(deaf)) == "STOPPED")
    assert deaf.state == "lost"
    # The launcher is the one that began the run, also where the environment names another.
    assert runs.resume(deaf.id, store.root, store=store) in ("queued", "running")
    until(lambda: works(deaf, attempt=2))
    elsewhere = Store(store.root, slots=1, launcher=LocalLauncher())
    assert runs.cancel(deaf.id, store.root, grace=5, store=elsewhere) == "cancelled"
    until(lambda: ray_says(job_of(deaf)) == "STOPPED")


def test_a_job_that_ends_before_its_worker_begins_is_lost_with_the_reason(head: str, tmp_path: Path) -> None:
    store = Store(tmp_path, slots=1, launcher=RayLauncher((str(tmp_path / "no-python"),)))
    folder = add(store)
    job = job_of(folder)
    until(lambda: ray_says(job) == "FAILED")
    assert folder.state == "queued"  # nobody has asked Ray yet
    os.utime(folder.process_path, (0, 0))
    store.sync()
    assert folder.state == "lost"
    assert f"job {job} ended before its worker began" in str(store.get(folder.id).error)
    assert "no-python" in store.launcher.logs(folder)


@pytest.mark.timeout(600)
def test_a_run_outlives_the_node_it_works_on_and_waits_for_one_that_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head without CPUs, and nodes that join it: none at first, then one that dies, then another."""
    script = tmp_path / "tiny_worker.py"
    script.write_text(textwrap.dedent(WORKER))
    with cluster(cpus=0, RAY_JOB_START_TIMEOUT_SECONDS="3") as (_, nodes):
        until(_takes_jobs)
        store = Store(tmp_path / "runs", slots=1, launcher=RayLauncher((sys.executable, str(script))))
        folder = add(store)
        first = job_of(folder)
        until(lambda: ray_says(first) == "FAILED")  # Ray gives it up: no machine had a CPU in three seconds
        assert folder.state == "queued"
        os.utime(folder.process_path, (0, 0))
        until(lambda: store.sync() or (folder.handle() is not None and job_of(folder) != first))  # type: ignore[func-returns-value]
        assert f"job {first}" in folder.log_path.read_text()
        with joined(nodes, tmp_path) as node:
            looked_after(store, lambda: works(folder))
            job = job_of(folder)
            node.kill()
        until(lambda: folder.state == "lost")
        with joined(nodes, tmp_path):
            (store.root / "go").touch()
            assert runs.resume(folder.id, store.root, store=store) == "queued"
            looked_after(store, lambda: folder.state == "done")
        assert (folder.attempts(), job_of(folder) != job) == (2, True)


@contextlib.contextmanager
def joined(nodes: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node of one CPU that joins the head; it and all that works on it are killed at the end."""
    with (folder / "node.txt").open("ab") as words:
        command = [*RAY_START, f"--address={nodes}", "--num-cpus=1"]
        process = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        _end(process)


# --- refused in one line ----------------------------------------------------------------------------------------------


def test_the_head_wants_the_token(head: str, tmp_path: Path) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        DIRECT.open(f"{head}/api/jobs/", timeout=20)
    assert refused.value.code == 401
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 64)
    code = f"""
        from compression.budget import Budget
        from compression.runs.store import Store
        from compression.runs.submit import new_spec
        store = Store({str(tmp_path / "runs")!r})
        try:
            store.add(new_spec(Budget(), store))
        except Exception as error:
            print(f"{{type(error).__name__}}|{{error}}")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "RAY_AUTH_TOKEN_PATH": str(wrong)},
    )  # fmt: skip
    kind, error = done.stdout.strip().split("|")  # one line
    assert kind == "CompressionError"
    assert error.endswith(
        f"the Ray cluster at {head} refuses the token: "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the token of its head"
    )
    assert not list((tmp_path / "runs").glob("*/spec.json"))


@contextlib.contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    """The address of something like a head that answers all requests so, and what it was asked."""
    requests: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not on the screen of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def test_a_cluster_without_a_token_is_refused_unless_it_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")  # a token here says nothing of the cluster
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with answering(200) as (where, requests):
        monkeypatch.setenv("RAY_ADDRESS", where)
        store = Store(tmp_path, slots=1, launcher=RayLauncher())
        with pytest.raises(CompressionError, match=f"{where} wants no token.*RAY_AUTH_MODE=token.*{TOKENLESS}=1"):
            add(store)
        assert set(requests) == {"/api/version None"}, "nothing else was requested or sent"
        assert not list(tmp_path.glob("*/spec.json"))
        with pytest.raises(CompressionError, match="wants no token"):
            check_token(where)
        monkeypatch.setenv(TOKENLESS, "1")
        check_token(where)
    for status in (401, 403):
        monkeypatch.setenv(TOKENLESS, "0")
        with answering(status) as (where, _):
            check_token(where)


def test_a_job_that_is_not_of_this_run_is_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path, {**new_spec(Budget(), Store(tmp_path, slots=0)), "id": "mine"})
    Handle.waiting("ray", "another-1234").save(folder.process_path)
    monkeypatch.setenv("RAY_ADDRESS", "no address")  # whoever asks it fails
    RayLauncher().stop(folder)
    Handle.waiting("ray", "mine-1234").save(folder.process_path)
    with pytest.raises(CompressionError, match="must be the head's dashboard"):
        RayLauncher().stop(folder)


def test_without_a_cluster_the_command_says_what_to_do_and_leaves_nothing(tmp_path: Path) -> None:
    where = f"http://127.0.0.1:{free_ports(1)[0]}"
    words = "run --model resnet8 --data mnist5k --method opq --epochs 1 --runs".split()
    status, answer, error = command(*words, str(tmp_path), COMPRESSION_LAUNCHER="ray", RAY_ADDRESS=where)
    assert (status, answer, error.count("\n")) == (2, None, 1)
    assert f"no Ray cluster answers at {where}: start one with `ray start --head`" in error
    assert not list(tmp_path.glob("*/spec.json"))


def test_what_cannot_be_a_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSION_LAUNCHER", "slurm")
    with pytest.raises(CompressionError, match="must be local or ray, not 'slurm'"):
        Store(tmp_path)
    monkeypatch.setenv("COMPRESSION_LAUNCHER", "ray")
    assert isinstance(configured_launcher(), RayLauncher)
    store = Store(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(CompressionError, match="must be the head's dashboard"):
        add(store)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    for name in ("ray", "ray.exceptions", "ray.job_submission"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CompressionError, match=r"pip install -r requirements-ray\.txt"):
        add(store)
