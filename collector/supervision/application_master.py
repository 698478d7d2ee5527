"""The process above an application's top supervisor: starts it, stops it, and knows why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from collector.supervision import reports
from collector.supervision.application import Application, ApplicationSpec
from collector.supervision.errors import SupervisionError
from collector.supervision.messages import link, receive, send_exit, wait_ended
from collector.supervision.pid import Exited, Pid
from collector.supervision.process import current, processes
from collector.supervision.reasons import KILL, NORMAL, SHUTDOWN, Exit, Reason, crash_of
from collector.supervision.server import cast

__all__ = ["Started", "StopApplication", "run_master"]


class StopApplication:
    """What the controller sends to have the application stopped."""


@dataclass(frozen=True)
class Started:
    """What the master casts to the controller once the top supervisor runs."""

    name: str
    top: Pid


async def run_master(spec: ApplicationSpec, start_type: str) -> None:
    """The body of an application's process; its parent is the application controller."""
    me = current()
    assert me is not None
    assert spec.module is not None
    me.trap_exit = True
    me.group = me
    app = spec.module()
    top, state = await _start(app, spec, start_type)
    link(top)
    assert me.parent is not None
    cast(me.parent, Started(spec.name, top))
    reason = await _wait(me, top, app, state)
    await _end_the_rest(me)
    raise Exit(reason)


async def _start(app: Application, spec: ApplicationSpec, start_type: str) -> tuple[Pid, Any]:
    where = (f"{type(app).__module__}.{type(app).__qualname__}.start", start_type)
    failure: Reason
    try:
        outcome = await app.start(start_type, *spec.args)
    except (Exit, SupervisionError) as error:  # they carry OTP's {error, Reason}
        failure = (error.reason, where)
    except Exception as error:
        failure = ("bad_return", (where, crash_of(error)))
    else:
        pid, state = outcome if isinstance(outcome, tuple) and len(outcome) == 2 else (outcome, None)
        if isinstance(pid, Pid):
            return pid, state
        failure = ("bad_return", (where, outcome))
    raise Exit(failure)


async def _wait(me: Pid, top: Pid, app: Application, state: Any) -> Reason:
    """Until the application ends; then its callbacks have been called and its top supervisor is gone."""
    while True:
        message = await receive()
        if isinstance(message, Exited) and message.pid is top:
            await _clean_up(app, await _prepared(me, app, state))
            return message.reason
        if isinstance(message, Exited) and message.pid is me.parent:
            how: Reason = message.reason
            ended = how
        elif isinstance(message, StopApplication):
            how, ended = SHUTDOWN, NORMAL
        else:
            continue
        state = await _prepared(me, app, state)
        send_exit(top, how)
        await wait_ended(top)
        await _clean_up(app, state)
        return ended


async def _prepared(me: Pid, app: Application, state: Any) -> Any:
    try:
        return await app.prep_stop(state)
    except Exception as error:
        reports.crash(me, crash_of(error), 0)
        return state


async def _clean_up(app: Application, state: Any) -> None:
    try:
        await app.stop(state)
    except Exception as error:
        me = current()
        assert me is not None
        reports.crash(me, crash_of(error), 0)


async def _end_the_rest(me: Pid) -> None:
    """Processes the application started and left outside its tree end with it."""
    rest = [pid for pid in processes() if pid.group is me and pid is not me]
    for pid in rest:
        send_exit(pid, KILL)
    for pid in rest:
        await wait_ended(pid)
