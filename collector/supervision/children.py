"""What a supervisor knows of its children."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from collector.supervision.mailbox import MessageTimer
from collector.supervision.pid import Pid
from collector.supervision.spec import ChildSpec

__all__ = ["ChildRecord", "ChildTable", "Restarting"]


class Restarting:
    """In place of a Pid: its start failed, or is delayed, and will be tried again."""

    __slots__ = ("pid",)

    def __init__(self, pid: Pid | None) -> None:
        self.pid = pid
        """The process that ended."""

    def __repr__(self) -> str:
        return "restarting"


class ChildRecord:
    """One child. ``key`` is its id; a dynamic child's is its supervisor's child id and a running number."""

    __slots__ = ("attempts", "child", "delay_s", "extra", "key", "restarts", "spec", "started_at", "timer")

    def __init__(
        self, key: str, spec: ChildSpec, extra: tuple[tuple[Any, ...], dict[str, Any]] | None
    ) -> None:
        self.key = key
        self.spec = spec
        self.extra = extra
        """A dynamic child's own arguments; None where it will never be restarted."""
        self.child: Pid | Restarting | None = None
        self.restarts = 0
        self.started_at = 0.0
        self.timer: MessageTimer | None = None
        """Set while a restart is delayed."""
        self.attempts = 0
        """Delayed restarts in a row."""
        self.delay_s = 0.0
        """The last of them."""

    @property
    def state(self) -> str:
        """``running``, ``restarting``, ``delayed`` or ``terminated``."""
        if self.timer is not None:
            return "delayed"
        if isinstance(self.child, Restarting):
            return "restarting"
        return "running" if self.child is not None else "terminated"


class ChildTable:
    """The children in start order, found by key or by process in O(1).

    ``dynamic`` is the shared spec of a simple_one_for_one supervisor's children, else None.
    """

    def __init__(self, dynamic: ChildSpec | None = None) -> None:
        self.dynamic = dynamic
        self._records: dict[str, ChildRecord] = {}
        self._by_pid: dict[Pid, ChildRecord] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[ChildRecord]:
        """Start order. A snapshot, so that children may come and go meanwhile, in this thread or another."""
        return iter(list(self._records.values()))

    def get(self, key: str) -> ChildRecord | None:
        return self._records.get(key)

    def of(self, pid: Pid) -> ChildRecord | None:
        """The child that runs in ``pid``, or ran in it and is being restarted."""
        return self._by_pid.get(pid)

    def add(self, spec: ChildSpec) -> ChildRecord:
        record = self._records[spec.id] = ChildRecord(spec.id, spec, None)
        return record

    def add_dynamic(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ChildRecord:
        assert self.dynamic is not None
        self._serial += 1
        key = f"{self.dynamic.id}#{self._serial}"
        record = self._records[key] = ChildRecord(key, self.dynamic, (args, kwargs))
        return record

    def forget_arguments(self, record: ChildRecord) -> None:
        """As in OTP: what will never be started again need not keep what it was started with."""
        if record.spec.restart == "temporary":
            record.extra = None
            if self.dynamic is None:
                record.spec = dataclasses.replace(record.spec, args=(), kwargs={})

    def put(self, record: ChildRecord, child: Pid | Restarting | None) -> None:
        """What runs for ``record`` now."""
        self._unindex(record)
        record.child = child
        pid = child.pid if isinstance(child, Restarting) else child
        if pid is not None:
            self._by_pid[pid] = record

    def remove(self, record: ChildRecord) -> None:
        self._unindex(record)
        self._records.pop(record.key, None)

    def ended(self, record: ChildRecord) -> None:
        """It ended and will not be restarted: the spec stays, unless it is temporary or dynamic."""
        if record.spec.restart == "temporary" or self.dynamic is not None:
            self.remove(record)
        else:
            self.put(record, None)

    def _unindex(self, record: ChildRecord) -> None:
        if record.timer is not None:
            record.timer.cancel()
            record.timer = None
        pid = record.child.pid if isinstance(record.child, Restarting) else record.child
        if pid is not None:
            self._by_pid.pop(pid, None)
