"""What Prometheus is told of a market: how much is under way, and how long steps take.

What the ledger counts is read when it is asked for, so that it survives restarts; how long
exchanges take is gathered since the start.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

METRICS_TYPE = CONTENT_TYPE_LATEST

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Upper edges of the histograms, seconds."""

PIECES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Upper edges of the histogram of batches, pieces."""


class Metrics:
    """The figures of one market, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self._ready = Gauge("edgepact_ready", "Whether work can be taken and paid", **own)
        self._jobs = Gauge("edgepact_jobs", "Jobs in the ledger, by state", ["state"], **own)
        self._in_flight = Gauge("edgepact_exchanges_in_flight", "Exchanges under way", **own)
        self._sessions = Gauge("edgepact_sessions", "Jobs that are begun", **own)
        self._audits = Gauge("edgepact_audits_open", "Audits that are not over", **own)
        self._devices = Gauge("edgepact_devices_present", "Devices that are waited for", **own)
        seconds: dict[str, Any] = {"buckets": SECONDS, **own}
        self._exchange_s = Histogram(
            "edgepact_exchange_seconds", "From an exchange's body to its answer", **seconds
        )
        self._compute_s = Histogram(
            "edgepact_compute_seconds", "Of an exchange, without queueing and books", **seconds
        )
        self._batch = Histogram(
            "edgepact_batch_pieces",
            "Pieces that passed a stage together, on average over the stages of an exchange",
            buckets=PIECES,
            **own,
        )

        self._queue_s = Histogram(
            "edgepact_queue_seconds", "Of a paid exchange, for its turn and its batch", **seconds
        )
        self._ledger_s = Histogram(
            "edgepact_ledger_seconds", "Of a paid exchange, until it was durable", **seconds
        )
        self._refused = Counter(
            "edgepact_refused", "Requests that were refused, by HTTP status", ["status"], **own
        )

    def exchange(self, server_s: float, compute_s: float) -> None:
        """Counts an exchange that was answered."""
        self._exchange_s.observe(server_s)
        self._compute_s.observe(compute_s)

    def paid_exchange(self, queue_s: float, together: float, ledger_s: float) -> None:
        """Counts the other parts of one that is paid for.

        Args:
            queue_s: seconds that it waited for its turn and for others.
            together: pieces that passed a stage together, on average over its stages.
            ledger_s: seconds until it was durable.
        """
        self._queue_s.observe(queue_s)
        self._batch.observe(together)
        self._ledger_s.observe(ledger_s)

    def refused(self, status: int) -> None:
        """Counts a request that was refused."""
        self._refused.labels(status=str(status)).inc()

    def told(self, status: Mapping[str, Any], *, ready: bool) -> bytes:
        """All figures as Prometheus reads them.

        Args:
            status: what `Market.status` tells.
            ready: whether work can be taken.
        """
        self._ready.set(ready)
        self._in_flight.set(status["exchanges_in_flight"])
        self._sessions.set(status["sessions"])
        self._audits.set(status["audits_open"])
        self._devices.set(len(status["devices_present"]))
        for state, count in status["jobs"].items():
            self._jobs.labels(state=state).set(count)
        return generate_latest(self._registry)
