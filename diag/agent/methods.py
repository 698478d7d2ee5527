"""What the agent answers: the methods of the socket, their parameters, and what they cost the target."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import diag
from diag.agent import actions, manners, memory, native, table
from diag.agent.actions import Actions
from diag.agent.heap import engine, paths
from diag.agent.journal import Caller, Journal
from diag.agent.runtime import peek, tasks
from diag.agent.runtime.identity import Identities
from diag.agent.table import Look
from diag.wire import model, places, ranking, rpc
from diag.wire.errors import (
    BUSY,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    OWNER_GONE,
    WRONG_PROTOCOL,
    RpcError,
)

QUICK = frozenset({"hello", "journal"})
"""Methods that neither walk nor wait, and are answered by the listening thread itself."""

_PICTURES = frozenset({"top", "why"})
_WALK_WITHIN_S = 60.0
_ROWS_A_BREATH = 64

Params = Mapping[str, Any]


class Methods:
    """The dispatcher of one agent. Any thread may call it; walks take turns."""

    def __init__(self, name: str, allow_actions: bool) -> None:
        self._target = model.Target(os.getpid(), name, platform.python_version())
        self._allow_actions = allow_actions
        self._identities = Identities()
        self._journal = Journal()
        self._walking = native.allocate_lock()
        self._actions = Actions(allow_actions, self._journal, self._identities, self._look_for_action)
        self._table: dict[str, Callable[[Params, Caller], Any]] = {
            "hello": self._hello,
            "top": self._top,
            "memory": self._memory,
            "why": self._why,
            "journal": self._read_journal,
            "collect": self._collect,
            "trim": self._trim,
            **{action: functools.partial(self._on_owner, action) for action in actions.ON_OWNERS},
        }

    def handle(self, request: rpc.Request, caller: Caller, gone: Callable[[], bool]) -> Any:
        """The result of one request, ready for JSON. ``gone`` tells whether the caller has hung up: nobody
        takes a picture for them then. Raises RpcError with a hint."""
        method = self._table.get(request.method)
        if method is None:
            raise RpcError(
                METHOD_NOT_FOUND,
                f"there is no method {request.method[:80]!r}",
                f"there are: {', '.join(self._table)}",
            )
        if request.method not in _PICTURES:
            return method(request.params, replace(caller, gone=gone))
        # One at a time up to the finished rows: a crowd of threads making rows would leave the loop, and the
        # listener, a small share of the interpreter lock.
        with self._turn():
            if gone():
                raise RpcError(BUSY, "the caller has hung up")
            return method(request.params, caller)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._walking.acquire(timeout=_WALK_WITHIN_S):
            raise RpcError(BUSY, "another picture is taking too long", "try again later")
        try:
            with manners.no_collections():
                yield
        finally:
            self._walking.release()

    def _look_for_action(self) -> Look:
        with self._turn():
            return Look.take(self._target.name)

    def _hello(self, params: Params, _caller: Caller) -> Any:
        given = _checked(params, protocol=(int, None))
        if given["protocol"] not in (None, model.PROTOCOL_VERSION):
            raise RpcError(
                WRONG_PROTOCOL,
                f"the client speaks protocol {given['protocol']}, this agent {model.PROTOCOL_VERSION}",
                f"use the diag command of diagtop {diag.__version__}, which the target runs",
            )
        return model.to_json(
            model.Hello(
                protocol=model.PROTOCOL_VERSION,
                agent_version=diag.__version__,
                agent_hash=_agent_hash(),
                target=self._target,
                engine=engine.engine_name(),
                allow_actions=self._allow_actions,
                capabilities=tuple(self._table),
                uid=os.geteuid(),
                started=_started(),
            )
        )

    def _top(self, params: Params, _caller: Caller) -> Any:
        given = _checked(
            params, by=(str, "buffers"), limit=(int, None), kinds=(list, None), with_ancestors=(bool, False)
        )
        by, limit, kinds = given["by"], given["limit"], given["kinds"] or ()
        if by == "growth":
            raise RpcError(
                INVALID_PARAMS, "growth takes two pictures, and the agent keeps none", "diag top --by growth"
            )
        if by not in ranking.BY:
            raise RpcError(INVALID_PARAMS, f"cannot rank by {by!r}", f"by is one of: {', '.join(ranking.BY)}")
        if limit is not None and limit < 0:
            raise RpcError(INVALID_PARAMS, f"limit is {limit}", "leave it out for all rows")
        unknown = [kind for kind in kinds if kind not in model.OWNER_KINDS]
        if unknown:
            raise RpcError(
                INVALID_PARAMS,
                f"no kind of owner is called {unknown[0]!r}",
                f"kinds are: {', '.join(model.OWNER_KINDS)}",
            )
        with Look.take(self._target.name) as look:
            made = table.table(
                look, self._target, self._identities, by, limit, kinds, given["with_ancestors"]
            )
        return _json_of(made)

    def _memory(self, params: Params, _caller: Caller) -> Any:
        _checked(params)
        alive = sum(1 for task in tasks.all_tasks() if not peek.done(task))
        return model.to_json(memory.memory(alive))

    def _why(self, params: Params, _caller: Caller) -> Any:
        given = _checked(params, owner=(str, ...), limit=(int, 3))
        with Look.take(self._target.name) as look:
            index = look.find(given["owner"], self._identities)
            if index is None:
                raise RpcError(
                    OWNER_GONE,
                    f"there is no owner {given['owner']!r} (any more)",
                    "refresh, and pick it again",
                )
            found, complete, note = paths.paths(look.runtime.owners, index, max(1, given["limit"]))
            owner = table.owner(look, index, self._identities)
        return model.to_json(model.Why(owner, found, complete, note))

    def _read_journal(self, params: Params, _caller: Caller) -> Any:
        given = _checked(params, limit=(int, None))
        return [model.to_json(entry) for entry in self._journal.entries(given["limit"])]

    def _collect(self, params: Params, caller: Caller) -> Any:
        _checked(params)
        return model.to_json(self._actions.collect(caller))

    def _trim(self, params: Params, caller: Caller) -> Any:
        _checked(params)
        return model.to_json(self._actions.trim(caller))

    def _on_owner(self, action: str, params: Params, caller: Caller) -> Any:
        given = _checked(
            params, owner=(str, ...), expect=(str, None), deadline_s=((int, float), actions.DEADLINE_S)
        )
        if not 0 < given["deadline_s"] <= 3600:
            raise RpcError(INVALID_PARAMS, "deadline_s is not between 0 and 3600", "30 is the default")
        done = self._actions.on_owner(caller, action, given["owner"], given["expect"], given["deadline_s"])
        return model.to_json(done)


def _json_of(made: model.Table) -> dict[str, Any]:
    """``model.to_json``, with a breath now and then: a table may have ten thousand rows."""
    rows = []
    for row in made.owners:
        rows.append(model.to_json(row))
        if len(rows) % _ROWS_A_BREATH == 0:
            manners.breathe()
    return {**model.to_json(replace(made, owners=())), "owners": rows}


def _checked(params: Params, **allowed: tuple[Any, Any]) -> dict[str, Any]:
    """The parameters with defaults filled in. ``allowed`` maps each name to (type, default); ``...`` as the
    default means it must be given. Raises RpcError INVALID_PARAMS."""
    unknown = [name for name in params if name not in allowed]
    if unknown:
        names = ", ".join(allowed) or "none"
        raise RpcError(INVALID_PARAMS, f"unknown parameter {unknown[0][:80]!r}", f"parameters are: {names}")
    given = {}
    for name, (kind, default) in allowed.items():
        value = params.get(name)
        if value is None:
            if default is ...:
                raise RpcError(INVALID_PARAMS, f"parameter {name!r} is missing", "it names what is meant")
            value = default
        elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise RpcError(INVALID_PARAMS, f"parameter {name!r} has the wrong type", f"got {value!r:.80}")
        given[name] = value
    return given


def _started() -> float:
    """When the process started, seconds since the epoch."""
    ticks = places.start_ticks()
    with open("/proc/uptime", "rb") as file:
        uptime_s = float(file.read().split()[0])
    return time.time() - uptime_s + (ticks or 0) / os.sysconf("SC_CLK_TCK")


_hash = ""


def _agent_hash() -> str:
    """A fingerprint of the agent's own source; ``unknown`` where it cannot be read. Worked out once."""
    global _hash
    if not _hash:
        digest = hashlib.sha256()
        try:
            files = sorted(Path(__file__).parent.rglob("*.py"))
            for file in files:
                digest.update(file.read_bytes())
            _hash = digest.hexdigest()[:16] if files else "unknown"
        except OSError:
            _hash = "unknown"
    return _hash


def program_name() -> str:
    """What people would call this program: its script, its module, or python."""
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    base = os.path.basename(script)
    if base == "__main__.py":
        base = os.path.basename(os.path.dirname(script))
    return base if base and not base.startswith("-") else "python"
