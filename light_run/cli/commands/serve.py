"""``light-run serve``."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from light_run.config.settings import Settings, table
from light_run.errors import SettingsError
from light_run.server import state_dir

BAD_SETTING = 2


def _with_options(command: click.Command) -> click.Command:
    # Options are read as text, so that a bad value gets the same message as in the environment.
    for variable in table():
        if variable.option:
            words = f"{variable.help} [{variable.name}; default: {variable.default}]"
            option = click.Option([variable.option, variable.field], type=str, metavar="TEXT", help=words)
            command.params.append(option)
    return command


@click.command()
def _serve(**options: Any) -> None:
    """Serve HTTP until SIGTERM or SIGINT.

    \b
    Example:
      LIGHT_RUN_TOKEN=... light-run serve --port 3000

    Every setting is an environment variable; see the documentation. An option overrides its variable.
    """
    try:
        given = {name: value for name, value in options.items() if value is not None}
        settings = Settings.from_env(**given)
        state_dir.prepare(settings.state_dir, settings.artifacts_dir)
        state_dir.lock(settings.state_dir)
        state_dir.unlock(settings.state_dir)
        # Importing gunicorn is slow, so the quick checks come first.
        from light_run.server import gunicorn

        listener = gunicorn.listen(settings.host, settings.port)
    except SettingsError as error:
        _fail(error)
    gunicorn.serve(settings, listener)


def _fail(error: SettingsError) -> NoReturn:
    click.echo(f"light-run: {error}", err=True)
    sys.exit(BAD_SETTING)


serve = _with_options(_serve)
serve.name = "serve"
