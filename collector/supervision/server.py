"""Servers: OTP's gen_server. State of its own, a mailbox, one message at a time.

Subclass :class:`Server`, keep state on ``self`` (set it up in ``init``, not ``__init__``)::

    class Counter(Server):
        async def init(self, first: int = 0) -> None:
            self.count = first

        async def handle_call(self, request, from_):
            self.count += request
            return self.count

    pid = await Server.start_link(Counter, 10, name="counter")
    await call("counter", 5)          # 15
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from collector.supervision.clock import Clock
from collector.supervision.errors import CallTimeout, ServerDown
from collector.supervision.mailbox import Mailbox, MessageTimer
from collector.supervision.messages import send_after, wait_ended
from collector.supervision.pid import Exited, Pid
from collector.supervision.process import current, own_mailbox, resolve, start
from collector.supervision.reasons import NOPROC, NORMAL, Exit, Reason, brief, crash_of, release

__all__ = ["IGNORE", "NOREPLY", "TIMEOUT", "Continue", "From", "Reply", "Server", "Stop", "Timeout", "call"]
__all__ += ["cast", "reply", "stop"]


class _Marker:
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


IGNORE: Final = _Marker("IGNORE")
"""Returned by ``init``: do not start, and that is all right."""
NOREPLY: Final = _Marker("NOREPLY")
"""Returned by ``handle_call``: the answer comes later, by :func:`reply`."""
TIMEOUT: Final = _Marker("TIMEOUT")
"""What ``handle_info`` gets when a :class:`Timeout` runs out."""


@dataclass(frozen=True)
class Stop:
    """Returned by any callback: end with ``reason``, after answering ``reply`` (from ``handle_call``)."""

    reason: Reason = NORMAL
    reply: Any = NOREPLY


@dataclass(frozen=True)
class Continue:
    """Returned by any callback: call ``handle_continue(argument)`` before the next message."""

    argument: Any = None


@dataclass(frozen=True)
class Timeout:
    """Returned by any callback: if no message comes within ``seconds``, ``handle_info(TIMEOUT)``."""

    seconds: float


Then = Stop | Continue | Timeout | None


@dataclass(frozen=True)
class Reply:
    """Returned by ``handle_call``: answer ``value``, then do ``then``."""

    value: Any
    then: Then = None


class From:
    """Who waits for an answer. Keeps neither the caller nor the answer alive."""

    __slots__ = ("_future", "pid")

    def __init__(self, pid: Pid | None, future: asyncio.Future[Any]) -> None:
        self.pid = pid
        """The calling process; None if the caller is not one."""
        self._future = weakref.ref(future)


@dataclass(frozen=True)
class Call:
    """A request in a mailbox."""

    from_: From
    request: Any


@dataclass(frozen=True)
class Cast:
    message: Any


@dataclass(frozen=True)
class StopRequest:
    """The system message behind :func:`stop`."""

    reason: Reason


class Server:
    """Base of all servers; see the module's text. Callbacks run one after another, in the server's own task.

    A callback that raises ends the server: ``terminate`` is called, then others learn the reason.
    Raising ``Exit(reason)`` or returning ``Stop(reason)`` ends it in an orderly way.

    trap_exit: as OTP's process flag. False: a shutdown from the supervisor cancels whatever the server
    waits for, and ``terminate`` is *not* called (``finally`` blocks run). True: the shutdown waits its turn
    in the mailbox, then ``terminate("shutdown")`` is called; set it where something must be flushed.
    """

    __child_type__: ClassVar[str] = "worker"
    trap_exit: ClassVar[bool] = False

    _pid: Pid

    @property
    def pid(self) -> Pid:
        """This server's own handle."""
        return self._pid

    @property
    def clock(self) -> Clock:
        return self._pid.clock

    async def init(self, *args: Any, **kwargs: Any) -> Any:
        """Set up. Return None, :data:`IGNORE`, :class:`Stop`, :class:`Continue` or :class:`Timeout`.

        Whoever starts the server (its supervisor, too) waits until this has returned."""

    async def handle_call(self, request: Any, from_: From) -> Any:
        """Answer a request: return the answer, :class:`Reply`, :data:`NOREPLY` or :class:`Stop`."""
        raise NotImplementedError(f"{type(self).__qualname__} does not answer calls: {brief(request, 120)}")

    async def handle_cast(self, message: Any) -> Then:
        """A message sent by :func:`cast`."""
        raise NotImplementedError(f"{type(self).__qualname__} does not take casts: {brief(message, 120)}")

    async def handle_info(self, message: Any) -> Then:
        """Any other message: ``send``, timers, ``Exited``, ``Down``, ``TIMEOUT``. By default dropped."""
        return None

    async def handle_continue(self, argument: Any) -> Then:
        """What :class:`Continue` asked for."""
        raise NotImplementedError(f"{type(self).__qualname__} has no handle_continue")

    async def terminate(self, reason: Reason) -> None:
        """Clean up. Not called when killed, nor on a shutdown unless ``trap_exit``."""

    def send_after(self, delay_s: float, message: Any) -> MessageTimer | None:
        """Send ``message`` to this server (``handle_info``) in ``delay_s`` seconds."""
        return send_after(delay_s, self._pid, message)

    @staticmethod
    async def start_link(
        cls: type[Server], *args: Any, name: str | None = None, clock: Clock | None = None, **kwargs: Any
    ) -> Pid | None:
        """Start a server linked to the calling process and wait for its ``init(*args, **kwargs)``.

        Returns its Pid, or None if ``init`` said :data:`IGNORE`. Raises StartError."""
        if not (isinstance(cls, type) and issubclass(cls, Server)):
            raise TypeError(f"start_link takes a Server class first, not {brief(cls, 80)}")
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
        detached: bool = False,
    ) -> Pid | None:
        call_name = f"{cls.__module__}.{cls.__qualname__}.init"
        what = name or id or call_name
        return await start(
            _serve,
            what,
            cls,
            args,
            kwargs,
            name=name,
            id=id,
            initial_call=call_name,
            clock=clock,
            detached=detached,
        )


