"""The Python client, against the real server; and a proxy in between, where a connection has to break."""

from __future__ import annotations

import hashlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from light_run import Client, errors
from light_run.client import Artifact, LogLine
from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX
from tests.support.poll import eventually
from tests.support.proxy import Proxy, breaking_proxy
from tests.support.server import TOKEN, Server, free_port

QUICK: dict[str, Any] = {"network": "none"}


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.url, TOKEN) as client:
        yield client


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A way to the shared server that breaks on cue."""
    with breaking_proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def shaky(proxy: Proxy) -> Iterator[Client]:
    """A client that goes by way of the proxy."""
    with Client(proxy.url, TOKEN, retry_for=20) as client:
        yield client


def texts(lines: Iterator[LogLine]) -> list[str]:
    """What the lines say."""
    return [line.text for line in lines]


def test_a_run_and_all_that_comes_of_it(client: Client, tmp_path: Path) -> None:
    lines: list[LogLine] = []
    run = client.run(
        BUSYBOX,
        [
            "sh",
            "-c",
            'cat > /tmp/in; cat a/b "$0"; echo "$KEY" >&2; mkdir -p out/d; cp /tmp/in out/d/copy; exit 3',
            "c d",
        ],
        files={"a/b": "text\n", "c d": b"\xff\n"},
        stdin=b"\0\xff raw",
        env={"KEY": "it's"},
        extract=["out", "gone"],
        limits={"memory": "64m"},
        timeout=60,
        on_line=lines.append,
        **QUICK,
    )
    assert (run.status, run.exit_code, run.reason, run.ended, run.succeeded) == (
        "failed",
        3,
        "exit",
        True,
        False,
    )
    assert [(line.stream, line.text) for line in lines if line.stream == "stderr"] == [("stderr", "it's")]
    assert [line.text for line in lines if line.stream == "stdout"] == ["text", "\N{REPLACEMENT CHARACTER}"]
    assert sorted(run.logs) == sorted(line.text for line in lines)
    assert [line.seq for line in lines] == sorted({line.seq for line in lines})
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.started_at < run.finished_at
    assert all(run.started_at <= line.time <= run.finished_at for line in lines)
    assert [entry.status for entry in run.extracted] == ["ok", "missing"]
    assert run.artifacts == (Artifact("d", 0, "directory"), Artifact("d/copy", 6, "file"))
    assert client.artifacts(run.id) == run.artifacts
    assert client.download(run.id, "d/copy", tmp_path) == tmp_path / "copy"
    assert client.download_all(run.id, tmp_path / "all") == (tmp_path / "all" / "d" / "copy",)
    assert client.download_all(run.id, tmp_path / "d", below="d") == (tmp_path / "d" / "copy",)
    for path in ("copy", "all/d/copy", "d/copy"):
        assert (tmp_path / path).read_bytes() == b"\0\xff raw"
    client.delete(run.id)
    with pytest.raises(errors.RunNotFound):
        client.get(run.id)


def test_a_folder_is_sent_with_its_tree_and_modes(client: Client, tmp_path: Path) -> None:
    (tmp_path / "src" / ".git").mkdir(parents=True)
    (tmp_path / "src" / ".git" / "config").write_text("kept\n")
    (tmp_path / "src" / "tool").write_text('#!/bin/sh\ncat .git/config link "$(dirname $0)/$1"\n')
    (tmp_path / "src" / "tool").chmod(0o755)
    (tmp_path / "src" / "link").symlink_to(".git/config")
    (tmp_path / "name\nüß").write_text("odd\n")
    files = [("", tmp_path / "src"), ("x/name\nüß", tmp_path / "name\nüß")]
    run = client.run(BUSYBOX, ["./tool", "x/name\nüß"], files=files, **QUICK)
    assert run.logs == ("kept", "kept", "odd")


def test_without_files_the_working_directory_is_empty(client: Client) -> None:
    assert client.run(BUSYBOX, "ls -A; pwd", **QUICK).logs == ("/app",)


def test_input_is_json_and_nothing_is_an_input_too(client: Client) -> None:
    assert client.run(BUSYBOX, ["cat"], input=None, **QUICK).logs == ("null",)
    assert client.run(BUSYBOX, ["cat"], **QUICK).logs == ()


def test_a_large_folder_is_not_held_in_memory(client: Client, tmp_path: Path) -> None:
    # More than a request of JSON may have.
    content = b"0123456789abcdef" * 1_000_000
    (tmp_path / "big").write_bytes(content)
    sent: list[int] = []
    run = client.run(BUSYBOX, "sha256sum big", files=tmp_path, progress=sent.append, **QUICK)
    assert run.logs[0].split()[0] == hashlib.sha256(content).hexdigest()
    assert len(content) < sum(sent) < len(content) + 10_000
    assert max(sent) <= 1 << 16


def test_lists_are_read_page_by_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [client.submit(BUSYBOX, "true", **QUICK).id for _ in range(3)]
    for run_id in ids:
        client.wait(run_id)
    assert [run.id for run in client.runs(limit=3)] == ids[::-1]
    found = [run.id for run in client.runs(status="succeeded")]
    assert found[:3] == ids[::-1]
    monkeypatch.setattr("light_run.client.client.PAGE", 2)
    assert [run.id for run in client.runs(limit=3)] == ids[::-1]
    assert [run.id for run in client.runs(status="succeeded")] == found
    for run, _ in zip(client.runs(status="succeeded"), ids, strict=False):
        client.delete(run.id)
    assert [run.id for run in client.runs(status="succeeded")] == found[len(ids) :]


def test_a_list_goes_on_where_the_server_has_forgotten_what_it_follows(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [client.submit(BUSYBOX, "true", **QUICK).id for _ in range(6)][::-1]
    for run_id in ids:
        client.wait(run_id)
    monkeypatch.setattr("light_run.client.client.PAGE", 2)
    runs = client.runs(limit=6)
    # The second page has been read with the first; the third follows what is forgotten now.
    assert next(runs).id == ids[0]
    client.delete(ids[3])
    assert [run.id for run in runs] == [ids[1], ids[2], ids[3], ids[4], ids[5]]


def test_cancelling_and_what_is_too_late_for_it(client: Client) -> None:
    run = client.submit(BUSYBOX, ["sleep", "60"], **QUICK)
    with pytest.raises(errors.RunActive):
        client.delete(run.id)
    with pytest.raises(errors.StillRunning, match=run.id):
        client.wait(run.id, timeout=0.1)
    client.cancel(run.id)
    assert client.wait(run.id).status == "cancelled"
    with pytest.raises(errors.RunNotActive):
        client.cancel(run.id)


def test_logs_so_far_their_tail_and_one_of_them(client: Client) -> None:
    run = client.run(BUSYBOX, "seq 5; echo e >&2", **QUICK)
    assert sorted(texts(client.logs(run.id))) == ["1", "2", "3", "4", "5", "e"]
    assert texts(client.logs(run.id, stream="stdout", tail=2)) == ["4", "5"]
    assert texts(client.logs(run.id, stream="stdout", since=2, follow=True))[-1:] == ["5"]
    assert texts(client.logs(run.id, stream="stderr")) == ["e"]


def test_lines_come_while_the_run_is_at_work(client: Client) -> None:
    run = client.submit(BUSYBOX, "echo first; read -r x; echo second", stdin="", **QUICK)
    blocked = client.submit(BUSYBOX, "echo first; sleep 60", **QUICK)
    lines = client.logs(blocked.id, follow=True)
    assert next(lines).text == "first"
    assert not client.get(blocked.id).ended
    client.cancel(blocked.id)
    assert list(lines) == []
    assert texts(client.logs(run.id, follow=True)) == ["first", "second"]


def test_output_is_exact_and_comes_as_it_is_written(client: Client) -> None:
    run = client.submit(BUSYBOX, r"printf '\r1\377'; printf err >&2; sleep 60", **QUICK)
    coming = client.output(run.id, follow=True)
    came = b""
    while len(came) < 6:
        came += next(coming)
    assert sorted(came) == sorted(b"\r1\xfferr")
    assert b"".join(client.output(run.id, stream="stdout")) == b"\r1\xff"
    client.cancel(run.id)
    assert b"".join(coming) == b""
    assert [(each.stream, each.data) for each in client.attach(run.id, stream="stderr")] == [
        ("stderr", b"err")
    ]
    with pytest.raises(errors.RunNotFound):
        next(client.output("x"))


# --- what is refused ------------------------------------------------------------------------------------


def test_faults_of_a_request(client: Client) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        client.submit("", "x" * 3000, network="host")
    assert {fault.path for fault in caught.value.faults} == {("image",), ("entrypoint",), ("network",)}


@pytest.mark.parametrize("token", ["wrong", None])
def test_the_token(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None
) -> None:
    # What is in there is for other programs; requests would send it where nothing else is given.
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LIGHT_RUN_TOKEN", raising=False)
    with Client(server.url, token) as client, pytest.raises(errors.Unauthorized):
        client.get("x")


def test_url_and_token_are_those_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHT_RUN_URL", server.url + "/")
    monkeypatch.setenv("LIGHT_RUN_TOKEN", TOKEN)
    with Client() as client:
        assert client.info().docker


def test_nobody_is_there() -> None:
    begun = time.monotonic()
    with (
        Client(f"http://127.0.0.1:{free_port()}", retry_for=1) as client,
        pytest.raises(errors.ServerUnavailable, match="refused"),
    ):
        client.get("x")
    assert time.monotonic() - begun < 30


def test_somebody_is_there_who_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(url, timeout=0.2, retry_for=0) as client,
            pytest.raises(errors.ServerUnavailable, match="in time"),
        ):
            client.get("x")


def test_artifacts_that_are_not_there(client: Client, tmp_path: Path) -> None:
    run = client.run(BUSYBOX, "echo x > kept; mkdir -p d/e", extract=["kept", "d"], **QUICK)
    with pytest.raises(errors.ArtifactNotFound):
        client.download(run.id, "gone", tmp_path)
    with pytest.raises(errors.ArtifactNotFound):
        client.download_all(run.id, tmp_path, below="gone")
    with pytest.raises(errors.ArtifactNotFound, match="e is a directory"):
        client.download(run.id, "e", tmp_path / "file")
    with pytest.raises(errors.ArtifactNotFound):
        client.download(run.id, "", tmp_path / "file")
    with pytest.raises(errors.InvalidPath):
        client.download(run.id, "../kept", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_hostile_names_land_nowhere_else(client: Client, tmp_path: Path) -> None:
    script = r"""mkdir -p out/sub
    printf x > 'out/two
