"""Schemas that report every unknown field."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, validates_schema

from light_run.api.requests import strict_json
from light_run.api.requests.faults import FieldFault


class Strict(Schema):
    """A schema that reports every unknown field, with the field that was probably meant."""

    # Keywords of JSON Schema besides the fields.
    json_schema: ClassVar[Mapping[str, Any]] = {"additionalProperties": False}

    class Meta:
        unknown = EXCLUDE

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _name_unknown(self, data: Any, original: Mapping[str, Any], **kwargs: Any) -> None:
        # Searching for similar names takes time, and a body can have a million unknown ones.
        unknown = list(
            islice((name for name in original if name not in self.fields), strict_json.MOST_FAULTS)
        )
        if unknown:
            raise ValidationError({name: [self._unknown(name)] for name in unknown})

    def _unknown(self, name: str) -> FieldFault:
        close = difflib.get_close_matches(name[:100], list(self.fields), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(self.fields)}"
        return FieldFault("unknown_field", f"is not a field of a request; {hint}")
