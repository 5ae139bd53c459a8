"""How a run ends: exit, timeout, out of memory, too many processes, too much output."""

from __future__ import annotations

from typing import Any

import pytest

from light_run.client import Client
from tests.integration.conftest import StartServer
from tests.support.engine import PYTHON
from tests.support.poll import eventually
from tests.support.processes import forget_peak, status_kib
from tests.support.receiver import Receiver
from tests.support.server import Server

MIB = 1024 * 1024


@pytest.mark.engines("contract")
def test_a_timeout_keeps_output_and_files(server: Server) -> None:
    state = server.run(
        entrypoint="echo before; echo kept > out; printf 'no newline'; sleep 60; echo never",
        timeout=3500,
        extract=["out"],
    )
    assert (state["status"], state["reason"]) == ("failed", "timeout")
    assert state["logs"] == ["before", "no newline"]
    assert "3500" in state["error"] or "3.5" in state["error"]
    assert 3500 <= state["durationMs"] < 30_000
    assert server.artifact(state["id"], "out").content == b"kept\n"


def test_a_timeout_of_a_process_that_ignores_signals(server: Server) -> None:
    state = server.run(entrypoint="trap '' TERM INT; echo up; while :; do sleep 1; done", timeout=3000)
    assert (state["reason"], state["logs"]) == ("timeout", ["up"])


def test_a_timeout_of_a_process_that_has_closed_its_output(server: Server) -> None:
    state = server.run(entrypoint="echo up; exec >&- 2>&-; sleep 60", timeout=3000)
    assert (state["reason"], state["logs"]) == ("timeout", ["up"])


def test_a_detached_timeout(server: Server) -> None:
    state = server.wait_done(server.start(entrypoint="echo up; sleep 60", timeout=3000))
    assert (state["status"], state["reason"], state["logs"]) == ("failed", "timeout", ["up"])


