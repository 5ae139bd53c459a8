"""What ``GET /metrics`` says of real runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import StartServer
from tests.support.poll import eventually
from tests.support.receiver import Receiver
from tests.support.server import Server, free_port

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def small(server_of_module: StartServer) -> Server:
    """A server with one slot, one place in the queue, and little room for artifacts."""
    settings = {
        "LIGHT_RUN_MAX_CONCURRENCY": "1",
        "LIGHT_RUN_MAX_QUEUE": "1",
        "LIGHT_RUN_MAX_ARTIFACTS_BYTES": "150",
        # No second try comes while the first one is counted.
        "LIGHT_RUN_CALLBACK_PAUSE": "600",
    }
    return server_of_module(settings=settings)


def samples(server: Server) -> Samples:
    """Every sample on the page."""
    page = server.get("/metrics")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A sample's name and labels."""
    return f"light_run_{name}", frozenset(labels.items())


def value(server: Server, name: str, **labels: str) -> float:
    """One sample as it is now."""
    return samples(server)[key(name, **labels)]


def at_work_and_waiting(server: Server) -> tuple[float, float]:
    """How many runs have a slot, and how many wait for one."""
    page = samples(server)
    return page[key("active_runs")], page[key("queued_runs")]


@contextmanager
def grows(server: Server, name: str, by: float = 1, **labels: str) -> Iterator[None]:
    """Fail where a sample is not larger by so much after the block."""
    before = value(server, name, **labels)
    yield
    wanted = before + by
    eventually(lambda: value(server, name, **labels) == wanted, f"{name} {labels} is {wanted}", within=20)


def test_runs_by_outcome_and_reason(small: Server) -> None:
    with (
        grows(small, "runs_total", by=2, status="succeeded", reason="exit"),
        grows(small, "runs_total", status="failed", reason="exit"),
        grows(small, "runs_total", status="failed", reason="timeout"),
        grows(small, "runs_total", status="failed", reason="image_not_found"),
        grows(small, "kept_runs", by=5),
    ):
        small.run()
        small.run()
        small.run(entrypoint="exit 3")
        small.run(entrypoint="sleep 60", timeout=100)
        small.run(image="nobody/nothing:1", pull="never")
    # Nothing that a client chose is in a label.
    assert "nobody" not in small.get("/metrics").text


def test_durations_by_step(small: Server) -> None:
    before = samples(small)
    state = small.run(entrypoint="sleep 0.3; echo 1 >a", extract=["a"])
    parked, steps = str(state["parked"]).lower(), ("queue", "image", "start", "run", "extract")
    counts = [key("run_step_seconds_count", step=step, parked=parked) for step in steps]

    def counted() -> Samples | None:
        page = samples(small)
        return page if all(page[count] == before[count] + 1 for count in counts) else None

    # A run is counted just behind its answer.
    after = eventually(counted, "every step was counted once")
    assert after is not None
    for step in steps:
        spent = key("run_step_seconds_sum", step=step, parked=parked)
        told = state["timings"]["queuedMs" if step == "queue" else f"{step}Ms"] / 1000
        assert after[spent] - before[spent] == pytest.approx(told, abs=0.0002)
    bucket = "run_step_seconds_bucket"
    quick, all_of_them = (key(bucket, step="run", parked=parked, le=le) for le in ("0.25", "+Inf"))
    assert after[quick] == before[quick]
    assert after[all_of_them] == before[all_of_them] + 1
    assert small.request("DELETE", f"/runs/{state['id']}").status_code == 204


def test_the_queue(small: Server) -> None:
    assert (value(small, "active_runs_limit"), value(small, "queued_runs_limit")) == (1, 1)
    # A run that was answered has its slot until its container is gone.
    eventually(lambda: at_work_and_waiting(small) == (0, 0), "all before have ended")
    with grows(small, "runs_total", by=2, status="cancelled", reason="cancelled"):
        with grows(small, "active_runs"), grows(small, "queued_runs"):
            ids = [small.start(entrypoint="sleep 60"), small.start()]
        with grows(small, "refused_runs_total"):
            assert small.post_run(detached=True).status_code == 503
        for run_id in reversed(ids):
            assert small.cancel(run_id).status_code == 204
    eventually(lambda: at_work_and_waiting(small) == (0, 0), "all have ended")


def test_artifacts_and_evictions(small: Server) -> None:
    assert value(small, "artifact_limit_bytes") == 150
    write = {"entrypoint": "head -c 100 /dev/zero >a", "extract": ["a"]}
    small.run(**write)
    # What it takes of the disk, which is for the file system to say.
    taken = eventually(lambda: value(small, "artifact_bytes"), "the artifact counts")
    assert taken >= 100
    with grows(small, "evicted_runs_total"), grows(small, "kept_runs"):
        small.run(**write)
    eventually(lambda: value(small, "artifact_bytes") == taken, "what was evicted counts no more")


def test_callbacks(small: Server, receiver: Receiver) -> None:
    with grows(small, "callback_attempts_total", outcome="delivered"):
        small.run(callbackUrl=receiver.url)
    with grows(small, "pending_callbacks"), grows(small, "callback_attempts_total", outcome="pending"):
        small.run(callbackUrl=f"http://127.0.0.1:{free_port()}/")


def test_parked_containers(small: Server) -> None:
    def parked() -> bool:
        small.run()
        return value(small, "parked_containers") >= 1

    eventually(parked, "one is parked")
    assert value(small, "parked_containers_limit") == 4


def test_it_needs_a_token_and_has_no_second_spelling(small: Server) -> None:
    assert small.get("/metrics", token="").status_code == 401
    assert small.get("/metrics/").status_code == 404
    assert small.request("POST", "/metrics").status_code == 405
    head = small.request("HEAD", "/metrics")
    assert (head.status_code, head.content) == (200, b"")
    open_metrics = requests.get(
        f"{small.url}/metrics",
        headers={"Authorization": f"Bearer {small.token}", "Accept": "application/openmetrics-text"},
        timeout=30,
    )
    assert open_metrics.text.endswith("# EOF\n")
