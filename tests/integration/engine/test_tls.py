"""An engine behind TLS, each side with a certificate: ``dockerd --tlsverify`` and DOCKER_TLS_VERIFY."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from light_run import Runner, RunSpec
from light_run.engine import Destinations, RunnerConfig
from tests.support.certificates import make_certificates, tls_options
from tests.support.engine import BUSYBOX, containers_of
from tests.support.poll import eventually, until_nothing
from tests.support.private_engine import private_engine

MIB = 1024 * 1024


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """A runner on such an engine that keeps a container parked; it leaves nothing there."""
    folder = tmp_path / "certificates"
    make_certificates(folder)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        private_engine(BUSYBOX, listener=listener, options=tls_options(folder)) as engine,
    ):
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
        # Of the web's authorities, which the engine's is none of: it is not even opened.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "none.pem"))
        config = RunnerConfig(
            server_id="tls",
            parked_max=1,
            parked_pins={BUSYBOX: 1},
            default_network="none",
            workspace="archive",
        )
        with Runner(config) as runner:
            runner.open()
            yield runner
        until_nothing(lambda: containers_of("tls", engine.address), "no container is left")


def test_input_ends_and_output_goes_on(runner: Runner, tmp_path: Path) -> None:
    for parked, size in itertools.product((True, False), (0, 10, 3 * MIB)):
        if parked:
            eventually(lambda: runner.parked == 1, "one is parked")
        spec = RunSpec(
            image=BUSYBOX,
            # Another workdir is another kind than the one that is parked.
            workdir="/app" if parked else "/elsewhere",
            # Slow to begin, so that what is large does not fit into any buffer on the way.
            entrypoint="cat in; sleep 0.5; cat >got; wc -c <got; sleep 0.2; echo end",
            files={"in": "files\n"},
            stdin=b"x" * size,
            extract=("got",),
            timeout=60.0,
        )
        result = runner.run(spec, to=Destinations(artifacts=tmp_path / f"{parked}-{size}"))
        assert (result.logs, result.parked) == (("files", str(size), "end"), parked), result
        assert [one.status for one in result.extracted] == ["ok"], result
        assert (tmp_path / f"{parked}-{size}" / "got").read_bytes() == b"x" * size
    unread = RunSpec(image=BUSYBOX, entrypoint="sleep 1; exit 3", stdin=b"x" * MIB, timeout=60.0)
    assert runner.run(unread).exit_code == 3