def test_time_is_not_counted_before_the_container_starts(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    first = server.start(entrypoint="sleep 6")
    second = server.run(entrypoint="sleep 0.2; echo done", timeout=5000)
    assert (second["status"], second["logs"]) == ("succeeded", ["done"]), second
    assert server.wait_done(first)["status"] == "succeeded"


def test_the_time_of_a_run_that_asks_for_none(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_TIMEOUT": "700"})
    assert server.run(entrypoint="sleep 60")["reason"] == "timeout"
    assert server.run(entrypoint="sleep 1.2", timeout=30_000)["status"] == "succeeded"


@pytest.mark.engines("contract")
def test_a_child_left_in_the_background_does_not_outlive_the_run(server: Server) -> None:
    state = server.run(entrypoint="sleep 600 & echo done", timeout=60_000)
    assert (state["status"], state["logs"]) == ("succeeded", ["done"])
    assert state["durationMs"] < 30_000


def test_out_of_memory_is_named(server: Server) -> None:
    program = "data = []\nprint('up', flush=True)\nwhile True: data.append(bytearray(8 * 1024 * 1024))\n"
    state = server.run(
        image=PYTHON, files={"m.py": program}, entrypoint="exec python3 m.py", limits={"memory": "64m"}
    )
    assert (state["status"], state["reason"]) == ("failed", "out_of_memory"), state
    assert state["exitCode"] == 137
    assert "memory" in state["error"]
    assert state["logs"][0] == "up"


def test_out_of_memory_at_the_default_limit(server: Server) -> None:
    program = "data = bytearray()\nwhile True: data += b'x' * (64 * 1024 * 1024)\n"
    state = server.run(image=PYTHON, files={"m.py": program}, entrypoint="exec python3 m.py")
    assert (state["status"], state["reason"]) == ("failed", "out_of_memory"), state


def test_a_child_without_memory_is_seen_where_the_command_goes_on(
    start_server: StartServer, receiver: Receiver
) -> None:
    server = start_server()
    state = server.run(
        entrypoint="tail /dev/zero; echo up; exit 0",
        limits={"memory": "32m"},
        callbackUrl=f"{receiver.url}/",
    )
    assert (state["status"], state["reason"], state["exitCode"]) == ("succeeded", "exit", 0), state
    assert state["usage"]["oomKills"] == 1
    assert "error" not in state
    (request,) = receiver.wait()
    assert request.json()["usage"]["oomKills"] == 1
    with Client(server.url, token=server.token) as client:
        assert client.get(state["id"]).usage["oomKills"] == 1
    server.stop()
    assert start_server().state(state["id"])["usage"] == state["usage"]


def test_a_child_that_was_killed_under_an_earlier_server(start_server: StartServer) -> None:
    server = start_server()
    command = "tail /dev/zero; echo up; sleep 8; exit 0"
    run_id = server.start(entrypoint=command, limits={"memory": "32m"})
    eventually(lambda: "up" in server.state(run_id)["logs"], "the child is gone")
    server.kill()
    state = start_server().wait_done(run_id)
    assert (state["status"], state["usage"]["oomKills"]) == ("succeeded", 1), state


def test_what_a_run_has_used(server: Server) -> None:
    def measured() -> dict[str, Any] | None:
        # The cgroup is gone soon: a busy machine may be too late for it.
        state = server.run(
            entrypoint="i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done; dd if=/dev/zero of=f bs=1M count=8; kill $$"
        )
        return state if {"cpuMs", "memoryPeakBytes"} <= state["usage"].keys() else None

    state = eventually(measured, "the kernel's count was read in time")
    assert state is not None
    usage = state["usage"]
    assert 10 <= usage["cpuMs"] <= state["durationMs"] * 1.2 + 100, state
    assert 1 << 18 <= usage["memoryPeakBytes"] <= 512 << 20, state
    assert 8 << 20 <= usage["diskBytes"] <= 9 << 20, state
    assert (state["signal"], state["exitCode"], state["reason"]) == ("SIGTERM", 143, "exit")
    with Client(server.url, token=server.token) as client:
        run = client.get(state["id"])
        assert (run.signal, run.usage) == ("SIGTERM", usage)


def test_the_signal_that_killed_a_command(server: Server) -> None:
    assert server.run(entrypoint="sleep 60", timeout=200)["signal"] == "SIGKILL"
    assert server.run(entrypoint="sh -c 'kill -SEGV $$'; exit $?")["signal"] == "SIGSEGV"
    for code in (0, 1, 126, 127, 128, 255):
        assert "signal" not in server.run(entrypoint=f"exit {code}")


def test_what_is_not_known_of_the_usage_is_left_out(server: Server) -> None:
    assert "oomKills" not in server.run(entrypoint="true")["usage"]
    assert server.run(entrypoint="tail /dev/zero", limits={"memory": "32m"})["usage"]["oomKills"] == 1


def test_a_kill_from_inside_is_no_out_of_memory(server: Server) -> None:
    assert server.run(entrypoint="kill -9 $$")["reason"] == "exit"


def test_no_swap_beyond_the_memory(server: Server) -> None:
    state = server.run(
        entrypoint="cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes 2>/dev/null"
        " || cat /sys/fs/cgroup/memory.swap.max 2>/dev/null || echo none"
    )
    # cgroup v1 counts both together, v2 swap alone; "none" where the kernel does not account for swap.
    assert state["logs"][0] in (str(512 * MIB), "0", "none")


def test_a_fork_bomb_ends_and_the_server_goes_on(server: Server) -> None:
    program = (
        "import os, time\n"
        "children = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(600)\n"
        "        children += 1\n"
        "except BlockingIOError:\n"
        "    print('refused after', children < 100, flush=True)\n"
    )
    # It ends when it has seen enough, with its children still there.
    state = server.run(image=PYTHON, files={"m.py": program}, entrypoint="python3 m.py", timeout=60_000)
    assert (state["reason"], state["logs"]) == ("exit", ["refused after True"]), state
    shell = server.run(entrypoint="bomb() { bomb | bomb & }; bomb; sleep 600", timeout=3000)
    assert shell["status"] == "failed"
    assert server.run(entrypoint="echo fine")["logs"] == ["fine"]


def test_60_mb_of_output_is_capped_and_leaves_the_server_small(start_server: StartServer) -> None:
    server = start_server()
    lines, width = 600_000, 100
    program = f"yes {'x' * (width - 1)} | head -n {lines}; echo the end >&2; echo out > out"
    assert server.run(entrypoint="echo warm; echo x > out", extract=["out"])["status"] == "succeeded"
    pids = server.processes()
    before = {pid: status_kib(pid, "VmRSS") for pid in pids}
    for pid in pids:
        forget_peak(pid)

    run_id = server.start(entrypoint=program, extract=["out"], timeout=90_000)
    summary = None
    while summary is None:  # the list, which leaves the logs out: reading them here would be measured too
        summary = next(
            (run for run in server.get("/runs?limit=1").json() if run["status"] != "running"), None
        )
    assert summary["status"] == "succeeded", summary
    assert summary["logsTruncated"] is True

    response = server.get(f"/runs/{run_id}", stream=True)
    size = sum(len(chunk) for chunk in response.iter_content(MIB))
    response.close()
    # 10 MiB of output are kept, a few bytes a line are JSON's.
    assert 9 * MIB < size < 12 * MIB

    peak = {pid: status_kib(pid, "VmHWM") for pid in pids}
    risen = sum(peak[pid] - before[pid] for pid in pids)
    assert risen < 20 * 1024, f"{risen} KiB more than before: {before} {peak}"


def test_output_of_a_synchronous_run_is_capped(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_LOG_LIMIT": "10000"})
    state = server.run(entrypoint="seq 20000; exit 3")
    assert (state["exitCode"], state["logsTruncated"]) == (3, True)
    kept = [line for line in state["logs"] if line.isdigit()]
    assert 1000 < len(kept) < 5000
    assert kept[:3] == ["1", "2", "3"]
    small = server.run(entrypoint="seq 10")
    assert small["logs"] == [str(number) for number in range(1, 11)]
    assert not small.get("logsTruncated", False)


def test_100_mb_of_output_without_a_newline(server: Server) -> None:
    state = server.run(entrypoint="head -c 100000000 /dev/zero | tr '\\0' '\\377'", timeout=60_000)
    assert state["status"] == "succeeded"
    assert state["logsTruncated"] is True
    (line,) = state["logs"]
    # None of it is UTF-8.
    assert set(line) == {"\ufffd"}
    assert len(line) == 10 * MIB


@pytest.mark.engines("contract")
def test_output_on_both_streams_at_once_never_blocks_the_run(server: Server) -> None:
    state = server.run(
        entrypoint="(yes out | head -n 300000) & (yes err | head -n 300000 >&2); wait", timeout=60_000
    )
    assert state["status"] == "succeeded"
    assert set(state["logs"]) == {"out", "err"}
    assert len(state["logs"]) == 600_000


@pytest.mark.engines("contract")
def test_the_last_words_of_a_quick_process_are_kept(server: Server) -> None:
    for number in range(10):
        assert server.run(entrypoint=f"printf {number}")["logs"] == [str(number)]


@pytest.mark.engines("contract")
@pytest.mark.parametrize("network", ["no-such-network-77", "host", "container:abc"])
def test_a_network_that_cannot_be_had(server: Server, network: str) -> None:
    response = server.post_run(network=network)
    if response.status_code == 400:
        assert response.json()["details"][0]["path"] == ["network"]
        return
    state = response.json()
    assert (state["status"], state["reason"]) == ("failed", "start_failed"), state
    assert network in state["error"]


def test_a_command_that_cannot_be_found(server: Server) -> None:
    state = server.run(entrypoint="no-such-command")
    assert (state["status"], state["exitCode"]) == ("failed", 127)
    assert "not found" in "".join(state["logs"])
