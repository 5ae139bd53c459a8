"""EngineMaintenance, where an engine cannot be made to be a day older or to fail on cue."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from light_run.engine.config import RunnerConfig
from light_run.engine.images.uses import StepUses
from light_run.engine.sandbox.user_networks import UserNetworks
from light_run.engine.upkeep.leftovers import Leftovers
from light_run.engine.upkeep.maintenance import EngineMaintenance
from light_run.errors import EngineRefused, Overloaded

NOW = datetime.now(timezone.utc)


def network(name: str, days: float, server: str = "s") -> dict[str, Any]:
    created = (NOW - timedelta(days=days)).isoformat().replace("+00:00", "Z")
    labels = {"light-run.network": "user", "light-run.server": server, "light-run.owner": ""}
    return {"Name": name, "Id": name, "Created": created, "Labels": labels, "Driver": "bridge"}


class Engine:
    """Networks alone; it has no images for the time being."""

    def __init__(self, *networks: dict[str, Any], in_use: str = "") -> None:
        self.found = list(networks)
        self.in_use = in_use

    def networks_with(self, label: str) -> list[dict[str, Any]]:
        return list(self.found)

    def remove_network(self, network_id: str) -> None:
        if network_id == self.in_use:
            raise EngineRefused(403, "has active endpoints")
        self.found = [each for each in self.found if each["Id"] != network_id]

    def containers(self, label: str) -> list[dict[str, Any]]:
        return []

    def images(self, label: str, *, everything: bool) -> list[dict[str, Any]]:
        raise EngineRefused(500, "broken")


def maintenance(engine: Any) -> EngineMaintenance:
    config = RunnerConfig(server_id="s")
    networks = UserNetworks(engine, "s", "light-run", lambda _: None)
    uses = StepUses(None, lambda: 0.0)
    return EngineMaintenance(
        engine, config, uses=uses, networks=networks, leftovers=Leftovers(engine, config)
    )


def test_networks_a_day_old_go_also_where_images_fail(tmp_path: Path) -> None:
    engine = Engine(
        *(network("old", 1.1), network("young", 0.9), network("used", 2), network("needed", 2)),
        network("other", 2, server="another"),
        in_use="used",
    )
    report = maintenance(engine).run(tmp_path, (), lambda: {"needed"}, lambda: False)
    assert (report.networks, report.failed) == (1, ("images",))
    assert [each["Name"] for each in engine.found] == ["young", "used", "needed", "other"]


def test_no_network_goes_while_it_is_not_known_what_runs_need(tmp_path: Path) -> None:
    def unknown() -> set[str]:
        raise Overloaded("the database does not answer")

    engine = Engine(network("old", 2))
    report = maintenance(engine).run(tmp_path, (), unknown, lambda: False)
    assert (report.networks, report.failed) == (0, ("images", "networks"))
    assert [each["Name"] for each in engine.found] == ["old"]


def test_uses_outlive_the_process_and_a_removal_is_waited_for(tmp_path: Path) -> None:
    now = [100.0]
    StepUses(tmp_path / "uses", lambda: now[0]).use("key")
    uses = StepUses(tmp_path / "uses", lambda: now[0])
    assert uses.last("key") == 100.0
    assert uses.last("other") is None
    now[0] = 200.0
    uses.use("key")
    with uses.removing("key", unused_since=150.0) as free:
        assert not free
    with uses.removing("key", unused_since=250.0) as free:
        assert free
    uses.forget_except((), unused_since=250.0)
    assert uses.last("key") is None
