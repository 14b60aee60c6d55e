"""A server on this machine that speaks the Hub's API as far as ``huggingface_hub`` pushes and loads repositories, and
reads their files through its file system.

Repositories live in memory, as lists of commits. Large files come by LFS, small ones inside the commit. A request
without the right token sees no private repository and cannot write.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_of_the_tests"
_LFS_SUFFIXES = (".safetensors", ".tar", ".png", ".webp")


@dataclass
class Repository:
    """Its commits, the newest last, and which of its files came by LFS."""

    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.safetensors lfs\n"}])
    by_lfs: set[str] = field(default_factory=set)
    tags: dict[str, int] = field(default_factory=dict)

    def commit_id(self, number: int) -> str:
        names = [(name, hashlib.sha256(content).hexdigest()) for name, content in sorted(self.commits[number].items())]
        return hashlib.sha1(repr((number, names)).encode()).hexdigest()

    def number_of(self, revision: str) -> int | None:
        numbers = {self.commit_id(number): number for number in range(len(self.commits))}
        numbers |= {"main": len(self.commits) - 1, **self.tags}
        return numbers.get(revision)


class Hub:
    """The server's state, which tests read and change."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.sent: list[str] = []
        """Names of the files that were downloaded."""
        self.url = ""


class Refused(Exception):
    """An answer other than 200: status, and the code by which the client knows the error."""


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, headers, content = self._routed(urlsplit(self.path).path, body)
        except Refused as refused:
            status, headers, content = refused.args[0], {"X-Error-Code": refused.args[1]}, b"{}"
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _routed(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            yaml.safe_load(json.loads(body)["content"].split("---")[1])
            return _json({})
        if found := re.fullmatch(r"/lfs/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.hub.objects[found[1]] = body
            return 200, {}, b""
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return _json(self._batch(json.loads(body)))
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file("dataset" if found[1] else "model", *map(unquote, found.groups()[1:]))
        if found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/([\w-]+)/(.+))?", path):
            repository = self._repository(found[1], found[2])
            if found[3] == "preupload":
                return _json(_upload_modes(json.loads(body)["files"]))
            if found[3] == "commit":
                prefix = "datasets/" if found[1] == "dataset" else ""
                return _json(self._commit(f"{self.hub.url}/{prefix}{found[2]}", repository, body))
            return _json(self._listed(found[2], repository, found[3], found[4] or "main", body))
        raise Refused(404, "EntryNotFound")

    @property
    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, kind: str, name: str) -> Repository:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and not self._may_write):
            raise Refused(404 if self._may_write else 401, "RepoNotFound")
        return repository

    def _number(self, repository: Repository, revision: str) -> int:
        number = repository.number_of(revision)
        if number is None:
            raise Refused(404, "RevisionNotFound")
        return number

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if not self._may_write:
            raise Refused(403, "Forbidden")
        name = f"{asked['organization']}/{asked['name']}"
        key = (asked.get("type", "model"), name)
        is_new = key not in self.hub.repositories
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories.setdefault(key, Repository(private))
        prefix = "datasets/" if key[0] == "dataset" else ""
        return _json({"url": f"{self.hub.url}/{prefix}{name}"}, 200 if is_new else 409)

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for item in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
            objects.append(item if item["oid"] in self.hub.objects else {**item, "actions": upload})
        return {"transfer": "basic", "objects": objects}

    def _commit(self, url: str, repository: Repository, body: bytes) -> dict[str, Any]:
        if not self._may_write:
            raise Refused(403, "Forbidden")
        files = dict(repository.commits[-1])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                    repository.by_lfs.add(value["path"])
                case "deletedFile":
                    del files[value["path"]]
        repository.commits.append(files)
        oid = repository.commit_id(len(repository.commits) - 1)
        return {"success": True, "commitOid": oid, "commitUrl": f"{url}/commit/{oid}"}

    def _listed(self, name: str, repository: Repository, what: str | None, place: str, body: bytes) -> Any:
        revision, _, folder = map(unquote, place.partition("/"))  # A revision's own slashes are quoted.
        number = self._number(repository, revision)
        files = repository.commits[number]
        if what in (None, "revision"):
            siblings = [{"rfilename": path} for path in files]
            facts = {"id": name, "sha": repository.commit_id(number), "siblings": siblings}
            return {**facts, "private": repository.private, "tags": [], "downloads": 0, "likes": 0}
        if what == "tree":
            return self._tree(repository, files, folder)
        if what == "paths-info":
            wanted = json.loads(body)["paths"]
            return [_entry(repository, path, files[path]) for path in wanted if path in files]
        raise Refused(404, "EntryNotFound")

    def _tree(self, repository: Repository, files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        below = sorted(path for path in files if path.startswith(prefix))
        if not below:
            raise Refused(404, "EntryNotFound")
        folders = {str(parent) for path in below for parent in PurePosixPath(path).parents}
        folders = {path for path in folders if path != "." and path.startswith(prefix)}
        listed = [{"type": "directory", "path": path, "oid": _blob_id(path.encode())} for path in sorted(folders)]
        listed += [_entry(repository, path, files[path]) for path in below]
        is_recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() == "true"
        return [item for item in listed if is_recursive or "/" not in item["path"].removeprefix(prefix)]

    def _file(self, kind: str, name: str, revision: str, path: str) -> tuple[int, dict[str, str], bytes]:
        repository = self._repository(kind, name)
        number = self._number(repository, revision)
        if path not in repository.commits[number]:
            raise Refused(404, "EntryNotFound")
        content = repository.commits[number][path]
        headers = {"ETag": f'"{_blob_id(content)}"', "X-Repo-Commit": repository.commit_id(number)}
        if self.command == "GET":
            self.hub.sent.append(path)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            return 200, headers, content
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, headers, content[first : last + 1]


def _json(content: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _upload_modes(files: list[dict[str, Any]]) -> dict[str, Any]:
    modes = {item["path"]: "lfs" if item["path"].endswith(_LFS_SUFFIXES) else "regular" for item in files}
    return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}


def _entry(repository: Repository, path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _blob_id(content)}
    if path in repository.by_lfs:
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
    return entry


def _blob_id(content: bytes) -> str:
    """As git names it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(cache: Path) -> Iterator[Hub]:
    """Runs a server; ``huggingface_hub`` finds it, with the right token and an empty cache."""
    hub = Hub()
    handler = type("Mine", (Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        hub.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(constants, "ENDPOINT", hub.url)
            patch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
            )
            patch.setattr(constants, "HF_HUB_CACHE", str(cache))
            patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
            patch.setenv("HF_TOKEN", TOKEN)
            yield hub
        running.shutdown()
