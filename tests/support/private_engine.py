"""A second Docker engine of the tests' own, which may be stopped and started as they like."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.engine import engine_api
from tests.support.poll import eventually
from tests.support.processes import parent

START_SECONDS = 60.0
STOP_SECONDS = 60.0


@dataclass
class PrivateEngine:
    """A ``dockerd`` with folders, a socket, a containerd and a network of its own."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    # Beside its own socket: what to listen on, a socket that is bound already, and with which options.
    listener: socket.socket | None = None
    options: Sequence[str] = ()
    # From the next start on, containers go on while it is away.
    live_restore: bool = False

    @property
    def address(self) -> str:
        """What DOCKER_HOST has to be to use it."""
        return f"unix://{self.folder}/engine.sock"

    def start(self) -> None:
        """Start it and return once it responds."""
        # Not even the daemon.json of the machine's own engine is read.
        configuration = self.folder / "daemon.json"
        configuration.write_text('{"live-restore": true}' if self.live_restore else "{}")
        # In a network of its own: two engines in one would share, and take from each other, docker0 and the
        # packet filter's rules.
        command = [
            *("unshare", "--net", "--", "dockerd"),
            *("--config-file", str(configuration)),
            *("--data-root", str(self.folder / "data")),
            *("--exec-root", str(self.folder / "exec")),
            *("--pidfile", str(self.folder / "pid")),
            *("--host", self.address),
            *self.options,
        ]
        descriptors: tuple[int, ...] = ()
        if self.listener is not None:
            # As systemd hands over a socket: it stays in our network, whichever the engine is in.
            descriptors = (self.listener.fileno(),)
            script = f'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@" 3<&{descriptors[0]}'
            command = ["bash", "-c", script, "dockerd", *command, "--host", "fd://"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=descriptors,
            )
        eventually(self._answers, "the private engine answers", within=START_SECONDS)

    def stop(self) -> None:
        """Stop it, and with it every container it runs."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """End it with SIGKILL. Its containers go on where they are to outlive it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None
        # Its containerd is killed with it; the next one takes over from none that is still there, if only in name.
        containerd = Path("/proc", (self.folder / "exec/containerd/containerd.pid").read_text().strip())
        eventually(lambda: not containerd.exists(), "the containerd of the killed engine is gone", within=60)

    def lose(self, container: dict[str, Any]) -> None:
        """Take a container away, described as the engine did, and all that is known of it; while it is stopped."""
        assert self.process is None
        pid = container["State"]["Pid"]
        # Its shim too, which nobody would ever end.
        for each in (parent(pid), pid):
            os.kill(each, signal.SIGKILL)
        shutil.rmtree(self.folder / "data" / "containers" / container["Id"])

    def load(self, *images: str) -> None:
        """Copy `images` over from the machine's own engine."""
        copy_images(images, self.address)

    def forget_bridges(self) -> None:
        """Remove the packet filter's rules that a server, which shares our network, made for its bridges."""
        with engine_api(self.address) as api:
            bridges = {f"br-{network['Id'][:12]}" for network in api.networks()}
        listed = subprocess.run(["iptables", "-w", "-S"], capture_output=True, text=True, check=True).stdout
        for rule in map(str.split, listed.splitlines()):
            if rule[0] == "-A" and bridges.intersection(rule):
                subprocess.run(["iptables", "-w", "-D", *rule[1:]], check=True)

    def _answers(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"dockerd exited with {code}:\n{(self.folder / 'log').read_text()[-2000:]}"
        return answers(self.address)


def answers(address: str) -> bool:
    """Return True if an engine responds at a ``unix://`` address."""
    # Not by docker-py: it leaks the socket of a connection that is refused.
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(address.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def copy_images(images: Iterable[str], address: str) -> None:
    """Copy `images` from the machine's own engine to the one at `address`."""
    with engine_api() as source, engine_api(address) as target:
        for image in images:
            with tempfile.TemporaryFile() as archive:
                for chunk in source.get_image(image):
                    archive.write(chunk)
                archive.seek(0)
                for _progress in target.load_image(archive):  # type: ignore[no-untyped-call]
                    pass


@contextmanager
def private_engine(
    *images: str, listener: socket.socket | None = None, options: Sequence[str] = ()
) -> Iterator[PrivateEngine]:
    """A running private engine that has `images`; gone, with all its files, when this leaves."""
    assert shutil.which("dockerd"), "dockerd is needed, to start a second engine"
    assert os.geteuid() == 0, "root is needed, to start a second engine"
    # Not under the tests' own folder: a unix socket's path has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="light-run-engine-"))
    # With --userns-remap, root in a container is another user.
    folder.chmod(0o711)
    engine = PrivateEngine(folder, listener=listener, options=options)
    try:
        engine.start()
        engine.load(*images)
        yield engine
        if engine.process is None:
            engine.start()
        engine.forget_bridges()
        with engine_api(engine.address) as api:
            for container in api.containers(all=True):
                api.remove_container(container["Id"], force=True)
    finally:
        engine.stop()
        # Where it was set up to leave its containers alone, it leaves this mounted for them.
        subprocess.run(["umount", str(folder / "data")], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)
