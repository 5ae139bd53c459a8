"""``deploy/prometheus.yml``, its alerts and the Grafana dashboard, held against what light-run really shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from light_run.config import tokens
from tests.support.poll import eventually, until_nothing
from tests.support.prometheus import ALERTS, CONFIGURATION, DEPLOY, Prometheus, promtool, running_prometheus
from tests.support.server import Server, running_server

DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
# What Prometheus itself knows of each target.
ITS_OWN = {"up"}
SUFFIXES = ("_bucket", "_count", "_sum")


def expressions() -> dict[str, str]:
    """The dashboard's queries by panel, with what Grafana puts in the place of its variables."""
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            found[f"{panel['title']} {target['refId']}"] = text
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose metrics need a token for them alone."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "token").write_text(tokens.create(folder / "tokens.json", "prometheus", [tokens.METRICS]))
    with running_server(folder, settings={"LIGHT_RUN_TOKENS_FILE": str(folder / "tokens.json")}) as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(measured: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, with the configuration and the rules of ``deploy/``, looking at it."""
    token = (measured.folder / "token").read_text()
    folder = tmp_path_factory.mktemp("prometheus") / "own"
    with running_prometheus(folder, port=measured.port, token=token) as prometheus:
        yield prometheus


def test_promtool_finds_no_fault_in_what_is_shipped() -> None:
    promtool("check", "config", "--syntax-only", str(CONFIGURATION))
    promtool("check", "rules", str(ALERTS))


def test_alerts_are_raised_by_what_they_are_for() -> None:
    promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))


def test_promtool_finds_no_fault_in_the_page(measured: Server) -> None:
    measured.run()
    promtool("check", "metrics", text=measured.get("/metrics").text)


def test_every_metric_that_is_named_is_on_the_page(measured: Server) -> None:
    shown = set(re.findall(r"^# TYPE (\S+)", measured.get("/metrics").text, re.MULTILINE))
    used = " ".join([*expressions().values(), *(rule["expr"] for rule in RULES)])
    named = set(re.findall(r"\b(?:light_run|process)_\w+|\bup\b", used)) - ITS_OWN
    assert {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in named} - shown == set()
    # And the other way round: nothing is measured that nobody looks at.
    ours = {name for name in shown if name.startswith("light_run_") and not name.endswith("_created")}
    assert ours - {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in named} == {
        "light_run_parked_containers_limit"
    }


def test_prometheus_has_something_to_show_in_every_panel(measured: Server, prometheus: Prometheus) -> None:
    eventually(lambda: [one["value"][1] for one in prometheus.query("up")] == ["1"], "it was looked at")
    for _ in range(3):
        measured.run()
    asked = expressions()
    assert len(asked) > 20

    def empty() -> list[str]:
        return [panel for panel, expression in asked.items() if not prometheus.query(expression)]

    eventually(lambda: not empty(), "every panel has something to show", within=40)
    # A look that took too long takes it off the page until the next one.
    up = "light_run_engine_up"
    eventually(lambda: [one["value"][1] for one in prometheus.query(up)] == ["1"], "the engine is up")


def test_prometheus_can_evaluate_every_rule(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "unknown"]

    def different() -> list[object]:
        found = [(rule["name"], rule["health"], rule["state"]) for rule in rules()]
        wanted = [(rule["alert"], "ok", "inactive") for rule in RULES]
        return [] if found == wanted else [found]

    # A look that took too long makes one pending, until the next one.
    until_nothing(different, "every rule was evaluated and is inactive", within=40)


def test_every_rule_says_what_is_wrong_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"], rule
        assert rule["annotations"]["description"].endswith("."), rule


def test_panels_lie_beside_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        position = panel["gridPos"]
        for x in range(position["x"], position["x"] + position["w"]):
            for y in range(position["y"], position["y"] + position["h"]):
                assert x < 24
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
