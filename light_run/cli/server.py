"""What all client commands share: the server, the run that is meant, and what is said when it goes wrong."""

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

_WHOLE = 36  # characters of an id
_COMPLETED = 50

F = TypeVar("F", bound=Callable[..., Any])


class RunArgument(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A run: its id, or as much of its beginning as no other run has."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The ids of the newest runs, if the server is quick to say them."""
        found: list[CompletionItem] = []
        with suppress(LightRunError), _client(ctx.params.get("url"), timeout=2.0, retry_for=0) as client:
            newest = client.runs(limit=_COMPLETED)
            found += [
                CompletionItem(run.id, help=run.status) for run in newest if run.id.startswith(incomplete)
            ]
        return found


RUN = RunArgument()


def with_url(command: F) -> F:
    """Give `command` the option that says which server is meant."""
    option = click.option(
        "--url",
        envvar="LIGHT_RUN_URL",
        metavar="URL",
        help="the server [LIGHT_RUN_URL; default: http://127.0.0.1:3000]",
    )
    return option(command)


@contextmanager
def connected(url: str | None, **options: Any) -> Iterator[Client]:
    """A client of the server at `url`; what goes wrong ends the process with a line on stderr."""
    try:
        with _client(url, **options) as client:
            yield client
    except BrokenPipeError:
        raise
    except SettingsError as error:
        fail(str(error), BAD_SETTING)
    except (LightRunError, OSError) as error:
        fail(sentence(error))


def sentence(error: Exception) -> str:
    """What to say of `error`, a line each fault."""
    if isinstance(error, InvalidSpec):
        return "\n".join(fault.message for fault in error.faults)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, Unauthorized) and not os.environ.get("LIGHT_RUN_TOKEN"):
        return f"{error}; LIGHT_RUN_TOKEN is not set"
    return str(error)


def complain(message: str) -> None:
    """Say on stderr what is not as it should be."""
    for line in message.splitlines():
        click.echo(f"{click.style('light-run:', fg='red')} {line}", err=True)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what is wrong and end with `code`."""
    complain(message)
    sys.exit(code)


def whole_id(client: Client, given: str) -> str:
    """The id of the run that `given` is the beginning of. Raises `RunNotFound`, also where several are."""
    if len(given) >= _WHOLE or not given:
        return given
    found = [run.id for run in client.runs() if run.id.startswith(given)]
    if len(found) == 1:
        return found[0]
    what = (
        f"{len(found)} runs begin with {given}: give more of the id"
        if found
        else f"no run begins with {given}"
    )
    raise RunNotFound(what)


def _client(url: str | None, **options: Any) -> Client:
    # Here, so that `light-run --version` does not wait for requests to be imported.
    from light_run.client import Client

    return Client(url, **options)
