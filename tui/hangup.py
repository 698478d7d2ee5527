"""Leaving when the terminal is gone.

Once it is, nothing can be drawn or put back, and a screen library may wait for ever for output to
drain. So there is no orderly way out then: the process ends at once, and the kernel closes what it
held. SIGHUP's default does just that, but it is not sent to everybody (nohup, disown, a shell that
crashed); the terminal's own hang-up is seen by everybody.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

CODE = 129
"""Exit code: 128 + SIGHUP, as a shell would say it."""


def _end() -> None:
    os._exit(CODE)


def leave_with_the_terminal(fd: int, end: Callable[[], None] = _end) -> threading.Thread:
    """Call ``end`` (by default: end the process) as soon as the terminal behind ``fd`` hangs up. Costs a
    daemon thread that sleeps in the kernel."""

    def watch() -> None:
        poll = select.poll()
        poll.register(fd, 0)  # hang-up and error are always reported
        while not any(what & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, what in poll.poll()):
            pass
        end()

    thread = threading.Thread(target=watch, name="diagtop-hangup", daemon=True)
    thread.start()
    return thread
