"""Requests that a service should never get: generated with a seed, and sent over bare sockets."""

import base64
import errno
import io
import json
import random
import socket
import struct
import time
import zlib

from PIL import Image

from tests.helpers.service import SCENES

VERBS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "EXPLAIN", "\x00", "G" * 5000]
PATHS = ["/", "/explain", "/metrics", "/page.json", "/v1/models", "/v1/models/demo", "/v1/models/demo:predict"]
PATHS += ["/v1/models/demo:explain", "/v2", "/v2/models/demo", "/v2/models/demo/infer", "/v2/health/ready"]
POSTED = ["/explain", "/v1/models/demo:predict", "/v1/models/demo:explain", "/v2/models/demo/infer"]
TRICKS = ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/samples/..%2f..%2fpyproject.toml", "//etc/passwd"]
TRICKS += ["/v1/models/..:predict", "/v1/models/%00:explain", "/v1/models/demo%2f..:explain", "/page.js%00.html"]
TRICKS += ["/v2/models/%ff%fe/infer", "/explain/../metrics", "/explain;x=1", "/explain%20", "http://other/explain"]
TRICKS += ["/" + "a" * 9000, "/explain?" + "&".join(["method=legrad"] * 3000), "/explain?target=" + "9" * 6000]
TRICKS += ["/explain?model=%F0%9F%92%A9", "/explain?%00=%00", "/explain?method=" + "rollout:" * 500, "*", "explain"]
TRICKS += [
    "/explain?target=%ed%a0%80",
    "/explain?top_k=-1",
    "/explain?top_k=1e9",
    "/explain?method=rise:masks=99999999",
]
UNENDED = ("many", "bytes")
"""Kinds whose requests may not end for the service before the connection does."""
UNANSWERED = ("bytes", "slow", "left")
"""Kinds that need not be answered."""
SCENE = (SCENES / "scene-0.png").read_bytes()
TEXT = base64.b64encode(SCENE).decode()


