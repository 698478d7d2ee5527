"""What crosses the socket: plain frozen records, and their JSON shapes.

The JSON of ``diag ... --json`` is these records, field for field, so renaming a field here changes a
public contract. All sizes are bytes as asked of the allocator, all times say their unit. Standard
library only: the agent uses this module inside the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, TypeVar

PROTOCOL_VERSION = 1

OWNER_KINDS = (
    "process",
    "application",
    "supervisor",
    "task",
    "done_task",
    "thread",
    "module",
    "loop",
    "context",
    "garbage",
    "unseen",
)

HOLDERS = ("locals", "registry", "queue", "transport")
"""Where bytes hang, the talk's four places: process heap, ets table, message queue, driver queue."""


@dataclass(frozen=True)
class Target:
    """The process looked at."""

    pid: int
    name: str
    python: str


@dataclass(frozen=True)
class Cost:
    """What taking a picture cost the target, and how far it can be trusted."""

    mode: str
    """``local`` for now."""
    engine: str
    """``native`` or ``fallback``."""
    longest_pause_ms: float
    """The longest time the interpreter lock was held in one go."""
    total_ms: float
    slices: int
    objects: int
    """Objects visited."""
    complete: bool
    """False: a budget was hit and the figures are lower bounds; ``note`` says which budget."""
    note: str = ""


@dataclass(frozen=True)
class Buffers:
    """An owner's buffers of one type in one kind of place."""

    type: str
    holder: str
    count: int
    bytes: int
    waste_bytes: int = 0
    """Bytes pinned only by views that show less of them."""


