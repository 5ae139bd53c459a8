"""The credentials for the registry of a request's image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, validates_schema

from light_run.api.requests.faults import FieldFault
from light_run.api.requests.fields import Text
from light_run.api.requests.strict import Strict
from light_run.engine.spec import RegistryAuth

_LONGEST_NAME, _LONGEST_SECRET = 256, 16_384
_NEVER: Mapping[str, Any] = {"not": {}}


class RegistryAuthBase(Strict):
    """A user name with a password, or a token."""

    json_schema: ClassVar[Mapping[str, Any]] = {
        **Strict.json_schema,
        "anyOf": [
            {"required": ["username", "password"], "properties": {"token": _NEVER}},
            {"required": ["token"], "properties": {"username": _NEVER, "password": _NEVER}},
        ],
    }

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _one_of_two(self, data: Any, original: Mapping[str, Any], **kwargs: Any) -> None:
        if set(original) & set(self.fields) not in ({"username", "password"}, {"token"}):
            raise ValidationError([FieldFault("required", "must have username and password, or token alone")])


def registry_auth_schema() -> RegistryAuthBase:
    """Return the schema of ``registryAuth``."""
    secret = {"password": Text(most=_LONGEST_SECRET), "token": Text(most=_LONGEST_SECRET)}
    schema = RegistryAuthBase.from_dict({"username": Text(most=_LONGEST_NAME), **secret}, name="RegistryAuth")
    return schema()  # type: ignore[return-value]


def registry_auth_of(loaded: Mapping[str, str] | None) -> RegistryAuth | None:
    """Return the credentials of the fields `loaded`."""
    return None if loaded is None else RegistryAuth(**loaded)
