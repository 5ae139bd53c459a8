"""``light-run maintenance``: removes unused images, networks and leftovers."""

from __future__ import annotations

import json
import sys

import click

from light_run.cli.display import tables
from light_run.cli.server import connected, print_error, with_url


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print the server's JSON")
@with_url
def maintenance(url: str | None, as_json: bool) -> None:
    """Remove what the server does not use any more, and print how much that was.

    Removes cached images of run steps that were not used for LIGHT_RUN_STEP_IMAGES_AGE seconds, and the least recently
    used ones beyond LIGHT_RUN_STEP_IMAGES_BYTES; networks created by clients that have no containers and are older than
    a day; and containers and workspaces that are left of runs. An image that was used in the last ten minutes is kept.
    The server also does this when it starts and every hour. It removes only what it has created itself.

    Needs a token with the scope admin. The exit code is 1 if a part of it failed.

    \b
    Example:
      light-run maintenance
    """
    with connected(url) as client:
        found = client.maintain()
    if as_json:
        click.echo(json.dumps(dict(found.report), indent=2))
    else:
        rows = (
            ("containers", str(found.containers)),
            ("workspaces", str(found.workspaces)),
            ("step images", str(found.cache_images)),
            ("unnamed step images", str(found.dangling_images)),
            ("bytes of images", str(found.freed_bytes)),
            ("networks", str(found.networks)),
        )
        tables.table(("REMOVED", "COUNT"), rows)
    if found.failed:
        print_error(f"this part failed, and the server's log says why: {', '.join(found.failed)}")
    sys.exit(1 if found.failed else 0)
