"""How files get to a container's workdir and back: with a mounted folder if that works, otherwise as an archive."""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import tarfile
import threading
from enum import Enum

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.files.workspace import Workspaces
from light_run.engine.sandbox.options import labels
from light_run.engine.upkeep.leftovers import Leftovers
from light_run.errors import EngineError, EngineRefused

_log = logging.getLogger(__name__)

_PROBE_FILE = "nonce"
_FALLBACK = (
    "the container engine does not see the folders of this server below %s: files go to containers and back over "
    "its API (archive), which takes longer than a mounted folder (bind)"
)
_REMAPPED = (
    "the container engine remaps users (userns-remap): the files of a mounted folder would belong to nobody in a "
    "container, so they go to containers and back over its API (archive)"
)
# The number of images and workdirs whose contents are remembered.
_REMEMBERED = 4096


class Placement(Enum):
    """Where the files of a run are stored in its container."""

    BIND = "a folder of this host"
    VOLUME = "an anonymous volume"
    LAYER = "the container's own writable layer"


class WorkdirContent(Enum):
    """What an image has at a workdir."""

    NOTHING = "nothing, or an empty directory"
    CONTENT = "something of its own"
    LINK = "a symbolic link"


class Mounts:
    """Chooses the placement of files; they come from `workspaces`."""

    def __init__(
        self, engine: Engine, config: RunnerConfig, workspaces: Workspaces, leftovers: Leftovers
    ) -> None:
        self._engine = engine
        self._leftovers = leftovers
        self._config = config
        self._workspaces = workspaces
        self._lock = threading.Lock()
        # A mode that is configured is used as it is, but for a bind on an engine that remaps users.
        self._configured = config.workspace if config.workspace != "auto" else None
        self._mode: str | None = "archive" if self._configured == "archive" else None
        self._known: dict[tuple[str, str], WorkdirContent] = {}
        self._probe_image = f"light-run-probe:{config.session}"
        self._imported = False

    @property
    def mode(self) -> str | None:
        """``bind`` or ``archive``; None until it was tried out."""
        return self._mode or self._configured

    def probe(self) -> str:
        """Find out which mode suits the engine and the settings. Raises EngineError where it does not answer."""
        with self._lock:
            if self._mode is None:
                self._mode = self._suitable_mode()
            return self._mode

    def _suitable_mode(self) -> str:
        if self._engine.features().remaps_users:
            _log.log(logging.INFO if self._configured is None else logging.WARNING, _REMAPPED)
            return "archive"
        if self._configured or self._try_bind():
            return "bind"
        _log.warning(_FALLBACK, self._config.state_dir or "the temporary folder")
        return "archive"

    def placement(self, image: str, workdir: str, runtime: str | None) -> Placement:
        """Return where to put the files of a run of the image with id `image`. Raises EngineError."""
        if workdir.strip("/"):
            # A mount would hide the image's own files.
            if (self._mode or self.probe()) == "bind" and self.found(
                image, workdir
            ) is WorkdirContent.NOTHING:
                return Placement.BIND
            # Files cannot be copied to a read-only layer, and other runtimes may not store writes in the layer.
            if self._config.read_only or runtime not in (None, "runc"):
                return Placement.VOLUME
        return Placement.LAYER

    def takes_hosts(self, placement: Placement) -> bool:
        """Whether the workspace's hosts file gets to the container on the way that its files take.

        Not into the layer of a container of Podman's, which mounts a file of its own there. Raises EngineError.
        """
        if placement is Placement.LAYER:
            return not self._engine.features().podman
        return placement is Placement.BIND

    def _try_bind(self) -> bool:
        # A container that is never started, of an image without a file: the engine reads a file of ours
        # through the mount, or it does not.
        nonce = secrets.token_hex(16)
        workspace = self._workspaces.of(f"probe-{nonce}")
        workspace.create()
        try:
            workspace.write({_PROBE_FILE: nonce})
            self.clear()
            self._imported = True
            image = self._engine.import_image(_empty_tar(), self._probe_image, labels("probe", self._config))
            return self._reads(image, str(workspace.files)) == nonce.encode()
        finally:
            workspace.remove()
            with contextlib.suppress(EngineError):
                self.clear()

    def clear(self) -> None:
        """Remove the image of a probe that could not remove it, because the engine was down. Raises EngineError."""
        if self._imported:
            # By label, because an engine that was stopped may have imported it without its name.
            for image in self._engine.images(f"light-run.session={self._config.session}"):
                self._engine.remove_image(str(image["Id"]))
            self._imported = False

    def _reads(self, image: str, source: str) -> bytes:
        mount = {"Type": "bind", "Source": source, "Target": "/probe"}
        try:
            with (
                self._leftovers.unstarted(image, Mounts=[mount]) as container,
                self._engine.get_archive(container, f"/probe/{_PROBE_FILE}") as chunks,
                tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar,
            ):
                file = tar.extractfile(_PROBE_FILE)
                return file.read() if file else b""
        except (EngineRefused, tarfile.TarError, KeyError):
            return b""

    def found(self, image: str, workdir: str) -> WorkdirContent:
        """Return the contents of the image with id `image` at `workdir`; cached. Raises EngineError."""
        key = (image, workdir)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._look(image, workdir)
            with self._lock:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = known
        return known

    def _look(self, image: str, workdir: str) -> WorkdirContent:
        try:
            with (
                self._leftovers.unstarted(image) as container,
                self._engine.get_archive(container, workdir) as chunks,
            ):
                head = b""
                for chunk in chunks:
                    head += chunk
                    if len(head) >= 2 * tarfile.BLOCKSIZE:
                        break
        except EngineRefused as error:
            if error.not_found:
                return WorkdirContent.NOTHING
            raise
        if head[156:157] == tarfile.SYMTYPE:
            return WorkdirContent.LINK
        # An empty directory is one header, and then a block of zeros.
        empty = head[156:157] == tarfile.DIRTYPE and not any(head[tarfile.BLOCKSIZE : 2 * tarfile.BLOCKSIZE])
        return WorkdirContent.NOTHING if empty else WorkdirContent.CONTENT


def _empty_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directory = tarfile.TarInfo("probe")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
    return buffer.getvalue()
