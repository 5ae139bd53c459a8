"""The command ``light-run``."""

from __future__ import annotations

import click

from light_run import __version__
from light_run.cli.serve import serve
from light_run.cli.token import token

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="light-run", message="%(prog)s %(version)s")
def main() -> None:
    """Run Docker containers from HTTP requests."""


main.add_command(serve)
main.add_command(token)
