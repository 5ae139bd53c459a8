"""callbackUrl and callbackSecret, with a real receiver."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from tests.integration.conftest import StartServer
from tests.support.described import wrong_callback
from tests.support.poll import eventually
from tests.support.receiver import SIGNATURE, Answer, Received, Receiver, receiving, signature
from tests.support.server import Server, free_port

SECRET = "callback-canary-0123456789"


def test_the_final_state_is_posted(server: Server, receiver: Receiver) -> None:
    run_id = server.start(
        entrypoint="echo line; echo x > out", extract=["out"], callbackUrl=f"{receiver.url}/hook?a=b"
    )
    (request,) = receiver.wait()
    assert (request.method, request.path) == ("POST", "/hook?a=b")
    assert (request.header("content-type") or "").startswith("application/json")
    assert request.header(SIGNATURE) is None
    state = server.wait_done(run_id)
    body = request.json()
    for name in (
        "id",
        "status",
        "startedAt",
        "finishedAt",
        "exitCode",
        "durationMs",
        "artifacts",
        "logs",
        "reason",
    ):
        assert body[name] == state[name], name
    assert body["logs"] == ["line"]


def test_after_a_synchronous_run_too(server: Server, receiver: Receiver) -> None:
    state = server.run(callbackUrl=f"{receiver.url}/hook")
    (request,) = receiver.wait()
    assert request.json()["id"] == state["id"]


@pytest.mark.parametrize("secret", [SECRET, "\u00fcnicode-\u4e2d-secret-with-32-chars!!", "s" * 200])
def test_a_secret_signs_the_raw_body(server: Server, receiver: Receiver, secret: str) -> None:
    server.run(
        callbackUrl=f"{receiver.url}/hook",
        callbackSecret=secret,
        entrypoint="printf '\u00fc\\n \\\"quoted\\\"'",
    )
    (request,) = receiver.wait()
    assert request.header(SIGNATURE) == signature(secret, request.body)
    assert secret.encode() not in request.body


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"entrypoint": "exit 3"}, "failed", "exit"),
        ({"entrypoint": "sleep 60", "timeout": 300}, "failed", "timeout"),
        ({"image": "127.0.0.1:1/no/image:1"}, "failed", "pull_failed"),
    ],
)
def test_after_every_end(
    server: Server, receiver: Receiver, fields: dict[str, object], status: str, reason: str
) -> None:
    server.start(**fields, callbackUrl=f"{receiver.url}/hook", callbackSecret=SECRET)
    (request,) = receiver.wait()
    assert (request.json()["status"], request.json()["reason"]) == (status, reason)
    assert list(wrong_callback(request.headers, request.json())) == []
    assert request.header(SIGNATURE) == signature(SECRET, request.body)


def test_after_a_cancel(server: Server, receiver: Receiver) -> None:
    run_id = server.start(entrypoint="echo up; sleep 60", callbackUrl=f"{receiver.url}/hook")
    server.wait_output(run_id, "up")
    server.cancel(run_id)
    (request,) = receiver.wait()
    assert request.json()["status"] == "cancelled"


def test_a_success_is_sent_once(server: Server, receiver: Receiver) -> None:
    for number in range(3):
        server.run(callbackUrl=f"{receiver.url}/{number}")
    receiver.wait(3)
    # By the time a later one has arrived, a second try of the first would have too.
    server.run(callbackUrl=f"{receiver.url}/last")
    receiver.wait(1, path="/last")
    assert sorted(request.path for request in receiver.received) == ["/0", "/1", "/2", "/last"]


def test_a_failure_is_tried_again_with_the_same_body(server: Server, receiver: Receiver) -> None:
    receiver.answer = lambda request, number: Answer(200 if number == 2 else (500, 404)[number])
    server.run(callbackUrl=f"{receiver.url}/hook", callbackSecret=SECRET)
    requests = receiver.wait(3)
    assert len({request.body for request in requests}) == 1
    assert all(request.header(SIGNATURE) == signature(SECRET, request.body) for request in requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: Server, receiver: Receiver, status: int) -> None:
    receiver.answer = lambda request, number: (
        Answer(status, {"Location": f"{receiver.url}/elsewhere"}) if number == 0 else Answer()
    )
    server.run(callbackUrl=f"{receiver.url}/hook")
    # It counts as a failure: the next try goes to the first address again.
    receiver.wait(2)
    assert [request.path for request in receiver.received] == ["/hook", "/hook"]
    assert {request.method for request in receiver.received} == {"POST"}


def test_a_receiver_that_comes_up_later_is_reached(server: Server) -> None:
    # Nobody listens there: nothing more than that the run is not held up, nor failed.
    state = server.run(callbackUrl=f"http://127.0.0.1:{free_port()}/hook")
    assert state["status"] == "succeeded"
    assert server.state(state["id"])["status"] == "succeeded"


def test_a_slow_receiver_holds_no_slot(start_server: StartServer, receiver: Receiver) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    release = threading.Event()

    def answer(request: Received, number: int) -> Answer:
        if request.path == "/slow":
            release.wait(60)
        return Answer()

    receiver.answer = answer
    try:
        first = server.start(callbackUrl=f"{receiver.url}/slow")
        receiver.wait(1, path="/slow")
        assert server.state(first)["status"] == "succeeded"
        assert server.run(entrypoint="echo free")["logs"] == ["free"]
        server.run(callbackUrl=f"{receiver.url}/quick")
        receiver.wait(1, path="/quick", within=10)
    finally:
        release.set()


def test_a_receiver_that_never_answers_does_not_hold_up_the_stop(
    start_server: StartServer, receiver: Receiver
) -> None:
    server = start_server()
    release = threading.Event()

    def answer(request: Received, number: int) -> Answer:
        release.wait(60)
        return Answer()

    receiver.answer = answer
    try:
        server.run(callbackUrl=f"{receiver.url}/slow")
        receiver.wait(1)
        assert server.stop() == 0
    finally:
        release.set()


def test_many_callbacks_all_arrive(server: Server, receiver: Receiver) -> None:
    ids = {
        server.start(entrypoint=f"echo {number}", callbackUrl=f"{receiver.url}/{number}")
        for number in range(12)
    }
    requests = receiver.wait(12)
    assert {request.json()["id"] for request in requests} == ids


def test_the_state_has_arrived_only_after_the_end(server: Server, receiver: Receiver) -> None:
    run_id = server.start(entrypoint="sleep 0.5", callbackUrl=f"{receiver.url}/hook")
    (request,) = receiver.wait()
    assert request.json()["finishedAt"]
    assert server.state(run_id)["status"] == "succeeded"


def test_a_callback_is_sent_again_on_demand(server: Server, receiver: Receiver) -> None:
    state = server.run(callbackUrl=f"{receiver.url}/hook")
    receiver.wait()
    run_id = state["id"]
    eventually(lambda: server.state(run_id)["callback"]["state"] == "delivered", "the callback is delivered")
    response = server.request("POST", f"/runs/{run_id}/callback/redeliver")
    assert response.status_code == 202
    assert response.json()["callback"]["attempts"] >= 1
    first, second = receiver.wait(2)
    assert first.body == second.body
    assert first.header("webhook-id") == second.header("webhook-id")


def test_only_a_run_with_a_callback_sends_it_again(server: Server) -> None:
    state = server.run()
    response = server.request("POST", f"/runs/{state['id']}/callback/redeliver")
    assert (response.status_code, response.json()["error"]) == (404, "not_found")


def test_receivers_of_every_kind_and_none_in_the_way_of_another(
    start_server: StartServer, receiver: Receiver
) -> None:
    woken = threading.Event()

    def answer(request: Received, number: int) -> Answer:
        if request.path == "/redirecting":
            return Answer(302, {"Location": f"{receiver.url}/elsewhere"})
        return Answer(500 if request.path == "/failing" else 204)

    def wait(request: Received, number: int) -> Answer:
        assert woken.wait(60)
        return Answer()

    with receiving() as slow:
        receiver.answer, slow.answer = answer, wait
        server = start_server(settings={"LIGHT_RUN_CALLBACK_PAUSE": "0.1"})
        urls = {name: f"{receiver.url}/{name}" for name in ("redirecting", "failing", "good")}
        bad = {"slow": slow.url, "dead": f"http://127.0.0.1:{free_port()}/", **urls}
        good = bad.pop("good")
        runs = {name: server.start(callbackUrl=url) for name, url in (*bad.items(), ("good", good))}
        try:
            receiver.wait(path="/good")
            for name, status in (("redirecting", 302), ("failing", 500), ("dead", None)):
                found = eventually(partial(tried, server, runs[name], 2), f"{name} was tried again")
                assert (found["state"], found.get("lastStatus")) == ("pending", status), (name, found)
                assert found["nextAttemptAt"]
            assert server.state(runs["slow"])["callback"]["state"] == "pending"
        finally:
            woken.set()
        for name in ("slow", "good"):
            eventually(partial(delivered, server, runs[name]), f"{name} has it")
        assert server.stop() == 0
    assert not [request for request in receiver.received if request.path == "/elsewhere"]


def delivered(server: Server, run_id: str) -> bool:
    """Whether the run's callback was taken."""
    return bool(server.state(run_id)["callback"]["state"] == "delivered")


def tried(server: Server, run_id: str, attempts: int) -> Any:
    """The state of the run's callback once it was tried so often."""
    found = server.state(run_id).get("callback") or {}
    return found if found.get("attempts", 0) >= attempts else None
