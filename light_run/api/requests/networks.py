"""The bodies of ``POST /networks`` and ``POST /networks/cleanup``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError
from marshmallow.fields import Dict, Field

from light_run.api.requests.faults import FieldFault, shown, wrong, wrong_type
from light_run.api.requests.fields import MESSAGES, Boolean, Choice, Integer, Nested, Text
from light_run.api.requests.strict import Strict
from light_run.engine.spec import NetworkSpec
from light_run.errors import Fault, InvalidSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OWN_LABELS = "light-run."
# A subnet becomes a route of the engine's host: it must take no public address, and not all of a private network.
_PRIVATE = tuple(
    ipaddress.IPv4Network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
_LARGEST = 16
_RIGHT_NAME = 'must be 1 to 100 letters, digits, "_", "." and "-", and begin with a letter or digit'
_NAME_SCHEMA = {"pattern": f"^{_NAME.pattern}$"}


class Labels(Dict):
    """An object of strings."""

    def __init__(self) -> None:
        super().__init__(error_messages=MESSAGES, metadata={"additionalProperties": {"type": "string"}})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise wrong_type(value, "an object of strings")
        problems = {}
        for name, item in value.items():
            if not isinstance(item, str):
                problems[name] = [FieldFault("invalid_type", "must be a string")]
            elif name.startswith(_OWN_LABELS):
                problems[name] = [FieldFault("not_allowed", f"begins with {_OWN_LABELS}, which is reserved")]
        if problems:
            raise ValidationError(problems)
        return value


def network_schema() -> Schema:
    """Return the schema of the body that creates a network."""
    ipam: dict[str, Field[Any]] = {
        "subnet": Text(_subnet, most=64),
        "gateway": Text(_address, most=64),
        "ipRange": Text(_subnet, most=64),
    }
    fields: dict[str, Field[Any]] = {
        "name": Text(_name, most=100, required=True, schema=_NAME_SCHEMA),
        "driver": Choice("bridge"),
        "iccEnabled": Boolean(),
        "exclusive": Boolean(),
        "labels": Labels(),
        "ipam": Nested(Strict.from_dict(ipam, name="Ipam")()),
    }
    return Strict.from_dict(fields, name="NetworkRequest")()


def cleanup_schema() -> Schema:
    """Return the schema of the body of a clean-up."""
    fields: dict[str, Field[Any]] = {
        "prefix": Text(most=100, least=0),
        "maxAgeMs": Integer("milliseconds", least=0, most=10**13),
    }
    return Strict.from_dict(fields, name="NetworkCleanup")()


def network_spec(loaded: Mapping[str, Any], owner: str) -> NetworkSpec:
    """Return the network that the fields `loaded` describe."""
    words = {"subnet": "Subnet", "gateway": "Gateway", "ipRange": "IPRange"}
    return NetworkSpec(
        name=loaded["name"],
        icc=loaded.get("iccEnabled", False),
        labels=loaded.get("labels", {}),
        ipam={words[name]: value for name, value in loaded.get("ipam", {}).items()},
        owner=owner,
    )


def name_of(text: str) -> str:
    """Return the name in a path. Raises InvalidSpec for one that no network can have."""
    if not _NAME.fullmatch(text):
        raise InvalidSpec([Fault(("name",), "invalid_value", f"name {_RIGHT_NAME}")])
    return text


def _name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise wrong("invalid_value", f"is {shown(text)}; it {_RIGHT_NAME}")


def _subnet(text: str) -> None:
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError:
        raise wrong("invalid_value", f"is {shown(text)}; it must be a subnet such as 10.1.0.0/24") from None
    if subnet.prefixlen < _LARGEST or not any(subnet.subnet_of(each) for each in _PRIVATE):
        raise wrong(
            "not_allowed",
            f"is {shown(text)}; it must be private and /{_LARGEST} or smaller, such as 10.1.0.0/24",
        )


def _address(text: str) -> None:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise wrong("invalid_value", f"is {shown(text)}; it must be an address such as 10.1.0.1") from None
    if not any(address in each for each in _PRIVATE):
        raise wrong("not_allowed", f"is {shown(text)}; it must be a private address such as 10.1.0.1")
