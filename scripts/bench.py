"""Measure light-run beside the bare engine, interleaved in one run; print one table (reStructuredText).

The floor is what the engine itself needs for an empty container: create, start, wait and remove on an
open connection. Every row of light-run does more: a file in, a command, an artifact out and fetched by
HTTP. Shared machines are noisy: read the ratios, not the milliseconds.

    make bench                        the whole table
    make bench ARGS="--rounds 30"     more of each
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import bench_http
import bench_logs
import bench_many
from bench_support import IMAGE, BareEngine, Server, UnixConnection, ask, bridge, server, table, timed

# A parked container's successor is being made meanwhile: the next sample must not pay for it.
PAUSE = 0.7
# Seconds of doing nothing: what that takes is a few ticks of the clock that processor time is counted in.
REST = 30


def interleaved(rows: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """`rounds` samples of each row in milliseconds, one of each in turn."""
    samples: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, work in rows.items():
            time.sleep(PAUSE)
            samples[name].append(timed(work))
    return samples


def loop(clients: list[Callable[[], None]], seconds: float) -> float:
    """Runs a second of all clients together, each without a pause."""
    counts = [0] * len(clients)
    deadline = time.monotonic() + seconds

    def work(index: int, client: Callable[[], None]) -> None:
        while time.monotonic() < deadline:
            client()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=item) for item in enumerate(clients)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


def latency(rounds: int) -> None:
    """One client with pauses: each way of ours against the engine's floor."""
    with ExitStack() as stack:
        cold_bind = stack.enter_context(server(LIGHT_RUN_PARKED_MAX="0", LIGHT_RUN_WORKSPACE="bind"))
        cold_archive = stack.enter_context(server(LIGHT_RUN_PARKED_MAX="0", LIGHT_RUN_WORKSPACE="archive"))
        parked = stack.enter_context(server())
        parked_default = stack.enter_context(server())
        floor, floor_bridge = BareEngine("none"), BareEngine(stack.enter_context(bridge()))
        run_bind, run_archive = cold_bind.client(), cold_archive.client()
        run_parked, run_parked_default = parked.client(), parked_default.client()
        rows: dict[str, Callable[[], None]] = {
            "bare engine, network none (floor)": floor.run,
            "bare engine, a bridge network": floor_bridge.run,
            "parked, network none": lambda: run_parked("none"),
            "parked, default network": lambda: run_parked_default(None),
            "cold, bind, network none": lambda: run_bind("none"),
            "cold, archive, network none": lambda: run_archive("none"),
        }
        interleaved(rows, 3)
        for one in (cold_bind, cold_archive, parked, parked_default):
            one.timings.clear()
        samples = interleaved(rows, rounds)
        medians = {name: statistics.median(values) for name, values in samples.items()}
        base = medians["bare engine, network none (floor)"]
        servers = {
            "parked, network none": parked,
            "parked, default network": parked_default,
            "cold, bind, network none": cold_bind,
            "cold, archive, network none": cold_archive,
        }
        table(
            f"One client, medians of {rounds}, interleaved",
            ("what", "ms", "x floor", "min - max ms", "of which, by Server-Timing (ms)"),
            [
                (
                    name,
                    f"{medians[name]:.0f}",
                    f"{medians[name] / base:.2f}",
                    f"{min(values):.0f} - {max(values):.0f}",
                    _steps(servers.get(name)),
                )
                for name, values in samples.items()
            ],
        )


def processor(runs: int) -> None:
    """Processor time of the server: of a run, and of having nothing to do."""
    with server() as one:
        run = one.client(fetch=False)
        for _ in range(5):
            run("none")
            time.sleep(PAUSE)
        idle = _spent(one, lambda: time.sleep(REST)) / REST

        def work() -> None:
            for _ in range(runs):
                run("none")
                time.sleep(PAUSE)

        begun = time.monotonic()
        spent = _spent(one, work)
        spent -= idle * (time.monotonic() - begun)
        print(
            f"\nServer CPU a run (one POST /run), parked, one client with pauses of {PAUSE} s, its pool "
            f"keeper's work included: {spent / runs * 1000:.1f} ms, beside the {idle * 1000:.1f} ms a second "
            f"of a server at rest (mean of {runs} runs)."
        )


