"""Memory and leak diagnostics for live Python processes.

The public face for an application that wants to be looked at::

    import diag
    diag.serve(name="billing")        # read-only; diag.serve(allow_actions=True) lets operators act

Importing this package costs next to nothing and imports nothing outside the standard library;
the agent is loaded when :func:`serve` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diag.agent.server import AgentServer

__version__ = "0.1.0"
__all__ = ["__version__", "serve"]


def serve(
    *,
    name: str | None = None,
    allow_actions: bool = False,
    socket_path: str | None = None,
) -> AgentServer:
    """Answer diagtop and diag on a unix socket, from a thread of its own, until ``close()``.

    name: what ``diag ls`` shows and TARGET may say (default: the program's name).
    allow_actions: let a caller of the same user collect, trim, stop, restart and cancel; otherwise
    the agent only looks.
    socket_path: default ``$XDG_RUNTIME_DIR/diag/PID-STARTTIME.sock`` (0700 folder, 0600 socket). Another
    one is found by ``diag ls`` too: a symbolic link in the default place points to it.

    Raises OSError, with what to try next, when the socket cannot be made. Cost: one idle daemon
    thread (so that Python 3.12 and later warn of ``os.fork``, as in any threaded process) and one
    listening socket. A child that is forked has no
    agent until it calls ``serve`` itself. Calling it twice returns the running server as it is; other
    arguments are not taken up, and the log says so. Call it after privileges are dropped.
    """
    from diag.agent.server import serve as _serve

    return _serve(name=name, allow_actions=allow_actions, socket_path=socket_path)
