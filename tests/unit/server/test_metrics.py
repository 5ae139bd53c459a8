"""What is counted of runs, and the page of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from light_run.config import tokens
from light_run.config.tokens import TokenFile
from light_run.engine.spec import Reason, RunResult, RunTimings
from light_run.engine.stop import Stop
from light_run.runs.metrics import Levels
from light_run.runs.model import Delivery, RunRecord, Status, end, start
from light_run.runs.service import RunService
from light_run.server.metrics import STEPS, Metrics
from tests.unit.config.test_tokens import bearer, submit
from tests.unit.conftest import MakeClient
from tests.unit.fake_runner import OK, FakeRunner

NOW = datetime.now(timezone.utc)
WAITING = RunRecord(id="r", status=Status.QUEUED, created_at=NOW)
RUNNING = start(WAITING, at=NOW, queued=0.5)
LEVELS = Levels(queued=1, at_work=2, kept=3, parked=4, callbacks=5, artifact_bytes=6, engine=True)


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    """The value of one sample on the page."""
    page, _ = metrics.page("")
    values = [
        each.value
        for family in plain(page.decode())
        for each in family.samples
        if each.name == name and each.labels == labels
    ]
    assert len(values) == 1, (name, labels, values)
    return float(values[0])


@pytest.mark.parametrize(
    ("result", "stopped", "status", "reason"),
    [
        (OK, None, "succeeded", "exit"),
        (replace(OK, exit_code=3), None, "failed", "exit"),
        (RunResult(reason=Reason.TIMEOUT), None, "failed", "timeout"),
        (OK, Reason.CANCELLED, "cancelled", "cancelled"),
        (RunResult(reason=Reason.INTERRUPTED), Reason.INTERRUPTED, "failed", "interrupted"),
    ],
)
def test_a_run_is_counted_by_its_end(
    result: RunResult, stopped: Reason | None, status: str, reason: str
) -> None:
    metrics = Metrics("1")
    metrics.ended(end(RUNNING, result, elapsed=1.0, stop=None if stopped is None else Stop(stopped)))
    assert sample(metrics, "light_run_runs_total", status=status, reason=reason) == 1
    other = {"status": "failed", "reason": "disk_limit"}
    assert sample(metrics, "light_run_runs_total", **other) == 0


@given(
    reason=st.sampled_from(Reason),
    code=st.sampled_from([None, 0, 1]),
    stopped=st.sampled_from([None, Reason.CANCELLED, Reason.INTERRUPTED]),
)
def test_every_end_is_there_before_it_comes_about(
    reason: Reason, code: int | None, stopped: Reason | None
) -> None:
    metrics = Metrics("1")
    before = names(metrics)
    metrics.ended(
        end(
            RUNNING,
            RunResult(reason=reason, exit_code=code),
            elapsed=1.0,
            stop=None if stopped is None else Stop(stopped),
        )
    )
    assert names(metrics) == before


def names(metrics: Metrics) -> set[str]:
    """Every series on the page."""
    return {line.rpartition(" ")[0] for line in metrics.page("")[0].decode().splitlines()}


def test_steps_are_measured_in_seconds() -> None:
    metrics = Metrics("1")
    timings = RunTimings(image=2, start=30, run=1000, extract=0)
    metrics.ended(replace(end(RUNNING, replace(OK, timings=timings), elapsed=1.0), parked=True))
    sums = {
        step: sample(metrics, "light_run_run_step_seconds_sum", step=step, parked="true") for step in STEPS
    }
    assert sums == {"queue": 0.5, "image": 0.002, "start": 0.03, "run": 1.0, "extract": 0.0}
    # A step that the run did not get to would only make the others look quick.
    counts = [sample(metrics, "light_run_run_step_seconds_count", step=step, parked="true") for step in STEPS]
    assert counts == [1, 1, 1, 1, 0]


def test_a_run_that_never_began_has_no_steps() -> None:
    metrics = Metrics("1")
    metrics.ended(end(WAITING, RunResult(reason=Reason.CANCELLED), elapsed=9.0))
    assert sample(metrics, "light_run_runs_total", status="cancelled", reason="cancelled") == 1
    assert sample(metrics, "light_run_run_step_seconds_count", step="queue", parked="false") == 0


def test_what_is_told_beside() -> None:
    metrics = Metrics("1")
    metrics.refused()
    metrics.evicted()
    metrics.callback_tried(Delivery.PENDING)
    assert sample(metrics, "light_run_refused_runs_total") == 1
    assert sample(metrics, "light_run_evicted_runs_total") == 1
    assert sample(metrics, "light_run_callback_attempts_total", outcome="pending") == 1
    assert sample(metrics, "light_run_callback_attempts_total", outcome="delivered") == 0


def test_levels_and_limits_are_shown_as_they_are_now() -> None:
    metrics, now = Metrics("1.2"), [LEVELS]
    metrics.watch(lambda: now[0], lambda: {"unavailable": 7}, {"queued_runs_limit": 9})
    assert sample(metrics, "light_run_build_info", version="1.2") == 1
    found = [
        sample(metrics, f"light_run_{name}")
        for name in ("queued_runs", "active_runs", "kept_runs", "parked_containers", "pending_callbacks")
    ]
    assert found == [1, 2, 3, 4, 5]
    assert sample(metrics, "light_run_artifact_bytes") == 6
    assert sample(metrics, "light_run_engine_up") == 1
    assert sample(metrics, "light_run_queued_runs_limit") == 9
    assert sample(metrics, "light_run_engine_errors_total", kind="unavailable") == 7
    now[0] = replace(LEVELS, engine=False, queued=0)
    assert sample(metrics, "light_run_engine_up") == 0
    assert sample(metrics, "light_run_queued_runs") == 0


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics("1"), Metrics("1")
    one.refused()
    assert sample(other, "light_run_refused_runs_total") == 0


def test_the_page_comes_in_the_format_that_is_asked_for() -> None:
    metrics = Metrics("1")
    page, kind = metrics.page("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert list(open_metrics(page.decode()))  # type: ignore[no-untyped-call,unused-ignore]
    page, kind = metrics.page("*/*")
    assert kind.startswith("text/plain; version=")
    assert list(plain(page.decode()))


# --- the route ------------------------------------------------------------------------------------------


def test_the_service_tells_how_much_there_is(service: RunService, runner: FakeRunner) -> None:
    runner.parked = 3
    runner.health_now.docker = False
    nothing = replace(LEVELS, queued=0, at_work=0, kept=0, parked=3, callbacks=0, artifact_bytes=0)
    assert service.levels() == replace(nothing, engine=False)


def test_only_a_token_for_it_and_the_operators_see_it(make_client: MakeClient, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    made = {scope: tokens.create(path, scope, [scope]) for scope in tokens.SCOPES}
    metrics = Metrics("1")
    client = make_client(token="one", named=TokenFile(path), page=metrics.page)
    statuses = {
        scope: client.get("/metrics", headers=bearer(token)).status_code
        for scope, token in {**made, "one": "one"}.items()
    }
    assert statuses == {"read": 403, "run": 403, "metrics": 200, "network": 403, "admin": 200, "one": 200}
    assert client.get("/metrics").status_code == 401
    answer = client.get("/metrics", headers=bearer(made["metrics"]))
    assert answer.content_type == metrics.page("")[1]
    assert b"light_run_runs_total" in answer.data
    # It is for that alone.
    assert client.get("/runs", headers=bearer(made["metrics"])).status_code == 403
    assert json.loads(submit(client, made["metrics"]).data)["error"] == "forbidden"
