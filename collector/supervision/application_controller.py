"""The application controller: which applications are known, which run, and what the end of one means."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from collector.supervision import application, reports
from collector.supervision.application import ApplicationSpec, ApplicationType
from collector.supervision.application_master import Started, StopApplication, run_master
from collector.supervision.messages import send, send_exit, wait_ended
from collector.supervision.pid import Exited, Pid
from collector.supervision.process import spawn
from collector.supervision.reasons import NORMAL, SHUTDOWN, Reason
from collector.supervision.server import NOREPLY, From, Server, Stop, reply
from diag import hooks

__all__ = ["Controller", "Failed", "LoadedApplication", "request_shut_down"]


@dataclass(frozen=True)
class Failed:
    """An error on its way back to the caller."""

    reason: Reason


@dataclass
class Entry:
    """One application the controller knows."""

    spec: ApplicationSpec
    face: LoadedApplication
    type: ApplicationType | None = None
    """Set once it was started, kept when it ended by itself: OTP's "started"."""
    starting_as: ApplicationType = "temporary"
    master: Pid | None = None
    running: bool = False
    order: int = 0
    waiting: list[From] | None = None
    """Who waits for a start that is under way."""


class _ShutDown:
    """The message behind :func:`application.shut_down`."""


class LoadedApplication:
    """An application as diag sees it. Held by the controller for as long as the application is loaded."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._initial_call = ""
        self._type: str = "temporary"
        self._running = False
        self._master: Pid | None = None
        self._top: Pid | None = None

    def runs(self, master: Pid | None, top: Pid | None, spec: ApplicationSpec, type: str) -> None:
        module = spec.module
        self._initial_call = "" if module is None else f"{module.__module__}.{module.__qualname__}.start"
        self._type = type
        self._running = True
        self._master = master
        self._top = top
        hooks.register(self)

    def stopped(self) -> None:
        self._running = False
        self._master = self._top = None

    @property
    def diag_kind(self) -> Literal["application"]:
        return "application"

    @property
    def diag_name(self) -> str:
        return self._name

    def diag_task(self) -> asyncio.Task[Any] | None:
        return None if self._master is None else self._master.task

    def diag_info(self) -> Mapping[str, str | int | float | bool]:
        return {
            "initial_call": self._initial_call,
            "state": "running" if self._running else "stopped",
            "type": self._type,
        }

    def diag_children(self) -> Sequence[hooks.Child]:
        top = self._top
        if top is None or not top.alive:
            return []
        node = top.instance()
        return [
            hooks.Child(
                id=top.label,
                name=top.label,
                state="running",
                initial_call=top.initial_call,
                kind="supervisor",
                node=node if isinstance(node, hooks.Subsystem) else None,
                task=top.task,
            )
        ]

    async def diag_stop_child(self, child_id: str) -> None:
        """The only child is the top supervisor, and stopping that is stopping the application."""
        self._known(child_id)
        await self.diag_stop()

    async def diag_restart_child(self, child_id: str) -> None:
        self._known(child_id)
        await self.diag_stop()
        await self.diag_start()

    def _known(self, child_id: str) -> None:
        if child_id not in [child.id for child in self.diag_children()]:
            raise KeyError(f"application {self._name} has no child {child_id!r}")

    async def diag_stop(self) -> None:
        await application.stop(self._name)

    async def diag_start(self) -> None:
        """Start it again, with the type it had."""
        await application.start(self._name, self._type)  # type: ignore[arg-type]


class Controller(Server):
    """One per program, started with the first application."""

    trap_exit: ClassVar[bool] = True

    async def init(self) -> None:
        self.known: dict[str, Entry] = {}
        self.starts = 0

    async def handle_call(self, request: Any, from_: From) -> Any:
        operation, name, *args = request
        return await getattr(self, f"_on_{operation}")(from_, name, *args)

    async def _on_load(self, from_: From, name: str, spec: ApplicationSpec) -> Any:
        entry = self.known.get(name)
        if entry is None:
            self.known[name] = Entry(spec, LoadedApplication(name))
        elif entry.spec != spec:
            if entry.running or entry.waiting is not None:
                return Failed(("already_loaded", name))
            entry.spec = spec
        return None

    async def _on_unload(self, from_: From, name: str) -> Any:
        entry = self.known.get(name)
        if entry is None:
            return Failed(("not_loaded", name))
        if entry.running or entry.waiting is not None:
            return Failed(("running", name))
        hooks.unregister(self.known.pop(name).face)
        return None

    async def _on_is_running(self, from_: From, name: str) -> bool:
        entry = self.known.get(name)
        return entry is not None and entry.running

    async def _on_spec(self, from_: From, name: str) -> ApplicationSpec | None:
        entry = self.known.get(name)
        return None if entry is None else entry.spec

    async def _on_which(self, from_: From, name: str) -> list[str]:
        return [entry.spec.name for entry in self._latest_first()]

    def _latest_first(self) -> list[Entry]:
        running = [entry for entry in self.known.values() if entry.running]
        return sorted(running, key=lambda entry: -entry.order)

    async def _on_start(self, from_: From, name: str, type: ApplicationType) -> Any:
        if type not in ("permanent", "transient", "temporary"):
            return Failed(("invalid_restart_type", type))
        entry = self.known.get(name)
        if entry is None:
            return Failed(("not_loaded", name))
        if entry.waiting is not None:
            entry.waiting.append(from_)
            return NOREPLY
        if entry.running:
            return Failed(("already_started", name))
        for needed in entry.spec.applications:
            known = self.known.get(needed)
            if (known is None or known.type is None) and needed not in entry.spec.optional_applications:
                return Failed(("not_started", needed))
        for needed in entry.spec.applications:
            known = self.known.get(needed)
            if (known is None or not known.running) and needed not in entry.spec.optional_applications:
                return self._start_failed(entry, type, [from_], ("not_running", needed)) or NOREPLY
        entry.waiting = [from_]
        entry.starting_as = type
        if entry.spec.module is None:
            self._started(entry, None)
        else:
            # It starts in its own process and casts Started: a slow start holds up nobody else.
            label = f"application_master:{name}"
            entry.master = spawn(run_master, entry.spec, "normal", id=label, link=True)
        return NOREPLY

    async def handle_cast(self, message: Any) -> None:
        if isinstance(message, Started):
            self._started(self.known[message.name], message.top)

    def _started(self, entry: Entry, top: Pid | None) -> None:
        self.starts += 1
        entry.type, entry.running, entry.order = entry.starting_as, True, self.starts
        entry.face.runs(entry.master, top, entry.spec, entry.type)
        reports.application(entry.spec.name, "started", None, entry.type)
        waiting, entry.waiting = entry.waiting or [], None
        for from_ in waiting:
            reply(from_, None)

    def _start_failed(
        self, entry: Entry, type: ApplicationType, waiting: list[From], reason: Reason
    ) -> Stop | None:
        entry.master, entry.waiting = None, None
        for from_ in waiting:
            reply(from_, Failed(reason))
        reports.application(entry.spec.name, "exited", reason, type)
        return None if type == "temporary" else Stop(("application_start_failure", entry.spec.name, reason))

    async def _on_stop(self, from_: From, name: str) -> Any:
        entry = self.known.get(name)
        if entry is None or entry.type is None:
            return Failed(("not_started", name))
        type, entry.type = entry.type, None
        if entry.running:
            await self._stop_master(entry)
            reports.application(name, "exited", "stopped", type)
        return None

    async def _stop_master(self, entry: Entry) -> None:
        master, entry.master, entry.running = entry.master, None, False
        if master is not None:
            send(master, StopApplication())
            await wait_ended(master)
        entry.face.stopped()

    async def handle_info(self, message: Any) -> Stop | None:
        if isinstance(message, _ShutDown):
            return Stop(SHUTDOWN)
        if isinstance(message, Exited):
            for entry in self.known.values():
                if entry.master is message.pid and entry.waiting is not None:
                    return self._start_failed(entry, entry.starting_as, entry.waiting, message.reason)
                if entry.master is message.pid:
                    return self._ended(entry, message.reason)
        return None

    def _ended(self, entry: Entry, reason: Reason) -> Stop | None:
        """An application ended by itself."""
        name, type = entry.spec.name, entry.type or "temporary"
        entry.master, entry.running = None, False
        entry.face.stopped()
        reports.application(name, "exited", reason, type)
        if type == "temporary" or (type == "transient" and reason == NORMAL):
            return None
        return Stop(("application_terminated", name, reason))

    async def terminate(self, reason: Reason) -> None:
        for entry in self._latest_first():
            master, entry.running = entry.master, False
            if master is not None:
                send_exit(master, SHUTDOWN)
                await wait_ended(master)
            entry.face.stopped()
            hooks.unregister(entry.face)


def request_shut_down(controller: Pid) -> None:
    """Have the controller stop everything and end."""
    send(controller, _ShutDown())