lines'; printf x > out/%2e%2e; printf x > "$(printf 'out/\377raw')"; printf x > 'out/x\..\y'; printf x > 'out/-rf'
    printf x > 'out/sub/ä'; printf x > 'out/C:'; printf x > 'out/a%FFb'"""
    run = client.run(BUSYBOX, script, extract=["out"], **QUICK)
    with pytest.raises(errors.DownloadFailed, match="of 9 artifacts") as caught:
        client.download_all(run.id, tmp_path / "to")
    # Names that the server gives nothing for; the others are all there.
    assert r"x\\..\\y" in str(caught.value)
    there = sorted(path.name for path in (tmp_path / "to").rglob("*"))
    assert set(there) >= {"two\nlines", "%FFraw", "-rf", "ä", "C:", "a%25FFb", "sub"}
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


# --- what breaks on the way -----------------------------------------------------------------------------


def test_an_answer_that_is_lost_makes_no_second_run(server: Server, shaky: Client, proxy: Proxy) -> None:
    before = {run["id"] for run in server.get("/runs").json()}
    proxy.cuts = [0, 10]
    run = shaky.run(BUSYBOX, "echo once", files={"a": "x"}, **QUICK)
    assert run.logs == ("once",)
    assert {each["id"] for each in server.get("/runs").json()} - before == {run.id}
    assert proxy.connections >= 3


def test_a_log_goes_on_where_it_broke(shaky: Client, proxy: Proxy) -> None:
    script = "for i in $(seq 200); do echo line $i; [ $((i % 50)) -gt 0 ] || sleep 0.2; done"
    run = shaky.submit(BUSYBOX, script, **QUICK)
    shaky.close()
    proxy.cuts = [0, 300, 5000, 700]
    assert texts(shaky.logs(run.id, follow=True)) == [f"line {number + 1}" for number in range(200)]


def test_a_log_whose_connection_falls_silent_is_asked_for_anew(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("light_run.client.resuming.IDLE_TIMEOUT", 0.5)
    run = client.submit(BUSYBOX, "echo 1; sleep 2; echo 2", **QUICK)
    assert texts(client.logs(run.id, follow=True)) == ["1", "2"]


def test_a_log_goes_on_after_the_server_was_away(start_server: StartServer) -> None:
    port = free_port()
    first = start_server("same", port=port)
    with Client(first.url, TOKEN) as client:
        run = client.submit(BUSYBOX, "echo before; sleep 5; echo after", **QUICK)
        lines = client.logs(run.id, follow=True)
        assert next(lines).text == "before"
        waited: list[str] = []
        waiting = threading.Thread(target=lambda: waited.append(client.wait(run.id).status))
        waiting.start()
        first.stop(signal.SIGTERM)
        start_server("same", port=port)
        assert texts(lines) == ["after"]
        waiting.join()
        assert waited == ["succeeded"]


def test_a_log_is_had_also_where_there_is_no_place_to_follow(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_FOLLOWERS": "1"})
    with Client(server.url, TOKEN) as client:
        blocked = client.submit(BUSYBOX, "echo a; sleep 60", **QUICK)
        lines = client.logs(blocked.id, follow=True)
        assert next(lines).text == "a"
        run = client.submit(BUSYBOX, "echo 1; sleep 2; echo 2", **QUICK)
        assert texts(client.logs(run.id, follow=True)) == ["1", "2"]
        client.cancel(blocked.id)
        assert list(lines) == []


def test_output_goes_on_where_it_broke(shaky: Client, proxy: Proxy) -> None:
    script = "for n in $(seq 200); do printf '\\r%d%%' $n; case $n in *50) sleep 0.2;; esac; done"
    run = shaky.submit(BUSYBOX, script, **QUICK)
    shaky.close()
    proxy.cuts = [0, 700, 600]
    expected = "".join(f"\r{number + 1}%" for number in range(200)).encode()
    assert b"".join(shaky.output(run.id, follow=True)) == expected
    assert proxy.cuts == []


def test_a_download_goes_on_where_it_broke(shaky: Client, proxy: Proxy, tmp_path: Path) -> None:
    run = shaky.run(BUSYBOX, "head -c 3000000 /dev/urandom > big; sha256sum big", extract=["big"], **QUICK)
    shaky.close()
    proxy.cuts = [1_000_000, 100, 1_000_000]
    pieces: list[int] = []
    path = shaky.download(run.id, "big", tmp_path / "here", progress=pieces.append)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == run.logs[0].split()[0]
    # Nothing that had come came again: three million bytes, and not one more, went over the line.
    assert sum(pieces) == 3_000_000
    assert min(pieces) >= 0
    assert [each.name for each in tmp_path.iterdir()] == ["here"]


def test_a_download_that_does_not_come_leaves_nothing(
    server: Server, client: Client, proxy: Proxy, tmp_path: Path
) -> None:
    run = client.run(BUSYBOX, "head -c 3000000 /dev/zero > big", extract=["big"], **QUICK)
    (tmp_path / "big").write_text("as it was")
    with Client(proxy.url, TOKEN, retry_for=0) as hasty:
        proxy.cuts = [1_000_000]
        with pytest.raises(errors.ServerUnavailable):
            hasty.download(run.id, "big", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("big", "as it was")]


def test_a_cancel_whose_answer_is_lost_is_one(shaky: Client, proxy: Proxy) -> None:
    run = shaky.submit(BUSYBOX, ["sleep", "60"], **QUICK)
    eventually(lambda: shaky.get(run.id).status == "running", "it is at work")
    shaky.close()
    proxy.cuts = [0]
    shaky.cancel(run.id)
    assert shaky.wait(run.id).status == "cancelled"


def test_what_met_a_break_and_was_not_done_is_no_success(shaky: Client, proxy: Proxy) -> None:
    def broken(ask: Callable[[str], None]) -> None:
        shaky.close()
        proxy.cuts = [0]
        ask(run.id)

    run = shaky.submit(BUSYBOX, ["sleep", "60"], **QUICK)
    with pytest.raises(errors.RunActive):
        broken(shaky.delete)
    broken(shaky.cancel)
    shaky.wait(run.id)
    broken(shaky.delete)
    with pytest.raises(errors.RunNotFound):
        shaky.get(run.id)
    with pytest.raises(errors.RunNotActive):
        broken(shaky.cancel)


def test_an_interrupted_run_is_cancelled(client: Client) -> None:
    def interrupt(line: LogLine) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        client.run(BUSYBOX, "echo up; sleep 60", on_line=interrupt, **QUICK)
    assert client.wait(next(iter(client.runs(limit=1))).id).status == "cancelled"
