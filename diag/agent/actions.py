"""Acting on the process: predict, act on the loop, wait until it is gone, measure, write it down.

Every action answers with what was predicted and what was really freed, so that an operator learns
whether the figures can be believed, and every action, done, failed or refused, is in the journal.
"""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable
from typing import TypeVar

from diag.agent import memory, native, onloop, victims
from diag.agent.heap import engine
from diag.agent.journal import Aim, Caller, Journal
from diag.agent.runtime import peek, tasks
from diag.agent.runtime.identity import Identities
from diag.agent.table import Look
from diag.agent.victims import Plan, Victim
from diag.wire.errors import BUSY, NOT_ALLOWED, UNSUPPORTED, RpcError
from diag.wire.model import Collected, Stopped, Trimmed

ON_OWNERS = ("stop", "restart", "start", "cancel")
ALL = ("collect", "trim", *ON_OWNERS)
DEADLINE_S = 30.0
"""How long an action may take unless the caller says otherwise."""

_POLL_S = 0.01
_LONGEST_POLL_S = 0.16
_SETTLE_S = 1.0
_COLLECT_S = 600.0
_NAMES_IN_NOTE = 5
_NEARLY = 0.9
"""Below this part of the prediction the note says what is still held."""

T = TypeVar("T", Collected, Trimmed, Stopped)


class Actions:
    """The operator's hand in the process. One action at a time; any thread but the loop's may call."""

    def __init__(
        self,
        allowed: bool,
        journal: Journal,
        identities: Identities,
        look: Callable[[], Look],
    ) -> None:
        self._allowed = allowed
        self._journal = journal
        self._identities = identities
        self._look = look
        self._one_at_a_time = native.allocate_lock()

    def collect(self, caller: Caller) -> Collected:
        """Force a full garbage collection. Stops the world for ``pause_ms``: about 0.1 µs an object."""
        return self._journaled(caller, "collect", Aim("process", "process"), self._collect)

    def trim(self, caller: Caller) -> Trimmed:
        """Give memory that was freed but kept by the C allocator back to the system."""
        return self._journaled(caller, "trim", Aim("process", "process"), self._trim)

    def on_owner(
        self, caller: Caller, action: str, owner_id: str, expect: str | None, deadline_s: float
    ) -> Stopped:
        """Stop, restart, start or cancel one owner. ``expect`` is the incarnation that was shown."""
        aim = Aim(owner_id, owner_id)
        return self._journaled(caller, action, aim, lambda: self._carry_out(action, aim, expect, deadline_s))

    def _journaled(self, caller: Caller, action: str, aim: Aim, work: Callable[[], T]) -> T:
        if not self._allowed:
            self._journal.add(caller, action, aim, "refused: read-only")
            raise RpcError(
                NOT_ALLOWED,
                f"{action} is not allowed: this process lets diag look, not act",
                "the program has to say diag.serve(allow_actions=True)",
            )
        if not self._one_at_a_time.acquire(timeout=DEADLINE_S):
            self._journal.add(caller, action, aim, "refused: busy")
            raise RpcError(BUSY, "another action is still under way", "see 'diag journal', and try again")
        try:
            if caller.gone():
                raise RpcError(BUSY, "the caller has hung up while another action was under way")
            done = work()
        except RpcError as error:
            self._journal.add(caller, action, aim, f"failed: {error.message}")
            raise
        finally:
            self._one_at_a_time.release()
        note = getattr(done, "note", "")
        self._journal.add(caller, action, aim, f"done; {note}" if note else "done", done)
        return done

    def _collect(self) -> Collected:
        garbage_bytes = getattr(engine, "garbage_bytes", None)
        predicted = garbage_bytes() if garbage_bytes is not None else None
        counted: list[float] = []

        def on_loop() -> None:
            start = time.perf_counter()
            found = gc.collect()
            counted[:] = [found, (time.perf_counter() - start) * 1000]

        allocated, rss = memory.allocated_bytes(), memory.rss_bytes()
        # On the loop where there is one: finalizers then run on the thread they were written for.
        loop = victims.main_loop(tasks.loops_of(tasks.all_tasks()))
        if loop is None:
            on_loop()
        else:
            onloop.run(loop, on_loop, name="diag collect", finish_within_s=_COLLECT_S)
        return Collected(
            predicted_bytes=predicted,
            freed_bytes=allocated - memory.allocated_bytes(),
            collected_objects=int(counted[0]),
            rss_before=rss,
            rss_after=memory.rss_bytes(),
            pause_ms=counted[1],
        )

    def _trim(self) -> Trimmed:
        trimmed = memory.trim()
        if trimmed is None:
            raise RpcError(UNSUPPORTED, "this C library cannot give freed memory back", "it needs glibc")
        return trimmed

    def _carry_out(self, action: str, aim: Aim, expect: str | None, deadline_s: float) -> Stopped:
        deadline = time.monotonic() + deadline_s
        with self._look() as look:
            try:
                plan = victims.plan(look, action, aim.owner_id, expect, self._identities)
            except RpcError as error:
                # Whoever keeps the error must not keep, through its frames, the tasks it was about.
                raise error.with_traceback(None) from None
        aim.name = plan.name
        allocated, rss = memory.allocated_bytes(), memory.rss_bytes()
        finished = onloop.run(
            plan.loop,
            plan.function,
            name=f"diag {action} {plan.name}",
            finish_within_s=_left(deadline),
        )
        self._wait(plan, deadline)
        freed = self._settled(plan, allocated, finished)
        gone = [victim for victim in (*plan.victims, *plan.told) if victim.ended()]
        if not finished:
            gone = [victim for victim in gone if victim.task is not None]
        return Stopped(
            action=action,
            stopped=tuple(victim.name for victim in gone),
            predicted_bytes=plan.predicted_bytes,
            freed_bytes=freed,
            rss_before=rss,
            rss_after=memory.rss_bytes(),
            note=_note(plan, finished, freed),
        )

    def _wait(self, plan: Plan, deadline: float) -> None:
        """Until all that is to go has gone. What outlives its waiter is cancelled then, each once, parents
        first: before, it might be cleaning up already, and a second cancellation would cut that short."""
        cancelled: set[int] = set()
        while time.monotonic() < deadline:
            left = [
                each
                for each in plan.victims
                if each.follows and each.left_behind() and id(each) not in cancelled
            ]
            if left:
                cancelled |= {id(each) for each in left}
                self._on_loop(plan, functools.partial(_cancel, left))
            if all(each.ended() or each.spared() for each in plan.victims):
                return
            native.sleep(_POLL_S)

    def _settled(self, plan: Plan, allocated_before: int, finished: bool) -> int:
        """Bytes freed, measured once the loop has run the callbacks that closing things left behind, and
        cancelled tasks that the application still refers to have let go of their frames: as a killed
        process loses its heap, whoever still knows its name."""
        ends = time.monotonic() + _SETTLE_S
        pause_s = _POLL_S
        answers = finished
        while True:
            if answers and not all(each.freed() for each in plan.victims):
                answers = self._on_loop(plan, functools.partial(_drop_cancellations, plan))
            freed = allocated_before - memory.allocated_bytes()
            freed_all = all(each.freed() for each in plan.victims)
            if (freed_all and freed >= plan.predicted_bytes) or time.monotonic() > ends or not finished:
                return freed
            # Measuring costs the target up to 10 ms a gigabyte: not a hundred times.
            native.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_POLL_S)

    def _on_loop(self, plan: Plan, function: Callable[[], None]) -> bool:
        """False if the loop ended with its task, or is busy again: then the note says what stayed."""
        try:
            return onloop.run(plan.loop, function, name=f"diag {plan.action}", finish_within_s=_SETTLE_S)
        except RpcError:
            return False


