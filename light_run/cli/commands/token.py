"""``light-run token``: manages the tokens in LIGHT_RUN_TOKENS_FILE."""

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
    """Create, list and remove tokens in LIGHT_RUN_TOKENS_FILE.

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
    help="scope of the token; can be repeated [default: read and run]",
)
@click.option("--max-runs", type=click.IntRange(1, tokens.MOST_RUNS), help="limit of runs at the same time")
def new(name: str, scopes: tuple[str, ...], max_runs: int | None) -> None:
    """Create a token called NAME and print it. Only its hash is stored.

    A running server accepts it after a second.

    \b
    Example:
      light-run token new ci --scope read --scope run --max-runs 4
    """
    with _errors_in_one_line():
        click.echo(tokens.create(_file(), name, scopes or tokens.USUAL, max_runs))


@token.command("list")
def list_() -> None:
    """List each token's name, scopes and limit of runs. The tokens themselves are not stored.

    \b
    Example:
      light-run token list
    """
    with _errors_in_one_line():
        for each in tokens.read(_file()):
            scopes = ",".join(scope for scope in tokens.SCOPES if scope in each.scopes)
            cap = "" if each.max_runs is None else f" max-runs={each.max_runs}"
            click.echo(f"{each.name} {scopes}{cap}")


@token.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the token called NAME. Its runs are kept.

    A running server rejects it after a second.

    \b
    Example:
      light-run token remove ci
    """
    with _errors_in_one_line():
        tokens.remove(_file(), name)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        click.echo(f"light-run: {error}", err=True)
        sys.exit(BAD_SETTING)


def _file() -> Path:
    path = Settings.from_env().tokens_file
    if path is None:
        raise SettingsError("LIGHT_RUN_TOKENS_FILE is not set: set it to the path of the tokens file")
    return path
