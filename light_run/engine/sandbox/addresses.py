"""The addresses that neither a run nor a callback may reach: metadata services and link-local networks."""

from __future__ import annotations

import ipaddress

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
