"""OTP's contract in asyncio: processes, servers, supervisors and applications.

Each process is one asyncio task, named after its registered name or its id. What it works on hangs on its
own frames; the :class:`Pid` others keep holds none of it, so a process that ends is free at once.

Servers::

    class Counter(Server):
        async def init(self, first=0): self.count = first
        async def handle_call(self, request, from_): self.count += request; return self.count

    await call("counter", 5)            # by Pid or registered name; CallTimeout, ServerDown
    cast("counter", message)            # handle_cast;  send("counter", message) -> handle_info
    await stop("counter")               # orderly end, for servers and supervisors

Supervisors::

    class ClientSup(Supervisor):
        def init(self, client):          # or async def
            return SupervisorFlags("rest_for_one", intensity=3, period=10), [
                ChildSpec("writer", Writer, (client,), name=f"writer:{client}", shutdown=10.0),
                ChildSpec("reader", read_forever, (client,), delay=ExponentialDelay(1, 2, 60)),
            ]

    sup = await Supervisor.start_link(ClientSup, "acme", name="client_sup:acme")
    pid = await start_child(sup, ChildSpec(...))      # the Pid; None if the child said IGNORE
    pid = await start_child(dynamic_sup, extra, args) # simple_one_for_one: further arguments
    await terminate_child(sup, "reader")              # SupervisorError(reason="not_found") ...
    await restart_child(sup, "reader"); await delete_child(sup, "reader")
    await which_children(sup)                         # [ChildInfo(id, child, type)], latest first as in OTP
    await count_children(sup)                         # Counts(specs, active, supervisors, workers)

Applications (``from collector.supervision import application``)::

    class LmCollect(Application):
        async def start(self, start_type, *args): return await Supervisor.start_link(TopSup, name="top_sup")
        async def prep_stop(self, state): return state
        async def stop(self, state): ...

    spec = ApplicationSpec("lmcollect", LmCollect, args=(...), applications=("base",))
    await application.ensure_all_started(spec, "permanent")   # -> names started
    await application.stop("lmcollect")

``collector.supervision.errors`` tells how OTP's returns map to values and exceptions. Time comes from a
:class:`Clock`; tests use ``with use_clock(VirtualClock()) as clock`` and ``await clock.advance(5)``.
"""

from __future__ import annotations

from collector.supervision import application
from collector.supervision.application import Application, ApplicationSpec
from collector.supervision.clock import Clock, LoopClock, VirtualClock, settle, use_clock
from collector.supervision.delay import DelayPolicy, ExponentialDelay, FixedDelay
from collector.supervision.errors import (
    ApplicationError,
    CallError,
    CallTimeout,
    ServerDown,
    StartError,
    SupervisionError,
    SupervisorError,
)
from collector.supervision.messages import (
    demonitor,
    link,
    monitor,
    receive,
    send,
    send_after,
    send_exit,
    unlink,
    wait_ended,
)
from collector.supervision.pid import Down, Exited, MonitorRef, Pid
from collector.supervision.process import current, spawn, spawn_link
from collector.supervision.reasons import Crash, Exit, Reason
from collector.supervision.registry import register, registered, unregister, whereis
from collector.supervision.reports import ReportFormatter
from collector.supervision.server import (
    IGNORE,
    NOREPLY,
    TIMEOUT,
    Continue,
    From,
    Reply,
    Server,
    Stop,
    Timeout,
    call,
    cast,
    reply,
    stop,
)
from collector.supervision.spec import ChildSpec, SupervisorFlags
from collector.supervision.supervisor import (
    ChildInfo,
    Counts,
    Supervisor,
    count_children,
    delete_child,
    get_childspec,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)

__all__ = [
    "IGNORE",
    "NOREPLY",
    "TIMEOUT",
    "Application",
    "ApplicationError",
    "ApplicationSpec",
    "CallError",
    "CallTimeout",
    "ChildInfo",
    "ChildSpec",
    "Clock",
    "Continue",
    "Counts",
    "Crash",
    "DelayPolicy",
    "Down",
    "Exit",
    "Exited",
    "ExponentialDelay",
    "FixedDelay",
    "From",
    "LoopClock",
    "MonitorRef",
    "Pid",
    "Reason",
    "Reply",
    "ReportFormatter",
    "Server",
    "ServerDown",
    "StartError",
    "Stop",
    "SupervisionError",
    "Supervisor",
    "SupervisorError",
    "SupervisorFlags",
    "Timeout",
    "VirtualClock",
    "application",
    "call",
    "cast",
    "count_children",
    "current",
    "delete_child",
    "demonitor",
    "get_childspec",
    "link",
    "monitor",
    "receive",
    "register",
    "registered",
    "reply",
    "restart_child",
    "send",
    "send_after",
    "send_exit",
    "settle",
    "spawn",
    "spawn_link",
    "start_child",
    "stop",
    "terminate_child",
    "unlink",
    "unregister",
    "use_clock",
    "wait_ended",
    "whereis",
    "which_children",
]
