"""Registries: which of them a tenant may pull from."""

from __future__ import annotations

import socket

import pytest

from light_run.engine.images.registries import check_registry
from light_run.engine.references import parse
from light_run.errors import PullFailed
from light_run.runs.callbacks.targets import TargetRefused, check


@pytest.mark.parametrize(
    "image",
    [
        "127.0.0.1:5000/x",
        "10.0.0.1/x",
        "169.254.169.254/x",
        "192.168.1.1:5000/x/y",
        # Public, but no name.
        "8.8.8.8/x",
        "localhost/x",
        "localhost:5000/x",
        # Other ways to write 127.0.0.1, which resolvers take.
        "127.1:80/x",
        "2130706433:80/x",
    ],
)
def test_a_registry_that_is_not_public_is_refused(image: str) -> None:
    with pytest.raises(PullFailed, match="LIGHT_RUN_REGISTRIES"):
        check_registry(parse(image), ())
    check_registry(parse(image), (parse(image).registry,))
    check_registry(parse(image), ("*",))


@pytest.mark.parametrize("image", ["alpine", "acme/tool:1", "docker.io/x/y", "registry.invalid/x"])
def test_others_are_left_to_the_engine(image: str) -> None:
    check_registry(parse(image), ())


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        assert (host, port) == ("registry.example.com", 443)
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    addresses = ["93.184.216.34"]
    check_registry(parse("registry.example.com/x"), ())
    addresses.append("10.1.2.3")
    with pytest.raises(PullFailed, match="private"):
        check_registry(parse("registry.example.com/x"), ())
    check_registry(parse("registry.example.com/x"), ("*.example.com",))


@pytest.mark.parametrize(
    "address",
    [
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "224.0.0.1",
        # 169.254.169.254 and 127.0.0.1, through NAT64, 6to4 and as IPv6 writes them.
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::ffff:10.0.0.1",
        "::7f00:1",
        "fec0::1",
        "fe80::1%eth0",
    ],
)
def test_a_name_at_an_address_that_callbacks_do_not_go_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    answer = [(0, 0, 0, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(PullFailed, match="private"):
        check_registry(parse("registry.example.com/x"), ())
    with pytest.raises(TargetRefused):
        check(address, private=False)