def _cancel(victims: list[Victim]) -> None:
    for victim in victims:
        victim.cancel()


def _drop_cancellations(plan: Plan) -> None:
    for victim in (*plan.victims, *plan.told):
        task = None if victim.task is None else victim.task()
        if task is not None:
            peek.drop_cancellation(task)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _note(plan: Plan, finished: bool, freed_bytes: int) -> str:
    notes = [plan.note]
    if not finished:
        notes.append(f"{plan.action} has begun and goes on: it did not finish before the deadline")
    spared = [victim.name for victim in plan.victims if victim.spared()]
    alive = [victim.name for victim in plan.victims if not victim.ended() and not victim.spared()]
    if spared:
        notes.append(f"these go on, for they are shielded or were only waited for: {_some(spared)}")
    if alive:
        why = "swallowed or delays the cancellation" if plan.action in ("stop", "cancel") else "has not ended"
        notes.append(f"still running, it {why}: {_some(alive)}")
    ended = [victim.name for victim in plan.told if victim.ended()]
    if ended:
        notes.append(f"ended with it, for they awaited it: {_some(ended)}")
    kept = [victim.name for victim in plan.victims if victim.ended() and not victim.freed()]
    if kept and finished and freed_bytes < _NEARLY * plan.predicted_bytes:
        notes.append(f"ended, but something still refers to: {_some(kept)}")
    return "; ".join(note for note in notes if note)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_NOTE])
    return shown if len(names) <= _NAMES_IN_NOTE else f"{shown} and {len(names) - _NAMES_IN_NOTE} more"
