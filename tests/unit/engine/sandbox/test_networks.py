"""Networks by name: which exist, which are made, which nobody gets."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.features import Features
from light_run.engine.sandbox import firewall, firewall_report
from light_run.engine.sandbox import networks as network
from light_run.engine.sandbox.networks import Networks
from light_run.engine.spec import Firewall
from light_run.errors import EngineRefused, StartFailed

HOST_ID = "b1" * 32


class Switchboard(Engine):
    """The engine's networks as it would tell of them, in memory."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.there = [self._network(name) for name in (*names, "bridge")]
        self.there.append({"Name": "host", "Id": HOST_ID, "Driver": "host", "Options": {}, "Labels": {}})
        self.asked: list[str] = []
        self.made: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.refusal: EngineRefused | None = None
        self.used: set[str] = set()
        self.kind = Features()

    def features(self) -> Features:
        return self.kind

    def _libpod(self, path: str) -> dict[str, Any]:
        return {"network_interface": f"interface of {path}"}

    @staticmethod
    def _network(name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
        options = {"com.docker.network.bridge.enable_icc": "false"}
        return {
            "Name": name,
            "Id": uuid.uuid4().hex * 2,
            "Driver": "bridge",
            "Options": options,
            "Labels": labels,
        }

    def networks(self, name: str | None = None) -> list[dict[str, Any]]:
        assert name is not None
        self.asked.append(name)
        return [each for each in self.there if each["Name"] == name]

    def create_network(
        self,
        name: str,
        options: Mapping[str, str],
        labels: Mapping[str, str],
        ipam: Mapping[str, str] | None = None,
    ) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.made.append((name, dict(options), dict(labels)))
        self.there.append(self._network(name, labels))

    def remove_network(self, network: str) -> None:
        if network in self.used:
            raise EngineRefused(403, f"network {network} has active endpoints")
        if network not in self.ids():
            raise EngineRefused(404, f"network {network} not found")
        self.there = [each for each in self.there if each["Id"] != network]

    def ids(self, name: str = "isolated") -> list[str]:
        """The ids of the networks of that name, the oldest first."""
        return [each["Id"] for each in self.there if each["Name"] == name]


def test_none_needs_no_engine() -> None:
    engine = Switchboard()
    assert Networks(engine, "isolated").ensure("none") == "none"
    assert engine.asked == []


def test_the_isolated_one_is_made_once_and_keeps_runs_apart() -> None:
    engine = Switchboard()
    networks = Networks(engine, "isolated")
    assert [networks.ensure(None), networks.ensure(None), networks.ensure("isolated")] == ["isolated"] * 3
    ((name, options, labels),) = engine.made
    assert name == "isolated"
    assert options["com.docker.network.bridge.enable_icc"] == "false"
    assert labels == {"light-run.network": "isolated"}


def test_the_isolated_one_that_is_there_is_taken() -> None:
    engine = Switchboard("isolated")
    assert Networks(engine, "isolated").ensure(None) == "isolated"
    assert engine.made == []


def test_two_servers_that_make_it_at_once() -> None:
    class Raced(Switchboard):
        def create_network(
            self,
            name: str,
            options: Mapping[str, str],
            labels: Mapping[str, str],
            ipam: Mapping[str, str] | None = None,
        ) -> None:
            super().create_network(name, options, labels)
            raise EngineRefused(409, "network with name isolated already exists")

    assert Networks(Raced(), "isolated").ensure(None) == "isolated"


def doubled(count: int = 2) -> Switchboard:
    """An engine that has the isolated network more than once."""
    engine = Switchboard()
    for _ in range(count):
        engine.create_network("isolated", {}, {"light-run.network": "isolated"})
    return engine


@pytest.mark.parametrize(("used", "left"), [((), 0), ((0,), 0), ((1,), 1), ((2,), 2)])
def test_of_several_one_stays(used: tuple[int, ...], left: int) -> None:
    engine = doubled(3)
    stays = engine.ids()[left]
    engine.used = {engine.ids()[index] for index in used}
    assert Networks(engine, "isolated").ensure(None) == "isolated"
    assert engine.ids() == [stays]


def test_of_several_that_are_in_use_or_somebody_s_none_goes() -> None:
    engine = doubled()
    engine.used = set(engine.ids())
    others = Switchboard("isolated", "isolated")
    for each in (engine, others):
        Networks(each, "isolated").ensure(None)
        assert len(each.ids()) == 2


def test_the_one_that_another_server_makes_at_the_same_moment() -> None:
    class Raced(Switchboard):
        def create_network(
            self,
            name: str,
            options: Mapping[str, str],
            labels: Mapping[str, str],
            ipam: Mapping[str, str] | None = None,
        ) -> None:
            super().create_network(name, options, labels)
            super().create_network(name, options, labels)

    engine = Raced()
    Networks(engine, "isolated").ensure(None)
    assert len(engine.ids()) == 1


@pytest.mark.parametrize("options", [None, {}, {"com.docker.network.bridge.enable_icc": "true"}])
@pytest.mark.parametrize("there", [True, False])
def test_an_engine_that_does_not_keep_runs_apart_is_refused(
    options: dict[str, str] | None, there: bool
) -> None:
    class Ignoring(Switchboard):
        def networks(self, name: str | None = None) -> list[dict[str, Any]]:
            return [{**each, "Options": options} for each in super().networks(name)]

    engine = Ignoring(*(["isolated"] if there else []))
    with pytest.raises(StartFailed, match="does not keep containers on network 'isolated' from each other"):
        Networks(engine, "isolated").ensure(None)
    # Other networks are what the operator made them.
    assert Networks(engine, "isolated").ensure("bridge") == "bridge"


def test_a_start_that_finds_two() -> None:
    engine = Switchboard("isolated")
    networks = Networks(engine, "isolated")
    networks.ensure(None)
    engine.create_network("isolated", {}, {"light-run.network": "isolated"})

    def start() -> int:
        if len(engine.ids()) > 1:
            raise EngineRefused(400, "network isolated is ambiguous (2 matches found on name)")
        return 7

    assert networks.start_on("isolated", start) == 7


def test_two_threads_make_one() -> None:
    class Slow(Switchboard):
        def create_network(
            self,
            name: str,
            options: Mapping[str, str],
            labels: Mapping[str, str],
            ipam: Mapping[str, str] | None = None,
        ) -> None:
            time.sleep(0.1)
            super().create_network(name, options, labels)

    engine = Slow()
    networks = Networks(engine, "isolated")
    with ThreadPoolExecutor() as threads:
        assert set(threads.map(networks.ensure, [None] * 4)) == {"isolated"}
    assert len(engine.made) == 1


def test_one_that_is_removed_as_soon_as_it_is_made() -> None:
    class Pruned(Switchboard):
        def networks(self, name: str | None = None) -> list[dict[str, Any]]:
            return []

    with pytest.raises(StartFailed, match="as soon as it was made"):
        Networks(Pruned(), "isolated").ensure(None)


def test_one_that_cannot_be_made() -> None:
    engine = Switchboard()
    engine.refusal = EngineRefused(500, "could not find an available address pool")
    with pytest.raises(StartFailed, match="address pool"):
        Networks(engine, "isolated").ensure(None)


def test_a_named_one() -> None:
    engine = Switchboard("mine")
    networks = Networks(engine, "isolated")
    assert networks.ensure("mine") == "mine"
    assert networks.ensure("bridge") == "bridge"
    assert engine.made == []


def test_what_was_seen_is_not_asked_for_again_until_a_start_fails() -> None:
    engine = Switchboard("mine")
    networks = Networks(engine, "isolated")
    for _ in range(5):
        networks.ensure("mine")
    assert engine.asked == ["mine"]
    with pytest.raises(EngineRefused, match="no such file"):
        networks.start_on("mine", refuse("no such file: sh"))
    # The network was not the reason, so that a second try would be one too many.
    networks.ensure("mine")
    assert engine.asked == ["mine"] * 3


def test_a_named_network_that_is_gone_is_not_made() -> None:
    engine = Switchboard()
    with pytest.raises(StartFailed, match="'mine' does not exist"):
        Networks(engine, "isolated").start_on("mine", refuse("network mine not found"))
    assert engine.made == []


def refuse(message: str) -> Callable[[], None]:
    """A start that an engine refuses with 404, and that is tried once."""
    tries: list[str] = []

    def start() -> None:
        assert not tries
        tries.append(message)
        raise EngineRefused(404, message)

    return start


# --- kept from this host ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the report of ``light-run firewall`` lies, in place of the machine's own."""
    path = tmp_path / "firewall/networks"
    monkeypatch.setattr(firewall_report, "PATH", path)
    return path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Switchboard:
    """An engine whose isolated network is an interface of this host."""
    engine = Switchboard("isolated", "mine")
    engine.there[0]["Options"] |= {"com.docker.network.bridge.name": "lo"}
    monkeypatch.setattr(network, "_FRESH", 0.0)
    return engine


def test_no_run_is_started_before_the_rules_stand(here: Switchboard, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stand, calls = threading.Event(), threading.Event(), list[str]()

    def protect(bridge: str, *, ipv6: bool) -> bool:
        calls.append(bridge)
        begun.set()
        return stand.wait(10)

    monkeypatch.setattr(network, "protect", protect)
    networks = Networks(here, "isolated")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(networks.ensure, None)
        assert begun.wait(10)
        second = threads.submit(networks.ensure, None)
        time.sleep(0.1)
        assert not second.done()
        stand.set()
        assert first.result(10) == second.result(10) == "isolated"
    # The second one has looked whether they still stand.
    assert set(calls) == {"lo"}


def test_rules_that_could_not_be_set_are_tried_again_and_said_once(
    here: Switchboard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [False, False, True, True, True]
    monkeypatch.setattr(network, "protect", lambda _, **__: answers.pop(0))
    networks = Networks(here, "isolated")
    for _ in range(5):
        networks.ensure(None)
    assert answers == []
    assert len(caplog.records) == 1
    assert "network isolated reach this host's services" in caplog.text


def test_a_bridge_that_cannot_be_seen_is_not_taken_for_protected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    networks = Networks(Switchboard(), "isolated")
    networks.ensure(None)
    assert networks.firewall(None) is Firewall.ABSENT
    assert "light-run firewall" in caplog.text
    assert networks.firewall("none") is Firewall.NOT_NEEDED


def test_rules_that_are_gone_while_no_run_comes(here: Switchboard, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True, False]
    monkeypatch.setattr(network, "protect", lambda _, **__: answers.pop(0))
    networks = Networks(here, "isolated")
    networks.ensure(None)
    # No run has come since: the look is that of a health check.
    assert networks.firewall(None) is Firewall.ABSENT


def test_a_report_of_root_s_command(here: Switchboard, report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "protect", lambda _, **__: False)
    networks = Networks(here, "isolated")
    (isolated,) = here.ids()
    firewall_report.write([isolated, "another"])
    networks.ensure(None)
    assert networks.firewall(None) is Firewall.ACTIVE
    old = time.time() - 60
    os.utime(report, (old, old))
    assert networks.firewall(None) is Firewall.ABSENT
    firewall_report.write([isolated[:12]])
    assert networks.firewall(None) is Firewall.ABSENT


def test_a_run_waits_for_root_s_command_to_see_the_new_network(
    here: Switchboard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(network, "protect", lambda _, **__: False)
    networks = Networks(here, "isolated")
    firewall_report.write([])
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(networks.ensure, None)
        time.sleep(0.1)
        assert not waiting.done()
        firewall_report.write(here.ids())
        assert waiting.result(10) == "isolated"
    assert caplog.records == []


def test_existing_networks_that_the_operator_has_given_to_runs(
    here: Switchboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected: list[tuple[str, bool]] = []

    def protect(bridge: str, *, ipv6: bool) -> bool:
        protected.append((bridge, ipv6))
        return True

    monkeypatch.setattr(network, "protect", protect)
    here.there[1]["EnableIPv6"] = True
    (mine,) = here.ids("mine")
    Networks(here, "isolated").ensure("mine")
    assert protected == []
    networks = Networks(here, "isolated", guarded=("br*", "m*"))
    networks.ensure("bridge")
    networks.ensure("mine")
    networks.ensure("mine")
    (bridge,) = here.ids("bridge")
    assert protected == [
        (f"br-{bridge[:12]}", False),
        (f"br-{mine[:12]}", True),
        (f"br-{mine[:12]}", True),
    ]


@pytest.mark.parametrize(
    ("kind", "bridge"),
    [
        (Features(podman=True), "interface of /networks/mine/json"),
        # An interface of this host may have the name.
        (Features(rootless=True), None),
        (Features(podman=True, rootless=True), None),
    ],
)
def test_an_interface_that_is_not_seen_is_not_protected(
    here: Switchboard, monkeypatch: pytest.MonkeyPatch, kind: Features, bridge: str | None
) -> None:
    protected: list[str] = []

    def protect(name: str, **_: bool) -> bool:
        protected.append(name)
        return True

    monkeypatch.setattr(network, "protect", protect)
    here.kind = kind
    networks = Networks(here, "isolated", guarded=("mine",))
    networks.ensure("mine")
    assert protected == ([] if bridge is None else [bridge])
    assert networks.firewall("mine") is (Firewall.ABSENT if bridge is None else Firewall.ACTIVE)


def test_another_driver_s_network_is_not_taken_for_protected(
    here: Switchboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "protect", lambda _, **__: True)
    here.there[1]["Driver"] = "macvlan"
    networks = Networks(here, "isolated", guarded=("mine",))
    networks.ensure("mine")
    assert networks.firewall("mine") is Firewall.ABSENT


@pytest.mark.parametrize("program", ["sleep 60", "exit 4", "exit 0", None])
def test_a_packet_filter_that_does_not_do_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    iptables = tmp_path / "iptables"
    if program is not None:
        iptables.write_text(f"#!/bin/sh\nexec {program}\n")
        iptables.chmod(0o755)
    monkeypatch.setattr(firewall, "_program", lambda _: str(iptables))
    monkeypatch.setattr(firewall, "_PATIENCE", 0.2)
    assert not firewall.protect("lo")


def test_without_root_or_iptables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "_program", lambda _: None)
    assert not firewall.protect("lo")


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "host",
        HOST_ID,
        HOST_ID[:12],
        HOST_ID[:2],
        "no-such-network",
        "default",
        "container:abc",
        "isolate",
        "NONE",
        "None",
        " none",
        "none ",
        "host\n",
        "mine\n",
    ],
)
def test_what_is_no_network_s_name(name: str) -> None:
    with pytest.raises(StartFailed, match="network"):
        Networks(Switchboard("mine"), "isolated").ensure(name)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "../info",
        "../version",
        "../images/json",
        "a/../../info",
        "a/b",
        "/",
        "a?b",
        "a#b",
        "a%2fb",
        "ünï",
    ],
)
def test_a_name_that_is_a_path_never_reaches_the_engine(name: str) -> None:
    engine = Switchboard()
    with pytest.raises(StartFailed, match="does not exist"):
        Networks(engine, "isolated").ensure(name)
    assert engine.asked == []


def test_an_engine_that_fails() -> None:
    class Failing(Switchboard):
        def networks(self, name: str | None = None) -> list[dict[str, Any]]:
            raise EngineRefused(500, "broken")

    with pytest.raises(EngineRefused, match="broken"):
        Networks(Failing(), "isolated").ensure("mine")
