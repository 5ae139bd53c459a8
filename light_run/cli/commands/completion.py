"""``light-run completion``."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

PROGRAM = "light-run"
_KINDS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_KINDS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL: it completes commands, options and run ids.

    \b
    Examples:
      eval "$(light-run completion bash)"      in ~/.bashrc
      eval "$(light-run completion zsh)"       in ~/.zshrc
      light-run completion fish | source       in ~/.config/fish/config.fish
    """
    kind = _KINDS[shell]
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, "_LIGHT_RUN_COMPLETE").source())
