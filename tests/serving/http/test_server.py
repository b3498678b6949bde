"""The server over sockets: hostile requests, slow senders, many clients, and how it stops."""

import http.client
import io
import json
import re
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest
from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.serving.http.server import listen, start_listening
from tests.helpers.hostile import SCENE, UNANSWERED, request, requests, send
from tests.helpers.service import DEMO, serving

SECONDS = 1.5
"""In which headers and bodies have to come, here."""
MASKS = "rise:masks=300"
"""A method that takes a second or so."""


def ask(port, path="/explain", body=SCENE):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_hostile_requests_cause_no_error_of_the_service():
    cases = list(requests(seed=0))
    assert len(cases) >= 500
    with serving(DEMO, receive_seconds=SECONDS, body=2**20) as (process, port):
        before = ask(port)
        assert before[0] == 200
        found = Counter()
        for kind, parts in cases:
            statuses = send(port, kind, parts, pause=0.2)
            assert statuses or kind in UNANSWERED, (kind, parts[0][:200])
            assert all(status < 500 for status in statuses), (kind, parts[0][:200], statuses)
            found.update(statuses)
        assert ask(port) == before
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        log = process.stderr.read()
    assert "Traceback" not in log and "unexpected error" not in log, log
    assert set(found) >= {200, 400, 404, 405, 408, 413, 422}, found


def test_senders_of_headers_that_never_end_are_cut_off():
    with serving(DEMO, receive_seconds=SECONDS) as (_, port):
        for begin in (b"", b"GET /", request("GET", "/v2/health/live", connection="keep-alive") + b"GET /"):
            start = time.monotonic()
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                if begin:
                    connection.sendall(begin)
                for letter in b"abcdef":
                    time.sleep(0.1)
                    if begin:
                        connection.sendall(bytes([letter]))
                while connection.recv(10_000):
                    pass
            assert SECONDS - 0.2 < time.monotonic() - start < SECONDS + 3


def test_who_goes_on_sending_after_a_refusal_is_cut_off():
    with serving(DEMO, receive_seconds=SECONDS) as (_, port):
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(request("POST", "/nowhere", b"", ["Content-Length: 1000000"]))
            with pytest.raises(ConnectionError):
                while time.monotonic() - start < SECONDS + 3:
                    connection.sendall(b"x")
                    time.sleep(0.1)
        assert time.monotonic() - start > SECONDS - 0.2


def test_a_client_that_leaves_is_no_longer_received():
    with serving(DEMO, receiving=1) as (_, port):
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(request("POST", "/explain", SCENE)[:-1])
                wait_for(lambda: ask(port)[0] == 503)
            wait_for(lambda: ask(port)[0] == 200)


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_connection_outlives_refusals():
    """Though the client sends the next request as soon as it has the answer, maybe before the service is done."""
    whole = request("POST", "/nowhere", b"x" * 300_000, connection="keep-alive")
    with serving(DEMO) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(200):
            connection.sendall(whole)
            answer = b""
            while not answer.endswith(b'{"error": "there is nothing at this address"}'):
                part = connection.recv(2**16)
                assert part, answer
                answer += part
            assert answer.startswith(b"HTTP/1.1 404")


def slow_reader(port):
    """A connection whose client has read but the beginning of an answer of 17 MB, and that beginning."""
    file = io.BytesIO()
    Image.new("RGB", (1800, 1800)).save(file, "PNG")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    connection.sendall(request("POST", "/explain?map=image", file.getvalue(), ["Connection: close"]))
    return connection, connection.recv(2000)


def rest_of(connection, start):
    """How many bytes of the answer came, and how many it has."""
    length = int(re.search(rb"content-length: (\d+)", start, re.IGNORECASE)[1])
    answer = bytearray(start)
    with suppress(ConnectionResetError):
        while part := connection.recv(2**20):
            answer += part
    connection.close()
    return len(answer), answer.index(b"\r\n\r\n") + 4 + length


@pytest.mark.parametrize("is_reading", [True, False])
def test_who_does_not_take_the_answer_is_cut_off(is_reading):
    with serving(DEMO, send_seconds=SECONDS) as (_, port):
        connection, start = slow_reader(port)
        if not is_reading:
            time.sleep(SECONDS + 1)
        came, whole = rest_of(connection, start)
        assert (came == whole) is is_reading, (came, whole)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_refusal_arrives(connection):
    """Though the client reads nothing before it has sent all, and the service would not have read all."""
    with serving(DEMO, body=2**20) as (_, port):
        for path, expected in (("/explain", 413), ("/explain?metod=legrad", 422), ("/nowhere", 404)):
            for _ in range(5):
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                client.request("POST", path, b"x" * 2**23, {"Connection": connection})
                assert client.getresponse().status == expected
                client.close()


def test_a_stop_waits_for_clients_that_take_their_answers():
    with serving(DEMO) as (process, port):
        connection, start = slow_reader(port)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        came, whole = rest_of(connection, start)
        assert came == whole > 10**7 and process.wait(10) == 0


def test_answers_that_nobody_takes_have_a_limit():
    with serving(DEMO, unsent=10**7) as (_, port):
        connection, start = slow_reader(port)
        status, document = ask(port)
        assert status == 503 and document["error"].startswith("clients have not taken ")
        came, whole = rest_of(connection, start)
        assert came == whole and ask(port)[0] == 200


def under_way(port, results):
    """A request that takes a second, begun."""
    thread = threading.Thread(target=lambda: results.append(ask(port, f"/explain?method={MASKS}")))
    thread.start()
    while queue(port) == 0:
        time.sleep(0.02)
    return thread


def queue(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return float(text.partition('onnxplain_queue_images{model="demo"} ')[2].split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_is_under_way_and_refuses_the_rest(number):
    with serving(DEMO) as (process, port):
        results = []
        thread = under_way(port, results)
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
        assert ask(port) == (503, {"error": "the service is stopping"})
        thread.join()
        assert results[0][0] == 200
        assert process.wait(10) == 0


def test_a_second_interrupt_ends_at_once():
    with serving(DEMO) as (process, port):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request("POST", "/explain", SCENE)[:-1])  # under way for as long as it likes
        while ask(port, body=b"")[0] != 422:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 3
        connection.close()


def test_a_stop_ends_after_its_time():
    with serving(DEMO, stop_seconds=0.5) as (process, port):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request("POST", "/explain", SCENE)[:-1])
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 3
        connection.close()


def test_answers_are_sent_without_delay():
    with listen("127.0.0.1", 0) as taken:
        assert taken.proto == socket.IPPROTO_TCP  # what asyncio looks at; connections have it from here


def test_an_address_that_cannot_be_had():
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(OnnxplainError, match=r"cannot listen on 127\.0\.0\.1, `port`"):
            listen("127.0.0.1", taken.getsockname()[1])
    with listen("127.0.0.1", 0) as one, listen("127.0.0.1", one.getsockname()[1]) as other:  # both are starting
        start_listening(one)
        with pytest.raises(OnnxplainError, match=r"cannot listen on 127\.0\.0\.1, `port` \d+: Address already in use"):
            start_listening(other)
    for host in ("no.such.host.invalid", "300.1.1.1"):
        with pytest.raises(OnnxplainError, match=f"cannot listen on {host}"):
            listen(host, 0)
    with pytest.raises(OnnxplainError, match="`host` is empty"):
        listen("", 0)