async def _serve(cls: type[Server], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The body of a server's process. Its frames are all that holds the server and its mailbox."""
    pid = current()
    assert pid is not None
    mailbox = own_mailbox(pid)
    pid.trap_exit = cls.trap_exit
    server = cls()
    server._pid = pid
    pid.shows(weakref.ref(server))
    then = await server.init(*args, **kwargs)
    del args, kwargs
    if then is IGNORE:
        pid.ignored()
        return
    if isinstance(then, Stop):
        raise Exit(then.reason)
    pid.started()
    try:
        reason = await _loop(server, pid, mailbox, then)
    except asyncio.CancelledError as error:
        if not pid.cancelled_by_other():
            raise
        reason = crash_of(error)
    except Exit as error:
        reason = error.reason
        release(error)
    except Exception as error:
        reason = crash_of(error)
    await server.terminate(reason)
    raise Exit(reason)


async def _loop(server: Server, pid: Pid, mailbox: Mailbox, then: Any) -> Reason:
    """Handle messages until there is a reason to stop. No local keeps a message while it waits."""
    while True:
        if isinstance(then, Stop):
            return then.reason
        if isinstance(then, Continue):
            then = await server.handle_continue(then.argument)
            continue
        if pid.doomed is not None:  # a callback swallowed its cancellation
            raise asyncio.CancelledError
        wait_s = then.seconds if isinstance(then, Timeout) else None
        then = None
        if wait_s is None:
            then = await _dispatch(server, pid, await mailbox.get(pid.clock))
            continue
        try:
            message = await mailbox.get(pid.clock, wait_s)
        except asyncio.TimeoutError:
            message = TIMEOUT
        handling = _dispatch(server, pid, message)
        del message
        then = await handling
        del handling


async def _dispatch(server: Server, pid: Pid, message: Any) -> Any:
    if isinstance(message, Call):
        return _answered(message.from_, await server.handle_call(message.request, message.from_))
    if isinstance(message, Cast):
        return await server.handle_cast(message.message)
    if isinstance(message, StopRequest):
        return Stop(message.reason)
    if isinstance(message, Exited) and message.pid is pid.parent:
        return Stop(message.reason)
    return await server.handle_info(message)


def _answered(from_: From, outcome: Any) -> Any:
    """Send the answer in what handle_call returned; what to do next."""
    if outcome is NOREPLY:
        return None
    if isinstance(outcome, Stop):
        if outcome.reply is not NOREPLY:
            reply(from_, outcome.reply)
        return Stop(outcome.reason)
    if isinstance(outcome, Reply):
        reply(from_, outcome.value)
        return outcome.then
    reply(from_, outcome)
    return None


def reply(from_: From, value: Any) -> None:
    """Answer a call later than ``handle_call`` returned. If the caller has given up, nothing happens."""
    future = from_._future()
    if future is not None and not future.done():
        future.set_result((value,))


async def call(ref: Pid | str, request: Any, timeout: float | None = 5.0) -> Any:
    """Ask a server and wait for its answer, at most ``timeout`` seconds (None: for ever).

    Raises CallTimeout, and ServerDown when there is no such server or it ends before it answers. Works
    from any coroutine on the server's loop.
    """
    pid = resolve(ref)
    if pid is None or not pid.alive:
        raise ServerDown(str(ref), request, NOPROC if pid is None else (pid.exit_reason or NOPROC))
    me = current()
    if pid is me:
        raise RuntimeError(f"{pid} calls itself: it would wait for its own answer for ever")
    # Answers come as results, never as exceptions set on the future: exception -> traceback -> frame ->
    # future -> exception would be a cycle that keeps the caller's frame alive.
    future = asyncio.get_running_loop().create_future()
    alarm = None
    if timeout is not None:
        alarm = pid.clock.call_later(timeout, _give_up, weakref.ref(future))
    pid.add_waiter(future)
    try:
        if not pid.put(Call(From(me, future), request)):
            raise ServerDown(str(ref), request, NOPROC)
        outcome = await future
    finally:
        pid.drop_waiter(future)
        if alarm is not None:
            alarm.cancel()
    if outcome is TIMEOUT:
        raise CallTimeout(str(ref), request, timeout or 0.0)
    if outcome is None:
        raise ServerDown(str(ref), request, pid.exit_reason)
    return outcome[0]


def _give_up(ref: weakref.ref[asyncio.Future[Any]]) -> None:
    future = ref()
    if future is not None and not future.done():
        future.set_result(TIMEOUT)


def cast(ref: Pid | str, message: Any) -> None:
    """Send a message for ``handle_cast`` and do not wait. As in OTP, nothing happens if nobody is there."""
    pid = resolve(ref)
    if pid is not None:
        pid.put(Cast(message))


async def stop(ref: Pid | str, reason: Reason = NORMAL, timeout: float | None = None) -> None:
    """End a server or supervisor in an orderly way, after the messages before this one, and wait for it.

    Raises ServerDown if it is not there or ended for another reason, asyncio.TimeoutError after ``timeout``
    seconds (it then still ends when it gets there).
    """
    pid = resolve(ref)
    if pid is None or not pid.alive:
        raise ServerDown(str(ref), "stop", NOPROC)
    pid.put(StopRequest(reason))
    ended = await wait_ended(pid, timeout)
    if ended != reason:
        raise ServerDown(str(ref), "stop", ended)
