"""``light-run doctor``: what is well, what is not, and how to mend it."""

from __future__ import annotations

import sys

import click

from light_run.cli import network_diagnosis, server_diagnosis
from light_run.cli.diagnosis import FAIL, OK, WARN
from light_run.cli.server import connected, with_url

_COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@click.command()
@with_url
@click.option(
    "--image",
    "images",
    multiple=True,
    default=network_diagnosis.IMAGES,
    help="an image with a shell that the engine has, to try what a run reaches; may be given several times "
    f"[default: {', '.join(network_diagnosis.IMAGES)}]",
)
def doctor(url: str | None, images: tuple[str, ...]) -> None:
    """Look at the server and the way to it, and say what is wrong and how to mend it.

    Looked at are the server's address, token and version, its engine and runtimes, how files get to its
    containers, what runs on its default network reach, and the room on its disk. A run tries to reach the engine's
    host and the metadata address, if one of the images is there; it is deleted afterwards. Where no server answers on
    this machine, what it would need to run is looked at instead. The exit code is 1 where something is wrong.

    \b
    Example:
      LIGHT_RUN_URL=https://runs.example.com light-run doctor
    """
    with connected(url, retry_for=0) as client:
        found = list(server_diagnosis.findings(client, images))
    for finding in found:
        click.echo(f"{click.style(finding.level.ljust(4), fg=_COLOURS[finding.level])}  {finding.what}")
        if finding.mend:
            click.echo(f"      {finding.mend}")
    sys.exit(1 if any(finding.level == FAIL for finding in found) else 0)
