"""The documentation's tables, held against the code and against real answers."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from marshmallow import fields

from light_run.api import Policy, create_api
from light_run.api.auth.throttle import MOST_FAILURES
from light_run.api.requests import fields as ours
from light_run.api.requests import schema as schemas
from light_run.api.requests.files import MOST_PATH, Files, Stdin
from light_run.api.requests.labels import RunLabels
from light_run.api.responses import errors
from light_run.cli import main
from light_run.config import tokens
from light_run.config.settings import Settings, table
from light_run.config.tokens import TokenFile
from light_run.engine import DROPPED_CAPABILITIES, Limits, Phase, Progress, Reason
from light_run.errors import (
    EngineUnavailable,
    IdempotencyConflict,
    InsufficientStorage,
    NetworkConflict,
    NetworkExists,
    NetworkInUse,
    NetworkNotFound,
    Overloaded,
    RunNotStarted,
    StdinClosed,
)
from light_run.runs.model import Delivery, RunRecord, Status
from light_run.runs.presentation import run_state
from light_run.runs.service import RunService
from light_run.server.http_worker import _REFUSALS
from tests.docs import rst
from tests.docs.settings_files import ENV_EXAMPLE, MANUAL, REPOSITORY, SETTINGS, env_example, with_table
from tests.support.abilities import ENGINES, ISOLATION, LIMITS
from tests.support.engines import TITLES
from tests.support.poll import eventually
from tests.support.raw import raw_request
from tests.support.server import Server, run_cli, running_server

UNKNOWN = "00000000-0000-4000-8000-000000000000"
API_SOURCES = sorted((REPOSITORY / "light_run" / "api").rglob("*.py"))
MIB = 1024 * 1024

TYPES: dict[type[fields.Field[Any]], str] = {
    ours.Text: "string",
    ours.TextList: "array of strings",
    ours.Integer: "integer",
    ours.Boolean: "boolean",
    ours.Choice: "string",
    ours.Nested: "object",
    ours.AnyValue: "any JSON",
    Files: "object",
    Stdin: "string or object",
    schemas.Env: "object",
    RunLabels: "object",
}

STATE_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "object": dict,
    "array": list,
    "array of strings": list,
}

WRITE = "out of date; run: python -m tests.docs.settings_files"


class FailingService:
    """Stands in for the runs: whatever is submitted fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def submit(self, request: object) -> None:
        """Raise what this one was made with."""
        raise self._error


def rows(name: str) -> dict[str, list[str]]:
    """The rows of one of the documentation's tables, by their first cell."""
    found = rst.table(MANUAL, name)
    by_name = {row[0]: row for row in found}
    assert len(by_name) == len(found), f"a row of {name} is there twice"
    return by_name


def words_of_api(pattern: str) -> set[str]:
    """What `pattern` finds in the sources of the API."""
    return {word for path in API_SOURCES for word in re.findall(pattern, path.read_text())}


# --- settings -------------------------------------------------------------------------------------------


def test_the_table_of_settings() -> None:
    assert SETTINGS.read_text() == with_table(SETTINGS.read_text()), WRITE


def test_every_setting_is_in_it() -> None:
    assert list(rows("settings-table")) == [variable.name for variable in table()]


def test_the_example_environment() -> None:
    assert ENV_EXAMPLE.read_text() == env_example(), WRITE


def test_the_example_environment_sets_the_defaults(tmp_path: Path) -> None:
    lines = ENV_EXAMPLE.read_text().splitlines()
    uncommented = [line.removeprefix("#") for line in lines if line.startswith("#LIGHT_RUN_")]
    (tmp_path / ".env").write_text("\n".join(uncommented) + "\n")
    script = "set -a; . ./.env; set +a; env -0"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True, text=True)
    environment = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    assert len(uncommented) == len(table())
    assert Settings.from_env(environment) == Settings.from_env({})


def test_options_of_serve(tmp_path: Path) -> None:
    shown = {row[1] for row in rst.table(MANUAL, "settings-table") if row[1]}
    done = run_cli(tmp_path, "serve", "--help")
    assert set(re.findall(r"^  (--[a-z-]+)", done.stdout, re.MULTILINE)) == shown
    assert re.search(r"^  -h, --help ", done.stdout, re.MULTILINE)


