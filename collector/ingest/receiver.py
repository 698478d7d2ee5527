"""The receiver: a server that owns one listener's sockets for as long as it runs."""

from __future__ import annotations

import errno
import logging
import os

from collector.config import Listener
from collector.counters import ClientCounters, ListenerCounters
from collector.ingest.inbox import Inbox, Room
from collector.ingest.sinks import Sink
from collector.ingest.tcp import TcpEndpoint
from collector.ingest.udp import UdpEndpoint
from collector.logs import event
from collector.supervision import Exit, Reason, Server

__all__ = ["Receiver", "listen_problem"]

LOOK_AGAIN_S = 1.0
_LOOK_AGAIN = "look again"

_log = logging.getLogger("collector.ingest")


class Receiver(Server):
    """Listens, cuts what comes into messages and hands them to its sink; pauses senders whose client is
    over its budget. Ending in an orderly way it first takes over what has already arrived."""

    trap_exit = True

    async def init(
        self,
        listener: Listener,
        sink: Sink,
        counters: ListenerCounters,
        clients: dict[str, ClientCounters],
    ) -> None:
        kind = TcpEndpoint if listener.transport == "tcp" else UdpEndpoint
        pid = self.pid

        def on_pause(inbox: Inbox) -> None:  # refers to the pid alone: the endpoint is ours, not the reverse
            clients[inbox.client].pauses += 1
            inbox.call_when_room(pid)

        self._endpoint: TcpEndpoint | UdpEndpoint = kind(listener, sink, counters, on_pause)
        try:
            await self._endpoint.open()
        except OSError as error:
            counters.problem = listen_problem(listener, error)
            event(_log, logging.ERROR, "cannot_listen", listener=listener.name, problem=counters.problem)
            raise Exit(("cannot_listen", listener.name)) from None
        counters.problem = ""
        event(
            _log,
            logging.INFO,
            "listening",
            listener=listener.name,
            transport=listener.transport,
            host=listener.host,
            port=counters.port,
            client=listener.client or "(routed)",
        )
        self.send_after(LOOK_AGAIN_S, _LOOK_AGAIN)

    async def handle_info(self, message: object) -> None:
        if isinstance(message, Room):
            self._endpoint.resume()
        elif message == _LOOK_AGAIN:  # a client that was stopped calls nobody back
            self._endpoint.resume()
            self.send_after(LOOK_AGAIN_S, _LOOK_AGAIN)

    async def terminate(self, reason: Reason) -> None:
        try:
            await self._endpoint.finish()
        finally:
            self._endpoint.close()


def listen_problem(listener: Listener, error: OSError) -> str:
    """Why a listener could not be opened, and what to try."""
    place = f"{listener.transport} {listener.address}"
    proto = "t" if listener.transport == "tcp" else "u"
    number = error.errno
    if number is None and "could not bind on any address" in str(error):
        number = errno.EADDRNOTAVAIL  # Python 3.13 leaves it out
    # asyncio words its own message; the plain text of the error number says it better.
    reason = os.strerror(number) if number and number > 0 else str(error)
    advice = {
        errno.EADDRINUSE: f"see who has it (ss -{proto}lnp 'sport = :{listener.port}') or change the port",
        errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher port or grant it",
        errno.EADDRNOTAVAIL: "this machine has no such address; see: ip address",
    }.get(number or 0, "check host and port of this listener")
    return f"listener {listener.name!r} cannot listen on {place}: {reason}; {advice}"
