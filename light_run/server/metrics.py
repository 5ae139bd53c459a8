"""Prometheus metrics of the server; the only module that uses prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from light_run.engine.spec import Reason
from light_run.runs.metrics import Levels
from light_run.runs.model import Delivery, RunRecord, Status

STEPS = ("queue", "image", "start", "run", "extract")
# Seconds. A parked container starts in hundredths of a second; a run can take an hour.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1200, 3600)

_LEVELS: Mapping[str, tuple[str, Callable[[Levels], float]]] = {
    "light_run_queued_runs": ("Runs that wait for a slot.", lambda now: now.queued),
    "light_run_active_runs": ("Runs that have a slot.", lambda now: now.at_work),
    "light_run_kept_runs": ("Ended runs that are still kept.", lambda now: now.kept),
    "light_run_parked_containers": ("Parked containers that wait for a run.", lambda now: now.parked),
    "light_run_pending_callbacks": ("Callbacks that are not delivered yet.", lambda now: now.callbacks),
    "light_run_artifact_bytes": ("Bytes of all artifacts on disk.", lambda now: now.artifact_bytes),
    "light_run_engine_up": ("1 if the container engine responds, else 0.", lambda now: now.engine),
}


class Metrics:
    """The metrics of one server: the `RunMetrics` of its runs, and their export for Prometheus.

    Each label has a small, fixed set of values; none is chosen by a client.
    """

    def __init__(self, version: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Gauge(
            "light_run_build_info", "Always 1; the label is the version.", ["version"], registry=registry
        )
        build.labels(version).set(1)
        self._runs = Counter(
            "light_run_runs", "Runs that have ended.", ["status", "reason"], registry=registry
        )
        # Here and below, all series exist from the start: a rate needs the zero before the first event.
        for ending in _endings():
            self._runs.labels(*ending)
        steps = Histogram(
            "light_run_run_step_seconds",
            "Time that runs spent in each step.",
            ["step", "parked"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._steps = {
            (step, parked): steps.labels(step, str(parked).lower())
            for step in STEPS
            for parked in (False, True)
        }
        tried = Counter(
            "light_run_callback_attempts",
            "Attempts to deliver callbacks, by outcome; pending means that a retry follows.",
            ["outcome"],
            registry=registry,
        )
        self._callbacks = {state: tried.labels(str(state)) for state in Delivery}
        self._refused = Counter(
            "light_run_refused_runs", "Runs refused because the queue was full.", registry=registry
        )
        self._evicted = Counter(
            "light_run_evicted_runs",
            "Ended runs whose artifacts were deleted to free disk space.",
            registry=registry,
        )

    def watch(
        self,
        levels: Callable[[], Levels],
        failures: Callable[[], Mapping[str, int]],
        limits: Mapping[str, float],
    ) -> None:
        """Export `levels` and the engine's `failures`, read at each scrape, and `limits` by their names."""
        self._registry.register(_Watched(levels, failures))
        for name, value in limits.items():
            Gauge(f"light_run_{name}", "The configured maximum.", registry=self._registry).set(value)

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format of the Accept header, and the Content-Type."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    # The methods of `RunMetrics` follow.

    def ended(self, run: RunRecord) -> None:
        """See `RunMetrics`."""
        self._runs.labels(str(run.status), str(run.reason)).inc()
        if run.started_at is None or run.timings is None:
            return
        timings = run.timings
        spent = (run.queued_ms, timings.image, timings.start, timings.run, timings.extract)
        for step, milliseconds in zip(STEPS, spent, strict=True):
            # 0 means that the run did not reach this step.
            if milliseconds:
                self._steps[step, run.parked].observe(milliseconds / 1000)

    def refused(self) -> None:
        """See `RunMetrics`."""
        self._refused.inc()

    def callback_tried(self, state: Delivery) -> None:
        """See `RunMetrics`."""
        self._callbacks[state].inc()

    def evicted(self) -> None:
        """See `RunMetrics`."""
        self._evicted.inc()


class _Watched(Collector):
    # Metrics that are read at each scrape instead of being counted here.

    def __init__(self, levels: Callable[[], Levels], failures: Callable[[], Mapping[str, int]]) -> None:
        self._levels = levels
        self._failures = failures

    def describe(self) -> Iterable[Metric]:
        # Without this, registering would call `collect`, which queries the engine.
        return ()

    def collect(self) -> Iterator[Metric]:
        now = self._levels()
        for name, (words, value) in _LEVELS.items():
            yield GaugeMetricFamily(name, words, value=value(now))
        errors = CounterMetricFamily(
            "light_run_engine_errors",
            "Failed calls to the engine; unavailable means that it did not respond.",
            labels=["kind"],
        )
        for kind, count in self._failures().items():
            errors.add_metric([kind], count)
        yield errors


def _endings() -> Iterator[tuple[str, str]]:
    yield str(Status.SUCCEEDED), str(Reason.EXIT)
    for reason in Reason:
        cancelled = reason in (Reason.CANCELLED, Reason.STOPPED)
        yield str(Status.CANCELLED if cancelled else Status.FAILED), str(reason)
