"""The artifacts of runs: ``light-run artifacts`` and ``light-run cp``."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from light_run.cli.display import tables
from light_run.cli.server import RUN, connected, resolve_id, with_url
from light_run.errors import ArtifactNotFound

if TYPE_CHECKING:
    from light_run.client import Artifact


@click.command()
@click.argument("run", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@with_url
def artifacts(url: str | None, run: str, as_json: bool) -> None:
    """List the artifacts of RUN.

    \b
    Example:
      light-run artifacts 3f2a
    """
    with connected(url) as client:
        found = client.artifacts(resolve_id(client, run))
    if as_json:
        entries = [{"path": each.path, "bytes": each.bytes, "type": each.type} for each in found]
        click.echo(json.dumps(entries, indent=2))
    else:
        tables.table(("BYTES", "TYPE", "PATH"), [(str(each.bytes), each.type, each.path) for each in found])


@click.command()
@click.argument("source", metavar="RUN:PATH")
@click.argument("dest", type=click.Path(path_type=Path))
@with_url
def cp(url: str | None, source: str, dest: Path) -> None:
    """Copy an artifact of a run to DEST: a file, or a folder with its contents.

    If DEST is an existing folder, the artifact is copied into it under its own name; otherwise it is written to
    DEST. RUN: without a path copies all artifacts into the folder DEST. With - as DEST, a file is written to
    stdout, and a folder is written to stdout as a tar archive.

    \b
    Examples:
      light-run cp 3f2a:report.pdf .
      light-run cp 3f2a:sums.csv - | sort
      light-run cp 3f2a: results
    """
    run, colon, path = source.partition(":")
    if not colon or not run:
        raise click.UsageError(
            f"{source!r} is not RUN:PATH: give the run and the path, such as 3f2a:report.pdf"
        )
    path = path.strip("/") if path.strip("/") != "." else ""
    with connected(url) as client:
        run_id = resolve_id(client, run)
        entries = client.artifacts(run_id)
        below = [
            each for each in entries if not path or each.path == path or each.path.startswith(f"{path}/")
        ]
        with tables.bar("downloading", sum(each.bytes for each in below)) as bar:
            kind = _type(entries, path)

            def fetch(to: Path) -> None:
                if kind == "file":
                    client.download(run_id, path, to, progress=bar.update)
                else:
                    folder = _folder(to, path) if kind == "directory" else to
                    client.download_all(run_id, folder, below=path, progress=bar.update)

            if str(dest) == "-":
                _print(fetch)
            else:
                fetch(dest)


def _print(fetch: Callable[[Path], None]) -> None:
    # Download to disk first, so that the reader of stdout gets the whole artifact or nothing.
    with tempfile.TemporaryDirectory(prefix="light-run-") as folder:
        fetched = Path(folder, "artifact")
        fetch(fetched)
        if fetched.is_file():
            with fetched.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        else:
            with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
                archive.add(fetched, ".")
        sys.stdout.buffer.flush()


def _type(entries: tuple[Artifact, ...], path: str) -> str:
    if not path:
        return "all"
    found = next((each.type for each in entries if each.path == path), None)
    if found is None:
        raise ArtifactNotFound(f"the run has no artifact {path}: `light-run artifacts` lists them")
    return found


def _folder(dest: Path, path: str) -> Path:
    from light_run.client import local_path

    return local_path(dest, path.rpartition("/")[2]) if dest.is_dir() else dest
