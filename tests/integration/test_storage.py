"""Artifact folders: where they are, and which go when there are too many bytes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from light_run.config import tokens
from tests.integration.conftest import StartServer
from tests.support.poll import eventually
from tests.support.server import Server, run_request

KIB = 1024


def settings(cap: int, interval: str = "3600") -> dict[str, str]:
    """A cap on all artifacts, and how often the sweeper looks."""
    return {"LIGHT_RUN_MAX_ARTIFACTS_BYTES": str(cap), "LIGHT_RUN_SWEEP_INTERVAL": interval}


def leave(server: Server, kib: int, **fields: object) -> str:
    """The id of a run that left an artifact of so many KiB."""
    state = server.run(entrypoint=f"head -c {kib * KIB} /dev/urandom > out", extract=["out"], **fields)
    assert state["status"] == "succeeded", state
    return str(state["id"])


def kept(server: Server, ids: list[str]) -> list[bool]:
    """Which of the runs still have artifacts; both the state and the folder say the same."""

    def known(run_id: str) -> bool:
        state = server.state(run_id)
        assert ("artifacts" in state) != state.get("artifactsEvicted", False), state
        return "artifacts" in state

    def agreed(run_id: str) -> bool:
        return (server.artifacts_dir / run_id).exists() == known(run_id)

    for run_id in ids:
        # It may be on its way out between the two looks.
        eventually(lambda: agreed(run_id), "folder and state say the same")  # noqa: B023 - called at once
    return [known(run_id) for run_id in ids]


def test_artifacts_lie_in_a_folder_named_by_the_run(server: Server) -> None:
    run_id = server.run(entrypoint="mkdir d; echo x > d/f; echo y > g", extract=["."])["id"]
    assert (server.artifacts_dir / run_id / "d" / "f").read_bytes() == b"x\n"
    assert (server.artifacts_dir / run_id / "g").read_bytes() == b"y\n"


def test_a_run_without_artifacts_leaves_no_bytes(server: Server) -> None:
    run_id = server.run()["id"]
    folder = server.artifacts_dir / run_id
    assert not folder.exists() or not list(folder.iterdir())


def test_the_oldest_go_first_after_each_run(start_server: StartServer) -> None:
    server = start_server(settings=settings(1000 * KIB))
    ids = [leave(server, 300) for _ in range(3)]
    assert kept(server, ids) == [True, True, True]
    ids.append(leave(server, 300))
    eventually(lambda: kept(server, ids) == [False, True, True, True], "the oldest is gone")
    ids.append(leave(server, 700))
    eventually(lambda: kept(server, ids) == [False, False, False, True, True], "the next two are gone")
    for path in ("/out", "?archive=zip"):
        gone = server.get(f"/runs/{ids[0]}/artifacts{path}")
        assert (gone.status_code, gone.json()["error"]) == (404, "artifact_not_found")
        assert "to make room" in gone.json()["message"]
    assert server.get(f"/runs/{ids[0]}/artifacts").json() == []
    # What else is known of the runs stays.
    listed = [(run["id"], run.get("artifactsEvicted", False)) for run in server.get("/runs").json()]
    assert listed == list(zip(reversed(ids), [False, False, True, True, True], strict=True))


def test_the_run_that_just_ended_never_goes(start_server: StartServer) -> None:
    server = start_server(settings=settings(100 * KIB))
    first = leave(server, 50)
    large = leave(server, 500)
    eventually(lambda: kept(server, [first, large]) == [False, True], "the older one is gone")
    assert len(server.artifact(large, "out").content) == 500 * KIB
    small = leave(server, 10)
    eventually(lambda: kept(server, [large, small]) == [False, True], "the large one is gone")


def test_a_running_run_never_goes(start_server: StartServer) -> None:
    server = start_server(settings=settings(100 * KIB, "0.1"))
    running = server.start(
        entrypoint="echo up; cat main.txt; while [ ! -e stop ]; do sleep 0.1; done",
        timeout=600_000,
        extract=["."],
    )
    server.wait_output(running, "up")
    older = leave(server, 90)
    newer = leave(server, 90)
    eventually(lambda: kept(server, [older, newer]) == [False, True], "the older one is gone")
    assert server.state(running)["status"] == "running"
    server.cancel(running)
    server.wait_done(running, within=20)


def test_order_is_by_creation_and_not_by_last_use(start_server: StartServer) -> None:
    server = start_server(settings=settings(1000 * KIB))
    ids = [leave(server, 300) for _ in range(3)]
    now = time.time()
    os.utime(server.artifacts_dir / ids[0], (now, now))
    assert server.artifact(ids[0], "out").status_code == 200
    ids.append(leave(server, 300))
    eventually(lambda: sum(kept(server, ids)) == 3, "one is gone")
    assert kept(server, ids) == [False, True, True, True]


def test_the_sweeper_works_without_any_run(start_server: StartServer, tmp_path: Path) -> None:
    place = {"LIGHT_RUN_ARTIFACTS_DIR": str(tmp_path / "kept")}
    first = start_server("first", settings={**settings(10_000 * KIB), **place})
    ids = [
        first.run(entrypoint=f"head -c {300 * KIB} /dev/urandom > out", extract=["out"])["id"]
        for _ in range(3)
    ]
    assert first.stop() == 0
    start_server("second", settings={**settings(500 * KIB, "0.1"), **place})
    eventually(
        lambda: [(tmp_path / "kept" / run_id).exists() for run_id in ids] == [False, False, True],
        "the two oldest are gone",
    )


def test_the_sweeper_looks_again_and_again(start_server: StartServer) -> None:
    server = start_server(settings=settings(500 * KIB, "0.1"))
    older = leave(server, 10)
    newer = leave(server, 10)
    # A folder of nobody's turns up behind the server's back.
    stray = server.artifacts_dir / "00000000-0000-4000-8000-0000000000fe"
    stray.mkdir()
    (stray / "large").write_bytes(bytes(600 * KIB))
    eventually(lambda: kept(server, [older, newer])[0] is False, "the oldest is gone")


def test_folders_an_earlier_server_left_count(start_server: StartServer, tmp_path: Path) -> None:
    shared = tmp_path / "kept"
    place = {"LIGHT_RUN_ARTIFACTS_DIR": str(shared)}
    first = start_server("first", settings={**settings(10_000 * KIB), **place})
    ids = []
    for _ in range(3):
        state = first.run(entrypoint=f"head -c {300 * KIB} /dev/urandom > out", extract=["out"])
        ids.append(state["id"])
    assert first.stop() == 0
    assert [(shared / run_id / "out").exists() for run_id in ids] == [True] * 3

    second = start_server("second", settings={**settings(1000 * KIB), **place})
    newest = second.run(entrypoint=f"head -c {300 * KIB} /dev/urandom > out", extract=["out"])["id"]
    eventually(
        lambda: [(shared / run_id).exists() for run_id in [*ids, newest]] == [False, True, True, True],
        "the oldest folder is gone",
    )


def test_a_link_in_the_artifacts_folder_is_not_followed_by_eviction(
    start_server: StartServer, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    server = start_server(settings=settings(100 * KIB, "0.1"))
    run_id = leave(server, 90)
    (server.artifacts_dir / run_id / "link").symlink_to(outside)
    (server.artifacts_dir / "link-run").symlink_to(outside)
    newer = leave(server, 90)
    eventually(lambda: kept(server, [run_id, newer]) == [False, True], "the older one is gone")
    assert (outside / "precious").read_text() == "x"


def test_a_deleted_run_makes_room(start_server: StartServer) -> None:
    server = start_server(settings=settings(1000 * KIB))
    ids = [leave(server, 300) for _ in range(3)]
    assert server.request("DELETE", f"/runs/{ids[2]}").status_code == 204
    ids.append(leave(server, 300))
    assert kept(server, [ids[0], ids[1], ids[3]]) == [True, True, True]


def test_a_tenant_cannot_push_out_the_artifacts_and_runs_of_others(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    alice, bob = (tokens.create(file, name, ["read", "run"]) for name in ("alice", "bob"))
    own = {"LIGHT_RUN_TOKENS_FILE": str(file), "LIGHT_RUN_MAX_RUNS": "6"}
    server = start_server(settings={**settings(1000 * KIB), **own})

    def run(token: str, entrypoint: str, **fields: Any) -> Any:
        asked = run_request(entrypoint=entrypoint, **fields)
        return server.request("POST", "/run", json=asked, token=token).json()

    bobs = run(bob, f"head -c {300 * KIB} /dev/urandom > out", extract=["out"])["id"]
    # A sparse file under many names is long, and takes nothing.
    names = [f"hole{number}" for number in range(20)]
    sparse = f"truncate -s 1000M hole0; for n in {' '.join(names[1:])}; do ln hole0 $n; done"
    holes = run(alice, sparse, extract=names)
    assert [entry["status"] for entry in holes["extracted"]] == ["ok"] * 20, holes
    for _ in range(3):
        run(alice, f"head -c {600 * KIB} /dev/urandom > out", extract=["out"])
    for _ in range(5):
        run(alice, "true")
    state = server.request("GET", f"/runs/{bobs}", token=bob).json()
    assert state["artifacts"] == [{"path": "out", "bytes": 300 * KIB, "type": "file"}]
    assert len(server.request("GET", "/runs", token=alice).json()) == 5
    blocks = sum(os.stat(path).st_blocks * 512 for path in server.artifacts_dir.rglob("*"))
    assert blocks <= 1000 * KIB


def test_an_evicted_run_is_known_to_the_next_server(start_server: StartServer) -> None:
    first = start_server(settings=settings(100 * KIB))
    older, newer = leave(first, 90), leave(first, 90)
    eventually(lambda: kept(first, [older, newer]) == [False, True], "the older one is gone")
    assert first.stop() == 0
    second = start_server(settings=settings(100 * KIB))
    assert second.state(older)["artifactsEvicted"] is True
