"""Strict parsing of JSON request bodies, stricter than Python's own.

Python takes NaN, the last of two equal keys, and half of a surrogate pair; none of these would reach a
container the way they were meant.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from werkzeug.exceptions import BadRequest

from light_run.errors import Fault

# Only an escape can contain a surrogate: raw ones are not valid UTF-8.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Finding the positions of faults is slower than parsing. Documents with more values than this get none.
_MOST_SEARCHED = 100_000

# A value takes some 70 bytes of memory, and may have only 2 in the body. More numbers of usual length than these do not
# fit into a body of the default limit.
MOST_VALUES = 1_000_000

MOST_FAULTS = 1000


class _Repeating(dict[str, Any]):
    """An object in which the keys `repeated` occur more than once."""

    repeated: tuple[str, ...] = ()


def parse(body: bytes) -> tuple[Any, list[Fault]]:
    """Parse `body` into its value and the faults beyond its syntax.

    Raises `BadRequest` for what is no JSON at all: empty, malformed, not UTF-8, nested too deeply.
    """
    if not body.strip():
        raise BadRequest("the body is empty; it must be a JSON object")
    try:
        text = body.decode("utf-8-sig")
        _check_number(text)
        return _parse(text)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} is wrong") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except ValueError:
        # What is left is int()'s own limit, whose words are about Python.
        raise BadRequest("the body has a number with too many digits") from None


def serialise(value: Any) -> bytes:
    """Serialise `value` as JavaScript would: compact and unescaped. Raises ValueError, RecursionError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _parse(text: str) -> tuple[Any, list[Fault]]:
    repeating: list[_Repeating] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        counts = Counter(name for name, _ in pairs)
        repeating.append(_Repeating(found))
        repeating[-1].repeated = tuple(name for name, count in counts.items() if count > 1)
        return repeating[-1]

    value = json.loads(text, object_pairs_hook=build, parse_constant=_refuse_constant)
    surrogates = _SURROGATE_ESCAPE.search(text) is not None and not _encodable(value)
    if not repeating and not surrogates:
        return value, []
    faults = list(islice(_faults(value), MOST_FAULTS))
    return value, faults or [
        Fault((), "invalid_text", "a key is given twice, or the text has an unpaired surrogate")
    ]


def _check_number(text: str) -> None:
    # Before anything is built of them. Each value but the first of all stands behind one of these.
    if _values(text) <= MOST_VALUES:
        return
    # What is between the quotes of strings is every other part, once escaped quotes are gone.
    bare = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    if _values(bare) > MOST_VALUES:
        raise BadRequest(f"the body has more than {MOST_VALUES} values; send large data as a file")


def _values(text: str) -> int:
    return sum(map(text.count, ",[{"))


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"the body is not JSON: {name} is not a JSON number")


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _faults(value: Any) -> Iterator[Fault]:
    for path, found in islice(_walk(value), _MOST_SEARCHED):
        if isinstance(found, _Repeating):
            for name in found.repeated:
                yield Fault((*path, name), "duplicate_key", f"the key {json.dumps(name)} is given twice")
        names = found if isinstance(found, dict) else (found,)
        if any(isinstance(name, str) and _SURROGATE.search(name) for name in names):
            yield Fault(
                tuple(path), "invalid_text", "the text has an unpaired surrogate; it must be valid Unicode"
            )


def _walk(value: Any) -> Iterator[tuple[list[str | int], Any]]:
    # Without recursion, and with one path that changes as it goes: how deep a client nests, and how much it
    # puts there, is not for it to decide our stack and our memory by.
    path: list[str | int] = []
    ahead = [_items(value)]
    yield path, value
    while ahead:
        name, item = next(ahead[-1], (None, None))
        if name is None:
            ahead.pop()
            del path[-1:]
        else:
            path.append(name)
            ahead.append(_items(item))
            yield path, item


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return iter(value.items())
    return enumerate(value) if isinstance(value, list) else iter(())
