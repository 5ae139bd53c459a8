"""``light-run doctor``: checks the server and suggests fixes."""

from __future__ import annotations

import sys

import click

from light_run.cli.diagnosis import network as network_diagnosis
from light_run.cli.diagnosis import server as server_diagnosis
from light_run.cli.diagnosis.finding import FAIL, OK, WARN
from light_run.cli.server import connected, with_url

_COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@click.command()
@with_url
@click.option(
    "--image",
    "images",
    multiple=True,
    default=network_diagnosis.IMAGES,
    help="image with a shell, present at the engine, for testing what a run can reach; can be repeated "
    f"[default: {', '.join(network_diagnosis.IMAGES)}]",
)
def doctor(url: str | None, images: tuple[str, ...]) -> None:
    """Check the server and the connection to it, and suggest a fix for each problem.

    Checks the server's address, token and version, its engine and runtimes, how files reach its containers, what
    runs on its default network can reach, and its free disk space. If one of the images is present, a run tries to
    reach the engine's host and the metadata address; it is deleted afterwards. If LIGHT_RUN_URL is an address of this
    machine and no server responds, checks whether this machine can run one. The exit code is 1 if a check fails.

    \b
    Example:
      LIGHT_RUN_URL=https://runs.example.com light-run doctor
    """
    with connected(url, retry_for=0) as client:
        found = list(server_diagnosis.findings(client, images))
    for finding in found:
        click.echo(f"{click.style(finding.level.ljust(4), fg=_COLOURS[finding.level])}  {finding.summary}")
        if finding.fix:
            click.echo(f"      {finding.fix}")
    sys.exit(1 if any(finding.level == FAIL for finding in found) else 0)
