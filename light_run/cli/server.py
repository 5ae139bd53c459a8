"""Shared by all client commands: the connection to the server, the RUN argument, and error messages."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from light_run.errors import InvalidSpec, LightRunError, RunNotFound, SettingsError, Unauthorized

if TYPE_CHECKING:
    from light_run.client import Client

FAILED = 125
BAD_SETTING = 2
INTERRUPTED = 130

_ID_LENGTH = 36
_MAX_COMPLETIONS = 50

F = TypeVar("F", bound=Callable[..., Any])


class RunArgument(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The id of a run, or a unique prefix of it."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the ids of the newest runs, or none if the server does not respond quickly."""
        found: list[CompletionItem] = []
        with suppress(LightRunError), connect(ctx.params.get("url"), timeout=2.0, retry_for=0) as client:
            newest = client.runs(limit=_MAX_COMPLETIONS)
            found += [
                CompletionItem(run.id, help=run.status) for run in newest if run.id.startswith(incomplete)
            ]
        return found


RUN = RunArgument()


def with_url(command: F) -> F:
    """Add the option ``--url``, the address of the server, to `command`."""
    option = click.option(
        "--url",
        envvar="LIGHT_RUN_URL",
        metavar="URL",
        help="address of the server [LIGHT_RUN_URL; default: http://127.0.0.1:3000]",
    )
    return option(command)


@contextmanager
def connected(url: str | None, **options: Any) -> Iterator[Client]:
    """Yield a client of the server at `url`. An error in the block is printed to stderr and ends the process."""
    try:
        with connect(url, **options) as client:
            yield client
    except BrokenPipeError:
        raise
    except SettingsError as error:
        fail(str(error), BAD_SETTING)
    except (LightRunError, OSError) as error:
        fail(sentence(error))


def sentence(error: Exception) -> str:
    """Return the message for `error`, with one line for each fault."""
    if isinstance(error, InvalidSpec):
        return "\n".join(fault.message for fault in error.faults)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, Unauthorized) and not os.environ.get("LIGHT_RUN_TOKEN"):
        return f"{error}; LIGHT_RUN_TOKEN is not set"
    return str(error)


def print_error(message: str) -> None:
    """Print an error message to stderr."""
    for line in message.splitlines():
        click.echo(f"{click.style('light-run:', fg='red')} {line}", err=True)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Print an error message and exit with `code`."""
    print_error(message)
    sys.exit(code)


def resolve_id(client: Client, given: str) -> str:
    """Return the id of the run whose id starts with `given`. Raises `RunNotFound` unless exactly one does."""
    if len(given) >= _ID_LENGTH or not given:
        return given
    found = [run.id for run in client.runs() if run.id.startswith(given)]
    if len(found) == 1:
        return found[0]
    what = (
        f"{len(found)} run ids start with {given}: give more of the id"
        if found
        else f"no run id starts with {given}: `light-run ps --all` lists all runs"
    )
    raise RunNotFound(what)


def connect(url: str | None, **options: Any) -> Client:
    """Return a client of the server at `url`."""
    # Imported here, because importing requests would slow down `light-run --version`.
    from light_run.client import Client

    return Client(url, **options)
