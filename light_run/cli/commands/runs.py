"""Commands for existing runs, such as ``light-run ps``, ``logs``, ``wait``, ``stop`` and ``rm``."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import click

from light_run.cli.arguments import parsed_labels
from light_run.cli.display import attach, tables
from light_run.cli.display.terminal import OutputWriter
from light_run.cli.server import RUN, connected, resolve_id, with_url

if TYPE_CHECKING:
    from light_run.client import Client, Run

_STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="include runs that have ended")
@click.option("--status", type=click.Choice(_STATUSES), help="only runs with this status")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="the newest N runs of any status")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="only runs with this label")
@click.option("-w", "--wide", is_flag=True, help="show the labels, too")
@click.option("--json", "as_json", is_flag=True, help="print the server's JSON")
@with_url
def ps(
    *,
    url: str | None,
    everything: bool,
    status: str | None,
    last: int | None,
    labels: tuple[str, ...],
    wide: bool,
    as_json: bool,
) -> None:
    """List runs, newest first. By default, only queued and running ones.

    Prints a table on a terminal, and tab-separated lines otherwise: id, status, exit code, start time, duration,
    and why the run ended; with --wide, its labels as well.

    \b
    Examples:
      light-run ps
      light-run ps --all --json | jq -r '.[].id'
      light-run ps --all --wide --label team=search
    """
    with connected(url) as client:
        found = _listed(client, everything or last is not None, status, last, parsed_labels(labels))
    if as_json:
        click.echo(json.dumps([dict(run.state) for run in found], indent=2))
    else:
        head = ("RUN", "STATUS", "EXIT", "STARTED", "TOOK", "WHY", *(["LABELS"] if wide else []))
        tables.table(head, [_row(run, wide=wide) for run in found])


def _listed(
    client: Client, everything: bool, status: str | None, last: int | None, labels: dict[str, str]
) -> list[Run]:
    if everything or status is not None:
        return list(client.runs(status=status, limit=last, labels=labels))  # type: ignore[arg-type]
    active = [*client.runs(status="queued", labels=labels), *client.runs(status="running", labels=labels)]
    # A run can start between the two requests and be in both lists.
    return list({run.id: run for run in active}.values())


def _row(run: Run, *, wide: bool) -> tuple[str, ...]:
    took = "" if run.duration_ms is None else tables.duration(run.duration_ms / 1000)
    code = "" if run.exit_code is None else str(run.exit_code)
    why = run.error or (run.reason or "") if run.ended else (run.phase or "")
    row = (tables.short(run.id), run.status, code, tables.age(run.started_at), took, why)
    return (*row, ",".join(f"{key}={value}" for key, value in run.labels.items())) if wide else row


@click.command()
@click.argument("run", type=RUN)
@click.option("-f", "--follow", is_flag=True, help="follow the output until the run ends")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="start with the last N lines")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="only this stream")
@click.option("-t", "--timestamps", is_flag=True, help="prefix each line with its time")
@click.option("--raw", is_flag=True, help="pass all control sequences to the terminal, not only colours")
@with_url
def logs(
    *,
    url: str | None,
    run: str,
    follow: bool,
    tail: int | None,
    stream: Literal["stdout", "stderr"] | None,
    timestamps: bool,
    raw: bool,
) -> None:
    """Print the output of RUN: its stdout to stdout, its stderr to stderr.

    On a terminal, only colours pass of what would control it; the rest is shown escaped, unless --raw is given.
    With --follow, output is printed exactly as it is written, so that progress bars move; with --tail or
    --timestamps, line by line. In this and the other commands, RUN is the id of a run or a unique prefix of it.

    \b
    Examples:
      light-run logs 3f2a
      light-run logs --follow --tail 20 3f2a
    """
    with connected(url) as client:
        run_id = resolve_id(client, run)
        if follow and tail is None and not timestamps:
            attach.write_output(client.attach(run_id, stream=stream), raw=raw)
            return
        with closing(OutputWriter(raw=raw)) as writer:
            for line in client.logs(run_id, follow=follow, tail=tail, stream=stream):
                if timestamps:
                    writer.write(line.stream, f"{tables.moment(line.time)} ".encode())
                attach.write_line(writer, line)


@click.command()
@click.argument("run", type=RUN)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="maximum time to wait")
@with_url
def wait(url: str | None, run: str, timeout: float | None) -> None:
    """Wait until RUN ends, print its exit code, and exit with it.

    As with light-run run, the exit code is 124 after a timeout of the run and 130 after a cancel. It is 125 if
    the server failed or --timeout passed.

    \b
    Example:
      light-run wait "$(light-run run --detach alpine:3.19 -- sleep 5)"
    """
    with connected(url) as client:
        found = client.wait(resolve_id(client, run), timeout)
    attach.report_end(found)
    click.echo(attach.exit_code(found))
    sys.exit(attach.exit_code(found))
