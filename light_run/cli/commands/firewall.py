"""``light-run firewall``."""

from __future__ import annotations

import logging
import sys

import click

from light_run.cli.server import BAD_SETTING
from light_run.config.settings import Settings
from light_run.errors import SettingsError


@click.command()
@click.option(
    "--once", is_flag=True, help="set the rules and end; the exit code is 1 where they cannot be set"
)
def firewall(*, once: bool) -> None:
    """Keep runs from this host's services and from metadata addresses, for a server that is not root.

    Sets rules of iptables for the network of runs, makes them again when they are flushed, and tells the server that
    they stand, until SIGTERM or SIGINT. For root, on the host of the engine that DOCKER_HOST names. Networks that
    LIGHT_RUN_NETWORKS and LIGHT_RUN_NETWORK name get the rules as well. A server that is root does without it.

    \b
    Example:
      light-run firewall --once
    """
    logging.basicConfig(level=logging.INFO, format="light-run: %(message)s", stream=sys.stderr)
    # After what is quick: this imports the engine's part.
    from light_run.server.firewall import keep

    try:
        stands = keep(Settings.from_env(), once=once)
    except SettingsError as error:
        click.echo(f"light-run: {error}", err=True)
        sys.exit(BAD_SETTING)
    sys.exit(0 if stands or not once else 1)
