"""One collector process: from its configuration to its end.

The order at the start is the order of what can be wrong: the libraries, the spool, the control socket, then
the listeners. Nothing is accepted before all of it works. The first SIGTERM or SIGINT stops gracefully:
everything accepted is stored first. A second one ends the process at once and says what that lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import time
from typing import Any

import diag
from collector import logs, switchboard
from collector.app import State, application_spec, make_state
from collector.config import FAULT_HOLDERS, FAULT_KINDS, Config, Fault
from collector.control import ControlError, ControlServer
from collector.schema import did_you_mean
from collector.spool.codec import Compressor
from collector.spool.directory import SpoolLock, probe
from collector.status import picture
from collector.supervision import ApplicationError, application
from collector.switchboard import SwitchError

__all__ = ["CannotStart", "Node"]

SAME_SIGNAL_S = 0.5
"""A terminal, a shell and a supervisor may all pass the same signal on; that is one, not a second one."""

_log = logging.getLogger("collector")


class CannotStart(Exception):
    """The collector could not be started; one line for each reason."""


class Node:
    """The running collector."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state: State = make_state(config)
        self._started_s = time.monotonic()
        self._stop = asyncio.Event()
        self._first_signal_s: float | None = None
        self._control = ControlServer(config.control_socket, self._answer)

    async def run(self) -> int:
        """Serve until told to stop; the exit code. Raises CannotStart, SpoolError, ControlError and
        MissingExtra before anything was accepted."""
        config = self.config
        Compressor(config.spool.compression_level)
        probe(config.spool.directory)
        lock = SpoolLock(config.spool.directory)
        try:
            await self._control.open()
            self._heed_signals()
            _raise_file_limit()
            return await self._serve()
        finally:
            self._control.close()
            lock.release()

    async def _serve(self) -> int:
        await self._start_application()
        agent = self._serve_diag()
        logs.event(_log, logging.INFO, "ready", name=self.config.name, pid=os.getpid())
        down = asyncio.ensure_future(application.wait_down())
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({down, stop}, return_when=asyncio.FIRST_COMPLETED)
        code = 0
        if not self._stop.is_set():
            logs.event(_log, logging.ERROR, "went_down", reason=str(down.result()))
            code = 1
        await application.shut_down()
        stop.cancel()
        await asyncio.gather(down, stop, return_exceptions=True)
        if agent is not None:
            agent.close()
        lost = any(counters.accepted > counters.stored for counters in self.state.clients.values())
        logs.event(
            _log, logging.INFO, "stopped", accepted=self._total("accepted"), stored=self._total("stored")
        )
        return 1 if lost else code

    async def _start_application(self) -> None:
        try:
            await application.ensure_all_started(application_spec(self.state), "permanent")
        except ApplicationError as error:
            await application.shut_down()
            problems = [counters.problem for counters in self.state.listeners.values() if counters.problem]
            raise CannotStart("\n".join(problems) or str(error)) from None

    def _serve_diag(self) -> Any:
        if not self.config.diag.enabled:
            return None
        try:
            return diag.serve(name=self.config.name, allow_actions=self.config.diag.allow_actions)
        except OSError as error:
            # A collector that cannot be looked at still collects.
            logs.event(_log, logging.WARNING, "diag_unavailable", problem=str(error))
            return None

    def _total(self, counter: str) -> int:
        return sum(getattr(counters, counter) for counters in self.state.clients.values())

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        if self._first_signal_s is None:
            self._first_signal_s = now
            logs.event(_log, logging.INFO, "stopping", signal=name)
            self._stop.set()
            return
        if now - self._first_signal_s < SAME_SIGNAL_S:
            return
        left = self._total("accepted") - self._total("stored")
        logs.event(_log, logging.ERROR, "stopped_at_once", signal=name, not_stored=left)
        self._control.close()
        logging.shutdown()
        os._exit(1)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request of the control socket. Raises ControlError."""
        what = request["do"]
        if what == "status":
            return picture(self.state, self._started_s)
        if what == "stop":
            logs.event(_log, logging.INFO, "stopping", by="control socket")
            self._stop.set()
            return {"pid": os.getpid()}
        if what == "fault_list":
            return {"faults": switchboard.listed(self.state)}
        try:
            if what == "fault_on":
                fault = _fault(request)
                await switchboard.switch_on(self.state, fault)
                logs.event(_log, logging.WARNING, "fault_on", fault=fault.key)
                return {"on": fault.key}
            if what == "fault_off":
                ended = await switchboard.switch_off(
                    self.state, client=request.get("client"), holder=request.get("holder")
                )
                for fault in ended:
                    logs.event(_log, logging.WARNING, "fault_off", fault=fault.key)
                return {"off": [fault.key for fault in ended]}
        except SwitchError as error:
            raise ControlError(str(error)) from None
        known = ("status", "stop", "fault_on", "fault_off", "fault_list")
        raise ControlError(f"cannot do {what!r}{did_you_mean(what, known) or f'; can: {known}'}")


def _raise_file_limit() -> None:
    """Every sender needs a file descriptor: take all that we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _fault(request: dict[str, Any]) -> Fault:
    """The fault a request asks for. Raises ControlError."""
    kind, client, holder = (request.get(key) for key in ("kind", "client", "holder"))
    for key, value, allowed in (("kind", kind, FAULT_KINDS), ("holder", holder, FAULT_HOLDERS)):
        if value not in allowed:
            raise ControlError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
    if not isinstance(client, str):
        raise ControlError(f"client must be a client's name, got {client!r}")
    rates = {}
    for key in ("bytes_per_s", "max_bytes"):
        if request.get(key) is not None:
            if type(request[key]) is not int or request[key] < 1:
                raise ControlError(f"{key} must be a whole number of at least 1, got {request[key]!r}")
            rates[key] = request[key]
    return Fault(str(kind), client, str(holder), **rates)
