"""Every field of a run state."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone

import pytest

from light_run.client import Client
from tests.integration.conftest import StartServer
from tests.support.poll import eventually
from tests.support.server import RunState, Server

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

MAY_BE_THERE = {
    *("id", "status", "startedAt", "finishedAt", "exitCode", "durationMs", "artifacts", "error", "logs"),
    *(
        "reason",
        "extracted",
        "timings",
        "usage",
        "logsTruncated",
        "parked",
        "createdAt",
        "detached",
        "callback",
        "phase",
    ),
    *("progress", "owner", "labels"),
}


def when(stamp: str) -> datetime:
    """The moment an RFC 3339 stamp with milliseconds and Z names."""
    assert STAMP.fullmatch(stamp), stamp
    return datetime.fromisoformat(stamp.removesuffix("Z")).replace(tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def succeeded(server: Server) -> RunState:
    """The state of a run that wrote to both streams and gave a file and a folder."""
    return server.run(
        entrypoint="echo out; echo err >&2; mkdir -p d/e; printf 12345 > d/e/f; printf 1 > a",
        extract=["a", "d", "missing"],
    )


@pytest.fixture(scope="module")
def failed(server: Server) -> RunState:
    """The state of a run with another exit code."""
    return server.run(entrypoint="exit 7")


def test_id_is_a_uuid4(succeeded: RunState) -> None:
    assert str(uuid.UUID(succeeded["id"], version=4)) == succeeded["id"]


def test_status_of_exit_code_0(succeeded: RunState) -> None:
    assert (succeeded["status"], succeeded["exitCode"], succeeded["reason"]) == ("succeeded", 0, "exit")


def test_status_of_another_exit_code(failed: RunState) -> None:
    assert (failed["status"], failed["exitCode"], failed["reason"]) == ("failed", 7, "exit")


def test_started_and_finished(succeeded: RunState) -> None:
    assert when(succeeded["startedAt"]) <= when(succeeded["finishedAt"])
    assert abs((datetime.now(timezone.utc) - when(succeeded["finishedAt"])).total_seconds()) < 3600


def test_duration(server: Server) -> None:
    state = server.run(entrypoint="sleep 0.5")
    assert isinstance(state["durationMs"], int)
    assert 500 <= state["durationMs"] < 60_000


def test_artifacts_are_relative_to_the_folder(succeeded: RunState) -> None:
    entries = {entry["path"]: entry for entry in succeeded["artifacts"]}
    assert entries["a"] == {"path": "a", "bytes": 1, "type": "file"}
    # The contents of the folder `d` land directly.
    assert entries["e"]["type"] == "directory"
    assert entries["e/f"] == {"path": "e/f", "bytes": 5, "type": "file"}
    assert set(entries) == {"a", "e", "e/f"}


def test_artifacts_are_left_out_where_there_are_none(failed: RunState) -> None:
    assert "artifacts" not in failed


def test_error_is_there_where_the_run_did_not_simply_exit(server: Server, failed: RunState) -> None:
    timeout = server.run(entrypoint="sleep 30", timeout=200)
    assert isinstance(timeout["error"], str)
    assert timeout["error"]
    # A plain exit says all there is to say by its code.
    assert "error" not in failed


def test_no_error_where_it_succeeded(succeeded: RunState) -> None:
    assert "error" not in succeeded


def test_logs_are_the_lines_of_both_streams(succeeded: RunState) -> None:
    assert sorted(succeeded["logs"]) == ["err", "out"]


def test_logs_keep_the_order_of_a_stream(server: Server) -> None:
    state = server.run(entrypoint="for i in $(seq 500); do echo $i; done")
    assert state["logs"] == [str(number) for number in range(1, 501)]


def test_logs_keep_the_order_between_the_streams(server: Server) -> None:
    # The engine forwards two pipes: only what is apart in time is known to be in order.
    state = server.run(entrypoint="echo 1; sleep 0.3; echo 2 >&2; sleep 0.3; echo 3")
    assert state["logs"] == ["1", "2", "3"]


def test_logs_have_the_last_line_without_its_newline(server: Server) -> None:
    assert server.run(entrypoint="printf 'one\\ntwo'")["logs"] == ["one", "two"]


def test_logs_keep_empty_lines_and_blanks(server: Server) -> None:
    assert server.run(entrypoint="printf '\\n  a \\n\\n'")["logs"] == ["", "  a ", ""]


def test_logs_of_nothing(server: Server) -> None:
    assert server.run(entrypoint="true").get("logs", []) == []


def test_logs_of_a_long_line_are_one_line(server: Server) -> None:
    # The engine splits a line of its own log at 16 KiB.
    state = server.run(entrypoint="head -c 100000 /dev/zero | tr '\\0' x; echo; echo end")
    assert state["logs"] == ["x" * 100_000, "end"]


def test_logs_that_are_not_utf8(server: Server) -> None:
    state = server.run(entrypoint=r"printf 'a\377b\nnext\n'")
    assert state["logs"] == ["a\ufffdb", "next"]


def test_logs_of_a_character_written_in_two_pieces(server: Server) -> None:
    state = server.run(entrypoint=r"printf '\303'; sleep 0.3; printf '\274\n'")
    assert state["logs"] == ["\u00fc"]


def test_logs_of_a_detached_run(server: Server) -> None:
    state = server.wait_done(server.start(entrypoint="echo out; echo err >&2"))
    assert sorted(state["logs"]) == ["err", "out"]


def test_logs_of_a_detached_run_grow_as_it_runs(server: Server) -> None:
    run_id = server.start(entrypoint="echo first; sleep 60; echo never")
    server.wait_output(run_id, "first")
    state = server.state(run_id)
    assert state["status"] == "running"
    assert state["logs"] == ["first"]
    assert "finishedAt" not in state
    assert "exitCode" not in state
    assert server.cancel(run_id).status_code == 204
    assert server.wait_done(run_id)["status"] == "cancelled"


def test_logs_truncated_is_not_there_where_all_is_kept(succeeded: RunState) -> None:
    assert not succeeded.get("logsTruncated", False)


def test_extracted_has_one_entry_each(succeeded: RunState) -> None:
    first, second, third = succeeded["extracted"]
    assert (first["path"], first["status"], first["bytes"]) == ("a", "ok", 1)
    assert (second["path"], second["status"], second["bytes"]) == ("d", "ok", 5)
    assert (third["path"], third["status"]) == ("missing", "missing")


def test_timings(succeeded: RunState) -> None:
    timings = succeeded["timings"]
    assert set(timings) >= {"queuedMs", "imageMs", "startMs", "runMs", "extractMs"}
    assert all(isinstance(value, (int, float)) and value >= 0 for value in timings.values())
    assert timings["startMs"] > 0


def test_timings_are_a_server_timing_header_too(server: Server) -> None:
    response = server.post_run()
    header = response.headers["Server-Timing"]
    # Server-Timing: name;dur=123.4, ...
    entries = dict(entry.strip().split(";dur=") for entry in header.split(","))
    assert len(entries) >= 5
    assert all(float(duration) >= 0 for duration in entries.values())


def test_nothing_undocumented(succeeded: RunState, failed: RunState) -> None:
    assert set(succeeded) <= MAY_BE_THERE
    assert set(failed) <= MAY_BE_THERE


def test_the_state_is_the_same_when_asked_for_later(server: Server, succeeded: RunState) -> None:
    assert server.state(succeeded["id"]) == succeeded


def test_labels_are_in_the_state_and_filter_lists(server: Server) -> None:
    night = {"job": "report/nightly", "night.1-of_2": "größer=weit"}
    first = server.run(labels=night)
    second = server.start(labels={**night, "job": "other"})
    assert first["labels"] == night
    assert server.wait_done(second)["labels"] == {**night, "job": "other"}

    def listed(*labels: str, **query: str) -> list[str]:
        response = server.get("/runs", params={**query, "label": list(labels)})
        return [run["id"] for run in response.json()]

    one = "night.1-of_2=größer=weit"
    assert listed(one) == [second, first["id"]]
    assert listed(one, "job=report/nightly", status="succeeded") == [first["id"]]
    assert listed(one, "job=") == []
    link = server.get("/runs", params={"limit": "1", "label": one}).links["next"]["url"]
    assert [run["id"] for run in server.get(link).json()] == [first["id"]]
    with Client(server.url, server.token) as client:
        assert [run.labels for run in client.runs(labels=night)] == [night]
    for wrong in ("job", "jo b=1", "=1", f"a={'b' * 201}"):
        response = server.get("/runs", params={"label": wrong})
        assert (response.status_code, response.json()["details"][0]["path"]) == (400, ["label"])
    assert server.get("/runs", params={"label": ["a=b"] * 21}).status_code == 400


def test_a_status_before_a_slot_is_free(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    first = server.start(entrypoint="sleep 60")
    eventually(lambda: server.state(first)["status"] == "running", "the first run is running")
    response = server.post_run(detached=True)
    assert response.status_code == 202
    queued = response.json()
    assert queued["status"] == "queued"
    assert queued["url"] == f"/runs/{queued['id']}"
    state = server.state(queued["id"])
    assert state["status"] == "queued"
    assert "startedAt" not in state or STAMP.fullmatch(state["startedAt"])
    assert server.cancel(first).status_code == 204
    done = server.wait_done(queued["id"])
    assert done["status"] == "succeeded"
    assert done["timings"]["queuedMs"] > 0
