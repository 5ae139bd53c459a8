"""``light-run token``: the tokens in LIGHT_RUN_TOKENS_FILE."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from light_run.config import tokens
from light_run.config.settings import Settings
from light_run.errors import SettingsError

BAD_SETTING = 2


@click.group()
def token() -> None:
    """Make, list and remove the tokens of LIGHT_RUN_TOKENS_FILE.

    \b
    Example:
      LIGHT_RUN_TOKENS_FILE=tokens.json light-run token new ci
    """


@token.command("new")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(tokens.SCOPES),
    help="what it may do; may be given several times [default: read and run]",
)
@click.option("--max-runs", type=click.IntRange(1, tokens.MOST_RUNS), help="most runs at the same time")
def new(name: str, scopes: tuple[str, ...], max_runs: int | None) -> None:
    """Make a token called NAME, print it, and keep its hash alone.

    A server that is running knows it a second later.

    \b
    Example:
      light-run token new ci --scope read --scope run --max-runs 4
    """
    with _one_line():
        click.echo(tokens.create(_file(), name, scopes or tokens.USUAL, max_runs))


@token.command("list")
def list_() -> None:
    """Print a line for each token: its name, its scopes and its cap. What they are is kept nowhere.

    \b
    Example:
      light-run token list
    """
    with _one_line():
        for each in tokens.read(_file()):
            scopes = ",".join(scope for scope in tokens.SCOPES if scope in each.scopes)
            cap = "" if each.max_runs is None else f" max-runs={each.max_runs}"
            click.echo(f"{each.name} {scopes}{cap}")


@token.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Take the token called NAME out; its runs stay.

    A server that is running refuses it a second later.

    \b
    Example:
      light-run token remove ci
    """
    with _one_line():
        tokens.remove(_file(), name)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        click.echo(f"light-run: {error}", err=True)
        sys.exit(BAD_SETTING)


def _file() -> Path:
    path = Settings.from_env().tokens_file
    if path is None:
        raise SettingsError("LIGHT_RUN_TOKENS_FILE is not set: it says where the tokens are")
    return path
