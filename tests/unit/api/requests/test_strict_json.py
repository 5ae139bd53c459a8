"""Bodies: what is JSON, and what only Python takes for it."""

from __future__ import annotations

import pytest
from werkzeug.exceptions import BadRequest

from light_run.api.requests import strict_json


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"{",
        b"{'a':1}",
        b'{"a":1,}',
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        '{"a":1}'.encode("utf-16"),
        b"NaN",
        b'{"a":-Infinity}',
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_no_json_at_all(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        strict_json.parse(body)
    assert caught.value.description


def test_a_byte_order_mark_is_taken() -> None:
    assert strict_json.parse(b"\xef\xbb\xbf{}") == ({}, [])


def test_keys_given_twice_are_named_with_their_place() -> None:
    _, faults = strict_json.parse(b'{"a":1,"b":[{"c":1,"c":2}],"a":{"d":0,"d":0,"d":0}}')
    assert {(fault.path, fault.code) for fault in faults} == {
        (("a",), "duplicate_key"),
        (("a", "d"), "duplicate_key"),
        (("b", 0, "c"), "duplicate_key"),
    }


def test_half_a_surrogate_pair_is_named_with_its_place() -> None:
    _, faults = strict_json.parse(rb'{"a":["\ud800"],"\udc00":1,"fine":"\ud83d\ude00"}')
    assert {(fault.path, fault.code) for fault in faults} == {
        (("a", 0), "invalid_text"),
        ((), "invalid_text"),
    }


def test_a_whole_pair_and_an_escaped_backslash_are_fine() -> None:
    assert strict_json.parse(rb'["\ud83d\ude00", "\\ud800"]') == (["\N{GRINNING FACE}", r"\ud800"], [])


def test_many_faults_are_bounded() -> None:
    pairs = ",".join(f'"{number}":0,"{number}":1' for number in range(5000))
    _, faults = strict_json.parse(f"{{{pairs}}}".encode())
    assert len(faults) == strict_json.MOST_FAULTS


def test_serialised_as_javascript_would() -> None:
    value = {"a": [1, 2.5, None, True], "ü": "\u2028\n"}
    assert strict_json.serialise(value) == '{"a":[1,2.5,null,true],"ü":"\u2028\\n"}'.encode()
    with pytest.raises(ValueError, match="Out of range"):
        strict_json.serialise(float("inf"))
