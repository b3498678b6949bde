"""What Prometheus reads of the service: everything is counted in the process that answers HTTP, and only there."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("route", "model")
        self._requests = Counter(
            "onnxplain_requests", "Requests that were answered", (*labels, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "onnxplain_request_seconds", "From a request's headers to its answer", labels, buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._queue = Gauge(
            "onnxplain_queue_images", "Images that wait or are being explained", ("model",), registry=self.registry
        )
        self._together = Histogram(
            "onnxplain_images_together", "Images in the batch of each image that was explained",
            ("model",), buckets=IMAGES, registry=self.registry,
        )  # fmt: skip

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count a request; `route` and `model` are empty where it named none that there is."""
        self._requests.labels(route, model, status).inc()
        self._seconds.labels(route, model).observe(seconds)

    def queued(self, model: str, images: int) -> None:
        """The queue is so long now."""
        self._queue.labels(model).set(images)

    def explained(self, model: str, together: int) -> None:
        """Count an image."""
        self._together.labels(model).observe(together)

    def response(self) -> Response:
        """In the format of Prometheus."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)
