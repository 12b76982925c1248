"""Counters of a server, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

OTHER = "other"
"""Route of all paths that there are not, so that nobody adds a time series by asking for a path."""
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one application.

    Args:
      waiting: returns the number of rows that are accepted and not yet predicted.
    """

    def __init__(self, waiting: Callable[[], float]):
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fusion_bench_requests", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "fusion_bench_request_seconds",
            "Time from the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        batches = Histogram(
            "fusion_bench_batch_size", "Rows predicted at once.", buckets=_SIZES, registry=self.registry
        )
        self.observe_batch: Callable[[float], None] = batches.observe
        queue = Gauge("fusion_bench_queue_length", "Rows accepted and not yet predicted.", registry=self.registry)
        queue.set_function(waiting)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Returns all values."""
        return generate_latest(self.registry)
