"""``diag.serve()``: the agent's life in the process, from the first call to exit, fork or ``close``."""

from __future__ import annotations

import atexit
import logging
import os

from diag.agent import native, sockets
from diag.agent.listener import Listener
from diag.agent.methods import QUICK, Methods, program_name

_EXIT_GRACE_S = 2.0

log = logging.getLogger("diag")


class AgentServer:
    """A running agent. Made by :func:`serve`."""

    def __init__(self, name: str, allow_actions: bool, socket_path: str | None) -> None:
        self.name = name
        self.allow_actions = allow_actions
        listener, self.path = sockets.listen(socket_path)
        """Where it listens."""
        self._files = {self.path: sockets.inode(self.path)}
        self._open = True
        self._listener = Listener(listener, Methods(name, allow_actions).handle, QUICK)
        try:
            self._listener.start()
        except BaseException:
            self._listener.abandon()
            self._unlink()
            raise
        signpost = None if socket_path is None else sockets.signpost(self.path)
        if signpost is not None:
            self._files[signpost] = sockets.inode(signpost)

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
        self._unlink()
        self._listener.close(grace_s)
        atexit.unregister(_close_at_exit)

    def _unlink(self) -> None:
        for path, inode in self._files.items():
            sockets.unlink(path, inode)

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
        elif (
            name not in (None, _server.name)
            or (allow_actions and not _server.allow_actions)
            or (socket_path is not None and os.path.abspath(socket_path) != _server.path)
        ):
            log.warning(
                "diag.serve() was called again with other arguments: it goes on as %r, %s, at %s;"
                " close() it first to change that",
                _server.name,
                "actions allowed" if _server.allow_actions else "read-only",
                _server.path,
            )
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
