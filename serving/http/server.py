"""The server that speaks HTTP: uvicorn, with a limit on slow senders and a stop that finishes what is under way."""

import asyncio
import logging
import signal
import socket
import time
from asyncio import TimerHandle, Transport
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from onnxplain.contract.errors import OnnxplainError

from .application import build_application
from .limits import CLOSING_SECONDS, CONNECTIONS, HEADERS, KEEP_ALIVE_SECONDS
from .service import Service


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address, which takes no connections yet.

    Raises:
        OnnxplainError: If it cannot be had.
    """
    if not host:  # which the system takes for all addresses
        raise OnnxplainError("`host` is empty; give an address such as 127.0.0.1, or 0.0.0.0 for all of this machine")
    # asyncio sends without delay on sockets that say they are TCP; otherwise each answer would take 40 ms longer
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        raise _cannot_listen(host, port, error) from None
    return taken


def start_listening(taken: socket.socket) -> None:
    """Take connections on it.

    Raises:
        OnnxplainError: If another process does so meanwhile.
    """
    host, port, *_ = taken.getsockname()
    try:
        taken.listen()
    except OSError as error:
        raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: Exception) -> OnnxplainError:
    return OnnxplainError(f"cannot listen on {host}, `port` {port}: {getattr(error, 'strerror', None) or error}")


def answer_requests(service: Service, taken: socket.socket) -> bool:
    """Answer until a signal comes, and then what is under way.

    Returns:
        Whether all of it was answered, and not cut short by a second signal or after the limit's `stop_seconds`.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each request that is no HTTP
    server = _Server(service)
    asyncio.run(server.serve([taken]))
    return not server.is_cut_short


class _Server(uvicorn.Server):
    """A server that after a signal refuses what comes with 503, and ends when nothing is under way."""

    def __init__(self, service: Service) -> None:
        class Protocol(_ImpatientProtocol):
            seconds, send_seconds = service.limits.receive_seconds, service.limits.send_seconds
            _service = service

        config = uvicorn.Config(
            build_application(service),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=CLOSING_SECONDS,
            h11_max_incomplete_event_size=HEADERS,
        )
        super().__init__(config)
        self._service = service
        self._deadline = float("inf")
        self.is_cut_short = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called with the signals; a second SIGINT ends at once."""
        if self._service.is_stopping and sig == signal.SIGINT:
            self.is_cut_short = self.force_exit = self.should_exit = True
        elif not self._service.is_stopping:
            self._service.is_stopping = True
            self._deadline = time.monotonic() + self._service.limits.stop_seconds

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether to end."""
        if self._service.is_stopping and not self.should_exit:
            is_late = time.monotonic() > self._deadline
            is_left = self._service.under_way > 0 or self._service.unsent > 0
            self.is_cut_short = is_late and is_left
            self.should_exit = is_late or not is_left
        return await super().on_tick(counter)


class _ImpatientProtocol(H11Protocol):
    """Closes connections on which nothing is under way and too little comes, where uvicorn itself would wait for ever.

    In `seconds` the headers of a request have to come. Bodies have their time in `read_body`, or where the application
    throws them away. In `send_seconds` the client has to take an answer, which is in memory until then.
    """

    seconds: float
    send_seconds: float
    _service: Service
    _timer: TimerHandle | None = None
    _sending: TimerHandle | None = None
    _unsent = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:  # the rest of the body did not come in time
            self.transport.close()
        super().on_response_complete()  # which may begin with the next request
        self._watch()

    def pause_writing(self) -> None:
        """Called when the client takes an answer more slowly than it is written."""
        super().pause_writing()
        if self._sending is None:
            self._sending = self.loop.call_later(self.send_seconds, self.transport.abort)
            self._unsent = self.transport.get_write_buffer_size()
            self._service.unsent += self._unsent

    def resume_writing(self) -> None:
        """Called when it has taken nearly all."""
        super().resume_writing()
        self._forget_sending()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_timer()
        self._forget_sending()

    def send_400_response(self, msg: str) -> None:
        """Called where what came is not HTTP; if it is a body, uvicorn alone would let the application answer too."""
        is_under_way = self.cycle is not None and not self.cycle.response_complete
        if is_under_way:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if is_under_way and self.cycle.response_started:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _is_waiting(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _watch(self) -> None:
        if not self._is_waiting():
            self._forget_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            self._service.unsent -= self._unsent

    def _give_up(self) -> None:
        self._timer = None
        if self._is_waiting():
            self.transport.close()
