"""How much the service takes."""

from dataclasses import dataclass

MOST_MAPS = 64
"""Maps of one image: methods times targets."""
HEADERS = 2**16
"""Bytes of a request's headers."""
CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 20
CLOSING_SECONDS = 1
"""In which clients have to take the last answers."""


@dataclass(frozen=True)
class Limits:
    """How much the service takes.

    Attributes:
        body: Bytes of a request's body.
        pixels: Of an image.
        queue: Images of a model that wait or are being explained.
        images: In one request.
        values: Numbers that the maps of one answer hold, all images of the request together.
        runs: Of the graph beyond the shared one, for a request: what sampling methods ask for.
        unsent: Bytes of answers that clients have not taken yet, beyond which no more is received.
        receiving: Bodies that are being received at a time.
        receive_seconds: In which a body has to come, and so the headers.
        answer_seconds: In which an answer has to be there, once the body is.
        send_seconds: In which the client has to take it.
        stop_seconds: In which a stop lets requests end that are under way.
    """

    body: int = 32 * 2**20
    pixels: int = 2**25
    queue: int = 64
    images: int = 32
    values: int = 2**23
    runs: int = 1000
    unsent: int = 2**28
    receiving: int = 32
    receive_seconds: float = 30
    answer_seconds: float = 60
    send_seconds: float = 120
    stop_seconds: float = 60
