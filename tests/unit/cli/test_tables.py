"""What people see: tables, times, sizes, exit codes, and what the doctor says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from light_run.api import Policy
from light_run.api.responses.findings import findings
from light_run.cli.diagnosis import server as server_diagnosis
from light_run.cli.diagnosis.finding import FAIL, OK, WARN
from light_run.cli.display import attach, tables
from light_run.client import Client, model
from light_run.engine.spec import Firewall
from light_run.errors import Fault, InvalidSpec
from light_run.system.sizes import decimal
from tests.unit.fake_runner import FakeHealth, FakeRunner


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0 s"), (0.52, "0.5 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (90000, "1 d")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert tables.duration(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e9, "2.0 GB"), (3e15, "3000.0 TB")]
)
def test_sizes(number: float, shown: str) -> None:
    assert decimal(number) == shown


def test_what_a_container_made_up_moves_no_cursor() -> None:
    assert tables.printable("a\tb\x1b[2J\nü\u202e") == "a\\tb\\x1b[2J\\nü\\u202e"


def test_ages_are_for_people_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 4, 20, tzinfo=timezone.utc)
    assert tables.age(now) == "2026-04-20T00:00:00.000Z"
    assert tables.age(None) == ""
    monkeypatch.setattr(tables, "on_terminal", lambda: True)
    assert tables.age(now, now + timedelta(seconds=90)) == "1 min ago"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"status": "succeeded", "reason": "exit", "exitCode": 0}, 0),
        ({"status": "failed", "reason": "exit", "exitCode": 3}, 3),
        ({"status": "failed", "reason": "timeout"}, 124),
        ({"status": "cancelled", "reason": "cancelled"}, 130),
        ({"status": "failed", "reason": "out_of_memory"}, 137),
        ({"status": "failed", "reason": "out_of_memory", "exitCode": 1}, 1),
        ({"status": "failed", "reason": "image_not_found"}, 125),
        ({"status": "failed", "reason": "disk_limit", "exitCode": 137}, 137),
    ],
)
def test_exit_codes(state: dict[str, Any], code: int) -> None:
    assert attach.exit_code(model.run({"id": "a", **state})) == code


@pytest.mark.parametrize(
    ("progress", "far"),
    [
        (None, ("pulling", 1, 0)),
        ({"layers": 3, "done": 1, "currentBytes": 0, "totalBytes": 0}, ("pulling", 3, 1)),
        ({"layers": 3, "done": 1, "currentBytes": 5, "totalBytes": 9}, ("pulling 1/3 layers", 9, 5)),
        ({"steps": 2, "done": 1}, ("pulling", 2, 1)),
    ],
)
def test_how_far_a_pull_is(progress: Any, far: tuple[str, int, int]) -> None:
    run = model.run({"id": "a", "status": "running", "phase": "pulling", "progress": progress})
    assert attach._pull_progress(run) == far


def test_a_run_between_queue_and_pull_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    running = {"id": "a", "status": "running"}
    states = iter(
        [
            {"id": "a", "status": "queued"},
            # It has its slot, and the image is being looked for: too short to be met at will.
            running,
            {**running, "phase": "pulling", "progress": {"layers": 2, "done": 1}},
            {**running, "phase": "starting"},
        ]
    )

    class Scripted:
        def get(self, run_id: str) -> model.Run:
            return model.run(next(states))

    attach.show_preparation(cast("Client", Scripted()), "a")
    assert next(states, None) is None
    assert "pulling" in capsys.readouterr().err


class Asking:
    """A client of an API that is in this process."""

    url = "http://server"

    def __init__(self, client: FlaskClient, **changes: Any) -> None:
        self._client, self._changes = client, changes

    def info(self) -> model.Info:
        """See `Client`."""
        response = self._client.get("/info", headers={"Authorization": "Bearer t"})
        described: dict[str, Any] = {**response.json, **self._changes}  # type: ignore[dict-item]
        return model.info({**described, "findings": findings(described)})


WELL = FakeHealth(engine="Docker/1", workspace="bind", runtimes=("runc", "kata"))


@pytest.mark.parametrize(
    ("token", "health", "changes", "said"),
    [
        (
            "t",
            WELL,
            {},
            {"server": OK, "version": OK, "token": OK, "engine": OK, "runtimes": OK, "workspaces": OK},
        ),
        (None, WELL, {}, {"token": WARN}),
        ("t", FakeHealth(docker=False), {}, {"engine": FAIL}),
        ("t", FakeHealth(missing_limits=("memory",)), {}, {"limits": FAIL}),
        ("t", WELL, {}, {"network": OK}),
        ("t", FakeHealth(firewall=Firewall.NOT_NEEDED), {}, {"network": OK}),
        ("t", FakeHealth(firewall=Firewall.ABSENT), {}, {"network": WARN}),
        ("t", FakeHealth(runtimes=("kata",)), {}, {"runtimes": WARN, "workspaces": OK}),
        ("t", WELL, {"version": "0.0"}, {"version": WARN}),
        ("t", WELL, {}, {"disk guards": OK}),
        ("t", FakeHealth(disk_guards=("size", "free_space")), {}, {"disk guards": WARN}),
        ("t", FakeHealth(disk_guards=("size", "free_space", "quota")), {}, {"disk guards": OK}),
        ("t", WELL, {"disk": {"freeBytes": 1e9, "totalBytes": 9e9, "guards": []}}, {"disk": WARN}),
        ("t", WELL, {"disk": {"freeBytes": 1e7, "totalBytes": 9e9, "guards": []}}, {"disk": FAIL}),
    ],
)
def test_the_doctor(
    *,
    make_client: Callable[..., FlaskClient],
    runner: FakeRunner,
    token: str | None,
    health: FakeHealth,
    changes: dict[str, Any],
    said: dict[str, str],
) -> None:
    runner.health_now = health
    asking = Asking(make_client(token=token), **changes)
    found = list(server_diagnosis.findings(cast("Client", asking)))
    levels = {finding.summary.partition(":")[0]: finding.level for finding in found}
    assert {name: levels[name] for name in said} == said
    assert all(finding.fix for finding in found if finding.level != OK)


@pytest.mark.parametrize(
    ("engine", "runtimes", "recommended"),
    [
        ("Docker/28.5.0 (linux)", ("runc",), True),
        ("Docker/28.5.0 (linux)", ("crun", "runc"), False),
        ("Libpod/4.3.1 (linux)", ("runc",), False),
    ],
)
def test_the_doctor_recommends_crun(
    make_client: Callable[..., FlaskClient],
    runner: FakeRunner,
    engine: str,
    runtimes: tuple[str, ...],
    recommended: bool,
) -> None:
    runner.health_now = FakeHealth(engine=engine, workspace="bind", runtimes=runtimes)
    asking = Asking(make_client(policy=Policy(runtimes=runtimes)))
    findings = server_diagnosis.findings(cast("Client", asking))
    (found,) = [each for each in findings if each.summary.startswith("runtimes:")]
    assert (found.level, "LIGHT_RUN_RUNTIME=crun" in found.fix) == (OK, recommended)


class Trying(Asking):
    """A client whose runs end as `runs` has it, by their image."""

    def __init__(self, client: FlaskClient, runs: dict[str, dict[str, Any]]) -> None:
        super().__init__(client)
        self.runs, self.deleted = runs, list[str]()

    def submit(self, image: str, *_: object, **options: object) -> model.Run:
        """See `Client`."""
        assert options["pull"] == "never"
        if image not in self.runs:
            raise InvalidSpec([Fault(("image",), "not_allowed", f"{image} is not allowed")])
        return model.run({"id": image, "status": "running"})

    def wait(self, run_id: str, _: float) -> model.Run:
        """See `Client`."""
        return model.run({"id": run_id, **self.runs[run_id]})

    def delete(self, run_id: str) -> None:
        """See `Client`."""
        self.deleted.append(run_id)


@pytest.mark.parametrize(
    ("state", "logs", "level"),
    [
        (Firewall.ACTIVE, [], OK),
        (Firewall.ABSENT, [], OK),
        (Firewall.ABSENT, ["the engine's host"], WARN),
        (Firewall.ACTIVE, ["the metadata address"], FAIL),
    ],
)
def test_the_doctor_tries(
    make_client: Callable[..., FlaskClient], runner: FakeRunner, state: Firewall, logs: list[str], level: str
) -> None:
    runner.health_now = FakeHealth(firewall=state)
    gone = {"status": "failed", "error": "no such image"}
    client = Trying(make_client(token="t"), {"b": gone, "c": {"status": "succeeded", "logs": logs}})
    found = list(server_diagnosis.findings(cast("Client", client), ("a", "b", "c")))
    (tried,) = (each for each in found if "a run that tried" in each.summary)
    assert tried.level == level
    assert client.deleted == ["b", "c"]
    assert all(each in tried.summary for each in logs)
    (untried,) = (
        each
        for each in server_diagnosis.findings(cast("Client", client), ("a", "b"))
        if "not tried" in each.summary
    )
    assert "no such image" in untried.summary


def test_what_is_told_to_a_token(make_client: Callable[..., FlaskClient], runner: FakeRunner) -> None:
    runner.health_now = WELL
    client = make_client(token="t")
    assert client.get("/info").status_code == 401
    found = client.get("/info", headers={"Authorization": "Bearer t"}).json
    assert found is not None
    assert found["engine"] == {
        "name": "Docker/1",
        "address": "unix:///fake.sock",
        "runtimes": ["runc"],
        "missingLimits": [],
    }
    assert found["token"] == {"name": None, "scopes": ["admin"], "required": True}
    assert found["disk"]["freeBytes"] <= found["disk"]["totalBytes"]
