"""A fake of the Hugging Face Hub's HTTP API on localhost, for the real huggingface_hub: only what it calls here.

Repositories are in memory. Routes: who am I, create a repository, check a card (never anything wrong), model info,
preupload, commit (NDJSON), LFS batch and upload, resolve, tree. Nothing is like the Hub that these do not need.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secretsecretsecretsecretsecret"
OWNER = "team"
LARGE = (".safetensors", ".packed", ".pt2")
"""Files that the server wants by LFS; the others come within the commit."""


@dataclass
class Repository:
    """One model repository: whether it is private, and its commits, each name → content."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})

    @property
    def head(self) -> str:
        return next(reversed(self.commits))

    def at(self, revision: str) -> str | None:
        """The commit of a revision."""
        name = self.head if revision == "main" else revision
        return name if name in self.commits else None


class FakeHub(ThreadingHTTPServer):
    """The server: ``repositories`` by name, ``stored`` LFS objects by digest, ``requests`` as (method, path, token)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.refusal: tuple[int, str] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def running() -> Iterator[FakeHub]:
    """A server that answers within the block."""
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET

    @property
    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        authorization = self.headers.get("Authorization") or ""
        self.server.requests.append((self.command, path, authorization))
        parts = path.split("/")
        if self.server.refusal is not None:
            status, message = self.server.refusal
            self._send(status, {"error": message})
        elif path == "api/whoami-v2":
            self._send(200, {"type": "user", "name": OWNER}) if self._may_write else self._refuse()
        elif path == "api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif path == "api/repos/create":
            self._create(json.loads(body))
        elif parts[0] == "lfs":
            self._receive(parts[1], body)
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body)["objects"])
        elif parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), parts[4:], body)
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._send(404, {"error": f"the fake has no {path}"})

    def _create(self, request: dict[str, Any]) -> None:
        name = f"{request['organization']}/{request['name']}"
        if not self._may_write:
            self._refuse()
        elif name in self.server.repositories:
            self._send(409, {"error": "there already", "url": f"{self.server.endpoint}/{name}"})
        else:
            self.server.repositories[name] = Repository(private=request.get("visibility") == "private")
            self._send(200, {"url": f"{self.server.endpoint}/{name}", "name": name})

    def _visible(self, name: str) -> Repository | None:
        repository = self.server.repositories.get(name)
        return None if repository is None or (repository.private and not self._may_write) else repository

    def _model(self, name: str, rest: list[str], body: bytes) -> None:
        repository = self._visible(name)
        if repository is None:
            self._send(404, {"error": "not here"}, {"X-Error-Code": "RepoNotFound"})
        elif rest[:1] in ([], ["revision"]):
            commit = repository.at(rest[1] if rest else "main")
            if commit is None:
                self._send(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
                return
            files = [{"rfilename": each, "size": len(data)} for each, data in repository.commits[commit].items()]
            about = {"id": name, "modelId": name, "sha": commit, "private": repository.private, "siblings": files}
            self._send(200, about)
        elif rest[0] == "tree":
            files = repository.commits[repository.at(rest[1]) or repository.head]
            rows = [{"type": "file", "path": each, "size": len(data), "oid": "0"} for each, data in files.items()]
            self._send(200, rows)
        elif not self._may_write:
            self._refuse()
        elif rest[0] == "preupload":
            paths = [each["path"] for each in json.loads(body)["files"]]
            modes = [("lfs" if path.endswith(LARGE) else "regular") for path in paths]
            rows = [{"path": path, "uploadMode": mode} for path, mode in zip(paths, modes, strict=True)]
            self._send(200, {"files": [{**row, "shouldIgnore": False} for row in rows]})
        elif rest[0] == "commit":
            self._commit(repository, name, [json.loads(line) for line in body.splitlines()])

    def _commit(self, repository: Repository, name: str, lines: list[dict[str, Any]]) -> None:
        files = dict(repository.commits[repository.head])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = hashlib.sha1(f"{name}{len(repository.commits)}".encode()).hexdigest()
        repository.commits[oid] = files
        url = f"{self.server.endpoint}/{name}/commit/{oid}"
        self._send(200, {"success": True, "commitUrl": url, "commitOid": oid})

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        rows = []
        for each in objects:
            href = f"{self.server.endpoint}/lfs/{each['oid']}"
            action = {} if each["oid"] in self.server.stored else {"actions": {"upload": {"href": href}}}
            rows.append({"oid": each["oid"], "size": each["size"], **action})
        self._send(200, {"transfer": "basic", "objects": rows})

    def _receive(self, oid: str, body: bytes) -> None:
        same = hashlib.sha256(body).hexdigest() == oid
        if same:
            self.server.stored[oid] = body
        self._send(200 if same else 422, {})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._visible(name)
        commit = None if repository is None else repository.at(revision)
        if repository is None or commit is None or path not in repository.commits[commit]:
            self._send(404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"})
            return
        data = repository.commits[commit][path]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        self._answer(200, data, {"ETag": etag, "X-Repo-Commit": commit, "Content-Type": "application/octet-stream"})

    def _refuse(self) -> None:
        self._send(401, {"error": f"Invalid credentials {self.headers.get('Authorization')}"})

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        message = {"X-Error-Message": value["error"]} if isinstance(value, dict) and "error" in value else {}
        kind = {"Content-Type": "application/json"}
        self._answer(status, json.dumps(value).encode(), {**kind, **message, **(headers or {})})

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
