"""The packet filter's rules, with an engine in a network namespace of its own: no rule of this machine is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker.types import IPAMConfig, IPAMPool

from light_run.cli.diagnosis import network as network_diagnosis
from light_run.engine import Runner, RunnerConfig, RunSpec
from light_run.engine.sandbox import firewall_report, networks
from light_run.engine.spec import Firewall
from tests.support.engine import BUSYBOX, PYTHON, engine_api
from tests.support.poll import eventually
from tests.support.private_engine import PrivateEngine, private_engine

METADATA = "169.254.169.254"
ALIBABA = "100.100.100.200"
AMAZON_6 = "fd00:ec2::254"
PORT = 8000
NETWORK = "light-run"

# On every address of a network namespace, and on the port of name servers, too.
LISTEN = f"""
import selectors, socket
found = selectors.DefaultSelector()
for port in ({PORT}, 53):
    found.register(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True), 1)
print("up", flush=True)
while True:
    for key, _ in found.select():
        key.fileobj.accept()[0].close()
"""
CONNECT = """
import os, socket, time
from concurrent.futures import ThreadPoolExecutor
def reached(target):
    address, _, port = target.rpartition("/")
    # Over IPv6, nothing is reached before the bridge has found out that its address is its own.
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            socket.create_connection((address, int(port)), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.1)
    return False
targets = os.environ["TARGETS"].split()
with ThreadPoolExecutor() as pool:
    print(*(target for target, there in zip(targets, pool.map(reached, targets)) if there))
"""
# In the engine's network namespace; it looks for the rules ahead of each run.
RUNNER = """
import json, sys
from light_run.engine import Runner, RunnerConfig, RunSpec
from light_run.engine.sandbox import networks
networks._FRESH = 0.0
config, *specs = map(json.loads, sys.argv[1:])
with Runner(RunnerConfig(parked_max=0, **config)) as runner:
    for spec in specs:
        result = runner.run(RunSpec(**spec))
        assert result.succeeded, result
        state = runner._context.networks.firewall(spec.get("network"))
        print(json.dumps([result.logs, state]))
