"""An ordinary user with subordinate ids, for engines without root, who exists in a mount namespace alone."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.poll import eventually
from tests.support.private_engine import answers, copy_images

NAME, UID = "light-run-test", 12345
# Where Debian has it, and Docker's own packages.
_SCRIPTS = ("/usr/share/docker.io/contrib/dockerd-rootless.sh", "/usr/bin/dockerd-rootless.sh")
_START_SECONDS = 90.0
_STOP_SECONDS = 60.0
_DEVICES = {"/dev/net/tun": os.makedev(10, 200), "/dev/fuse": os.makedev(10, 229)}
_SUBORDINATE = f"{NAME}:200000:65536\n"


@dataclass(frozen=True)
class OrdinaryUser:
    """A user with a home below `folder`, a folder for what he runs, and nothing that is left on this machine."""

    folder: Path
    uid: int = UID

    def create(self) -> None:
        """Make the folders and the files that take the place of those in ``/etc``."""
        for name in ("home", "runtime", "tmp"):
            (self.folder / name).mkdir(mode=0o700)
            os.chown(self.folder / name, self.uid, self.uid)
        os.chown(self.folder, self.uid, self.uid)
        for name, line in self._entries().items():
            (self.folder / name).write_text(line)
        # Anybody may use these as udev leaves them; a machine without it may have them for root alone.
        for path, number in _DEVICES.items():
            device = self.folder / Path(path).name
            os.mknod(device, stat.S_IFCHR | 0o666, number)
            device.chmod(0o666)

    @property
    def environment(self) -> dict[str, str]:
        """What he has in place of ours."""
        folders = {"HOME": "home", "XDG_RUNTIME_DIR": "runtime", "TMPDIR": "tmp"}
        # Of root's own session, for whom Podman would ask D-Bus.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DBUS_"))}
        return {**kept, "USER": NAME, **{name: str(self.folder / path) for name, path in folders.items()}}

    def command(
        self, arguments: Sequence[str], *, alone: bool = False, readable: Sequence[Path] = ()
    ) -> list[str]:
        """The command line, for root, that has him run `arguments`; `alone` ends whatever they start with them.

        He can read the folders `readable`, even those below a folder that only root may enter.
        """
        targets = [*(f"/etc/{name}" for name in self._entries()), *_DEVICES]
        mounts = [f"mount --bind {quote(self.folder / Path(path).name)} {path}" for path in targets]
        mounts += self._opened(readable)
        user = f'setpriv --reuid={self.uid} --regid={self.uid} --clear-groups -- "$@"'
        # The shell stays the first process of its namespace: with setpriv in its place, it would outlive unshare.
        script = f"{'; '.join(mounts)}; {user}; exit" if alone else f"{'; '.join(mounts)}; exec {user}"
        processes = ["--pid", "--fork", "--kill-child", "--mount-proc"] if alone else []
        return ["unshare", "--mount", *processes, "--", "bash", "-euc", script, "bash", *arguments]

    def _opened(self, folders: Sequence[Path]) -> list[str]:
        # In the place of a closed folder comes one that has nothing but these.
        closed = {folder: parent for folder in folders if (parent := _closed_parent(folder)) is not None}
        kept = {folder: self.folder / f"readable-{number}" for number, folder in enumerate(closed)}
        bind = [
            f"mkdir -p {quote(to)}; mount --bind {quote(folder)} {quote(to)}" for folder, to in kept.items()
        ]
        bind += [f"mount -t tmpfs -o mode=755 tmpfs {quote(parent)}" for parent in set(closed.values())]
        bind += [
            f"mkdir -p {quote(folder)}; mount --bind {quote(to)} {quote(folder)}"
            for folder, to in kept.items()
        ]
        return bind

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, readable: Sequence[Path]
    ) -> int:
        """Have him run `arguments` in `folder` to their end, with `environment` added to his; the exit code."""
        found = {**self.environment, **environment}
        # What is mounted was not there when this process entered the folder.
        inside = ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *arguments]
        command = self.command(inside, readable=readable)
        return subprocess.run(command, env=found, stdin=subprocess.DEVNULL, check=False).returncode

    def _entries(self) -> dict[str, str]:
        user = f"{NAME}:x:{self.uid}:{self.uid}::{self.folder / 'home'}:/bin/sh\n"
        return {
            "passwd": Path("/etc/passwd").read_text() + user,
            "group": Path("/etc/group").read_text() + f"{NAME}:x:{self.uid}:\n",
            "subuid": _SUBORDINATE,
            "subgid": _SUBORDINATE,
        }


def quote(path: Path) -> str:
    """The path as a word of a shell."""
    return shlex.quote(str(path))


def _closed_parent(folder: Path) -> Path | None:
    # The uppermost folder on the way that only its owner may enter.
    way = (*reversed(folder.parents), folder)
    return next((each for each in way if not each.stat().st_mode & stat.S_IXOTH), None)


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Such a user; his files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="light-run-user-"))
    user = OrdinaryUser(folder)
    try:
        user.create()
        yield user
    finally:
        shutil.rmtree(folder)


def dockerd_rootless() -> str | None:
    """The script that starts Docker without root; None if it is not installed."""
    return next((path for path in _SCRIPTS if Path(path).exists()), None)


@contextmanager
def rootless_docker(user: OrdinaryUser, *images: str) -> Iterator[str]:
    """The address of a running rootless Docker of `user` that has `images`; gone afterwards, with its containers."""
    script = dockerd_rootless()
    assert script is not None, (
        "dockerd-rootless.sh is needed: apt-get install docker.io rootlesskit uidmap slirp4netns"
    )
    folder = user.folder / "engine"
    folder.mkdir()
    os.chown(folder, user.uid, user.uid)
    address = f"unix://{folder}/engine.sock"
    (folder / "daemon.json").write_text("{}")
    options = {"config-file": "daemon.json", "data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    arguments = [f"--{option}={folder / name}" for option, name in options.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            user.command([script, *arguments, "--host", address], alone=True),
            cwd=folder,
            env=user.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def ready() -> bool:
        code = process.poll()
        assert code is None, f"{script} exited with {code}:\n{(folder / 'log').read_text()[-2000:]}"
        return answers(address)

    try:
        eventually(ready, "rootless Docker answers", within=_START_SECONDS)
        copy_images(images, address)
        yield address
    finally:
        # With it ends all that it has started: they are in a pid namespace of their own.
        process.kill()
        process.wait(_STOP_SECONDS)
