"""Addresses that runs, callbacks and the pulls of tenants may not reach: metadata services and private networks."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(*texts: str) -> tuple[Network, ...]:
    """The networks that `texts` are. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


# Most clouds have their metadata service at a link-local address (RFC 3927, RFC 4291). The others, in this order:
# Alibaba Cloud, Azure, Oracle Cloud Classic; over IPv6 Amazon EC2 and EKS, Google Cloud, Oracle Cloud, Scaleway.
METADATA = networks(
    "169.254.0.0/16",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd00:ec2::23/128",
    "fd20:ce::254/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:42::42/128",
)

# No request for a tenant goes there: metadata services, the unspecified address, multicast and reserved addresses.
NEVER = (*METADATA, *networks("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8"))

# Not the public internet (IANA's special-purpose registries); an operator may want callbacks to stay in here.
# `ipaddress.is_global` does not replace this list: its answer differs between patch releases of one Python version
# (CVE-2024-4032), and it takes multicast, NAT64 and the deprecated fec0::/10 for global.
PRIVATE = networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "192.0.0.0/24",
    "198.18.0.0/15",
    "::1/128",
    "fc00::/7",
    "fec0::/10",
)

# These reach the IPv4 address in the last four bytes: NAT64 (RFC 6052), stateless translation (RFC 2765) and,
# deprecated, on some stacks, RFC 4291 section 2.5.5.1; ``::`` and ``::1`` are none of the last.
_TRANSLATED = networks("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")
# NAT64 of a network's own, RFC 8215: with this length of prefix the address lies around the ninth byte.
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
# In front of the IPv4 address at the other end of an ISATAP tunnel, RFC 5214.
_ISATAP = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))


def within(address: Address, networks: tuple[Network, ...]) -> bool:
    """Return True if `address` is in one of `networks`."""
    return any(address in network for network in networks if network.version == address.version)


def meanings(text: str) -> list[Address]:
    """The address `text`, and the IPv4 ones that reach the same machine through it. Raises ValueError."""
    # A zone (`fe80::1%eth0`) says only which link.
    address = ipaddress.ip_address(text.partition("%")[0])
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        packed = address.packed
        embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        translated = within(address, _TRANSLATED) and int(address) > 1
        if translated or address in _LOCAL_NAT64 or packed[8:12] in _ISATAP:
            embedded.append(ipaddress.IPv4Address(packed[-4:]))
        if address in _LOCAL_NAT64:
            embedded.append(ipaddress.IPv4Address(packed[6:8] + packed[9:11]))
        found += [meaning for meaning in embedded if meaning is not None]
    return found


def is_public(text: str) -> bool:
    """Return True if the address `text` is on the public internet, whichever way it is written. Raises ValueError."""
    return not any(within(address, NEVER) or within(address, PRIVATE) for address in meanings(text))
