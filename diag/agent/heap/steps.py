"""How a step of the walk is run: here and now, or on the loop so that no task moves under it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from diag.agent.heap.owners import OwnerTree


def directly(call: Callable[[], Any]) -> Any:
    return call()


def holding_still(tree: OwnerTree) -> Callable[[Callable[[], Any]], Any]:
    """Runs a step on the loop, so that no task moves under the slower walk; after a second of no
    answer (a stalled loop moves nothing either) it runs here."""
    loop = next((each for each in tree.loops if each.is_running()), None)
    if loop is None:
        return directly

    stalled = False

    def step(call: Callable[[], Any]) -> Any:
        nonlocal stalled
        if stalled:
            return call()
        lock, done = threading.Lock(), threading.Event()
        box: list[Any] = []
        taken = False

        def claim() -> bool:
            nonlocal taken
            with lock:
                first, taken = not taken, True
            return first

        def on_loop() -> None:
            if claim():
                try:
                    box.append((call(), None))
                except BaseException as error:
                    box.append((None, error))
                done.set()

        try:
            loop.call_soon_threadsafe(on_loop)
        except RuntimeError:
            return call()
        if not done.wait(1.0) and claim():
            stalled = True
            return call()
        done.wait()
        answer, error = box[0]
        if error is not None:
            raise error
        return answer

    return step
