from __future__ import annotations

from collections.abc import Iterator

import pytest

from collector.supervision import VirtualClock, registered, use_clock
from collector.supervision.process import processes


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Time that moves only when the test says so."""
    with use_clock(VirtualClock()) as clock:
        assert isinstance(clock, VirtualClock)
        yield clock


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """What a test started goes with its loop: no process and no name outlives it."""
    yield
    assert processes() == []
    assert registered() == []
