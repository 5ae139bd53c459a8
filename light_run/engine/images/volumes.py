"""The contents of a container's volumes, to find out whether they have changed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from light_run.engine.daemon.client import Engine
from light_run.engine.files.extract import ExtractError
from light_run.engine.files.untar import checksum
from light_run.errors import BuildFailed


class Volumes:
    """Reads volumes as archives, because engines do not list changes in them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def checksums(self, container: str, paths: Collection[str], check: Callable[[], None]) -> dict[str, int]:
        """Return a checksum of the files below each of `paths` (`untar.checksum`). Raises BuildFailed, EngineError."""
        return {path: self._checksum(container, path, check) for path in paths}

    def _checksum(self, container: str, path: str, check: Callable[[], None]) -> int:
        try:
            # The trailing dot follows a path that is a link.
            with self._engine.get_archive(container, f"{path.rstrip('/')}/.") as chunks:
                return checksum(chunks, check)
        except ExtractError as error:
            raise BuildFailed(f"the volume {path!r} of the image cannot be read: {error}") from error
