from __future__ import annotations

from typing import Any

import pytest

from collector.supervision import (
    ChildSpec,
    ExponentialDelay,
    FixedDelay,
    Server,
    Supervisor,
    SupervisorFlags,
)


async def work() -> None: ...


def test_a_worker_has_five_seconds_to_stop_and_a_supervisor_all_the_time_it_needs() -> None:
    assert (ChildSpec("a", Server).type, ChildSpec("a", Server).shutdown) == ("worker", 5.0)
    assert (ChildSpec("a", work).type, ChildSpec("a", work).shutdown) == ("worker", 5.0)
    assert (ChildSpec("a", Supervisor).type, ChildSpec("a", Supervisor).shutdown) == (
        "supervisor",
        "infinity",
    )
    assert ChildSpec("a", Supervisor, shutdown=1).shutdown == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": ""}, "child id is ''"),
        ({"start": "work"}, "start is 'work'; it must be a Server or Supervisor class or an async callable"),
        ({"restart": "always"}, "it must be 'permanent', 'transient' or 'temporary'"),
        ({"type": "boss"}, "it must be 'worker' or 'supervisor'"),
        ({"shutdown": "soon"}, "it must be 'brutal_kill' or 'infinity'"),
        ({"shutdown": -1}, "it must be seconds >= 0"),
        ({"shutdown": True}, "it must be seconds >= 0"),
        ({"shutdown": float("nan")}, "it must be seconds >= 0"),
        ({"significant": True}, "a permanent child cannot be significant"),
        ({"name": ""}, "name is ''"),
    ],
)
def test_a_child_spec_that_makes_no_sense_is_refused_with_what_is_allowed(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match="child") as refused:
        ChildSpec(**{"id": "a", "start": work, **options})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "one_for_two"}, "'one_for_one', 'one_for_all', 'rest_for_one' or 'simple_one_for_one'"),
        ({"intensity": -1}, "intensity is -1"),
        ({"intensity": 1.5}, "intensity is 1.5"),
        ({"period": 0}, "period is 0"),
        ({"auto_shutdown": "maybe"}, "'never', 'any_significant' or 'all_significant'"),
    ],
)
def test_supervisor_flags_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        SupervisorFlags(**options)
    assert message in str(refused.value)


def test_the_initial_call_is_a_qualified_name() -> None:
    class Mine(Server): ...

    assert ChildSpec("a", work).initial_call == f"{__name__}.work"
    assert ChildSpec("a", Mine).initial_call.endswith("<locals>.Mine.init")


def test_an_exponential_delay_grows_to_its_limit_and_no_further() -> None:
    delay = ExponentialDelay(first=1, factor=2, max=10)
    assert [delay.delay_s(n) for n in range(6)] == [1, 2, 4, 8, 10, 10]
    assert delay.delay_s(10**9) == 10
    assert ExponentialDelay(0, 2, 10).delay_s(10**9) == 0


def test_a_fixed_delay_stays() -> None:
    assert [FixedDelay(3).delay_s(n) for n in range(3)] == [3, 3, 3]


@pytest.mark.parametrize(
    "make", [lambda: FixedDelay(-1), lambda: ExponentialDelay(5, 2, 1), lambda: ExponentialDelay(1, 0.5)]
)
def test_delays_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="Delay"):
        make()
