from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.agent.harness import Target, targets


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """Starts real programs with an agent in them."""
    with targets(tmp_path) as start:
        yield start
