"""A Hugging Face Hub on this machine: the part of its HTTP interface that sharing adapters uses.

Files of a kind that the Hub keeps in large file storage are served from another host name, as by its CDN.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_aTokenThatNobodyMaySee"
OWNER = "someone"
LARGE = (".safetensors", ".png")


class Answer(Exception):
    """An error as the Hub tells it: status, code and message."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Repository:
    """A model: its commits, oldest first, each with all its files."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        content = repr((len(self.commits), message, sorted(files.items()))).encode()
        self.commits.append((hashlib.sha1(content).hexdigest(), dict(files)))
        self.messages.append(message)
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        if revision == "main":
            return self.commits[-1]
        for one in self.commits:
            if one[0] == revision:
                return one
        raise Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")


@dataclass(frozen=True)
class Request:
    method: str
    host: str
    path: str
    token: str | None


class Hub:
    """What the stand-in holds, and how it misbehaves when a test asks it to."""

    def __init__(self, port: int) -> None:
        self.url, self.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.cut = False  # large files end half way
        self.stalled: threading.Event | None = None  # set when half of a large file was sent; the rest never comes
        self.damaged = False  # large files arrive with another last byte
        self.status: int | None = None  # every answer
        self.licences = {"mit", "apache-2.0", "openrail", "other"}
        self.before_commit = lambda: None  # what happens on the Hub between a push's look and its commit

    def add(self, repo: str, files: dict[str, bytes], **kind: bool) -> str:
        """A repository with a first commit; its hash."""
        self.repositories[repo] = Repository(**kind)
        return self.commit(repo, files)

    def commit(self, repo: str, files: dict[str, bytes], message: str = "by hand") -> str:
        for name, content in files.items():
            if name.endswith(LARGE):
                self.large[_sha256(content)] = content
        return self.repositories[repo].commit(files, message)

    def downloads(self) -> list[Request]:
        return [one for one in self.requests if one.path.startswith("/cdn/")]

    def writes(self) -> list[Request]:
        return [one for one in self.requests if one.method in ("POST", "PUT")]


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub(server.server_address[1])  # type: ignore[attr-defined]
    # http.server itself asks now and then whether it is to end: this is how often.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


_ID = r"(?P<repo>[\w.-]+/[\w.-]+)"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet: tests look at `requests`."""

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self._answer(
            (rf"/api/models/{_ID}", self._info),
            (rf"/api/models/{_ID}/revision/(?P<revision>.+)", self._info),
            (rf"/{_ID}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", self._resolve),
            (r"/cdn/(?P<oid>\w+)", self._large),
        )

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(
            (r"/api/repos/create", self._create),
            (r"/api/validate-yaml", self._validate),
            (rf"/api/models/{_ID}/preupload/main", self._preupload),
            (rf"/{_ID}\.git/info/lfs/objects/batch", self._batch),
            (rf"/api/models/{_ID}/commit/main", self._commit),
        )

    def do_PUT(self) -> None:
        self._answer((r"/lfs/(?P<oid>\w+)", self._upload))

    def _answer(self, *routes: tuple[str, Any]) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.token = token if scheme == "Bearer" else None
        self.hub.requests.append(Request(self.command, self.headers["Host"], path, self.token))
        try:
            if self.hub.status:
                raise Answer(self.hub.status, "", "Something is wrong here")
            for pattern, handle in routes:
                if match := re.fullmatch(pattern, path):
                    handle(**match.groupdict())
                    return
            raise Answer(404, "", f"no such endpoint: {path}")
        except Answer as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message}
            self._json({"error": error.message}, error.status, headers)

    def _json(self, data: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(data).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _visible(self, repo: str, *, content: bool = False, write: bool = False) -> Repository:
        """Like the Hub, which tells strangers of a private model what it tells them of one that is not there."""
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and self.token != TOKEN):
            raise Answer(404 if self.token == TOKEN else 401, "RepoNotFound", "Repository not found")
        if content and found.gated and self.token != TOKEN:
            raise Answer(401, "GatedRepo", f"Access to model {repo} is restricted.")
        if write and (self.token != TOKEN or not repo.startswith(f"{OWNER}/")):
            raise Answer(401 if self.token is None else 403, "", "You have no right to write here")
        return found

    def _info(self, repo: str, revision: str = "main") -> None:
        found = self._visible(repo)
        commit, files = found.at(revision)
        siblings = []
        for name, content in files.items():
            sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _blob(content)}
            if name.endswith(LARGE):
                sha256 = _sha256(content)
                sibling["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            siblings.append(sibling if "blobs" in self.path else {"rfilename": name})
        self._json({"id": repo, "sha": commit, "private": found.private, "siblings": siblings})

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        commit, files = self._visible(repo, content=True).at(revision)
        if name not in files:
            raise Answer(404, "EntryNotFound", "Entry not found")
        content = files[name]
        if name.endswith(LARGE):
            oid = _sha256(content)
            linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{oid}"', "X-Repo-Commit": commit}
            self._send(b"", 302, {"Location": f"{self.hub.cdn}/cdn/{oid}", **linked})
        else:
            self._send(content, 200, {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": commit})

    def _large(self, oid: str) -> None:
        whole = self.hub.large[oid]
        if self.hub.damaged:
            whole = whole[:-1] + bytes([whole[-1] ^ 1])
        start, end = 0, len(whole)
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(match[1]), min(int(match[2] or len(whole) - 1) + 1, len(whole))
        content = whole[start:end]
        of_header = match is not None and start < len(whole) // 2  # a look at a file's header is not disturbed
        if (self.hub.cut or self.hub.stalled) and not of_header:
            self.send_response(206 if match else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(whole[start : len(whole) // 2])
            self.wfile.flush()
            self.close_connection = True
            if self.hub.stalled:
                self.hub.stalled.set()
                threading.Event().wait(30)
            return
        self._send(content, 206 if match else 200, {"ETag": f'"{oid}"'})

    def _create(self) -> None:
        wanted = json.loads(self.body)
        if self.token != TOKEN:
            raise Answer(401, "", "Invalid username or password.")
        if wanted["organization"] != OWNER:
            raise Answer(403, "", f"You don't have the rights to create a model under {wanted['organization']}")
        repo = f"{wanted['organization']}/{wanted['name']}"
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.add(repo, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, private=private)
        self._json({"url": f"{self.hub.url}/{repo}"})

    def _validate(self) -> None:
        text = json.loads(self.body)["content"]
        licence = re.search(r"^license: (.*)$", text, re.MULTILINE)
        if licence and licence[1] not in self.hub.licences:
            self._json({"errors": [{"message": f'"license" must be one of a list, not {licence[1]}'}]}, 400)
        else:
            self._json({"errors": [], "warnings": []})

    def _preupload(self, repo: str) -> None:
        there = self._visible(repo, write=True).files
        modes = []
        for one in json.loads(self.body)["files"]:
            name = one["path"]
            mode, git_name = ("lfs", _sha256) if name.endswith(LARGE) else ("regular", _blob)
            oid = git_name(there[name]) if name in there else None
            modes.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": modes})

    def _batch(self, repo: str) -> None:
        self._visible(repo, write=True)
        objects = []
        for one in json.loads(self.body)["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.large:
                answer["actions"] = {"upload": {"href": f"{self.hub.cdn}/lfs/{one['oid']}"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        if _sha256(self.body) != oid:
            raise Answer(400, "", "The content is not what was announced")
        self.hub.large[oid] = self.body
        self._send(b"", 200, {})

    def _commit(self, repo: str) -> None:
        found = self._visible(repo, write=True)
        self.hub.before_commit()
        files, message = dict(found.files), ""
        for line in self.body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", found.commits[-1][0]) != found.commits[-1][0]:
                    raise Answer(412, "", "A commit has happened since. Please refresh and try again.")
            elif one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif one["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.hub.commit(repo, files, message)
        self._json({"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit, "success": True})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    """Git's own hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
