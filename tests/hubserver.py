"""A local server that answers as the Hugging Face hub does for models: commits, trees, files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/models/([\w.-]+/[\w.-]+)/(revision|tree)/([\w.-]+)")
FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)")


@dataclass
class Repository:
    """refs: branch -> commit; commits: commit -> files by name; gated: only listed, as the hub
    does; cut: names whose next answer ends after half of its bytes."""

    refs: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    licence: str = "mit"
    gated: bool = False
    cut: set[str] = field(default_factory=set)


class Hub(ThreadingHTTPServer):
    """.repositories by id; .gets: files that were asked for, as (repository, name, range)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.gets: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        api, file = API.fullmatch(path), FILE.fullmatch(path)
        found = self.server.repositories.get((api or file or [0, ""])[1])
        if found is None:
            return self._refuse(404, "RepoNotFound")
        asked = (api[3] if api else file[2]) if api or file else ""
        commit = found.refs.get(asked, asked)
        if commit not in found.commits:
            return self._refuse(404, "RevisionNotFound")
        if api:
            answer = self._tree(found, commit) if api[2] == "tree" else self._info(found, commit)
            return self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})
        if found.gated:
            return self._refuse(403, "GatedRepo")
        return self._file(found, file[1], commit, file[3])

    def _info(self, found: Repository, commit: str) -> dict:
        files = found.commits[commit]
        return {
            "id": "acme/x",
            "sha": commit,
            "gated": "auto" if found.gated else False,
            "cardData": {"license": found.licence},
            "siblings": [{"rfilename": n, "size": len(b)} for n, b in files.items()],
        }

    def _tree(self, found: Repository, commit: str) -> list[dict]:
        return [
            {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}  # noqa: S324
            for n, b in found.commits[commit].items()
        ]

    def _file(self, found: Repository, repository: str, commit: str, name: str) -> None:
        data = found.commits[commit].get(name)
        if data is None:
            return self._refuse(404, "EntryNotFound")
        span = self.headers.get("Range", "")
        if self.command == "GET":
            self.server.gets.append((repository, name, span))
        more = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit}  # noqa: S324
        return self._send(data, more, cut=self.command == "GET" and name in found.cut)

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", {"X-Error-Code": code, "X-Error-Message": code}, status)

    def _send(self, body: bytes, headers: dict, status: int = 200, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """A running hub."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
