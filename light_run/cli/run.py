"""``light-run run``."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from light_run.cli import attach, tables
from light_run.cli.arguments import ImageAndCommand
from light_run.cli.server import complain, connected, fail, with_url
from light_run.cli.signals import SignalHandler
from light_run.errors import LightRunError, Refused, ServerUnavailable

if TYPE_CHECKING:
    from light_run.client import Client, Run

PIPE_BROKEN = 141

_TOO_LARGE = "payload_too_large"

# Uploads below this are over before a bar could be read.
_WORTH_A_BAR = 4_000_000


@click.command(cls=ImageAndCommand)
@click.argument("image")
@click.argument("command", nargs=-1)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(),
    metavar="SRC[:DEST]",
    help="a file, or a folder's contents, to send",
)
@click.option("-e", "--env", multiple=True, metavar="K[=V]", help="an environment variable; K alone is ours")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="where its files go")
@click.option("-x", "--extract", multiple=True, metavar="PATH", help="what to keep of its files")
@click.option("--network", help="none, bridge or the name of a network")
@click.option(
    "-w", "--workdir", metavar="DIR", help="where files land and the command starts [default: /app]"
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="most time")
@click.option(
    "--step-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="most time of all --setup steps together",
)
@click.option("--memory", metavar="SIZE", help="most memory, such as 256m")
@click.option("--cpus", type=float, metavar="NUMBER", help="most CPUs, such as 0.5")
@click.option("--pids", type=int, metavar="NUMBER", help="most processes and threads")
@click.option("--runtime", metavar="NAME", help="the container runtime, such as runsc")
@click.option("--pull", type=click.Choice(["missing", "always", "never"]), help="when to pull the image")
@click.option(
    "--setup", "steps", multiple=True, metavar="STEP", help="a command to bake into the image first"
)
@click.option("-n", "--no-stdin", is_flag=True, help="send no input, also where stdin is a pipe or a file")
@click.option("-d", "--detach", is_flag=True, help="print the run's id and leave it to itself")
@with_url
def run(url: str | None, detach: bool, output: Path | None, no_stdin: bool, **options: Any) -> None:
    """Run COMMAND in a container of IMAGE on the server, as if it were here.

    Output comes as it is written. The exit code is the container's; 124 after a timeout, 130 where it was
    cancelled, 125 where the server or the way to it failed. Ctrl-C cancels the run.

    COMMAND is words, passed on as they are: no shell looks at them unless it is one of them. Without any, the
    image's own command is used. Our options come before it: what follows its first word, or --, is its own.

    -f FILE puts a file into the working directory, -f DIR all that is in a folder; SRC:DEST says where it
    lands there. -x PATH keeps a file or a folder of the container when it has ended, -o DIR fetches what was
    kept; -o without -x fetches the whole working directory. A pipe or a file as stdin is the program's input.

    \b
    Examples:
      light-run run alpine:3.19 -- echo hello
      light-run run python:3.12-alpine -f main.py -x sums.csv -o results -- python main.py < data.csv
      light-run run alpine:3.19 -f src:code -e LEVEL=3 --network none -- sh -c 'ls code; echo $LEVEL'
    """
    with SignalHandler() as stop, connected(url, sleep=stop.sleep) as client:
        asked = _asked(options, fetch=output is not None)
        try:
            asked["stdin"] = None if no_stdin else _piped()
            run_id = _submit(client, stop, asked)
        except Refused as error:
            hint = "\nsend much input as a file, by -f" if error.word == _TOO_LARGE and asked["stdin"] else ""
            fail(f"{error}{hint}")
        except KeyboardInterrupt:
            complain("stopped while the run was asked for; `light-run ps` lists it if it was accepted")
            sys.exit(stop.exit_code)
        if detach and stop.signal is None:
            click.echo(run_id)
            return
        sys.exit(_attend(client, stop, run_id, output))


def _submit(client: Client, stop: SignalHandler, asked: dict[str, Any]) -> str:
    total = sum(path.stat().st_size for _, path in asked["files"] if path.is_file())
    with tables.bar("sending", total if total >= _WORTH_A_BAR else 0) as bar:

        def sent(count: int) -> None:
            # What has not been sent whole cannot be accepted.
            stop.check()
            bar.update(count)

        # Once all has been sent, only the answer says what there is to cancel.
        with stop.held():
            return client.submit(progress=sent, **asked).id


def _attend(client: Client, stop: SignalHandler, run_id: str, output: Path | None) -> int:
    try:
        stop.check()
        found = _follow(client, run_id)
        attach.say_end(found)
        if output is not None:
            attach.download(client, found, output)
    except KeyboardInterrupt:
        _cancel(client, run_id)
        return stop.exit_code
    except BrokenPipeError:
        # Whoever read the output has gone. What is still to be flushed has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _cancel(client, run_id)
        return PIPE_BROKEN
    except ServerUnavailable as error:
        fail(f"{error}\nthe run may go on: see it by `light-run logs --follow {run_id}`")
    return attach.exit_code(found)


def _follow(client: Client, run_id: str) -> Run:
    try:
        return attach.follow(client, run_id)
    except BrokenPipeError:
        raise
    except OSError:
        # The disk is full, say: nobody gets the rest of the output.
        _cancel(client, run_id)
        raise


def _cancel(client: Client, run_id: str) -> None:
    complain(f"cancelling {run_id}")
    with suppress(LightRunError):
        client.cancel(run_id)


def _asked(options: dict[str, Any], *, fetch: bool) -> dict[str, Any]:
    limits = {name: options.pop(name) for name in ("memory", "cpus", "pids")}
    extract = options.pop("extract")
    return {
        **options,
        "command": options["command"] or None,
        "files": _files(options["files"]),
        "env": dict(_variable(given) for given in options["env"]),
        "extract": extract or (["."] if fetch else []),
        "limits": {name: value for name, value in limits.items() if value is not None},
    }


def _files(given: tuple[str, ...]) -> list[tuple[str, Path]]:
    found = []
    for each in given:
        source, _, target = (each, "", "") if os.path.lexists(each) else each.rpartition(":")
        path = Path(source or each)
        if not path.exists():
            raise click.BadParameter(f"there is no file or folder {str(path)!r}", param_hint="-f")
        if not path.is_dir() and (target in {"", "."} or target.endswith("/")):
            target = path.name if target == "." else target + path.name
        found.append((target, path))
    return found


def _variable(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals and name not in os.environ:
        raise click.BadParameter(f"{name} is not set here; give {name}=VALUE", param_hint="-e")
    return name, value if equals else os.environ[name]


def _piped() -> bytes | None:
    # A terminal is nobody's input, and neither is what services and schedulers have in place of one.
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    piped = stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
    return sys.stdin.buffer.read() if piped else None
