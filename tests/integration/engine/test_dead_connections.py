"""Connections to the engine that fall silent, as behind a firewall that has forgotten them, while a run is at work."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from light_run import Runner, RunSpec
from light_run.engine import Destinations, Phase, Reason, RunResult, StopRequest, read_log
from light_run.engine.daemon import execution, session
from light_run.engine.daemon.client import Engine
from light_run.engine.stop import Stop
from tests.integration.engine.conftest import StartRunner
from tests.integration.engine.test_interrupted import Script
from tests.support.engine import BUSYBOX
from tests.support.proxy import Proxy, breaking_proxy

SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy by which runners reach the engine."""
    with breaking_proxy(SOCKET) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.url.replace("http://", "tcp://"))
        monkeypatch.setattr(session, "URGENT_TIMEOUT", 2)
        monkeypatch.setattr(execution, "_ASK_AFTER", 0.5)
        yield proxy


@pytest.fixture
def runner(proxy: Proxy, start_runner: StartRunner) -> Runner:
    """A runner that reaches the engine by the proxy, and gives it up soon."""
    return start_runner(workspace="bind", engine_patience=1.0)


class Silencing(Script):
    """The connections fall silent once the command runs; `later` says whether new ones do, too."""

    def __init__(self, proxy: Proxy, stop: StopRequest, reason: Reason, *, later: bool) -> None:
        super().__init__(Phase.RUNNING)
        self.proxy, self.stop, self.reason, self.later = proxy, stop, reason, later

    def act(self) -> None:
        self.proxy.silence(later=self.later)
        if self.reason is not Reason.TIMEOUT:
            grace = 1.0 if self.reason is Reason.STOPPED else 0.0
            self.stop.request(Stop(self.reason, "SIGTERM", grace))

    def ended(self, result: RunResult) -> None:
        # What the run leaves is removed on connections that are made now.
        self.proxy.heal()


SPEC = RunSpec(image=BUSYBOX, entrypoint="echo said; sleep 600", network="none", timeout=2.0)


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.CANCELLED, Reason.STOPPED])
def test_a_run_whose_connections_are_dead_is_ended_on_a_new_one(
    runner: Runner, proxy: Proxy, reason: Reason
) -> None:
    stop = StopRequest()
    result = runner.run(SPEC, stop=stop, observer=Silencing(proxy, stop, reason, later=False))
    assert result.reason is reason, result
    if reason is not Reason.CANCELLED:
        assert list(result.logs) == ["said"]


def test_an_engine_that_cannot_be_reached_any_more_holds_no_run_for_ever(
    runner: Runner, proxy: Proxy
) -> None:
    stop = StopRequest()
    result = runner.run(SPEC, stop=stop, observer=Silencing(proxy, stop, Reason.TIMEOUT, later=True))
    assert result.reason is Reason.ENGINE_UNAVAILABLE, result


def test_a_run_that_ends_by_itself_on_dead_connections_keeps_its_end(
    runner: Runner, proxy: Proxy, to: Destinations
) -> None:
    spec = RunSpec(
        image=BUSYBOX,
        entrypoint="echo said; sleep 1; echo more; echo kept > out; exit 3",
        network="none",
        extract=("out",),
        timeout=4.0,
    )
    stop = StopRequest()
    result = runner.run(spec, stop=stop, to=to, observer=Silencing(proxy, stop, Reason.TIMEOUT, later=False))
    assert (result.reason, result.exit_code) == (Reason.EXIT, 3), result
    assert to.log is not None
    assert [line.text for line in read_log(to.log)] == ["said", "more"]
    assert [each.path for each in result.artifacts] == ["out"]


def test_the_kernel_ends_connections_over_a_network_that_was_cut_off(proxy: Proxy) -> None:
    engine = Engine()
    with closing(engine), closing(engine._events(0)) as stream:
        connection = stream._socket
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
