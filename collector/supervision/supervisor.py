"""Supervisors: OTP's ``supervisor``, as a class to subclass and functions to manage children with.

``ref`` is a supervisor's Pid or registered name. What OTP returns as ``{error, Reason}`` is raised as
SupervisorError with ``.reason``; see :mod:`collector.supervision.errors`. Requests wait as long as the
supervisor is busy starting or stopping something, as in OTP.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from collector.supervision.children import ChildRecord
from collector.supervision.clock import Clock
from collector.supervision.errors import SupervisorError
from collector.supervision.pid import Pid
from collector.supervision.process import current, own_mailbox, start
from collector.supervision.reasons import SHUTDOWN, Exit, brief
from collector.supervision.server import IGNORE, call, stop
from collector.supervision.spec import ChildSpec, SupervisorFlags
from collector.supervision.supervising import ChildInfo, Counts, Engine, Refused, Request
from diag import hooks

__all__ = ["ChildInfo", "Counts", "Supervisor", "count_children", "delete_child", "get_childspec"]
__all__ += ["restart_child", "start_child", "terminate_child", "which_children"]


class Supervisor:
    """Base of all supervisors: write ``init``. What a subclass keeps on ``self`` is the supervisor's memory.

    It shows itself to diag (see :mod:`diag.hooks`): one without a parent process registers as a root.
    """

    __child_type__: ClassVar[str] = "supervisor"

    _pid: Pid
    _engine: Engine | None = None

    @property
    def pid(self) -> Pid:
        """This supervisor's own handle."""
        return self._pid

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``(SupervisorFlags, [ChildSpec, ...])`` or IGNORE; may be ``async def``.

        The children are started in this order and stopped in the opposite one."""
        raise NotImplementedError(
            f"{type(self).__qualname__} needs init(): return (SupervisorFlags, [ChildSpec])"
        )

    @staticmethod
    async def start_link(
        cls: type[Supervisor], *args: Any, name: str | None = None, clock: Clock | None = None, **kwargs: Any
    ) -> Pid | None:
        """Start a supervisor linked to the calling process and wait until all its children have started.

        Returns its Pid, or None if ``init`` said IGNORE. Raises StartError; when a child failed, its reason
        is ``("shutdown", ("failed_to_start_child", id, reason))`` and nothing is left running.
        """
        if not (isinstance(cls, type) and issubclass(cls, Supervisor)):
            raise TypeError(f"start_link takes a Supervisor class first, not {brief(cls, 80)}")
        return await cls._start_process(args, kwargs, name=name, clock=clock)

    @classmethod
    async def _start_process(
        cls,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str | None = None,
        id: str | None = None,
        clock: Clock | None = None,
    ) -> Pid | None:
        call_name = f"{cls.__module__}.{cls.__qualname__}.init"
        what = name or id or call_name
        return await start(
            _supervise, what, cls, args, kwargs, name=name, id=id, initial_call=call_name, clock=clock
        )

    # diag.hooks.Subsystem: snapshots for diag's thread, actions for operators

    @property
    def diag_kind(self) -> Literal["supervisor"]:
        return "supervisor"

    @property
    def diag_name(self) -> str:
        return self._pid.label

    def diag_task(self) -> asyncio.Task[Any] | None:
        return self._pid.task

    def diag_info(self) -> Mapping[str, str | int | float | bool]:
        engine = self._engine
        info: dict[str, str | int | float | bool] = {
            "initial_call": self._pid.initial_call,
            "state": "terminated" if self._pid.task is None else "running" if engine else "starting",
        }
        if engine is not None:
            info["strategy"] = engine.flags.strategy
            info["intensity"] = engine.flags.intensity
            info["period"] = engine.flags.period
            info["auto_shutdown"] = engine.flags.auto_shutdown
            info["restarts"] = engine.restarts
            info["children"] = len(engine.table)
            info["messages"] = self._pid.mailbox_length
        return info

    def diag_children(self) -> Sequence[hooks.Child]:
        engine = self._engine
        return [] if engine is None else [shown(record) for record in engine.table]

    async def diag_stop_child(self, child_id: str) -> None:
        """``terminate_child``; also finds dynamic children, by the id they are shown with."""
        record = self._record(child_id)
        if self._engine is None or self._engine.table.dynamic is None:
            await terminate_child(self._pid, child_id)
        elif isinstance(record.child, Pid):
            await terminate_child(self._pid, record.child)
        elif record.child is not None and record.child.pid is not None:
            await terminate_child(self._pid, record.child.pid)

    async def diag_restart_child(self, child_id: str) -> None:
        """Stop the child if it runs and start it again, in one step.

        Raises SupervisorError("temporary"), and does nothing, for a child OTP would forget when stopped."""
        record = self._record(child_id)
        await _ask(self._pid, "replace_child", record.key)

    async def diag_stop(self) -> None:
        await stop(self._pid, SHUTDOWN)

    async def diag_start(self) -> None:
        raise RuntimeError(
            f"{self._pid.label} was started by hand and cannot be started from here; "
            "make it part of an application to stop and start it"
        )

    def _record(self, child_id: str) -> ChildRecord:
        record = self._engine.table.get(child_id) if self._engine is not None else None
        if record is None:
            raise KeyError(f"{self._pid.label} has no child {child_id!r}")
        return record


def shown(record: ChildRecord) -> hooks.Child:
    """A child as diag is shown it."""
    pid = record.child if isinstance(record.child, Pid) else None
    node = pid.instance() if pid is not None else None
    return hooks.Child(
        id=record.key,
        name=(pid.name if pid is not None else record.spec.name) or record.key,
        state=record.state,
        initial_call=record.spec.initial_call,
        kind=record.spec.type or "worker",
        restarts=record.restarts,
        node=node if isinstance(node, Supervisor) else None,
        task=pid.task if pid is not None else None,
    )


async def _supervise(cls: type[Supervisor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The body of a supervisor's process."""
    pid = current()
    assert pid is not None
    pid.trap_exit = True
    supervisor = cls()
    supervisor._pid = pid
    pid.shows(weakref.ref(supervisor))
    plan = supervisor.init(*args, **kwargs)
    del args, kwargs
    if inspect.isawaitable(plan):
        plan = await plan
    if plan is IGNORE:
        pid.ignored()
        return
    try:
        flags, specs = plan
        specs = list(specs)
        if not isinstance(flags, SupervisorFlags):
            raise TypeError
    except (TypeError, ValueError):
        wanted = "(SupervisorFlags, [ChildSpec, ...]) or IGNORE"
        raise Exit(("bad_return", (pid.initial_call, f"{brief(plan)} is not {wanted}"))) from None
    del plan
    engine = supervisor._engine = Engine(pid, own_mailbox(pid), flags)
    failure = await engine.start_all(specs)
    del specs
    if failure is not None:
        raise Exit(failure)
    if pid.parent is None:
        hooks.register(supervisor)
    pid.started()
    reason = await engine.run()
    await engine.stop_all()
    raise Exit(reason)


