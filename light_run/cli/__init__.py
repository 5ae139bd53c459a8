"""The command ``light-run``."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from light_run.cli.commands.actions import COMMANDS, rm
from light_run.cli.commands.artifacts import artifacts, cp
from light_run.cli.commands.completion import completion
from light_run.cli.commands.doctor import doctor
from light_run.cli.commands.firewall import firewall
from light_run.cli.commands.maintenance import maintenance
from light_run.cli.commands.network import network
from light_run.cli.commands.run import run
from light_run.cli.commands.runs import logs, ps, wait
from light_run.cli.commands.serve import serve
from light_run.cli.commands.token import token
from light_run.cli.server import INTERRUPTED, fail, sentence
from light_run.version import __version__

__all__ = ["main"]

_SERVER = (serve, token, firewall)
_CLIENT = (
    run,
    ps,
    logs,
    wait,
    *COMMANDS,
    rm,
    artifacts,
    cp,
    network,
    maintenance,
    doctor,
    completion,
)


class _Group(click.Group):
    # Exceptions that no command handles still end the process without a traceback.

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for name in ("stdout", "stderr"):
            # Python sets the stream to None if the shell has closed it (`>&-`).
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:
                # The reader of the output has closed the pipe: click exits quietly.
                raise
            fail(sentence(error))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-v", "--version", prog_name="light-run", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run Docker containers from HTTP requests.

    serve, token and firewall are for the machine with the Docker engine. The other commands talk to a server on any
    machine: set LIGHT_RUN_URL to its address (default: http://127.0.0.1:3000) and LIGHT_RUN_TOKEN to its token.

    \b
    Examples:
      light-run serve --port 3000
      light-run run alpine:3.19 -- echo hello
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


for command in (*_SERVER, *_CLIENT):
    main.add_command(command)
