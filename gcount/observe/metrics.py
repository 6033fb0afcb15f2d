"""The metrics of a node, for `/metrics` (Prometheus' text format)."""

from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gcount.core.state.batch import Batch

disable_created_metrics()  # type: ignore[no-untyped-call]  # it would add a second series for each counter

_SYNC_BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_CHECKPOINT_BUCKETS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_ROUND_BUCKETS = (1, 2, 3, 4, 6, 10, 30)
_BATCH_BUCKETS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)

DIRECTIONS = ("out", "in")  # the directions of the bytes on a link, as labels

Sample = tuple[str, str, dict[str, str], float]
"""Name, help text, labels and value of a gauge, or of a counter if the name ends in `_total`."""


class Metrics:
    """One node's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "gcount_http_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.increments = Counter("gcount_increments", "Increments acknowledged.", registry=registry)
        self._commits = Counter("gcount_commits", "Batches made durable.", registry=registry)
        self._batch_cells = Histogram(
            "gcount_commit_cells", "Cells, entries and parts in a batch.", buckets=_BATCH_BUCKETS, registry=registry
        )
        self._sync_seconds = Histogram(
            "gcount_commit_seconds", "Time to write and sync a batch.", buckets=_SYNC_BUCKETS, registry=registry
        )
        self._log_bytes = Counter("gcount_log_written_bytes", "Bytes appended to the log.", registry=registry)
        self._checkpoint_seconds = Histogram(
            "gcount_checkpoint_seconds", "Time to make a checkpoint.", buckets=_CHECKPOINT_BUCKETS, registry=registry
        )
        self.checkpoints_failed = Counter(
            "gcount_checkpoints_failed", "Checkpoints that failed for lack of disk space.", registry=registry
        )
        words = "Batches refused for lack of disk space or of a file descriptor."
        self.disk_full = Counter("gcount_disk_full", words, registry=registry)
        self.read_rounds = Histogram(
            "gcount_consistent_read_rounds",
            "Rounds that consistent reads took, by outcome.",
            ["outcome"],
            buckets=_ROUND_BUCKETS,
            registry=registry,
        )
        self.link_bytes = Counter(
            "gcount_link_bytes", "Bytes to and from a peer.", ["peer", "direction"], registry=registry
        )
        self.incarnations_minted = Counter(
            "gcount_incarnations_minted", "New incarnations since the start.", registry=registry
        )
        self.recovery_seconds = Gauge(
            "gcount_recovery_seconds", "Time that the start took to recover.", registry=registry
        )

    def committed(self, batch: Batch, size: int, seconds: float) -> None:
        """Count a batch that became durable.

        Args:
            batch: the batch.
            size: its bytes in the log.
            seconds: how long it took to write and sync it.
        """
        self._commits.inc()
        self._batch_cells.observe(sum(delta.size for delta in batch.deltas))
        self._sync_seconds.observe(seconds)
        self._log_bytes.inc(size)

    def checkpoint_made(self, seconds: float) -> None:
        """Count a checkpoint that became durable.

        Args:
            seconds: how long it took to make it.
        """
        self._checkpoint_seconds.observe(seconds)

    def forget_peer(self, address: str) -> None:
        """Remove the series of a peer that is no longer dialled. Otherwise every former address would keep its series.

        Args:
            address: the peer's address.
        """
        for direction in DIRECTIONS:
            with suppress(KeyError):  # some releases of the library raise it for a peer that never answered
                self.link_bytes.remove(address, direction)

    def watch(self, gauges: Callable[[], Iterable[Sample]]) -> None:
        """Read further gauges and counters at each scrape.

        Args:
            gauges: returns the samples; those with one name have to come in a row.
        """
        self._registry.register(_Scrape(gauges))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Scrape(Collector):
    def __init__(self, gauges: Callable[[], Iterable[Sample]]) -> None:
        self._gauges = gauges

    def describe(self) -> Iterable[Metric]:
        return ()  # at registration there is nothing to read yet, so there are no names to check

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, text, labels, value in self._gauges():
            if name not in families:
                family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                families[name] = family(name, text, labels=list(labels))
            families[name].add_metric(list(labels.values()), value)
        return families.values()
