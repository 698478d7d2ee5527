"""What the agent's unit tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest


@pytest.fixture
async def start() -> Any:
    """Starts tasks and ends them all."""
    started: list[asyncio.Task[Any]] = []

    def begin(work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        started.append(asyncio.get_running_loop().create_task(work))
        if name:
            started[-1].set_name(name)
        return started[-1]

    yield begin
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)
