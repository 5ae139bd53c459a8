"""A fair share of places: what one token takes, another still finds."""

from __future__ import annotations

from light_run.runs.fairness import Places


def fill(places: Places, owner: str | None) -> int:
    """Take places until there are none for `owner`; how many that were."""
    taken = 0
    while places.take(owner):
        taken += 1
    return taken


def test_one_token_leaves_places_for_others() -> None:
    places = Places(48)
    assert fill(places, "alice") == 36
    assert fill(places, "bob") == 9
    assert fill(places, "carol") > 0


def test_many_tokens_together_leave_places_for_the_next() -> None:
    places = Places(48)
    for number in range(4):
        assert fill(places, f"token-{number}") > 0


def test_the_operator_may_take_all() -> None:
    places = Places(48)
    assert fill(places, None) == 48
    assert not places.take("alice")


def test_one_place_can_be_taken_by_anybody() -> None:
    places = Places(1)
    assert places.take("alice")
    assert not places.take("bob")
    places.give_back("alice")
    assert places.take("bob")


def test_no_places_at_all() -> None:
    assert not Places(0).take(None)


def test_places_are_given_back() -> None:
    places = Places(4)
    with places.reserve("alice") as first, places.reserve("alice"), places.reserve("alice"):
        assert first
        with places.reserve("alice") as fourth:
            assert not fourth
    assert fill(places, "alice") == 3