def _spent(one: Server, work: Callable[[], None]) -> float:
    # Seconds of processor time.
    before = one.cpu()
    work()
    return one.cpu() - before


def _steps(one: Server | None) -> str:
    if one is None:
        return "n/a"
    return ", ".join(
        f"{step.removesuffix('Ms')} {statistics.median(v):.0f}" for step, v in one.timings.items()
    )


def throughput(clients: int, seconds: float, turns: int) -> None:
    """So many clients without pause, ours and the bare engine in turn."""
    with server(LIGHT_RUN_MAX_CONCURRENCY=str(clients)) as ours:
        runs = [ours.client() for _ in range(clients)]
        engines = [BareEngine("none") for _ in range(clients)]
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        used = 0.0
        done = 0.0
        for _ in range(turns):
            rates["bare"].append(loop([engine.run for engine in engines], seconds))
            before = ours.cpu()
            rates["ours"].append(loop([lambda run=run: run("none") for run in runs], seconds))  # type: ignore[misc]
            used += ours.cpu() - before
            done += rates["ours"][-1] * seconds
        bare, mine = statistics.median(rates["bare"]), statistics.median(rates["ours"])
        table(
            f"{clients} clients without pause, network none, medians of {turns} turns of {seconds:g} s",
            ("what", "runs a second", "x bare engine", "server CPU a run (ms)"),
            [
                ("bare engine's own loop", f"{bare:.2f}", "1.00", "n/a"),
                ("light-run, as it comes", f"{mine:.2f}", f"{mine / bare:.2f}", f"{used / done * 1000:.1f}"),
            ],
        )


def memory() -> None:
    """Memory when idle, under a large upload and after a flood of output; start to first answer."""
    with server() as one:
        idle = one.rss()
        risen, rate = bench_http.upload(one)
        connection = http.client.HTTPConnection("127.0.0.1", one.port)
        body = {
            "image": IMAGE,
            "files": {"a": ""},
            "entrypoint": "yes 'sixteen letters' | head -c 62914560",
            "network": "none",
        }
        ask(connection, "POST", "/run", body)
        table(
            "Memory and start",
            ("what", "figure"),
            [
                ("idle server, RSS", f"{idle:.0f} MiB"),
                ("what it had more at most, taking an upload of 500 MB", f"{risen:.1f} MiB"),
                ("that upload, from client to disk", f"{rate:.0f} MiB/s"),
                ("most it had, answering a run of 60 MB of output", f"{one.peak():.0f} MiB"),
                ("start to first answer", f"{one.first_answer:.2f} s"),
            ],
        )


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="samples of each row")
    parser.add_argument("--seconds", type=float, default=10, help="length of one turn of throughput")
    parser.add_argument("--turns", type=int, default=3, help="turns of throughput")
    parser.add_argument("--clients", type=int, default=8, help="clients at once")
    parser.add_argument("--finished", type=int, default=10_000, help="finished runs in the store when polled")
    parser.add_argument("--many", type=int, default=200, help="detached runs at once")
    options = parser.parse_args()
    version = json.loads(ask(UnixConnection("localhost"), "GET", "/version"))
    print(
        f"Measured on {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Docker Engine {version['Version']}, Python {platform.python_version()}."
    )
    latency(options.rounds)
    processor(4 * options.rounds)
    throughput(options.clients, options.seconds, options.turns)
    memory()
    bench_logs.live_logs(options.turns)
    bench_http.polling(options.finished)
    bench_http.crowd()
    bench_http.downloads()
    bench_many.many(options.many)


if __name__ == "__main__":
    main()
