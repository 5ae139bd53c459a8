"""The methods of `Client` for artifacts."""

from __future__ import annotations

from pathlib import Path

from light_run.client import download, model, responses
from light_run.client.connection import Connection, run_path
from light_run.client.download import Progress, ignore_progress
from light_run.client.model import Artifact
from light_run.errors import ArtifactError, ArtifactNotFound, DownloadFailed


class ArtifactMethods:
    """The artifacts of runs."""

    _connection: Connection

    def artifacts(self, run_id: str) -> tuple[Artifact, ...]:
        """Return the artifacts of a run, files and directories, sorted by path."""
        with self._connection.send("GET", f"{run_path(run_id)}/artifacts") as response:
            return tuple(model.artifact(entry) for entry in model.array(responses.value(response)))

    def download(
        self, run_id: str, path: str, to: str | Path = ".", *, progress: Progress = ignore_progress
    ) -> Path:
        """Download the artifact `path`, a file, and return the path of the local file.

        `to` is the file to write, or an existing directory. `progress` is called with the size of each chunk in
        bytes. The file is created only after a complete download. Raises `ArtifactNotFound`, `InvalidPath`,
        `DownloadFailed`, and OSError.
        """
        target = Path(to)
        if target.is_dir():
            target = download.local_path(target, path.rpartition("/")[2])
        url = f"{run_path(run_id)}/artifacts/{download.url_path(path)}"
        download.fetch(self._connection, url, target, progress)
        return target

    def download_all(
        self, run_id: str, folder: str | Path, *, below: str = "", progress: Progress = ignore_progress
    ) -> tuple[Path, ...]:
        """Download all artifacts of a run, or those in its directory `below`, into `folder`.

        Returns the files that were written. Nothing is written outside of `folder`. If an artifact cannot be
        downloaded, or its name is not safe, the others are downloaded first; then `DownloadFailed` names the
        artifacts that failed. Raises the same exceptions as `download`.
        """
        folder = Path(folder)
        prefix = f"{below.strip('/')}/" if below.strip("/") else ""
        entries = [entry for entry in self.artifacts(run_id) if entry.path.startswith(prefix)]
        if prefix and not entries and not self._is_directory(run_id, prefix[:-1]):
            raise ArtifactNotFound(f"the run has no artifact directory {below}")
        folder.mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        failed: list[str] = []
        for entry in entries:
            try:
                target = download.local_path(folder, entry.path.removeprefix(prefix))
                (target if entry.type == "directory" else target.parent).mkdir(parents=True, exist_ok=True)
                if entry.type == "file":
                    written.append(self.download(run_id, entry.path, target, progress=progress))
            except ArtifactError as error:
                failed.append(f"{entry.path!r} ({error})")
        if failed:
            raise DownloadFailed(
                f"{len(failed)} of {len(entries)} artifacts were not downloaded: {', '.join(failed)}"
            )
        return tuple(written)

    def _is_directory(self, run_id: str, path: str) -> bool:
        return any(entry.path == path and entry.type == "directory" for entry in self.artifacts(run_id))
