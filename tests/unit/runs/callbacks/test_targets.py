"""Where callbacks may go."""

from __future__ import annotations

import socket

import pytest

from light_run.engine.sandbox import firewall
from light_run.engine.sandbox.addresses import METADATA, Network
from light_run.runs.callbacks.targets import Target, TargetRefused, check, parse, resolve


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://example.com", "http://example.com:80", "/"),
        ("https://example.com/a/b?c=d&e#f", "https://example.com:443", "/a/b?c=d&e"),
        ("HTTP://Example.COM:8080/x", "http://example.com:8080", "/x"),
        ("http://[::1]:81/", "http://::1:81", "/"),
        ("http://bücher.example/ü?ö=%C3%B6", "http://xn--bcher-kva.example:80", "/%C3%BC?%C3%B6=%C3%B6"),
        ("http://example.com/a b", "http://example.com:80", "/a%20b"),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: str, path: str) -> None:
    target = parse(url)
    assert (target.origin, target.path, target.authorization) == (origin, path, None)


def test_a_user_in_the_url_becomes_a_header_and_is_not_shown() -> None:
    target = parse("http://us%40er:pa%3Ass@example.com/")
    assert target.authorization == "Basic dXNAZXI6cGE6c3M="
    assert "dXNAZXI6" not in repr(target)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://example.com", "file:///etc/passwd", "http://", "http:///x", "//example.com", "http://[::1",
     "http://example.com:port", "http://example.com:99999", "http://" + "a" * 64 + ".com", "http://a..b/"],
)  # fmt: skip
def test_what_is_no_url_of_ours_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        parse(url)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "ff02::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::169.254.169.254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "::ffff:0:a9fe:a9fe",
        "2001:db8::5efe:a9fe:a9fe",
        "2001:db8::200:5efe:a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
    ],
)
def test_some_addresses_never_get_a_callback(address: str) -> None:
    for private in (True, False):
        with pytest.raises(TargetRefused):
            check(address, private=private)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1",
     "::1", "fc00::1", "fd12::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"],
)  # fmt: skip
def test_private_addresses_get_one_where_that_is_allowed(address: str) -> None:
    check(address, private=True)
    with pytest.raises(TargetRefused, match="private"):
        check(address, private=False)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "::ffff:1.1.1.1"],
)
def test_public_addresses_always_get_one(address: str) -> None:
    check(address, private=False)


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name has these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_every_address_of_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("http", "example.com", 80, "/")
    names(monkeypatch, "1.1.1.1", "1.0.0.1", "1.1.1.1")
    assert resolve(target, private=False) == ["1.1.1.1", "1.0.0.1"]
    names(monkeypatch, "1.1.1.1", "169.254.169.254")
    with pytest.raises(TargetRefused):
        resolve(target, private=True)


@pytest.mark.parametrize("host", ["0x7f000001", "2130706433", "0177.0.0.1", "127.1", "localhost"])
def test_odd_spellings_of_loopback_are_seen_through(host: str) -> None:
    with pytest.raises((TargetRefused, OSError)):
        resolve(Target("http", host, 80, "/"), private=False)


@pytest.mark.parametrize("network", METADATA)
def test_the_metadata_addresses_of_the_packet_filter_are_those_of_callbacks(network: Network) -> None:
    with pytest.raises(TargetRefused, match="never"):
        check(str(network[0]), private=True)
    rules = firewall._Filter("iptables", firewall._addresses(network.version))._wanted()
    assert f"-A LIGHT-RUN -d {network} -j DROP" in rules