@dataclass(frozen=True)
class Owner:
    """One row: who holds how much.

    Every figure but ``own_bytes`` includes everything below the owner (what goes if it goes);
    ``own_bytes`` is its own share, and the ``own_bytes`` of all rows add up to what was attributed.
    """

    id: str
    """Names this very owner; good for as long as it lives; what ``why`` and actions take."""
    kind: str
    name: str
    parent: str | None
    """The parent's id; None for the process."""
    ancestors: tuple[str, ...]
    """Names, nearest first, as the talk's ``$ancestors``; the process itself is left out."""
    initial_call: str
    current_function: str
    state: str
    retained_bytes: int
    """Freed if this owner alone went away. ``complete`` false: at least this."""
    own_bytes: int
    loop_bytes: int
    """The part of retained_bytes that also needs its connection closed or timer cancelled."""
    buffer_bytes: int
    shared_bytes: int
    """First layer of what it and those below it refer to but share with owners outside: not freed with
    it. An object counts once for each task that refers to it."""
    waste_bytes: int
    objects: int
    growth_bytes_per_s: float | None
    """Slope of retained_bytes over the asked window; None where only one picture was taken."""
    holders: Mapping[str, int] = field(default_factory=dict)
    buffers: tuple[Buffers, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    """A subsystem's own facts: strategy, restarts, intensity ..."""
    actions: tuple[str, ...] = ()
    """What can be done to it: ``stop``, ``restart``, ``start``, ``cancel``."""
    incarnation: str = ""
    """Which life of it this is. An id made of names outlives a restart, this does not: an action that
    is given it as ``expect`` refuses to hit a successor."""


@dataclass(frozen=True)
class Table:
    """Who holds the memory, ranked; the answer of ``diag top``."""

    target: Target
    cost: Cost
    owners: tuple[Owner, ...]
    total_owners: int
    """How many owners there were before ``limit`` cut the list."""


@dataclass(frozen=True)
class Memory:
    """Where the process stands as a whole (the full split comes with ``diag memory``)."""

    rss_bytes: int
    limit_bytes: int | None
    """cgroup limit, if one is set."""
    python_bytes: int | None
    """Bytes in use by Python's small-object allocator."""
    malloc_bytes: int | None
    """Bytes in use by the C allocator (large buffers live here); None where it cannot say."""
    malloc_free_bytes: int | None
    """Freed, but kept by the C allocator; ``trim`` asks for it back."""
    tasks: int
    threads: int


@dataclass(frozen=True)
class Collected:
    """What a forced garbage collection did."""

    predicted_bytes: int | None
    """What it was said to free, worked out beforehand without collecting; None if that was not asked."""
    freed_bytes: int
    """Fall of allocated bytes, measured; other work of the process in the same moment counts too."""
    collected_objects: int
    rss_before: int
    rss_after: int
    pause_ms: float


@dataclass(frozen=True)
class Trimmed:
    """What giving freed memory back to the system did."""

    freed_bytes: int
    rss_before: int
    rss_after: int
    pause_ms: float


@dataclass(frozen=True)
class Stopped:
    """What stop, restart, start or cancel did."""

    action: str
    stopped: tuple[str, ...]
    """Names of the owners that are gone, the victim first."""
    predicted_bytes: int
    freed_bytes: int
    """Fall of allocated bytes, measured; other work of the process in the same moment counts too, so a
    restart's is less what the new life has taken up. Where the allocators do not say (tracemalloc, musl)
    it is the fall of resident memory."""
    rss_before: int
    rss_after: int
    note: str = ""
    """What a reader must know: still alive after the deadline, still referred to by ..."""


@dataclass(frozen=True)
class Step:
    """One edge of a path: how the next object is reached."""

    edge: str
    """``.attr``, ``['key']``, ``[3]``, ``local name``, ``cell name`` ..."""
    type: str
    bytes: int


@dataclass(frozen=True)
class Path:
    """From an owner down to something it holds."""

    holder: str
    type: str
    bytes: int
    """Bytes of this type that hang on paths of this shape, under this owner."""
    count: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Why:
    """Why an owner's memory is alive."""

    owner: Owner
    paths: tuple[Path, ...]
    complete: bool
    note: str = ""


@dataclass(frozen=True)
class Hello:
    """The agent's introduction."""

    protocol: int
    agent_version: str
    agent_hash: str
    target: Target
    engine: str
    allow_actions: bool
    capabilities: tuple[str, ...]
    """Methods this agent answers."""
    uid: int
    started: float
    """Start of the process, seconds since the epoch."""


@dataclass(frozen=True)
class JournalEntry:
    """One action, with who asked for it."""

    time: float
    """Seconds since the epoch."""
    uid: int
    caller_pid: int
    action: str
    victim: str
    predicted_bytes: int | None
    freed_bytes: int | None
    rss_before: int | None
    rss_after: int | None
    outcome: str
    """``done`` or what went wrong."""


R = TypeVar("R")

_NESTED: dict[tuple[type, str], type] = {
    (Table, "target"): Target,
    (Table, "cost"): Cost,
    (Table, "owners"): Owner,
    (Owner, "buffers"): Buffers,
    (Why, "owner"): Owner,
    (Why, "paths"): Path,
    (Path, "steps"): Step,
    (Hello, "target"): Target,
}


def to_json(record: Any) -> dict[str, Any]:
    """The record as plain dicts and lists, ready for ``json.dumps``. Several times as fast as
    ``dataclasses.asdict``, which counts when the target makes thousands of rows."""
    return {name: _plain(value) for name, value in vars(record).items()}


_LEAVES = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is tuple or kind is list:
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return to_json(value) if is_dataclass(value) else value


def from_json(kind: type[R], value: Mapping[str, Any]) -> R:
    """The record back from its JSON. Fields this version does not know are ignored, so that an older
    client can talk to a newer agent; a missing required field raises TypeError."""
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    args: dict[str, Any] = {}
    for key, item in value.items():
        if key not in known:
            continue
        nested = _NESTED.get((kind, key))
        if nested is not None and isinstance(item, list):
            item = tuple(from_json(nested, each) for each in item)
        elif nested is not None:
            item = from_json(nested, item)
        elif isinstance(item, list):
            item = tuple(item)
        args[key] = item
    return kind(**args)
