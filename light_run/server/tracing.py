"""Traces by OpenTelemetry. It is an extra (``light-run[otel]``), and imported only where tracing is on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from light_run.runs.tracing import Attributes, NoTracer, Tracer
from light_run.server import json_log

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_log = logging.getLogger(__name__)

# Seconds that a stopping server waits until its last spans are exported.
FLUSH = 5.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRUE = "true"


def tracer(environ: Mapping[str, str], *, debug: bool, version: str) -> Tracer:
    """Return what spans are sent to, as the OTEL_* variables in `environ` say; with `debug`, stdout.

    Call it in the process that serves: it starts a thread.
    """
    wanted = debug or any(environ.get(name, "").strip() for name in _ENDPOINTS)
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == _TRUE
    if not wanted or off or (not debug and environ.get("OTEL_TRACES_EXPORTER", "").strip() == "none"):
        return NoTracer()
    try:
        found = OpenTelemetry(debug=debug, version=version)
    except ImportError as error:
        _log.warning("there are no traces: %s; pip install 'light-run[otel]'", error)
        return NoTracer()
    # What it has to say is a line of JSON, like all else.
    json_log.configure("opentelemetry", level=logging.WARNING)
    return found


class _RequestSpan:
    # A span that is under way, and the log's fields for it.
    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method
        context = span.get_span_context()
        trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        self.parent = f"00-{trace_id}-{span_id}-{context.trace_flags:02x}"
        json_log.TRACE.set({"trace_id": trace_id, "span_id": span_id})

    def end(self, *, route: str | None, status: int) -> None:
        """See `RequestSpan`."""
        from opentelemetry.trace import StatusCode

        json_log.TRACE.set(None)
        if route is not None:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class OpenTelemetry:
    """A `Tracer` for the OpenTelemetry SDK, with its own provider. Raises ImportError if it is not installed."""

    def __init__(self, *, debug: bool, version: str) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import (
            BatchSpanProcessor,
            ConsoleSpanExporter,
            SimpleSpanProcessor,
        )
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        processor: SpanProcessor
        if debug:
            processor = SimpleSpanProcessor(ConsoleSpanExporter())
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            processor = BatchSpanProcessor(OTLPSpanExporter())
        resource = Resource.create({SERVICE_VERSION: version})
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "light-run"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("light_run", version)
        self._propagator = TraceContextTextMapPropagator()

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> _RequestSpan:
        """See `Tracer`."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        span = self._tracer.start_span(
            method,
            context=self._propagator.extract(dict(headers), Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": path},
        )
        return _RequestSpan(span, method)

    def step(
        self,
        parent: str,
        name: str,
        times: tuple[datetime, datetime],
        attributes: Attributes,
        *,
        failed: str | None = None,
    ) -> None:
        """See `Tracer`."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Status, StatusCode

        begun, ended = times
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract({"traceparent": parent}, Context()),
            attributes=attributes,
            start_time=_nanoseconds(begun),
        )
        if failed is not None:
            span.set_status(Status(StatusCode.ERROR, failed))
        span.end(_nanoseconds(max(begun, ended)))

    def close(self) -> None:
        """See `Tracer`."""
        # In a thread: a collector that does not respond would delay the end of the server for too long.
        flushing = threading.Thread(target=self._shut_down, name="light-run-traces", daemon=True)
        flushing.start()
        flushing.join(FLUSH)
        if flushing.is_alive():
            _log.warning("the last traces were not taken within %g s, and are lost", FLUSH)

    def _shut_down(self) -> None:
        self._provider.shutdown()


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1000
