"""Kills a server at random moments, again and again, with runs in flight, and checks what it must still deliver."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.support.receiver import Receiver
from tests.support.server import Server, run_request, running_server

LINES = [f"line {number}" for number in range(1, 6)]
# Under half a second of work, in steps, so that a kill may come between any two.
WORK = 'for n in 1 2 3 4 5; do echo "line $n"; sleep 0.08; done; cat > out'
SETTINGS = {"LIGHT_RUN_MAX_CONCURRENCY": "3", "LIGHT_RUN_CALLBACK_PAUSE": "0.2"}
# What one server was set up with need not be what the next one is.
KINDS = [
    {"LIGHT_RUN_PARKED_MAX": parked, "LIGHT_RUN_WORKSPACE": workspace}
    for parked in ("2", "0")
    for workspace in ("bind", "archive")
]


@dataclass
class Owed:
    """What was accepted: the runs' ids by the paths of their callbacks, and how often the server was killed."""

    accepted: dict[str, str] = field(default_factory=dict)
    kills: int = 0


def submitting(server: Server, receiver: Receiver, owed: Owed, most: int) -> Iterator[str]:
    """Start up to `most` runs, one after the other, and give the ids; ends when the server is gone."""
    for _ in range(most):
        path = f"/{owed.kills}-{len(owed.accepted)}"
        # Every third has no input, and says what the others are told.
        without = {"entrypoint": f"{WORK}; printf '\"{path}\"' >> out"}
        given = {"input": path} if len(owed.accepted) % 3 else without
        body = run_request(
            **{"entrypoint": WORK, **given},
            extract=["out"],
            detached=True,
            callbackUrl=f"{receiver.url}{path}",
        )
        try:
            answer = server.request("POST", "/run", json=body, timeout=20)
        except requests.RequestException:
            return
        if answer.status_code == 503:
            return  # it stops
        assert answer.status_code == 202, answer.text
        owed.accepted[path] = answer.json()["id"]
        yield owed.accepted[path]


def kill_at_random(folder: Path, receiver: Receiver, more: Callable[[Owed], bool], seed: int) -> Owed:
    """Kill servers on `folder` for as long as `more` (what is owed so far) says so; then check what is owed.

    Raises AssertionError where a run that was accepted has not ended well, with all that belongs to it.
    """
    chance, owed = random.Random(seed), Owed()
    with ExitStack() as servers:
        while more(owed):
            settings = {**SETTINGS, **chance.choice(KINDS)}
            server = servers.enter_context(running_server(folder, settings=settings))
            runs = submitting(server, receiver, owed, 2)
            thread = threading.Thread(target=lambda found=runs: list(found))
            thread.start()
            time.sleep(chance.uniform(0.0, 0.6))
            server.kill()
            thread.join()
            owed.kills += 1
        check(servers.enter_context(running_server(folder, settings=SETTINGS)), receiver, owed)
    return owed


def check(server: Server, receiver: Receiver, owed: Owed) -> None:
    """Fail if a run has not succeeded, or lacks its artifact, a complete log or its callback."""
    assert owed.accepted, "no run was ever accepted"
    for path, run_id in owed.accepted.items():
        state = server.wait_done(run_id, within=120)
        assert (state["status"], state["logs"]) == ("succeeded", LINES), state
        assert server.artifact(run_id, "out").content == f'"{path}"'.encode(), state
        called = receiver.wait(path=path, within=60)
        assert all(each.json()["id"] == run_id and each.json()["status"] == "succeeded" for each in called)
    server.wait_clean()
