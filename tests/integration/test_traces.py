"""Traces: spans as a receiver of OTLP/HTTP gets them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.engine import BUSYBOX
from tests.support.poll import eventually
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.server import Server, log_events, running_server

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
CANARY = "canary-5c1e"


@dataclass(frozen=True)
class Span:
    """A span as it was received; ids in hex."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    service: str
    seconds: float


def spans(collector: Receiver) -> list[Span]:
    """All spans that the collector has received."""
    return [span for each in list(collector.received) for span in parsed(each.body)]


def parsed(body: bytes) -> list[Span]:
    message = ExportTraceServiceRequest.FromString(body)
    found = []
    for resource in message.resource_spans:
        service = values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
                found.append(Span(span.name, *ids, values(span.attributes), service, seconds))
    return found


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def settings(collector: Receiver) -> dict[str, str]:
    collector.answer = lambda _received, _number: Answer(200)
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def span_of(collector: Receiver, name: str, run_id: str = "") -> Span:
    """The one span of that name, and of that run where one is given, once it has come."""

    def look() -> list[Span]:
        found = [each for each in spans(collector) if each.name == name]
        return [each for each in found if not run_id or each.attributes["light_run.run.id"] == run_id]

    (found,) = eventually(look, f"the span {name} has come")
    return found


def start(server: Server, **fields: Any) -> str:
    response = server.request(
        "POST",
        "/run",
        json={
            "image": BUSYBOX,
            "files": {"a": "b"},
            "network": "none",
            "detached": True,
            **fields,
        },
        headers=HEADERS,
    )
    assert response.status_code == 202, response.text
    run_id: str = response.json()["id"]
    return run_id


def test_spans_of_a_detached_run_and_of_one_that_outlives_its_server(
    tmp_path: Path, receiver: Receiver
) -> None:
    with receiving() as collector, ExitStack() as servers:
        traced = settings(collector)
        first = servers.enter_context(running_server(tmp_path, settings=traced))
        run_id = start(
            first,
            run=[f"echo {CANARY} > /step-{os.urandom(4).hex()}"],
            entrypoint=f"echo {CANARY}; echo > out; exit 3",
            env={"SECRET": CANARY},
            input=CANARY,
            extract=["out"],
            callbackUrl=f"{receiver.url}/{CANARY}",
        )
        request = span_of(collector, "POST /run")
        assert (request.trace, request.parent, request.service) == (TRACE, PARENT, "light-run")
        assert (request.attributes["http.route"], request.attributes["http.response.status_code"]) == (
            "/run",
            202,
        )
        for name in ("queue", "build", "start", "run", "extract", "callback"):
            span = span_of(collector, name, run_id)
            assert (span.trace, span.parent) == (TRACE, request.id), name
        run = span_of(collector, "run", run_id)
        assert run.attributes["process.exit.code"] == 3
        assert run.attributes["light_run.reason"] == "exit"
        assert run.attributes["container.image.name"] == BUSYBOX
        assert run.attributes["light_run.parked"] is False

        collector.received.clear()
        left = start(first, entrypoint="echo up; sleep 3")
        first.wait_output(left, "up")
        accepted = span_of(collector, "POST /run")
        first.kill()
        second = servers.enter_context(running_server(tmp_path, settings=traced))
        assert second.wait_done(left)["status"] == "succeeded"
        resumed = span_of(collector, "run", left)
        assert (resumed.trace, resumed.parent) == (TRACE, accepted.id)
        assert resumed.seconds >= 3
        second.stop()
        assert not any(CANARY.encode() in each.body for each in collector.received)


def test_a_receiver_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running_server(tmp_path, settings={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as server:
            server.run()
            assert server.stop() == 0
        assert "the last traces were not taken" in server.stderr
        assert len(log_events(server.stderr)) == len(server.stderr.splitlines())


def test_debug_prints_spans_and_log_lines_have_the_trace(tmp_path: Path) -> None:
    with running_server(tmp_path, settings={"LIGHT_RUN_OTEL_DEBUG": "1"}) as server:
        server.get("/runs/unknown", headers=HEADERS)
        server.get("/info", token="wrong")
        server.stop()
    printed = server.stdout
    events = {event["path"]: event for event in log_events(server.stderr) if event["event"] == "request"}
    assert events["/runs/unknown"]["trace_id"] == TRACE
    assert f'"span_id": "0x{events["/runs/unknown"]["span_id"]}"' in printed
    assert '"name": "GET /runs/<run_id>"' in printed
    assert '"name": "GET /info"' in printed
    assert events["/info"]["trace_id"] != TRACE


def test_off_imports_nothing(tmp_path: Path) -> None:
    script = (
        "import json, sys; from light_run.app import close, create_app; close(create_app()); "
        "print(json.dumps([name for name in sys.modules if 'opentelemetry' in name]))"
    )
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("LIGHT_RUN", "OTEL"))
    }
    environ["LIGHT_RUN_STATE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == []
