"""POST /run, GET /runs, GET /runs/ID, cancel and delete."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

import pytest

from tests.integration.conftest import StartServer
from tests.support.engine import NONROOT
from tests.support.poll import eventually
from tests.support.server import Server

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NEXT = re.compile(r'<([^>]+)>;\s*rel="?next"?')


@pytest.mark.engines("contract")
def test_a_synchronous_run_answers_with_the_final_state(server: Server) -> None:
    response = server.post_run(entrypoint="cat main.txt")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json()["logs"] == ["hello"]


@pytest.mark.engines("contract")
@pytest.mark.parametrize("entrypoint", ["exit 1", "kill -9 $$", "no-such-command"])
def test_a_synchronous_run_that_fails_is_200_too(server: Server, entrypoint: str) -> None:
    response = server.post_run(entrypoint=entrypoint)
    assert response.status_code == 200
    assert response.json()["status"] == "failed"


@pytest.mark.engines("contract")
def test_a_detached_run_is_202_with_its_address(server: Server) -> None:
    response = server.post_run(detached=True, entrypoint="echo done")
    assert response.status_code == 202
    accepted = response.json()
    assert set(accepted) == {"id", "status", "url"}
    assert accepted["status"] in ("running", "queued")
    assert accepted["url"] == f"/runs/{accepted['id']}"
    state = server.wait_done(accepted["id"])
    assert (state["status"], state["logs"]) == ("succeeded", ["done"])


def test_a_detached_run_has_its_input_too(server: Server) -> None:
    state = server.wait_done(server.start(input={"a": 1}, entrypoint="cat"))
    assert state["logs"] == ['{"a": 1}'] or state["logs"] == ['{"a":1}']


@pytest.mark.engines("contract")
def test_a_detached_run_extracts(server: Server) -> None:
    run_id = server.start(entrypoint="echo x > out", extract=["out"])
    assert server.wait_done(run_id)["status"] == "succeeded"
    assert server.artifact(run_id, "out").content == b"x\n"


def test_the_list_is_newest_first_and_without_logs(server: Server) -> None:
    ids = [server.run(entrypoint=f"echo {number}")["id"] for number in range(3)]
    listed = server.get("/runs").json()
    assert [run["id"] for run in listed[:3]] == ids[::-1]
    assert all("logs" not in run for run in listed)
    assert listed[0]["status"] == "succeeded"
    assert listed[0]["exitCode"] == 0


def test_the_list_of_a_new_server_is_empty_and_pages(start_server: StartServer) -> None:
    server = start_server()
    response = server.get("/runs")
    assert (response.status_code, response.json()) == (200, [])
    assert "Link" not in response.headers

    ids = [server.run()["id"] for _ in range(4)] + [server.run(entrypoint="exit 1")["id"]]
    newest_first = ids[::-1]
    pages, path = [], "/runs?limit=2"
    while path:
        response = server.get(path)
        pages.append([run["id"] for run in response.json()])
        link = NEXT.search(response.headers.get("Link", ""))
        path = urljoin(server.url + "/runs", link[1]).removeprefix(server.url) if link else ""
        assert len(pages) < 10, "the list does not end"
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]

    before = server.get(f"/runs?before={newest_first[2]}").json()
    assert [run["id"] for run in before] == newest_first[3:]
    assert [run["id"] for run in server.get("/runs?status=failed").json()] == newest_first[:1]
    assert [run["id"] for run in server.get("/runs?status=succeeded").json()] == newest_first[1:]
    assert server.get("/runs?status=cancelled").json() == []
    filtered = server.get("/runs?status=succeeded&limit=3")
    assert [run["id"] for run in filtered.json()] == newest_first[1:4]
    following = NEXT.search(filtered.headers["Link"])
    assert following
    assert "status=succeeded" in following[1]
    exact = server.get("/runs?limit=5")
    assert len(exact.json()) == 5
    assert "Link" not in exact.headers


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "limit=",
        "status=nonsense",
        "limit=99999999999999999999",
    ],
)
def test_a_query_that_makes_no_sense(server: Server, query: str) -> None:
    response = server.get(f"/runs?{query}")
    assert response.status_code == 400
    assert response.json()["error"] == "bad_request"


def test_the_list_from_a_run_that_is_not_there(server: Server) -> None:
    assert server.get(f"/runs?before={UNKNOWN}").status_code in (200, 400, 404)


def test_the_list_never_has_more_than_1000(server: Server) -> None:
    response = server.get("/runs?limit=1000")
    assert response.status_code == 200
    over = server.get("/runs?limit=1001")
    assert over.status_code == 400 or (over.status_code == 200 and len(over.json()) <= 1000)


# --- cancel ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("milliseconds", [0, 20, 50, 100, 200, 300])
@pytest.mark.parametrize("network", ["none", None])
def test_cancel_soon_after_the_202(server: Server, milliseconds: int, network: str | None) -> None:
    fields = {"network": network} if network else {"network": ...}
    run_id = server.start(entrypoint="sleep 60", **fields)
    time.sleep(milliseconds / 1000)  # the moment is what is tested: nothing is waited for
    response = server.cancel(run_id)
    assert response.status_code == 204
    assert response.content == b""
    state = server.wait_done(run_id, within=20)
    assert (state["status"], state["reason"]) == ("cancelled", "cancelled")
    server.wait_clean()


@pytest.mark.engines("contract")
def test_cancel_while_it_runs(server: Server) -> None:
    run_id = server.start(entrypoint="echo up; sleep 60")
    server.wait_output(run_id, "up")
    assert server.cancel(run_id).status_code == 204
    state = server.wait_done(run_id, within=20)
    assert (state["status"], state["reason"], state["logs"]) == ("cancelled", "cancelled", ["up"])
    assert state["error"]
    assert state["finishedAt"]


@pytest.mark.engines("contract")
def test_cancel_of_a_process_that_ignores_signals(server: Server) -> None:
    run_id = server.start(entrypoint="trap '' TERM INT HUP; echo up; while :; do sleep 1; done")
    server.wait_output(run_id, "up")
    assert server.cancel(run_id).status_code == 204
    assert server.wait_done(run_id, within=20)["status"] == "cancelled"


def test_cancel_twice_and_after_the_end(server: Server) -> None:
    run_id = server.start(entrypoint="sleep 60")
    assert server.cancel(run_id).status_code == 204
    assert server.wait_done(run_id, within=20)["status"] == "cancelled"
    response = server.cancel(run_id)
    assert response.status_code == 404
    assert response.json()["error"] == "not_found_or_done"
    done = server.run()["id"]
    response = server.cancel(done)
    assert response.status_code == 404
    assert response.json()["error"] == "not_found_or_done"
    assert server.state(done)["status"] == "succeeded"


def test_a_cancelled_run_extracts_nothing(server: Server) -> None:
    run_id = server.start(entrypoint="echo x > out; echo up; sleep 60", extract=["out"])
    server.wait_output(run_id, "up")
    server.cancel(run_id)
    state = server.wait_done(run_id, within=20)
    assert "artifacts" not in state
    assert server.get(f"/runs/{run_id}/artifacts").json() == []


def test_cancel_of_a_synchronous_run_ends_its_request(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.run, entrypoint="echo sync-to-cancel; sleep 60")

        def running() -> str | None:
            for run in server.get("/runs?status=running").json():
                if server.state(run["id"])["logs"] == ["sync-to-cancel"]:
                    return str(run["id"])
            return None

        run_id = eventually(running, "the synchronous run is listed")
        assert run_id
        assert server.cancel(run_id).status_code == 204
        state = answer.result(30)
    assert (state["id"], state["status"]) == (run_id, "cancelled")


def test_cancel_of_a_queued_run(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    first = server.start(entrypoint="sleep 60")
    second = server.start(entrypoint="echo never")
    assert server.cancel(second).status_code == 204
    state = server.wait_done(second, within=10)
    assert (state["status"], state["reason"]) == ("cancelled", "cancelled")
    assert state.get("logs", []) == []
    assert server.state(first)["status"] == "running"
    server.cancel(first)
    server.wait_done(first, within=20)


def test_cancel_while_a_step_is_built(server: Server) -> None:
    run_id = server.start(run=["echo building; sleep 60; echo unique-1"])
    eventually(server.containers, "the step's container is there")
    assert server.cancel(run_id).status_code == 204
    state = server.wait_done(run_id, within=20)
    assert (state["status"], state["reason"]) == ("cancelled", "cancelled")


# --- delete ---------------------------------------------------------------------------------------------


def test_delete_removes_the_run_and_its_artifacts(server: Server) -> None:
    run_id = server.run(entrypoint="echo x > out", extract=["out"])["id"]
    assert (server.artifacts_dir / run_id / "out").read_bytes() == b"x\n"
    response = server.request("DELETE", f"/runs/{run_id}")
    assert (response.status_code, response.content) == (204, b"")
    assert not (server.artifacts_dir / run_id).exists()
    assert server.get(f"/runs/{run_id}").status_code == 404
    assert server.artifact(run_id, "out").status_code == 404
    assert run_id not in [run["id"] for run in server.get("/runs").json()]
    again = server.request("DELETE", f"/runs/{run_id}")
    assert (again.status_code, again.json()["error"]) == (404, "not_found_or_running")


def test_delete_of_a_running_run_is_refused(server: Server) -> None:
    run_id = server.start(entrypoint="echo up; sleep 60")
    server.wait_output(run_id, "up")
    response = server.request("DELETE", f"/runs/{run_id}")
    assert (response.status_code, response.json()["error"]) == (404, "not_found_or_running")
    assert server.state(run_id)["status"] == "running"
    server.cancel(run_id)
    server.wait_done(run_id, within=20)
    assert server.request("DELETE", f"/runs/{run_id}").status_code == 204


# --- many at once ---------------------------------------------------------------------------------------


def test_sixteen_synchronous_runs_at_once(server: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        states = list(
            pool.map(
                lambda number: server.run(
                    files={"n": str(number)},
                    entrypoint="cat n; cp n out",
                    extract=["out"],
                    image=NONROOT if number % 2 else "light-run-test/busybox:latest",
                ),
                range(16),
            )
        )
    assert [state["status"] for state in states] == ["succeeded"] * 16
    assert [state["logs"] for state in states] == [[str(number)] for number in range(16)]
    assert len({state["id"] for state in states}) == 16
    for number, state in enumerate(states):
        assert server.artifact(state["id"], "out").content == str(number).encode()


def test_health_and_polling_answer_while_synchronous_runs_hold_their_threads(
    start_server: StartServer,
) -> None:
    server = start_server(settings={"LIGHT_RUN_THREADS": "8", "LIGHT_RUN_MAX_CONCURRENCY": "4"})
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(server.post_run, entrypoint="sleep 1.5") for _ in range(16)]
        eventually(lambda: server.get("/runs?status=running").json(), "runs are running")
        assert server.get("/health").status_code == 200
        assert server.get("/runs").status_code == 200
        for answer in answers:
            response = answer.result(100)
            assert response.status_code in (200, 503)
            if response.status_code == 503:
                assert response.json()["error"] == "overloaded"
                assert int(response.headers["Retry-After"]) >= 1
            else:
                assert response.json()["status"] == "succeeded"