def png_of(width, height, data=b""):
    """A PNG whose header says that it is so large."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data or zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def bombs():
    """Images that are far larger than their files."""
    yield png_of(60_000, 60_000)
    yield png_of(2**31 - 1, 2**31 - 1)
    yield png_of(5000, 5000, zlib.compress(bytes(75_005_000), 9))
    for format in ("GIF", "TIFF", "WEBP", "BMP"):
        file = io.BytesIO()
        Image.new("1" if format in ("TIFF", "BMP") else "L", (9000, 9000)).save(file, format)
        yield file.getvalue()
    yield b"P6 99999 99999 255\n" + bytes(30)
    yield b"P6 " + b"9" * 5000


def documents(random):
    """JSON that is none, or says what cannot be."""
    yield b"[" * 200_000
    yield b'{"instances":' * 20_000
    yield b'{"a":"' + b"\xff\xfe\x00" * 99 + b'"}'
    yield b'{"instances": [' + b'{"b64": ""},' * 5000 + b'{"b64": ""}]}'
    yield b'{"instances": 1e999, "parameters": NaN}'
    yield json.dumps({"instances": [{"b64": TEXT}] * 40}).encode()
    values = [None, True, -1, 1e308, 2**70, "", "x" * 9000, [], {}, [[]], {"b64": None}, "\ud800", "\x00", TEXT]
    for _ in range(40):
        instance = random.choice([{"b64": random.choice(values)}, {"image_bytes": random.choice(values)}, values])
        parameters = {random.choice(["method", "target", "map", "top_k", "x"]): random.choice(values)}
        yield json.dumps({"instances": [instance], "parameters": parameters}).encode()
        tensor = {"name": "image", "shape": random.choice(values), "datatype": "BYTES", "data": random.choice(values)}
        tensor[random.choice(list(tensor))] = random.choice(values)
        yield json.dumps({"inputs": [tensor], "outputs": random.choice(values)}).encode()


def request(verb, path, body=b"", headers=(), connection="close"):
    """The bytes of a request; a length among the headers takes the place of the right one."""
    lines = [f"{verb} {path} HTTP/1.1", "Host: service", f"Connection: {connection}", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def requests(seed):
    """(kind, parts) of each request; between the parts there is a pause."""
    rng = random.Random(seed)
    for verb in VERBS:
        for path in PATHS:
            yield "verb", [request(verb, path, rng.choice([b"", SCENE]))]
    for path in TRICKS:
        for verb in ("GET", "POST"):
            yield "path", [request(verb, path, SCENE)]
    for bomb in bombs():
        yield "bomb", [request("POST", "/explain", bomb)]
        text = base64.b64encode(bomb).decode()
        yield "bomb", [request("POST", POSTED[1], json.dumps({"instances": [{"b64": text}]}).encode())]
    for document in documents(rng):
        for path in POSTED[1:]:
            yield "json", [request("POST", path, document)]
    for _ in range(60):
        cut = SCENE[: rng.randrange(len(SCENE))]
        damaged = bytearray(SCENE)
        for _ in range(rng.randrange(1, 40)):
            damaged[rng.randrange(8, len(damaged))] = rng.randrange(256)
        yield "damaged", [request("POST", rng.choice(POSTED), rng.choice([cut, bytes(damaged)]))]
    lengths = ["-1", "99999999999999999999", "1e3", "", "0x10", "5, 5", "+5", "9" * 5000, str(2**40)]
    for length in lengths:
        yield "length", [request("POST", "/explain", SCENE, [f"Content-Length: {length}"])]
    yield "length", [request("POST", "/explain", SCENE, ["Content-Length: 5", "Content-Length: 6"])]
    yield "length", [request("POST", "/explain", SCENE, ["Transfer-Encoding: chunked", "Content-Length: 5"])]
    for path in ("/explain", "/nowhere", "/metrics"):
        yield "length", [request("POST", path, b"zz\r\n", ["Transfer-Encoding: chunked"])]
    yield "bytes", [request("POST", "/explain", b"ffffffffffffffff\r\nx", ["Transfer-Encoding: chunked"])]
    yield "length", [request("POST", "/explain", SCENE, ["Transfer-Encoding: gzip"])]
    for header in ("X: " + "a" * 200_000, "X" * 70_000 + ": a", "X: \x00", "\x7f: a", "NoColon", " X: a", "Host: b"):
        yield "header", [request("POST", "/explain", SCENE, [header])]
    for header in ("Accept: " + "image/png," * 5000, "Accept: ;;;,,,=", "Accept: */*;q=1e999", "Expect: 100-continue"):
        yield "header", [request("POST", "/explain", SCENE, [header])]
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=" + "b" * 9000,
        "multipart/form-data; boundary=x",
    ):
        for body in (SCENE, b"--x\r\n" * 5000, b"--x\r\nContent-Disposition: form-data; name=\r\n\r\n\r\n--x--"):
            yield "form", [request("POST", "/explain", body, [f"Content-Type: {kind}"])]
    yield "many", [request("GET", "/v2/health/live", connection="keep-alive") * 200]
    for body in (b"", b"\x00" * 5000, b"\x16\x03\x01\x02\x00" * 50, b"GET", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 5000):
        yield "bytes", [body]
    whole = request("POST", "/explain", SCENE)
    yield "slow", [whole[:20], whole[20:40]]
    yield "slow", [whole[:300], whole[300:600]]
    yield "left", [whole[:-50]]
    for _ in range(30):
        yield "bytes", [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400)))]


def send(port, kind, parts, pause):
    """Send the parts; the status of each answer that came, as a number. A slow sender waits until it is cut off."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            for place, part in enumerate(parts):
                time.sleep(pause if place else 0)
                connection.sendall(part)
            if kind in UNENDED:
                connection.shutdown(socket.SHUT_WR)
            if kind == "left":
                return []
            while part := connection.recv(2**20):
                answer += part
                connection.settimeout(2)  # it is answered, though the service may wait for more of the request
        except TimeoutError:
            if not answer:
                raise
        except OSError as error:  # the service has closed the connection, as it may
            if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                raise
    return [int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
