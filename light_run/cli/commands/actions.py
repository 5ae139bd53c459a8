"""``light-run cancel``, ``stop``, ``pause``, ``resume`` and ``rm``: act on existing runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from light_run.actions import ACTIONS, Action
from light_run.cli.server import FAILED, RUN, connected, print_error, resolve_id, sentence, with_url
from light_run.errors import LightRunError, RunNotActive, ServerUnavailable

if TYPE_CHECKING:
    from light_run.client import Client


@click.command()
@click.argument("runs", type=RUN, nargs=-1, required=True, metavar="RUN...")
@click.option("-s", "--signal", "name", default="SIGTERM", show_default=True, help="signal to send")
@click.option(
    "-t",
    "--time",
    "grace",
    type=click.FloatRange(0, 300),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="time until SIGKILL",
)
@with_url
def stop(url: str | None, runs: tuple[str, ...], name: str, grace: float) -> None:
    """Stop runs with a signal, and print the id of each that was stopped.

    The run gets SIGKILL if it has not ended after --time. Its files are kept, unlike those of a cancelled run.

    \b
    Example:
      light-run stop --signal INT --time 2 3f2a
    """
    with connected(url) as client:
        sys.exit(_each(client, runs, lambda run_id: client.stop(run_id, signal=name, grace=grace)))


@click.command()
@click.argument("runs", type=RUN, nargs=-1, required=True, metavar="RUN...")
@click.option("-f", "--force", is_flag=True, help="first cancel runs that have not ended")
@with_url
def rm(url: str | None, runs: tuple[str, ...], force: bool) -> None:
    """Remove ended runs with their artifacts, and print the id of each removed run.

    \b
    Examples:
      light-run rm 3f2a 81c0
      light-run ps --all --status failed | cut -f1 | xargs light-run rm
    """

    def remove(run_id: str) -> None:
        if force:
            try:
                client.cancel(run_id)
                client.wait(run_id)
            except RunNotActive:
                pass
        client.delete(run_id)

    with connected(url) as client:
        sys.exit(_each(client, runs, remove))


def _command(action: Action) -> click.Command:
    @with_url
    def act(url: str | None, runs: tuple[str, ...]) -> None:
        with connected(url) as client:
            sys.exit(_each(client, runs, getattr(client, action.name)))

    return click.command(action.name, help=f"{action.help}\n\n\b\nExample:\n  light-run {action.name} 3f2a")(
        click.argument("runs", type=RUN, nargs=-1, required=True, metavar="RUN...")(act)
    )


def _each(client: Client, runs: tuple[str, ...], act: Callable[[str], None]) -> int:
    # An error with one run must not keep the others from being processed.
    code = 0
    for given in runs:
        try:
            run_id = resolve_id(client, given)
            act(run_id)
        except ServerUnavailable:
            raise
        except LightRunError as error:
            print_error(f"{given}: {sentence(error)}")
            code = FAILED
        else:
            click.echo(run_id)
    return code


# An action without options needs no command of its own.
_WITH_OPTIONS = {"stop": stop}
COMMANDS = tuple(_WITH_OPTIONS.get(action.name) or _command(action) for action in ACTIONS)