"""
COMMAND = """
import sys
from pathlib import Path
from light_run.engine.sandbox import firewall_report
from light_run.cli import main
firewall_report.PATH = Path(sys.argv.pop(1))
main(sys.argv[1:])
"""


# All that the systemd unit and the compose file leave to it.
COMMAND_RIGHTS = (
    "setpriv",
    "--bounding-set=-all,+net_admin,+net_raw",
    "--inh-caps=-all",
    "--no-new-privs",
    "--",
)


@dataclass(frozen=True)
class Place:
    """An engine in a network namespace of its own, where metadata services are within reach."""

    engine: PrivateEngine
    inside: Sequence[str]

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that uses the engine."""
        return {**os.environ, "DOCKER_HOST": self.engine.address}

    def execute(self, *command: str) -> str:
        """What `command` prints in the engine's network namespace; fails where it fails."""
        done = subprocess.run(
            [*self.inside, *command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def reached(self, *targets: str, network: str | None = None, **config: Any) -> tuple[list[str], str]:
        """Which of `targets`, ``ADDRESS/PORT``, a run on `network` reaches, and how the runner calls that."""
        spec = {
            "image": PYTHON,
            "entrypoint": "python3 m.py",
            "files": {"m.py": CONNECT},
            "env": {"TARGETS": " ".join(targets)},
            "network": network,
        }
        printed = self.execute(sys.executable, "-c", RUNNER, json.dumps(config), json.dumps(spec))
        found, state = json.loads(printed)
        return found[0].split(), state

    def gateway(self, network: str) -> str:
        """The engine's host, as it is seen from a network."""
        with engine_api(self.engine.address) as api:
            (found,) = api.inspect_network(network)["IPAM"]["Config"]
        # An engine that started for the first time names none: it is the first address.
        return str(found.get("Gateway") or found["Subnet"].rpartition(".")[0] + ".1")

    @contextmanager
    def command(self, report: Path) -> Iterator[subprocess.Popen[str]]:
        """``light-run firewall`` under way, with its report at `report`."""
        process = subprocess.Popen(
            [*self.inside, *COMMAND_RIGHTS, sys.executable, "-c", COMMAND, str(report), "firewall"],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def listening(inside: Sequence[str]) -> Iterator[int]:
    """The id of a process that listens in a network namespace; a new one where `inside` says so."""
    process = subprocess.Popen([*inside, sys.executable, "-c", LISTEN], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """An engine beside a network namespace that has the addresses of metadata services."""
    with private_engine(PYTHON, BUSYBOX) as engine:
        assert engine.process is not None
        inside = ["nsenter", f"--net=/proc/{engine.process.pid}/ns/net", "--"]
        place = Place(engine, inside)
        with listening(inside), listening(["unshare", "--net", "--"]) as cloud:
            beyond = ["nsenter", f"--net=/proc/{cloud}/ns/net", "--", "ip"]
            for command in (
                ["ip", "link", "set", "lo", "up"],
                ["ip", "link", "add", "cloud", "type", "veth", "peer", "name", "inside", "netns", str(cloud)],
                ["ip", "address", "add", "169.254.169.253/30", "dev", "cloud"],
                ["ip", "link", "set", "cloud", "up"],
                ["ip", "route", "add", f"{ALIBABA}/32", "via", METADATA, "dev", "cloud", "onlink"],
                ["ip", "address", "add", "fd00:9::1/64", "dev", "cloud", "nodad"],
                ["ip", "route", "add", f"{AMAZON_6}/128", "via", "fd00:9::2"],
            ):
                place.execute(*command)
            for arguments in (
                ["address", "add", f"{METADATA}/30", "dev", "inside"],
                ["address", "add", f"{ALIBABA}/32", "dev", "inside"],
                ["address", "add", "fd00:9::2/64", "dev", "inside", "nodad"],
                ["address", "add", f"{AMAZON_6}/128", "dev", "inside", "nodad"],
                ["link", "set", "inside", "up"],
                ["route", "add", "fd00:5::/64", "via", "fd00:9::1"],
            ):
                subprocess.run([*beyond, *arguments], check=True)
            yield place


@pytest.mark.parametrize("image", [BUSYBOX, PYTHON])
@pytest.mark.parametrize(
    ("network", "said"), [(None, []), ("bridge", ["the engine's host", "the metadata address"])]
)
def test_what_the_doctor_finds_out(place: Place, image: str, network: str | None, said: list[str]) -> None:
    spec = {"image": image, "entrypoint": network_diagnosis._SCRIPT, "network": network}
    found, _ = json.loads(place.execute(sys.executable, "-c", RUNNER, "{}", json.dumps(spec)))
    assert found == said


@pytest.fixture
def out(place: Place) -> tuple[str, ...]:
    """Where runs must not get: the host, and metadata services."""
    return (f"{place.gateway('bridge')}/{PORT}", f"{METADATA}/{PORT}", f"{ALIBABA}/{PORT}")


def test_a_run_reaches_name_servers_and_nothing_else_there(place: Place, out: tuple[str, ...]) -> None:
    # What the engine's own network leaves open shows that all of them were there to be reached.
    assert place.reached(*out, network="bridge") == ([*out], Firewall.ABSENT.value)
    names = f"{METADATA}/53"
    assert place.reached(*out, names) == ([names], Firewall.ACTIVE.value)
    own = f"{place.gateway(NETWORK)}/{PORT}"
    assert place.reached(own) == ([], Firewall.ACTIVE.value)


def test_rules_that_were_changed_come_back(place: Place, out: tuple[str, ...]) -> None:
    assert place.reached(*out) == ([], Firewall.ACTIVE.value)
    # The last two take away the way to the chain that the engine leaves to others, which stays away.
    for change in (
        ["-I", "LIGHT-RUN", "-j", "ACCEPT"],
        ["-F", "LIGHT-RUN"],
        ["-D", "FORWARD", "-j", "DOCKER-USER"],
        ["-F"],
    ):
        place.execute("iptables", "-w", *change)
        # Nothing but our own rules keeps runs in.
        place.execute("iptables", "-w", "-P", "FORWARD", "ACCEPT")
        assert place.reached(*out) == ([], Firewall.ACTIVE.value), change


def test_existing_networks_that_are_given_to_runs(place: Place, out: tuple[str, ...]) -> None:
    guarded = {"guarded": ["bridge", "six"]}
    assert place.reached(*out, network="bridge", **guarded) == ([], Firewall.ACTIVE.value)
    with engine_api(place.engine.address) as api:
        pools = [IPAMPool(subnet="172.30.0.0/24"), IPAMPool(subnet="fd00:5::/64", gateway="fd00:5::1")]
        config = IPAMConfig(pool_configs=pools)
        api.create_network("six", driver="bridge", enable_ipv6=True, ipam=config)
        try:
            six = (f"fd00:5::1/{PORT}", f"{AMAZON_6}/{PORT}")
            assert place.reached(*six, network="six") == ([*six], Firewall.ABSENT.value)
            # It still gets out: that needs answers of the host to neighbour discovery.
            names = f"{AMAZON_6}/53"
            found = place.reached(*six, *out, names, network="six", **guarded)
            assert found == ([names], Firewall.ACTIVE.value)
        finally:
            api.remove_network("six")


def test_a_server_that_does_not_see_the_bridge(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report = tmp_path / "firewall/networks"
    monkeypatch.setattr(firewall_report, "PATH", report)
    monkeypatch.setattr(networks, "_FRESH", 0.0)
    monkeypatch.setenv("DOCKER_HOST", place.engine.address)
    config = RunnerConfig(parked_max=0)
    with Runner(config) as runner:
        assert runner.run(RunSpec(image=BUSYBOX, entrypoint="true")).succeeded
        assert runner.health().firewall is Firewall.ABSENT
        assert "light-run firewall" in caplog.text
    with place.command(report) as command, Runner(config) as runner:
        eventually(firewall_report.is_fresh, "the command has looked", within=30)
        assert runner.health().firewall is Firewall.ACTIVE
        # Flushed rules come back without any run, and a network that is made anew is waited for.
        bridge = place.execute("ip", "-brief", "link", "show", "type", "bridge")
        assert "br-" in bridge
        place.execute("iptables", "-w", "-F", "INPUT")
        eventually(
            lambda: "conntrack" in place.execute("iptables", "-w", "-S", "INPUT"),
            "the rules are there again",
            within=30,
        )
        with engine_api(place.engine.address) as api:
            api.remove_network(NETWORK)
        assert runner.run(RunSpec(image=BUSYBOX, entrypoint="true")).succeeded
        with engine_api(place.engine.address) as api:
            new = api.inspect_network(NETWORK)["Id"][:12]
        assert f"-i br-{new} " in place.execute("iptables", "-w", "-S", "DOCKER-USER")
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == 0


def test_the_command_makes_the_network_and_ends(place: Place, tmp_path: Path) -> None:
    with engine_api(place.engine.address) as api:
        for each in api.networks(names=[f"^{NETWORK}$"]):
            api.remove_network(each["Id"])
        report = tmp_path / "networks"
        place.execute(*COMMAND_RIGHTS, sys.executable, "-c", COMMAND, str(report), "firewall", "--once")
        assert report.read_text().split() == [api.inspect_network(NETWORK)["Id"]]
    assert report.stat().st_mode & 0o777 == 0o644


def test_the_command_where_the_engine_is_elsewhere(place: Place, tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "networks"), "firewall", "--once"]
    done = subprocess.run(command, env=place.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the rules for {NETWORK} cannot be set" in done.stderr
    assert (tmp_path / "networks").read_text() == ""


def test_the_command_without_root(place: Place, tmp_path: Path) -> None:
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-m",
        "light_run",
    ]
    done = subprocess.run(
        [*command, "firewall", "--once"], env=place.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "as root" in done.stderr
