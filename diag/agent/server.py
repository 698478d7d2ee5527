"""``diag.serve()``: the agent's life in the process, from the first call to exit, fork or ``close``."""

from __future__ import annotations

import atexit
import os

from diag.agent import native, sockets
from diag.agent.listener import Listener
from diag.agent.methods import QUICK, Methods, program_name

_EXIT_GRACE_S = 2.0


class AgentServer:
    """A running agent. Made by :func:`serve`."""

    def __init__(self, name: str, allow_actions: bool, socket_path: str | None) -> None:
        self.name = name
        self.allow_actions = allow_actions
        listener, self.path = sockets.listen(socket_path)
        """Where it listens."""
        self._inode = sockets.inode(self.path)
        self._open = True
        self._listener = Listener(listener, Methods(name, allow_actions).handle, QUICK)
        try:
            self._listener.start()
        except BaseException:
            self._listener.abandon()
            sockets.unlink(self.path, self._inode)
            raise

    def close(self, grace_s: float = 0.5) -> None:
        """Stop answering and leave nothing behind: socket removed, thread ended. Answers under way may
        still be sent for ``grace_s``. Idempotent."""
        global _server
        with _changing:
            if _server is self:
                _server = None
            if not self._open:
                return
            self._open = False
        sockets.unlink(self.path, self._inode)
        self._listener.close(grace_s)
        atexit.unregister(_close_at_exit)

    def _abandon(self) -> None:
        self._open = False
        self._listener.abandon()


_server: AgentServer | None = None
_changing = native.allocate_lock()


def serve(
    name: str | None = None, allow_actions: bool = False, socket_path: str | None = None
) -> AgentServer:
    """See :func:`diag.serve`."""
    global _server
    with _changing:
        if _server is None:
            _server = AgentServer(name or program_name(), allow_actions, socket_path)
            atexit.register(_close_at_exit)
        return _server


def _close_at_exit() -> None:
    # An action may be what ended the program: its answer should still reach the operator.
    if _server is not None:
        _server.close(_EXIT_GRACE_S)


def _after_fork_in_child() -> None:
    """The parent keeps its socket and thread; the child has neither, and may call ``serve`` for its own."""
    global _server, _changing
    _changing = native.allocate_lock()
    inherited, _server = _server, None
    if inherited is not None:
        inherited._abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
