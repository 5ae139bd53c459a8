"""``light-run run``."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from light_run.cli.arguments import ImageAndCommand, NumberOrAll, parsed_labels
from light_run.cli.display import attach, tables
from light_run.cli.server import connected, fail, print_error, with_url
from light_run.cli.signals import SignalHandler
from light_run.cli.stdin import pass_on_stdin
from light_run.errors import LightRunError, Refused, ServerUnavailable

if TYPE_CHECKING:
    from light_run.client import Client, Run

PIPE_BROKEN = 141

_TOO_LARGE = "payload_too_large"
_LIMITS = ("memory", "cpus", "pids", "shm", "nofile", "fsize", "gpus")

# Smaller uploads finish before anybody could read a progress bar.
_PROGRESS_BAR_FROM = 4_000_000


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
    help="send a file, or the contents of a folder",
)
@click.option("-e", "--env", multiple=True, metavar="K[=V]", help="set a variable; K alone copies yours")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="download artifacts to DIRECTORY"
)
@click.option("-x", "--extract", multiple=True, metavar="PATH", help="keep a file or folder of the container")
@click.option(
    "--network", "networks", multiple=True, help="none, bridge or a network's name; can be repeated"
)
@click.option(
    "-w", "--workdir", metavar="DIR", help="working directory, and where files are put [default: /app]"
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="time limit")
@click.option(
    "--step-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="time limit of all --setup steps together",
)
@click.option("--memory", metavar="SIZE", help="memory limit, such as 256m")
@click.option("--cpus", type=float, metavar="NUMBER", help="CPU limit, such as 0.5")
@click.option("--pids", type=int, metavar="NUMBER", help="limit of processes and threads")
@click.option("--shm", metavar="SIZE", help="size of /dev/shm, such as 256m")
@click.option("--nofile", type=int, metavar="NUMBER", help="limit of open files of a process")
@click.option("--fsize", metavar="SIZE", help="limit of the size of a single file, such as 10m")
@click.option("--gpus", type=NumberOrAll(), metavar="NUMBER", help="number of GPUs, or all")
@click.option("-u", "--user", metavar="USER", help="user of the command: a name, uid or uid:gid")
@click.option("--runtime", metavar="NAME", help="container runtime, such as runsc")
@click.option("--platform", metavar="PLATFORM", help="what the image has to be for, such as linux/amd64")
@click.option("--pull", type=click.Choice(["missing", "always", "never"]), help="when to pull the image")
@click.option(
    "--registry-auth",
    type=click.File(),
    metavar="FILE",
    help="JSON with username and password, or token, for the image's registry",
)
@click.option(
    "--setup", "steps", multiple=True, metavar="STEP", help="shell command to build into the image first"
)
@click.option(
    "-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="label of the run; can be repeated"
)
@click.option("-i", "--interactive", is_flag=True, help="pass on stdin while the program runs, line by line")
@click.option("-n", "--no-stdin", is_flag=True, help="send no input, even if stdin is a pipe or a file")
@click.option("--raw", is_flag=True, help="pass all control sequences to the terminal, not only colours")
@click.option("-d", "--detach", is_flag=True, help="print the run's id and exit")
@with_url
def run(
    *,
    url: str | None,
    detach: bool,
    output: Path | None,
    interactive: bool,
    no_stdin: bool,
    raw: bool,
    **options: Any,
) -> None:
    """Run COMMAND in a container of IMAGE on the server, as if it ran locally.

    Output is printed exactly as it is written; on a terminal, only colours pass of what would control it, and the
    rest is shown escaped, unless --raw is given. The exit code is the container's; 124 after a timeout, 130 if the run
    was cancelled, 125 if the server or the connection to it failed. Ctrl-C cancels the run.

    COMMAND is passed on word by word, without a shell. Without COMMAND, the image's own command runs. Options
    come before COMMAND: everything after its first word, or after --, belongs to it.

    -f FILE copies a file into the working directory, -f DIR the contents of a folder; DEST in SRC:DEST is the
    path there. -x PATH keeps a file or folder of the container after it exits. -o DIR downloads the kept files;
    without -x, the whole working directory. If stdin is a pipe or a file, it is the program's input, and is read to its
    end before the run is submitted; with -i, what is typed or piped is passed on as it comes.

    \b
    Examples:
      light-run run alpine:3.19 -- echo hello
      light-run run python:3.12-alpine -f main.py -x sums.csv -o results -- python main.py < data.csv
      light-run run alpine:3.19 -f src:code -e LEVEL=3 --network none -- sh -c 'ls code; echo $LEVEL'
      light-run run -i alpine:3.19 -- sh
      light-run run --platform linux/$(uname -m) alpine:3.19 -- uname -m
      light-run run --user 1000 --shm 16m alpine:3.19 -- id -u
      light-run run --registry-auth auth.json alpine:3.19 -- echo hello
    """
    if interactive and (detach or no_stdin):
        raise click.UsageError(
            f"-i passes stdin on, which {'-d' if detach else '-n'} rules out; give one of them"
        )
    with SignalHandler() as stop, connected(url, sleep=stop.sleep) as client:
        asked = _request_options(options, fetch=output is not None)
        try:
            asked["stdin"] = None if no_stdin or interactive else _read_stdin()
            asked["interactive"] = interactive or None
            run_id = _submit(client, stop, asked)
        except Refused as error:
            hint = (
                "\nsend large input as a file with -f" if error.word == _TOO_LARGE and asked["stdin"] else ""
            )
            fail(f"{error}{hint}")
        except KeyboardInterrupt:
            print_error(
                "interrupted before the server replied; if it accepted the run, `light-run ps` lists it"
            )
            sys.exit(stop.exit_code)
        if detach and stop.signal is None:
            click.echo(run_id)
            return
        if interactive:
            pass_on_stdin(url, run_id)
        sys.exit(_follow_or_cancel(client, stop, run_id, output, raw=raw))


def _submit(client: Client, stop: SignalHandler, asked: dict[str, Any]) -> str:
    total = sum(path.stat().st_size for _, path in asked["files"] if path.is_file())
    with tables.bar("sending", total if total >= _PROGRESS_BAR_FROM else 0) as bar:

        def sent(count: int) -> None:
            # The server cannot accept a request that was not sent completely.
            stop.check()
            bar.update(count)

        # Once the request is sent, only the response has the id that a cancel needs.
        with stop.deferred():
            return client.submit(progress=sent, **asked).id


def _follow_or_cancel(
    client: Client, stop: SignalHandler, run_id: str, output: Path | None, *, raw: bool
) -> int:
    try:
        stop.check()
        found = _follow(client, run_id, raw=raw)
        attach.report_end(found)
        if output is not None:
            attach.download(client, found, output)
    except KeyboardInterrupt:
        _cancel(client, run_id)
        return stop.exit_code
    except BrokenPipeError:
        # The reader of the output has closed the pipe. Python would fail to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _cancel(client, run_id)
        return PIPE_BROKEN
    except ServerUnavailable as error:
        fail(f"{error}\nthe run may still be running: follow it with `light-run logs --follow {run_id}`")
    return attach.exit_code(found)


def _follow(client: Client, run_id: str, *, raw: bool) -> Run:
    try:
        return attach.follow(client, run_id, raw=raw)
    except BrokenPipeError:
        raise
    except OSError:
        # The output cannot be written, for example because the disk is full.
        _cancel(client, run_id)
        raise


def _cancel(client: Client, run_id: str) -> None:
    print_error(f"cancelling {run_id}")
    with suppress(LightRunError):
        client.cancel(run_id)


def _request_options(options: dict[str, Any], *, fetch: bool) -> dict[str, Any]:
    limits = {name: options.pop(name) for name in _LIMITS}
    extract = options.pop("extract")
    return {
        **options,
        "command": options["command"] or None,
        "files": _files(options["files"]),
        "env": dict(_variable(given) for given in options["env"]),
        "labels": parsed_labels(options["labels"]),
        "registry_auth": _registry_auth(options["registry_auth"]),
        "extract": extract or (["."] if fetch else []),
        "limits": {name: value for name, value in limits.items() if value is not None},
    }


def _files(given: tuple[str, ...]) -> list[tuple[str, Path]]:
    found = []
    for each in given:
        source, _, target = (each, "", "") if os.path.lexists(each) else each.rpartition(":")
        path = Path(source or each)
        if not path.exists():
            raise click.BadParameter(f"no such file or folder: {str(path)!r}", param_hint="-f")
        if not path.is_dir() and (target in {"", "."} or target.endswith("/")):
            target = path.name if target == "." else target + path.name
        found.append((target, path))
    return found


def _variable(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals and name not in os.environ:
        raise click.BadParameter(f"{name} is not set in your environment: give {name}=VALUE", param_hint="-e")
    return name, value if equals else os.environ[name]


def _registry_auth(file: IO[str] | None) -> dict[str, str] | None:
    if file is None:
        return None
    with file:
        try:
            found = json.load(file)
        except ValueError:
            found = None
    if not isinstance(found, dict):
        raise click.BadParameter(
            'must have JSON such as {"username": ..., "password": ...}', param_hint="--registry-auth"
        )
    return found


def _read_stdin() -> bytes | None:
    # Terminals are not read, and neither are the devices that services and schedulers use as stdin.
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    piped = stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
    return sys.stdin.buffer.read() if piped else None
