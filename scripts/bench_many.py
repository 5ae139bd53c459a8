"""Many runs at once: what they take of the server, and whose time their start is."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from datetime import datetime

from bench_support import IMAGE, BareEngine, ask, server, table

ASLEEP = 20
# Asking for the list takes processor time, too.
LOOK = 1.0


def many(count: int) -> None:
    """`count` detached runs at once that sleep, beside as many containers of the bare engine's."""
    bare = _bare(count)
    with server(LIGHT_RUN_MAX_CONCURRENCY=str(count)) as one:
        connection = http.client.HTTPConnection("127.0.0.1", one.port)
        body = {
            "image": IMAGE,
            "files": {"a": ""},
            "entrypoint": f"sleep {ASLEEP}",
            "network": "none",
            "detached": True,
        }
        begun = time.time()
        for _ in range(count):
            ask(connection, "POST", "/run", body)
        accepted = time.time() - begun
        most, files = 0.0, 0
        while True:
            states = json.loads(ask(connection, "GET", f"/runs?limit={count}"))
            most, files = max(most, one.rss()), max(files, one.descriptors())
            if all("finishedAt" in state for state in states):
                break
            time.sleep(LOOK)
        started = max(_seconds(state["finishedAt"]) for state in states) - begun - ASLEEP
        table(
            f"{count} detached runs at once, each asleep for {ASLEEP} s",
            ("what", "figure"),
            [
                ("accepted after", f"{accepted:.1f} s"),
                ("how they ended", _ends(states)),
                ("the last one's command started after", f"{started:.0f} s"),
                ("as many containers of the bare engine's, started by as many threads", f"{bare:.0f} s"),
                ("most memory of the server, RSS", f"{most:.0f} MiB"),
                ("most files open", str(files)),
            ],
        )


def _ends(states: list[dict[str, object]]) -> str:
    return ", ".join(
        f"{number} {status}" for status, number in Counter(str(s["status"]) for s in states).items()
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _bare(count: int) -> float:
    # Seconds until the last of so many has started.
    engines = [BareEngine("none") for _ in range(count)]
    containers: list[str] = []
    threads = [
        threading.Thread(target=lambda e=one: containers.append(e.begin(f"sleep {ASLEEP}")))
        for one in engines
    ]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.monotonic() - begun
    for container in containers:
        engines[0].remove(container)
    return spent
