"""``light-run network``: creates and deletes networks for runs."""

from __future__ import annotations

import sys

import click

from light_run.cli.arguments import parsed_labels
from light_run.cli.server import connected, with_url


@click.group()
def network() -> None:
    """Create and delete networks for runs.

    Needs a token with the scope network or admin. Only networks that were created through light-run are deleted. Runs
    join a network by the option --network of `light-run run`.

    \b
    Example:
      light-run network create team-a && light-run network rm team-a
    """


@network.command()
@click.argument("name")
@click.option("--icc", is_flag=True, help="let containers on the network reach each other")
@click.option("--exclusive", is_flag=True, help="fail if there is a network of that name")
@click.option(
    "-l",
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="label of the network; can be repeated",
)
@click.option("--subnet", metavar="CIDR", help="private addresses of the network, such as 10.20.0.0/24")
@click.option("--gateway", metavar="ADDRESS", help="address of the engine's host on the network")
@click.option("--ip-range", metavar="CIDR", help="part of the subnet that containers get addresses from")
@with_url
def create(
    *,
    url: str | None,
    name: str,
    icc: bool,
    exclusive: bool,
    labels: tuple[str, ...],
    subnet: str | None,
    gateway: str | None,
    ip_range: str | None,
) -> None:
    """Create the network NAME and print its name. A network that exists is left as it is.

    \b
    Example:
      light-run network create --icc team-a
    """
    with connected(url) as client:
        client.create_network(
            name,
            icc=icc,
            exclusive=exclusive,
            labels=parsed_labels(labels),
            subnet=subnet,
            gateway=gateway,
            ip_range=ip_range,
        )
    click.echo(name)


@network.command()
@click.argument("name")
@with_url
def exists(url: str | None, name: str) -> None:
    """Print whether the engine has the network NAME. The exit code is 1 if it does not.

    \b
    Example:
      light-run network exists team-a
    """
    with connected(url) as client:
        found = client.network_exists(name)
    click.echo("yes" if found else "no")
    sys.exit(0 if found else 1)


@network.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@with_url
def rm(url: str | None, names: tuple[str, ...]) -> None:
    """Delete networks and print their names. One that does not exist is fine; one in use is not deleted.

    \b
    Example:
      light-run network rm team-a
    """
    with connected(url) as client:
        for name in names:
            client.delete_network(name)
            click.echo(name)


@network.command()
@click.option("--prefix", default="", metavar="TEXT", help="only networks whose name begins with TEXT")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="only networks created at least so long ago",
)
@with_url
def prune(url: str | None, prefix: str, older_than: float) -> None:
    """Delete networks that no run uses, and print how many there were.

    \b
    Example:
      light-run network prune --prefix team- --older-than 60
    """
    with connected(url) as client:
        click.echo(client.clean_up_networks(prefix, max_age=older_than))