def test_options_that_are_named_exist() -> None:
    # By way of `main`: a command that is called by itself keeps its help without -h for the rest of the process.
    known = "".join(
        CliRunner().invoke(main, [*words, "--help"]).stdout
        for words in ([], ["token", "new"], *([name] for name in main.commands))
    )
    named = {word for text in rst.literals(MANUAL) for word in re.findall(r"(?<!\S)--?[a-z][a-z-]*", text)}
    foreign = {"-m", "-d"}
    assert {word for word in named - foreign if word not in known} == set()


# --- routes and fields ----------------------------------------------------------------------------------


def test_endpoints() -> None:
    service = cast("RunService", FailingService(RuntimeError()))
    app = create_api(service, token=None, body_limit=1000, policy=Policy())
    routes = set()
    for rule in app.url_map.iter_rules():
        path = (
            rule.rule.replace("<run_id>", "ID")
            .replace("<network:name>", "NAME")
            .replace("<anything:rest>", "PATH")
            .replace("<filename>", "FILE")
        )
        routes |= {(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert {(row[0], row[1]) for row in rst.table(MANUAL, "endpoints-table")} == routes


def test_engines() -> None:
    said = {row[0]: row[1] for row in rst.table(MANUAL, "engines-table")}
    assert list(said) == list(TITLES.values())
    for name, abilities in ENGINES.items():
        words = said[TITLES[name]]
        # What holds for another engine is said there.
        while other := re.search(r"What holds for (\w+), and for (rootless \w+)", words):
            rootless = {"rootless Docker": "Docker, rootless"}[other[2]]
            words = words.replace(other[0], f"{said[other[1]]} {said[rootless]}")
        assert ("start_failed" in words) is bool(abilities.lacks), name
        assert ("isolated network" in words) is (ISOLATION in abilities.lacks), name
        assert ("LIGHT_RUN_ALLOW_UNLIMITED" in words) is (LIMITS in abilities.lacks), name


def test_request_fields() -> None:
    schema = schemas.run_schema(Policy())
    assert list(rows("request-table")) == list(schema.fields)
    for name, field in schema.fields.items():
        _, kind, meaning = rows("request-table")[name]
        assert kind == TYPES[type(field)], name
        assert meaning.startswith("Required") == field.required, name
        for number in bounds(field):
            assert re.search(rf"\b{number}\b", meaning), f"{name}: {number} is not said"


def bounds(field: fields.Field[Any]) -> set[int]:
    """The numbers that limit a field."""
    found = {each for each in field.metadata.values() if isinstance(each, int)}
    if isinstance(field, Files):
        found.add(MOST_PATH)
    return found | (bounds(field.inner) if isinstance(field, fields.List) else set())


def test_parts_of_limits() -> None:
    limits = cast("ours.Nested", schemas.run_schema(Policy()).fields["limits"])
    assert set(limits.schema.fields) == set(
        re.findall(r"\b[a-z]+(?= \()", rows("request-table")["limits"][2])
    )


def test_defaults_of_request_fields() -> None:
    spec = schemas.run_spec({"image": "alpine", "files": {}}, Policy())
    assert f"default {int(spec.timeout * 1000)}" in rows("request-table")["timeout"][2]
    assert f"default {int((spec.step_timeout or 0) * 1000)}" in rows("request-table")["stepTimeout"][2]
    assert f"default {spec.workdir}" in rows("request-table")["workdir"][2]


def test_unknown_rows_would_be_found() -> None:
    with pytest.raises(LookupError):
        rst.table(MANUAL, "no-such-table")


# --- states ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps little of a run's output and files."""
    settings = {
        "LIGHT_RUN_LOG_LIMIT": "100",
        "LIGHT_RUN_EXTRACT_LIMIT": "100",
        "LIGHT_RUN_MAX_ARTIFACTS_FILES": "1",
    }
    with running_server(tmp_path_factory.mktemp("tables"), settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def states(real: Server) -> list[dict[str, Any]]:
    """Final states of runs that ended in different ways; together they have every field."""
    chatty = {"entrypoint": "seq 100 | tee large; echo 1 >kept", "extract": ["kept", "missing", "large"]}
    # The next one's artifact takes the place of its own.
    evicted = real.run(entrypoint="echo 1 >kept", extract=["kept"])["id"]
    return [
        real.run(**chatty, callbackUrl="http://127.0.0.1:1/", labels={"team": "search"}),
        real.state(evicted),
        real.run(entrypoint="sleep 60", timeout=100),
        real.run(entrypoint="printf out; printf '\\377' >&2; exit 3", output="split"),
        real.run(entrypoint="tail /dev/zero; exit 0", limits={"memory": "32m"}),
    ]


@pytest.fixture(scope="module")
def under_way(real: Server) -> dict[str, Any]:
    """The state of a run while a step of it is built."""
    run_id = real.start(run=[f"echo {time.time()}; sleep 60"])

    def look() -> dict[str, Any] | None:
        state = real.state(run_id)
        return state if "progress" in state else None

    state = eventually(look, "it says how far it is")
    assert state is not None
    assert real.cancel(run_id).status_code == 204
    assert not {"phase", "progress"} & set(real.state(run_id))
    return state


def test_state_fields(states: list[dict[str, Any]], under_way: dict[str, Any]) -> None:
    assert set(rows("state-table")) == {name for state in [*states, under_way] for name in state}


def test_types_of_state_fields(states: list[dict[str, Any]], under_way: dict[str, Any]) -> None:
    for name, kind, _ in rst.table(MANUAL, "state-table"):
        values = [state[name] for state in [*states, under_way] if name in state]
        kinds = {STATE_TYPES[each] for each in ([kind] if kind in STATE_TYPES else kind.split(" or "))}
        assert all(type(value) in kinds for value in values), name
        if kind == "array of strings":
            assert all(isinstance(item, str) for value in values for item in value), name


@pytest.mark.parametrize("name", ["artifacts", "extracted", "timings", "usage", "callback"])
def test_parts_of_state_fields(states: list[dict[str, Any]], name: str) -> None:
    values = [state[name] for state in states if name in state]
    entries = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    shown = set(re.findall(r"\b[a-z]+[A-Za-z]*\b", literal_words(name)))
    assert {key for entry in entries for key in entry} == shown


def test_parts_of_progress(under_way: dict[str, Any]) -> None:
    pulling = RunRecord(
        id="x",
        status=Status.RUNNING,
        created_at=datetime.now(timezone.utc),
        progress=Progress(layers=3, done=1),
    )
    shown = re.findall(r"\{(.*?)\}", rows("state-table")["progress"][2])
    parts = [run_state(pulling)["progress"], under_way["progress"]]
    assert [",".join(f'"{name}"' for name in each) for each in parts] == shown


def test_phases() -> None:
    assert re.findall(r"[a-z]{6,}(?=,| or|\.)", rows("state-table")["phase"][2].partition(":")[2]) == [
        str(phase) for phase in Phase
    ]


def literal_words(name: str) -> str:
    """The part of a state's row that lists the parts of the field."""
    meaning = rows("state-table")[name][2]
    braces = re.search(r"\{(.*?)\}", meaning)
    listed = braces[1] if braces else re.sub(r"\([^)]*\)", "", meaning).partition(".")[0].partition(";")[0]
    return listed.replace(" and ", " ")


def test_statuses() -> None:
    named = rows("state-table")["status"][2].partition(".")[0]
    assert re.findall(r"[a-z]{4,}", named) == [str(status) for status in Status]


def test_states_of_callbacks() -> None:
    named = re.search(r"state \((.*?)\)", rows("state-table")["callback"][2])
    assert named is not None
    assert named[1].split(", ") == [str(state) for state in Delivery]


def test_reasons() -> None:
    assert list(rows("reasons-table")) == [str(reason) for reason in Reason]


def test_lists_have_no_logs(real: Server, states: list[dict[str, Any]]) -> None:
    listed = real.get("/runs").json()
    assert {run["id"] for run in listed} >= {state["id"] for state in states}
    assert all("logs" not in run for run in listed)


# --- errors ---------------------------------------------------------------------------------------------

Answer = tuple[int, Any]


def failing(error: Exception) -> Callable[[Server, dict[str, Any]], Answer]:
    """What is answered where a run cannot be accepted because of `error`."""

    def provoke(server: Server, state: dict[str, Any]) -> Answer:
        service = cast("RunService", FailingService(error))
        app = create_api(service, token=None, body_limit=1000, policy=Policy())
        body = {"image": "alpine", "files": {"a": ""}, "detached": True}
        response = app.test_client().post("/run", data=json.dumps(body))
        return response.status_code, json.loads(response.data)

    return provoke


def asking(method: str, path: str, **arguments: Any) -> Callable[[Server, dict[str, Any]], Answer]:
    """What is answered to a request; ID in `path` is a run that ended and left a file called ``kept``."""

    def provoke(server: Server, state: dict[str, Any]) -> Answer:
        response = server.request(method, path.replace("ID", state["id"]), **arguments)
        return response.status_code, response.json()

    return provoke


def asking_raw(target: bytes, head: bytes) -> Callable[[Server, dict[str, Any]], Answer]:
    """What is answered to a request that no client library would send."""

    def provoke(server: Server, state: dict[str, Any]) -> Answer:
        response = raw_request(server, "POST", target, head=head)
        return response.status, json.loads(response.body)

    return provoke


def lacking_scope(server: Server, state: dict[str, Any]) -> Answer:
    """What is answered to a token that may only look."""
    path = server.folder / "tokens.json"
    path.unlink(missing_ok=True)
    token = tokens.create(path, "looks", ["read"])
    service = cast("RunService", FailingService(RuntimeError()))
    app = create_api(service, token=None, named=TokenFile(path), body_limit=1000, policy=Policy())
    headers = {"Authorization": f"Bearer {token}"}
    response = app.test_client().post("/run", data=b"{}", headers=headers)
    return response.status_code, json.loads(response.data)


def too_slow(server: Server, state: dict[str, Any]) -> Answer:
    """What is answered where the body is not there in time."""
    service = cast("RunService", FailingService(RuntimeError()))
    app = create_api(service, token=None, body_limit=1000, policy=Policy(), body_timeout=0.0)
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as body:
        environ = {"gunicorn.socket": ours, "wsgi.input": body, "CONTENT_LENGTH": "5"}
        response = app.test_client().post("/run", environ_overrides=environ)
        return response.status_code, json.loads(response.data)


def misdirected(server: Server, state: dict[str, Any]) -> Answer:
    """What a server without a token answers to a name that is not its own."""
    service = cast("RunService", FailingService(RuntimeError()))
    client = create_api(service, token=None, body_limit=1000, policy=Policy()).test_client()
    response = client.get("/runs", headers={"Host": "evil.example"})
    return response.status_code, json.loads(response.data)


def guessing(server: Server, state: dict[str, Any]) -> Answer:
    """What is answered to one who has guessed often."""
    service = cast("RunService", FailingService(RuntimeError()))
    client = create_api(service, token="t", body_limit=1000, policy=Policy()).test_client()
    for _ in range(MOST_FAILURES):
        assert client.get("/runs", headers={"Authorization": "Bearer guess"}).status_code == 401
    response = client.get("/runs", headers={"Authorization": "Bearer t"})
    return response.status_code, json.loads(response.data)


PROVOKED: dict[tuple[int, str], Callable[[Server, dict[str, Any]], Answer]] = {
    (400, "bad_request"): asking("POST", "/run", data=b"{"),
    (400, "invalid_path"): asking("GET", "/runs/ID/artifacts/..%2fkept"),
    (401, "unauthorized"): asking("GET", "/runs", token="another"),
    (403, "forbidden"): lacking_scope,
    (403, "origin_not_allowed"): asking("GET", "/runs", headers={"Origin": "https://evil.example"}),
    (404, "not_found"): asking("GET", f"/runs/{UNKNOWN}"),
    (404, "not_found_or_done"): asking("POST", "/runs/ID/cancel"),
    (404, "not_found_or_running"): asking("DELETE", f"/runs/{UNKNOWN}"),
    (404, "artifact_not_found"): asking("GET", "/runs/ID/artifacts/nothing"),
    (405, "method_not_allowed"): asking("PUT", "/run"),
    (408, "request_timeout"): too_slow,
    (404, "network_not_found"): failing(NetworkNotFound("not ours")),
    (409, "network_exists"): failing(NetworkExists("there is one")),
    (409, "network_conflict"): failing(NetworkConflict("overlaps")),
    (409, "network_in_use"): failing(NetworkInUse("in use")),
    (503, "engine_unavailable"): failing(EngineUnavailable("away")),
    (409, "stdin_closed"): failing(StdinClosed("the run takes no input")),
    (409, "not_started"): failing(RunNotStarted("the run has not started yet")),
    (409, "idempotency_conflict"): failing(IdempotencyConflict("another body")),
    (413, "payload_too_large"): asking("POST", "/run", data=bytes(10 * MIB + 1)),
    (414, "uri_too_long"): asking_raw(b"/run?" + 8200 * b"x", b"Content-Length: 0\r\n"),
    (416, "range_not_satisfiable"): asking("GET", "/runs/ID/artifacts/kept", headers={"Range": "bytes=99-"}),
    (421, "misdirected_request"): misdirected,
    (429, "too_many_requests"): guessing,
    (431, "headers_too_large"): asking_raw(b"/run", b"X-Long: " + 9000 * b"x" + b"\r\n"),
    (500, "internal_error"): failing(RuntimeError("unforeseen")),
    (501, "not_implemented"): asking_raw(b"/run", b"Transfer-Encoding: nonsense\r\n"),
    (503, "overloaded"): failing(Overloaded("too many wait")),
    (507, "insufficient_storage"): failing(InsufficientStorage("full")),
}


def test_errors_are_all_there() -> None:
    shown = [(int(row[0]), row[1]) for row in rst.table(MANUAL, "errors-table")]
    assert sorted(shown) == sorted(PROVOKED)
    answered = {word for _, word in errors._ANSWERS.values()} | set(errors._WORDS.values())
    answered |= {refusal[-1] for refusal in _REFUSALS} | words_of_api(r'error_response\(\s*"([a-z_]+)"')
    assert answered == {word for _, word in shown}


@pytest.mark.parametrize(("status", "word"), list(PROVOKED))
def test_errors(real: Server, states: list[dict[str, Any]], status: int, word: str) -> None:
    code, body = PROVOKED[status, word](real, states[0])
    assert (code, body["error"]) == (status, word)
    assert body.keys() <= {"error", "message", "details"}
    assert "Traceback" not in json.dumps(body)


def test_codes_of_details() -> None:
    codes = words_of_api(r'(?:wrong|FieldFault)\(\s*"([a-z_0-9]+)"')
    codes |= words_of_api(r'(?:Fault|_fault)\([^"]*(?:"[^"]*"[^"]*)??, "([a-z_0-9]+)"')
    paragraph = rst.section(MANUAL, "Errors").partition("The codes of details:")[2].partition(".")[0]
    # What marshmallow would say by itself is never said.
    assert set(re.findall(r"[a-z_0-9]{5,}", paragraph)) == codes - {"invalid"}


# --- promises -------------------------------------------------------------------------------------------


def test_hardening_is_as_it_is_said() -> None:
    text = " ".join(rst.section(MANUAL, "Security").split())
    limits = Limits()
    said = (
        f"{limits.memory // MIB} MiB of memory and no swap, {limits.cpus:g} CPU, and {limits.pids} processes"
    )
    assert said in text
    dropped = text.partition("without the capabilities ")[2].partition(";")[0]
    assert re.findall(r"[A-Z_]{3,}", dropped) == list(DROPPED_CAPABILITIES)


def test_help_of_the_command(tmp_path: Path) -> None:
    for command in (["-h"], ["--help"]):
        done = run_cli(tmp_path, *command)
        assert done.returncode == 0
        assert "serve" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "light_run", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("light-run ")
