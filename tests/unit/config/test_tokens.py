"""Named tokens: their file, what they may, whose runs they see; and what guessing them leads to."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from light_run.api.auth import throttle
from light_run.api.auth.throttle import MOST_ADDRESSES, MOST_FAILURES, WINDOW, FailedAttempts
from light_run.cli import main
from light_run.config import readers, tokens
from light_run.config.tokens import TokenFile
from light_run.errors import SettingsError
from tests.support.poll import eventually
from tests.unit.conftest import MakeClient
from tests.unit.fake_runner import FakeRunner

UNKNOWN = "00000000-0000-4000-8000-000000000000"
REQUEST: dict[str, Any] = {"image": "alpine", "files": {"a": "1"}, "detached": True}
DIGEST = hashlib.sha256(b"secret").hexdigest()
ENTRY: dict[str, Any] = {"name": "ci", "sha256": DIGEST, "scopes": ["read"]}


def bearer(token: str) -> dict[str, str]:
    """The header that `token` goes in."""
    return {"Authorization": f"Bearer {token}"}


def submit(client: FlaskClient, token: str, **headers: str) -> TestResponse:
    """Ask for a detached run."""
    return client.post("/run", data=json.dumps(REQUEST), headers={**bearer(token), **headers})


def start(client: FlaskClient, token: str) -> str:
    """The id of a detached run of `token`."""
    response = submit(client, token)
    assert response.status_code == 202, response.data
    run_id: str = json.loads(response.data)["id"]
    return run_id


def listed(client: FlaskClient, token: str, query: str = "") -> list[str]:
    """The ids of the runs that `token` sees."""
    response = client.get(f"/runs{query}", headers=bearer(token))
    assert response.status_code == 200, response.data
    return [run["id"] for run in json.loads(response.data)]


class Api:
    """A client and tokens of each kind."""

    def __init__(self, make_client: MakeClient, folder: Path) -> None:
        self.path = folder / "tokens.json"
        self.one = "the-one"
        self.ann = tokens.create(self.path, "ann")
        self.bob = tokens.create(self.path, "bob", max_runs=1)
        self.looks = tokens.create(self.path, "looks", ["read"])
        self.starts = tokens.create(self.path, "starts", ["run"])
        self.admin = tokens.create(self.path, "admin", ["admin"])
        self.file = TokenFile(self.path)
        self.client = make_client(token=self.one, named=self.file)


@pytest.fixture
def api(make_client: MakeClient, tmp_path: Path) -> Api:
    """An API with tokens of each kind."""
    return Api(make_client, tmp_path)


# --- the file -------------------------------------------------------------------------------------------


def test_a_new_token_is_kept_as_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = tokens.create(path, "ci", ["run"], 4)
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert json.loads(path.read_text()) == {
        "tokens": [{"name": "ci", "sha256": digest, "scopes": ["run"], "maxRuns": 4}]
    }
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["tokens.json"]
    found = tokens.find(tokens.read(path), token.encode())
    assert found is not None
    assert (found.name, found.max_runs, set(found.scopes)) == ("ci", 4, {"run"})


def test_names_are_there_once(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens.create(path, "ci")
    before = path.read_text()
    with pytest.raises(SettingsError, match="the token ci already exists"):
        tokens.create(path, "ci")
    assert path.read_text() == before


def test_tokens_made_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    threads = [threading.Thread(target=tokens.create, args=(path, f"t{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in tokens.read(path)} == {f"t{number}" for number in range(8)}


FAULTS: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "a b"},
    {"name": 1},
    {"sha256": "secret"},
    {"sha256": DIGEST.upper()},
    {"scopes": []},
    {"scopes": "read"},
    {"scopes": ["write"]},
    {"scopes": [[]]},
    {"scopes": None},
    {"maxRuns": 0},
    {"maxRuns": True},
    {"maxRuns": 1.5},
    {"token": "secret"},
]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"tokens": {}}',
        b'{"tokens": [], "more": 1}',
        json.dumps({"tokens": [ENTRY, ENTRY]}).encode(),
        json.dumps({"tokens": [ENTRY, {**ENTRY, "name": "other"}]}).encode(),
        *(json.dumps({"tokens": [{**ENTRY, **fault}]}).encode() for fault in FAULTS),
    ],
)
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        TokenFile(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="light-run token new"):
        TokenFile(tmp_path / "none")


def test_a_signal_has_the_file_read_again(api: Api) -> None:
    late = tokens.create(api.path, "late")
    api.file.mark_stale()
    assert tokens.find(api.file.now(), late.encode()) is not None


def test_a_changed_file_is_noticed_by_itself(api: Api) -> None:
    late = tokens.create(api.path, "late")
    eventually(lambda: tokens.find(api.file.now(), late.encode()), "the new token is known", within=5)
    api.path.unlink()
    eventually(lambda: not api.file.now(), "no token is known", within=5)


def test_a_file_that_breaks_changes_nothing(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.path.write_text("{")
    api.file.mark_stale()
    with caplog.at_level(logging.ERROR):
        assert listed(api.client, api.ann) == []
    assert "the old ones stay valid" in caplog.text


def test_a_token_that_was_taken_out_opens_nothing(api: Api) -> None:
    assert listed(api.client, api.ann) == []
    api.path.write_text('{"tokens": []}')
    api.file.mark_stale()
    assert api.client.get("/runs", headers=bearer(api.ann)).status_code == 401
    assert listed(api.client, api.one) == []


# --- light-run token ------------------------------------------------------------------------------------


def test_the_command_prints_the_token_once(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    arguments = ["token", "new", "ci", "--scope", "read", "--max-runs", "3"]
    result = CliRunner().invoke(main, arguments, env={"LIGHT_RUN_TOKENS_FILE": str(path)})
    assert result.exit_code == 0
    found = tokens.find(tokens.read(path), result.stdout.strip().encode())
    assert found is not None
    assert (found.name, set(found.scopes), found.max_runs) == ("ci", {"read"}, 3)


def test_tokens_are_listed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"

    def light(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["token", *arguments], env={"LIGHT_RUN_TOKENS_FILE": str(path)})
        assert result.exit_code == 0, result.stderr
        return result.stdout

    ci, admin = light("new", "ci", "--max-runs", "3"), light("new", "ops", "--scope", "admin")
    listed = light("list")
    assert listed.splitlines() == ["ci read,run max-runs=3", "ops admin"]
    assert light("remove", "ci") == ""
    assert light("list") == "ops admin\n"
    assert [tokens.find(tokens.read(path), each.strip().encode()) is None for each in (ci, admin)] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("arguments", "file", "words"),
    [
        (["new", "ci"], "", "LIGHT_RUN_TOKENS_FILE"),
        (["new", "a b"], "f", "letters"),
        (["new", "ci"], "none/f", "No such file"),
        (["list"], "f", "no such file"),
        (["remove", "x"], "f", "no such file"),
        (["remove", "x"], "none/f", "No such file"),
        (["remove", "ops1"], "known", "no token ops1: did you mean ops?"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_line(
    tmp_path: Path, arguments: list[str], file: str, words: str
) -> None:
    tokens.create(tmp_path / "known", "ops")
    path = str(tmp_path / file) if file else ""
    result = CliRunner().invoke(main, ["token", *arguments], env={"LIGHT_RUN_TOKENS_FILE": path})
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


# --- scopes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/runs", "read"),
        ("GET", f"/runs/{UNKNOWN}", "read"),
        ("GET", f"/runs/{UNKNOWN}/artifacts", "read"),
        ("HEAD", f"/runs/{UNKNOWN}/artifacts/a", "read"),
        ("POST", "/run", "run"),
        ("POST", f"/runs/{UNKNOWN}/cancel", "run"),
        ("DELETE", f"/runs/{UNKNOWN}", "run"),
    ],
)
def test_a_scope_that_is_lacking_is_named(api: Api, method: str, path: str, scope: str) -> None:
    lacks, has = (api.starts, api.looks) if scope == "read" else (api.looks, api.starts)
    response = api.client.open(path, method=method, headers=bearer(lacks))
    assert response.status_code == 403
    if method != "HEAD":
        assert json.loads(response.data) == {
            "error": "forbidden",
            "message": f"this token lacks the scope {scope}",
        }
    for token in (has, api.admin, api.one):
        assert api.client.open(path, method=method, headers=bearer(token)).status_code not in {401, 403}


# --- whose runs -----------------------------------------------------------------------------------------


def test_a_list_has_one_s_own_runs(api: Api) -> None:
    anns = [start(api.client, api.ann) for _ in range(2)]
    ones = [start(api.client, api.one)]
    assert listed(api.client, api.ann) == anns[::-1]
    assert listed(api.client, api.bob) == []
    assert listed(api.client, api.admin) == listed(api.client, api.one) == [*ones, *anns[::-1]]


def test_a_page_does_not_tell_of_another_s_run(api: Api) -> None:
    anns = start(api.client, api.ann)
    answers = [
        api.client.get(f"/runs?before={run_id}", headers=bearer(api.looks)) for run_id in (anns, UNKNOWN)
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].data == answers[1].data


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""),
        ("GET", "?wait=5"),
        ("GET", "/logs"),
        ("GET", "/logs?follow=true&tail=x"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts?archive=zip"),
        ("GET", "/artifacts/a"),
        ("POST", "/cancel"),
        ("DELETE", ""),
        ("PUT", ""),
    ],
)
def test_another_s_run_is_no_run(api: Api, runner: FakeRunner, method: str, rest: str) -> None:
    runner.hold()
    run_id = start(api.client, api.ann)
    mine, none = (
        api.client.open(f"/runs/{each}{rest}", method=method, headers=bearer(api.bob))
        for each in (run_id, UNKNOWN)
    )
    assert (mine.status_code, mine.data) == (none.status_code, none.data)
    assert mine.status_code in {404, 405}
    assert run_id not in runner.over
    # Its owner still has it.
    assert listed(api.client, api.ann, "?status=running") == [run_id]
    runner.end(run_id)


def test_an_admin_may_cancel_anybody_s(api: Api, runner: FakeRunner) -> None:
    runner.hold()
    for token in (api.admin, api.one):
        run_id = start(api.client, api.ann)
        assert api.client.post(f"/runs/{run_id}/cancel", headers=bearer(token)).status_code == 204


def test_keys_of_two_tokens_are_two(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    ids = [json.loads(submit(api.client, token, **key).data)["id"] for token in (api.ann, api.bob, api.ann)]
    assert ids[0] == ids[2] != ids[1]


# --- caps -----------------------------------------------------------------------------------------------


def test_a_cap_holds_until_a_run_has_ended(api: Api, runner: FakeRunner) -> None:
    runner.hold()
    run_id = start(api.client, api.bob)
    refused = submit(api.client, api.bob)
    assert (refused.status_code, json.loads(refused.data)["error"]) == (503, "overloaded")
    assert int(refused.headers["Retry-After"]) >= 1
    start(api.client, api.ann)
    runner.end(run_id)
    eventually(lambda: submit(api.client, api.bob).status_code == 202, "there is room again")


def test_a_cap_holds_for_many_at_once(api: Api, runner: FakeRunner) -> None:
    runner.hold()
    barrier, answers = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        answers.append(submit(api.client.application.test_client(), api.bob).status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [202, *[503] * 7]


# --- guessing -------------------------------------------------------------------------------------------


def test_twenty_wrong_tokens_and_the_address_waits(api: Api) -> None:
    for number in range(MOST_FAILURES):
        assert api.client.get("/runs", headers=bearer(f"x{number}")).status_code == 401
    for token in ("x", api.one):
        response = api.client.get("/runs", headers=bearer(token))
        assert (response.status_code, json.loads(response.data)["error"]) == (429, "too_many_requests")
        assert 0 < int(response.headers["Retry-After"]) <= WINDOW
    other = {"REMOTE_ADDR": "192.0.2.9"}
    assert api.client.get("/runs", headers=bearer(api.one), environ_overrides=other).status_code == 200
    assert api.client.get("/health").status_code == 200


def test_no_token_is_no_guess(api: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Basic x"}):
        for _ in range(MOST_FAILURES):
            assert api.client.get("/runs", headers=headers).status_code == 401
    assert api.client.get("/runs", headers=bearer(api.one)).status_code == 200


def test_what_a_client_says_of_its_address_counts_only_behind_a_proxy(make_client: MakeClient) -> None:
    def answers(client: FlaskClient) -> set[int]:
        found = set()
        for number in range(MOST_FAILURES + 1):
            headers = {**bearer("x"), "X-Forwarded-For": f"192.0.2.{number}"}
            found.add(client.get("/runs", headers=headers).status_code)
        return found

    assert answers(make_client(token="t")) == {401, 429}
    assert answers(make_client(token="t", trusted=readers.networks("127.0.0.1"))) == {401}


def test_failures_are_forgotten_in_time() -> None:
    now = [0.0]
    failures = FailedAttempts(clock=lambda: now[0])
    for _ in range(MOST_FAILURES):
        assert failures.wait("a") == 0
        failures.add("a")
        now[0] += 1
    assert failures.wait("a") == WINDOW - MOST_FAILURES
    now[0] = WINDOW
    assert failures.wait("a") == 0
    failures.add("a")
    assert failures.wait("a") == 1, "twenty in the last minute, again"


def test_memory_of_failures_is_bounded() -> None:
    failures = FailedAttempts()
    for number in range(MOST_ADDRESSES + 100):
        failures.add(str(number))
    assert len(failures) == MOST_ADDRESSES


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("192.0.2.1", "", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "127.0.0.1", "192.0.2.1"),
        ("127.0.0.1", "198.51.100.1", "127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1", "127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, 10.1.1.1", "127.0.0.1,10.0.0.0/8", "198.51.100.1"),
        ("127.0.0.1", "", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1,", "127.0.0.1", "127.0.0.1"),
        ("", "198.51.100.1", "127.0.0.1", "198.51.100.1"),
        ("", "198.51.100.1", "", ""),
        ("127.0.0.1", "no address" * 50, "127.0.0.1", ("no address" * 50)[:64]),
        ("2001:db8::1:2:3:4", "", "", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "", "", "192.0.2.1"),
    ],
)
def test_whose_failure_it_is(peer: str, forwarded: str, trusted: str, expected: str) -> None:
    networks = readers.networks(trusted) if trusted else ()
    assert throttle.address(peer, forwarded, networks) == expected