async def _ask(ref: Pid | str, operation: str, *args: Any, **kwargs: Any) -> Any:
    request = Request(operation, args, kwargs)
    answer = await call(ref, request, timeout=None)
    if isinstance(answer, Refused):
        raise SupervisorError(operation, _subject(args), answer.reason)
    return answer


def _subject(args: tuple[Any, ...]) -> object:
    first = args[0] if args else ""
    if isinstance(first, tuple) and len(first) == 1:
        first = first[0]
    return first.id if isinstance(first, ChildSpec) else first


async def start_child(ref: Pid | str, *args: Any, **kwargs: Any) -> Pid | None:
    """Add a child and start it: ``start_child(ref, ChildSpec(...))``; under simple_one_for_one the further
    arguments of a new dynamic child. None if it said IGNORE (the spec is kept, unless temporary).

    Raises SupervisorError: ``("already_started", pid)``, ``"already_present"``, ``("bad_combination", ...)``,
    or the reason the child gave for not starting (its spec is then not kept).
    """
    result: Pid | None = await _ask(ref, "start_child", args, kwargs)
    return result


async def terminate_child(ref: Pid | str, child: str | Pid) -> None:
    """Stop a child; its spec stays for restart_child, unless it is temporary. Fine if it is already stopped.

    Under simple_one_for_one give the Pid. Returns when the process is gone and its memory free.
    Raises SupervisorError: ``"not_found"``, ``"simple_one_for_one"``.
    """
    await _ask(ref, "terminate_child", child)


async def restart_child(ref: Pid | str, id: str) -> Pid | None:
    """Start a stopped child. None if it said IGNORE.

    Raises SupervisorError: ``"not_found"``, ``"running"``, ``"restarting"``, ``"simple_one_for_one"``, or the
    reason the child gave for not starting (which is not tried again).
    """
    result: Pid | None = await _ask(ref, "restart_child", id)
    return result


async def delete_child(ref: Pid | str, id: str) -> None:
    """Forget a stopped child's spec.

    Raises SupervisorError: ``"not_found"``, ``"running"``, ``"restarting"``, ``"simple_one_for_one"``.
    """
    await _ask(ref, "delete_child", id)


async def which_children(ref: Pid | str) -> list[ChildInfo]:
    """The children, the latest first, as OTP lists them. O(children)."""
    result: list[ChildInfo] = await _ask(ref, "which_children")
    return result


async def count_children(ref: Pid | str) -> Counts:
    """How many specs, live children, supervisors and workers. O(children)."""
    result: Counts = await _ask(ref, "count_children")
    return result


async def get_childspec(ref: Pid | str, child: str | Pid) -> ChildSpec:
    """The spec of a child. Raises SupervisorError("not_found")."""
    result: ChildSpec = await _ask(ref, "get_childspec", child)
    return result
