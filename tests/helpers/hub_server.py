"""A hub on 127.0.0.1 for tests: folders are its repositories, and it can be told to misbehave.

It answers what the hub's client and the libraries of models ask: HEAD and GET of files, with entity tags, commit,
lengths and ranges, large files by way of another host; the list of a repository's files; and the hub's error codes.
"""

import hashlib
import json
import re
import threading
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub

LARGE = (".safetensors", ".bin", ".pth", ".model")
"""What repositories keep outside git, named by its SHA-256 and served by another host."""
PARTS = re.compile(
    r"/(?:api/models/)?(?P<repository>[^/]+/[^/]+)/(?:resolve/(?P<revision>[^/]+)/(?P<file>.+)"
    r"|(?P<list>tree|revision)/(?P<of>[^/]+).*)|/api/models/(?P<info>[^/]+/[^/]+)"
)


class Hub:
    """The server, while it is entered.

    folder: holds <owner>/<name>/<file>. endpoint: what HF_ENDPOINT has to be. asked: (method, path) of each request.
    trouble: "<owner>/<name>" or that and "/<file>" to what is wrong with it: "gated", "unknown", "unauthorised", "cut"
    (the connection ends in the middle), "short" (half of it, as if it were all), "other" (one bit is another), or a
    status to answer GET and HEAD with, or ("GET", status) for GET alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.trouble, self.asked, self.checksums = folder, {}, [], {}

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (Answer,), {"hub": self}))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def checksum(self, path: Path) -> str:
        """The entity tag of a file: SHA-256 of a large one, git's SHA-1 of another."""
        key = (path, path.stat().st_mtime_ns, path.stat().st_size)
        if key not in self.checksums:
            with path.open("rb") as file:
                if path.suffix in LARGE:
                    self.checksums[key] = hashlib.file_digest(file, "sha256").hexdigest()
                else:
                    content = file.read()
                    self.checksums[key] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return self.checksums[key]

    def downloads(self) -> list[str]:
        """The files that were sent, "<owner>/<name>/<file>"."""
        paths = [PARTS.fullmatch(path.removeprefix("/cdn")) for method, path in self.asked if method == "GET"]
        return [f"{found['repository']}/{found['file']}" for found in paths if found and found["file"]]


class Answer(BaseHTTPRequestHandler):
    """To one request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def log_message(self, *_):
        """Nothing is logged."""

    @cached_property
    def parts(self):
        return PARTS.fullmatch(unquote(urlsplit(self.path).path).removeprefix("/cdn"))

    def answer(self):
        self.__dict__.pop("parts", None)  # of the request before on this connection
        self.hub.asked.append((self.command, urlsplit(self.path).path))
        if self.parts is None:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        repository = self.parts["repository"] or self.parts["info"]
        wrong = self.hub.trouble.get(repository, self.hub.trouble.get(f"{repository}/{self.parts['file']}"))
        if isinstance(wrong, tuple):
            wrong = wrong[1] if wrong[0] == self.command else None
        if wrong == "gated":
            known = "Authorization" in self.headers
            return self.refuse(403 if known else 401, "GatedRepo", f"Access to model {repository} is restricted.")
        if wrong == "unauthorised":
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        if wrong == "unknown" or not (self.hub.folder / repository).is_dir():
            return self.refuse(404 if "Authorization" in self.headers else 401, "RepoNotFound", "Repository not found")
        if isinstance(wrong, int):
            return self.refuse(wrong, "", HTTPStatus(wrong).phrase)
        if (self.parts["revision"] or "main") not in ("main", self.commit):
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        if self.parts["file"] is None:
            return self.send_list(self.hub.folder / repository)
        path = self.hub.folder / repository / self.parts["file"]
        if not path.is_file():
            return self.refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": self.commit})
        if path.suffix in LARGE and not self.path.startswith("/cdn"):
            return self.redirect(path)
        return self.send(path, wrong)

    @property
    def commit(self):
        return hashlib.sha1((self.parts["repository"] or self.parts["info"]).encode()).hexdigest()

    def head(self, status, length, headers):
        self.send_response(status)
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def refuse(self, status, code, message, headers=None):
        body = json.dumps({"error": message}).encode()
        given = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.head(status, len(body), given)
        if self.command == "GET":
            self.wfile.write(body)

    def send_list(self, folder):
        files = [
            {"type": "file", "path": path.name, "oid": self.hub.checksum(path), "size": path.stat().st_size}
            for path in sorted(folder.iterdir())
        ]
        info = {"id": "/".join(folder.parts[-2:]), "sha": self.commit, "private": False, "tags": [], "downloads": 0}
        siblings = [{"rfilename": file["path"]} for file in files]
        body = json.dumps(files if self.parts["list"] == "tree" else info | {"siblings": siblings}).encode()
        self.head(200, len(body), {"Content-Type": "application/json"})
        if self.command == "GET":
            self.wfile.write(body)

    def redirect(self, path):
        """Another name of this host is another host to the client."""
        location = f"http://localhost:{self.server.server_port}/cdn{self.path}"
        linked = {"X-Linked-Etag": f'"{self.hub.checksum(path)}"', "X-Linked-Size": path.stat().st_size}
        self.head(302, 0, {"Location": location, "X-Repo-Commit": self.commit, **linked})

    def send(self, path, wrong):
        size = path.stat().st_size
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        headers = {"ETag": f'"{self.hub.checksum(path)}"', "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        end = size // 2 if wrong in ("cut", "short") and self.command == "GET" else size
        self.head(206 if start else 200, (end if wrong == "short" else size) - start, headers)
        if self.command == "HEAD":
            return
        with path.open("rb") as file:
            file.seek(start)
            for place in range(start, end, 1 << 20):
                content = file.read(min(1 << 20, end - place))
                if wrong == "other" and place + len(content) == end:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                self.wfile.write(content)
        if wrong == "cut":
            self.close_connection = True


def as_the_hub(hub: Hub, cache: Path, monkeypatch) -> Hub:
    """In this process, whose client read HF_ENDPOINT and HF_HUB_CACHE when it was imported, and without sleep."""
    constants = huggingface_hub.constants
    path = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + path)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.pauses = []
    for module in ("file_download", "utils._http"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time.sleep", hub.pauses.append)
    return hub
