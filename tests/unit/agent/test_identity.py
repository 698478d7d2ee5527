"""An identity ends with its object, whatever takes its address."""

from __future__ import annotations

from diag.agent.runtime.identity import Identities


class Thing:
    pass


def test_an_object_keeps_its_identity_for_as_long_as_it_lives() -> None:
    known, thing, other = Identities(), Thing(), Thing()
    assert known.of(thing) == known.of(thing)
    assert known.of(thing) != known.of(other)


def test_a_successor_at_the_same_address_has_another_identity() -> None:
    known = Identities()
    reused = 0
    for _ in range(200):
        thing = Thing()
        address, first = id(thing), known.of(thing)
        del thing
        successor = Thing()
        if id(successor) == address:
            reused += 1
            assert known.of(successor) != first
        del successor
    assert reused, "this Python never reuses an address: the test proves nothing"


def test_identities_keep_nothing_alive_and_forget_the_dead() -> None:
    known = Identities()
    for _ in range(5000):
        known.of(Thing())
    kept = [Thing() for _ in range(3000)]
    for thing in kept:
        known.of(thing)
    assert len(known) < 5000


def test_what_cannot_be_referred_to_weakly_still_has_its_address() -> None:
    value = (1, 2)
    assert Identities().of(value) == f"{id(value):x}"
