"""Extracts the paths that a request names, from the workspace or from the container."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.engine.daemon.client import Engine
from light_run.engine.files.extract import ArtifactFolder, ExtractError, from_folder
from light_run.engine.files.globs import NameBudget, Pattern, take_matches
from light_run.engine.files.untar import from_tar
from light_run.engine.files.workspace import Workspace, container_path, parts_below
from light_run.engine.spec import ExtractResult, RunSpec
from light_run.engine.stop import StopRequest
from light_run.errors import EngineRefused

_NO_DIRECTORY = "not a directory"


class Collector:
    """Fills `folder` from a container that has ended; `mounted` is the host's side of its workdir, if there is one."""

    def __init__(
        self, engine: Engine, container: str, spec: RunSpec, mounted: Workspace | None, folder: ArtifactFolder
    ) -> None:
        self._engine = engine
        self._container = container
        self._spec = spec
        self._mounted = mounted
        self._folder = folder
        self._budget = NameBudget()

    def collect(self, stop: StopRequest) -> tuple[ExtractResult, ...]:
        """Extract all entries and return their results. Raises Cancelled, EngineUnavailable."""
        extracted = []
        self._folder.check = stop.check
        for entry in self._spec.extract:
            stop.check()
            extracted.append(self._extract(entry))
        return tuple(extracted)

    def _extract(self, entry: str) -> ExtractResult:
        path = container_path(self._spec.workdir, entry)
        try:
            self._take(path)
        except (FileNotFoundError, ValueError):
            # ValueError: the name cannot exist, because of a NUL or an unpaired surrogate.
            return ExtractResult(entry, "missing")
        except ExtractError as error:
            return ExtractResult(entry, "error", self._folder.entry_bytes, str(error))
        except OSError as error:
            return ExtractResult(entry, "error", self._folder.entry_bytes, error.strerror or str(error))
        return ExtractResult(entry, "ok", self._folder.entry_bytes)

    def _take(self, path: str) -> None:
        try:
            self._collect_path(path, None)
        except FileNotFoundError:
            # A file of exactly this name comes first: names may contain wildcard characters.
            if not Pattern.fits(path):
                raise
            pattern = Pattern(path, self._budget)
            self._collect_path(pattern.top, pattern)

    def _collect_path(self, path: str, pattern: Pattern | None) -> None:
        # Extracts `path`, or what `pattern` matches below it.
        if not self._take_from_workspace(path, pattern):
            self._take_from_archive(path, pattern)

    def _take_from_workspace(self, path: str, pattern: Pattern | None) -> bool:
        parts = parts_below(container_path("/", self._spec.workdir), path)
        if self._mounted is None or parts is None:
            return False
        try:
            if pattern is None:
                from_folder(self._mounted.files, parts, self._folder)
            else:
                take_matches(self._mounted.files, parts, pattern, self._folder)
        except PermissionError:
            # A server without root privileges may be unable to read files of the container's root; the engine can.
            return False
        return True

    def _take_from_archive(self, path: str, pattern: Pattern | None) -> None:
        if "\0" in path:
            raise FileNotFoundError(path)
        try:
            with self._engine.get_archive(self._container, path) as chunks:
                if pattern is None:
                    found = from_tar(chunks, self._folder)
                else:
                    found = from_tar(self._bounded(chunks), self._folder, pattern.map_path)
        except EngineRefused as error:
            # For a path below a file, the engine returns an error of its own instead of "not found".
            if error.not_found or _NO_DIRECTORY in str(error):
                raise FileNotFoundError(path) from error
            raise ExtractError(f"the engine refused: {error}") from error
        if not found and pattern is not None:
            raise FileNotFoundError(path)
        if not found:
            raise ExtractError("is neither a regular file nor a directory")

    def _bounded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        # Most of the folder may not match.
        left = self._folder.cap
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise ExtractError(f"the folder to look through has more than {self._folder.cap} bytes")
            self._folder.check()
            yield chunk
