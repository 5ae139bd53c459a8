"""The way to an engine, played by a server that answers as one would, or as none should."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from light_run.engine.daemon import errors
from light_run.engine.daemon.client import Engine
from light_run.engine.images.store import Images
from light_run.engine.spec import Progress
from light_run.engine.stop import StopRequest
from light_run.errors import EngineError, EngineRefused, EngineUnavailable, ImageNotFound, PullFailed
from tests.support.played_engine import HANG_UP, Answer, PlayedEngine, answer, versioned
from tests.support.poll import eventually


@contextmanager
def engine() -> Iterator[Engine]:
    with closing(Engine(timeout=10)) as engine:
        yield engine


# --- answers ----------------------------------------------------------------------------------------------


def test_an_answer(play: Callable[[Answer], PlayedEngine]) -> None:
    played = play(versioned(lambda _: answer({"Id": "sha256:x", "Config": None})))
    with engine() as api:
        assert api.inspect_image("a/b:c")["Id"] == "sha256:x"
        assert api.inspect_image("a/b:c")["Id"] == "sha256:x"
    # The version is asked for once.
    assert played.requests == ["GET /version", *["GET /v1.41/images/a/b:c/json"] * 2]


def test_a_refusal_keeps_the_engine_s_words(play: Callable[[Answer], PlayedEngine]) -> None:
    play(versioned(lambda _: answer({"message": "No such image: x"}, "404 Not Found")))
    with engine() as api, pytest.raises(EngineRefused, match="No such image: x") as raised:
        api.inspect_image("x")
    assert raised.value.status == 404
    assert raised.value.not_found


@pytest.mark.parametrize("body", [b"", b"not json", b"\xff\xfe", b"[]", b"{"])
def test_a_refusal_in_any_words(play: Callable[[Answer], PlayedEngine], body: bytes) -> None:
    play(versioned(lambda _: answer(body, "500 Internal Server Error")))
    with engine() as api, pytest.raises(EngineRefused) as raised:
        api.inspect_image("x")
    assert raised.value.status == 500


@pytest.mark.parametrize(
    "said",
    [
        answer(b"not json"),
        answer(b""),
        answer(b"{"),
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
    ids=range(7),
)
def test_garbage_is_an_engine_that_does_not_answer(
    play: Callable[[Answer], PlayedEngine], said: bytes
) -> None:
    play(versioned(lambda _: said + HANG_UP))
    with engine() as api, pytest.raises(EngineUnavailable):
        api.inspect_image("x")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # docker-py leaves the socket of a refused connection to the garbage collector, which says so.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with engine() as api:
        with pytest.raises(EngineUnavailable, match="does not answer"):
            api.ping()
        gc.collect()


def test_an_engine_that_says_nothing_is_pinged_for_a_moment_only(
    play: Callable[[Answer], PlayedEngine],
) -> None:
    play(versioned(lambda _: None))
    with engine() as api, pytest.raises(EngineUnavailable):
        api.ping(timeout=0.2)


@pytest.mark.parametrize("status", ["404 Not Found", "409 Conflict", "204 No Content", "304 Not Modified"])
def test_what_is_gone_already_is_gone(play: Callable[[Answer], PlayedEngine], status: str) -> None:
    play(versioned(lambda _: answer(b"", status) if status[0] != "4" else answer({"message": "x"}, status)))
    with engine() as api:
        api.kill("x")
        if not status.startswith("409"):
            api.remove("x")


def test_the_port_is_the_one_of_docker_host(play: Callable[[Answer], PlayedEngine]) -> None:
    played = play(versioned(lambda _: answer([])))
    with engine() as api:
        assert api.containers("light-run.server=x") == []
    assert played.requests[-1].startswith("GET /v1.41/containers/json?")


def test_failures_of_the_engine_are_counted(play: Callable[[Answer], PlayedEngine]) -> None:
    answers = {
        "missing": answer({"message": "No such image"}, "404 Not Found"),
        "broken": answer({"message": "it broke"}, "500 Internal Server Error"),
        "gone": HANG_UP,
    }
    play(versioned(lambda line: next(said for name, said in answers.items() if name in line)))
    found = []
    with engine() as api:
        for name in answers:
            before = errors.counts()
            with pytest.raises(EngineError):
                api.inspect_image(name)
            found.append({kind for kind, count in errors.counts().items() if count > before[kind]})
    # That there is no such image is an answer like any other.
    assert found == [set(), {"failed"}, {"unavailable"}]


# --- pulls ------------------------------------------------------------------------------------------------


def pull(api: Engine, image: str = "a:1") -> None:
    Images(api).pull(image, "", StopRequest(), lambda _: None)


def chunked(*messages: dict[str, str], end: bytes = b"0\r\n\r\n") -> bytes:
    """An answer of one message after the other."""
    lines = [json.dumps(message).encode() + b"\r\n" for message in messages]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + end


@pytest.mark.parametrize(
    ("words", "kind", "expected"),
    [
        ("manifest for a:1 not found: manifest unknown", ImageNotFound, "not found: check the name"),
        ("pull access denied for a, repository does not exist", ImageNotFound, "not found: check the name"),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", PullFailed, "cannot be reached"),
        ("dial tcp 127.0.0.1:5001: i/o timeout", PullFailed, "cannot be reached"),
        ("net/http: TLS handshake timeout", PullFailed, "cannot be reached"),
        ("unauthorized: SECRET", PullFailed, "refuses access"),
        ("toomanyrequests: SECRET", PullFailed, "limits how often it is asked"),
        (
            "error parsing HTTP 404 response body: invalid character '<': \"<h1>SECRET</h1>\"",
            PullFailed,
            "no usable answer (HTTP status 404)",
        ),
        (
            "received unexpected HTTP status: 500 Internal Server Error",
            PullFailed,
            "no usable answer (HTTP status 500)",
        ),
        ("SECRET", PullFailed, "no usable answer"),
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_a_pull_that_fails(
    play: Callable[[Answer], PlayedEngine], words: str, kind: type[Exception], expected: str, early: bool
) -> None:
    # What the registry answered is not for whoever asked: it may be any service of the operator's network.
    # Before anything was pulled it is a status, after that a message.
    said = (
        answer({"message": words}, "404 Not Found") if early else chunked({"status": "x"}, {"error": words})
    )
    play(versioned(lambda _: said))
    with engine() as api, pytest.raises(kind, match=r"image 'a:1'") as raised:
        pull(api)
    assert expected in str(raised.value)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("registry_answers", [True, False])
def test_an_image_that_is_there_for_other_platforms(
    play: Callable[[Answer], PlayedEngine], registry_answers: bool
) -> None:
    words = "no matching manifest for linux/amd64 in the manifest list entries: not found"
    arm = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    platforms = [arm, {"os": "linux", "architecture": "s390x"}, {"os": "SECRET ", "architecture": "x"}]
    others = answer({"Descriptor": {}, "Platforms": platforms})
    refused = answer({"message": "unauthorized"}, "401 Unauthorized")

    def answers(line: str) -> bytes | Iterator[bytes]:
        if "/distribution/" in line:
            return others if registry_answers else refused
        return answer({"message": words}, "404 Not Found")

    play(versioned(answers))
    with engine() as api, pytest.raises(PullFailed, match="engine's platform") as raised:
        pull(api)
    has = "; it has it for linux/arm64/v8, linux/s390x"
    assert str(raised.value).endswith(has) is registry_answers


@pytest.mark.parametrize("looks", [0, 3])
def test_a_removal_under_way_is_waited_for(play: Callable[[Answer], PlayedEngine], looks: int) -> None:
    left = iter(range(looks))

    def answers(line: str) -> bytes:
        if line.startswith("DELETE"):
            return answer({"message": "removal of container x is already in progress"}, "409 Conflict")
        there = next(left, None) is not None
        return answer({"Id": "x"}) if there else answer({"message": "No such container"}, "404 Not Found")

    played = play(versioned(answers))
    with engine() as api:
        api.remove("x")
    assert len([line for line in played.requests if line.startswith("GET /v1.41/containers")]) == looks + 1


def test_progress_is_told_by_layers(play: Callable[[Answer], PlayedEngine]) -> None:
    body = chunked(
        {"status": "Pulling from a", "id": "1"},
        {"status": "Downloading", "id": "x"},
        {"status": "Already exists", "id": "y"},
        {"status": "Pull complete", "id": "x"},
    )
    found = answer({"Id": "sha256:x"})
    play(versioned(lambda line: body if "/images/create" in line else found))
    told: list[Progress] = []
    with engine() as api:
        # Not as a passenger, who hears only of what is new when it looks.
        Images(api)._pull("a:1", None, StopRequest(), told.append)
    assert [(one.done, one.layers) for one in told] == [(0, 0), (0, 1), (1, 2), (2, 2)]


def test_a_connection_that_breaks_under_a_pull(play: Callable[[Answer], PlayedEngine]) -> None:
    play(versioned(lambda _: chunked({"status": "x"}, end=HANG_UP)))
    with engine() as api, pytest.raises(EngineUnavailable):
        pull(api)


@pytest.mark.parametrize("begun", [True, False])
def test_a_pull_that_stalls_ends_with_those_who_wait_for_it(
    play: Callable[[Answer], PlayedEngine], begun: bool
) -> None:
    # Before its first word, and in the middle.
    said = chunked({"status": "x"}, end=b"")
    played = play(versioned(lambda _: said if begun else None))
    stop = StopRequest()
    with engine() as api, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Images(api).pull, "a:1", "", stop, lambda _: None)
        eventually(lambda: any("/images/create" in line for line in played.requests), "it was asked for")
        stop.request()
        eventually(waiting.done, "the pull has ended", within=8)
        eventually(
            lambda: not [one for one in threading.enumerate() if one.name.startswith("pull-")],
            "its thread has ended",
            within=8,
        )


def test_a_pull_that_is_given_up_before_it_was_asked_for(play: Callable[[Answer], PlayedEngine]) -> None:
    played = play(versioned(lambda _: None))
    abandoned = StopRequest()
    abandoned.request()
    with engine() as api, pytest.raises(EngineUnavailable, match="cancelled before it started"):  # noqa: SIM117
        with api.pull("a:1", {}, abandoned):
            pass
    assert not any("/images/create" in line for line in played.requests)


# --- what an engine cannot do -----------------------------------------------------------------------------

WHOLE = {
    "MemoryLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "SecurityOptions": ["name=seccomp,profile=default"],
}


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ({}, ()),
        ({"MemoryLimit": False}, ("memory",)),
        ({"MemoryLimit": False, "CpuCfsQuota": False, "PidsLimit": False}, ("memory", "cpus", "pids")),
        ({"SecurityOptions": ["name=apparmor"]}, ("seccomp",)),
        ({"SecurityOptions": None}, ()),
    ],
)
def test_limits_that_an_engine_lacks(
    play: Callable[[Answer], PlayedEngine], said: dict[str, object], missing: tuple[str, ...]
) -> None:
    played = play(versioned(lambda _: answer({**WHOLE, **said})))
    with engine() as api:
        assert api.missing_limits() == api.missing_limits() == missing
    # Its version, whether it is Podman, and its description.
    assert len(played.requests) == 3
