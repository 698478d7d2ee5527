"""The headless core: polls a target, remembers, acts. No Textual in here.

Two daemon threads, each with its own way to the target, so that a slow action never holds up the
picture and a stalled target never holds up the exit: one samples on a beat, one carries out what was
asked in order. Everything they find is handed to ``listener`` as a frozen event, from their thread.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from diag.wire import ranking
from diag.wire.errors import DiagError, RpcError
from diag.wire.model import Hello, JournalEntry, Owner, Stopped, Table
from tui.events import Done, Event, Journal, Line, Link, Released, Sample, Started
from tui.history import History
from tui.source import Connect, Source

ROWS = 500
"""Rows asked for: what a person scrolls through, and what a refresh stays quick with."""
ALL_ROWS = 20_000
"""Rows asked for when every owner counts (before and after a collection)."""
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 10.0)
ORDERS = ("buffers", "retained", "waste", "growth")
JOURNAL_EVERY = 5
"""Samples between two looks at the target's journal, where other operators' actions stand too."""


@dataclass(frozen=True)
class _Command:
    action: str
    victim: str
    work: Callable[[Source], Done]
    owner_id: str


def explain(error: BaseException) -> tuple[str, str]:
    """What happened, and what to try next. Never a traceback."""
    if isinstance(error, DiagError):
        return error.message, error.hint
    if isinstance(error, TimeoutError):
        return "the target does not answer", "it may hold the interpreter lock in native code"
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        return "nobody listens there any more", "the process ended or closed its agent"
    if isinstance(error, (BrokenPipeError, ConnectionResetError, EOFError)):
        return "the target closed the connection", "it ended, or its agent was closed"
    return str(error) or type(error).__name__, ""


class Session:
    """Watches one target and carries out what is asked of it.

    connect: opens a way to the target, called anew after a loss. listener: receives every event, called
    from the session's threads; it must not block. interval_s: seconds between samples. window_s: seconds
    that growth is judged over.
    """

    def __init__(
        self,
        connect: Connect,
        listener: Callable[[Event], None],
        *,
        interval_s: float = 2.0,
        window_s: float = 10.0,
        order: str = "buffers",
    ) -> None:
        self._connect = connect
        self._listener = listener
        self.interval_s = interval_s
        self._order = order
        self._history = History(window_s)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._open: list[Source] = []
        self._asked: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._asking_since: float | None = None
        self._hello: Hello | None = None
        self._number = 0
        self._own_lines: list[Line] = []
        self._target_lines: tuple[Line, ...] = ()
        self._threads = [
            threading.Thread(target=self._watch, name="diagtop-watch", daemon=True),
            threading.Thread(target=self._serve, name="diagtop-act", daemon=True),
        ]

    # -- from the screens' thread; none of these blocks ---------------------------------------------

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self, wait_s: float = 1.0) -> None:
        """Stop watching and let go of the target; a call under way is broken off. Idempotent."""
        self._stopping.set()
        self._wake.set()
        self._asked.put(None)
        with self._lock:
            sources, self._open = self._open, []
        for source in sources:
            _close(source)
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(wait_s)

    @property
    def order(self) -> str:
        return self._order

    def set_order(self, order: str) -> None:
        """Rank by ``buffers``, ``retained``, ``waste`` or ``growth`` from now on."""
        if order not in ORDERS:
            raise ValueError(f"order {order!r}: must be one of {', '.join(ORDERS)}")
        self._order = order
        self.refresh()

    def refresh(self) -> None:
        """Take the next sample (or try to reconnect) now."""
        self._wake.set()

    def waiting_s(self) -> float:
        """How long the sample under way has been waiting for its answer; 0 when none is."""
        since = self._asking_since
        return 0.0 if since is None else time.monotonic() - since

    def ask_why(self, owner: Owner) -> None:
        def work(source: Source) -> Done:
            return Done("why", owner.name, owner.id, why=source.why(owner.id))

        self._ask("why", owner.name, work, owner.id)

    def collect(self) -> None:
        """Force a collection, and say how much was held when it began."""

        def work(source: Source) -> Done:
            held = _held(source.top(by="buffers", limit=ROWS))
            return Done("collect", "", collected=source.collect(), held_bytes=held)

        self._ask("collect", "", work)

    def collect_and_rank(self) -> None:
        """recon's bin_leak, by bytes: collect, then rank owners by what they let go of."""

        def work(source: Source) -> Done:
            before = source.top(by="retained", limit=ALL_ROWS)
            collected = source.collect()
            after = source.top(by="retained", limit=ALL_ROWS)
            return Done(
                "collect and rank",
                "",
                collected=collected,
                released=released(before, after),
                complete=all(t.cost.complete and not is_cut(t) for t in (before, after)),
                held_bytes=_held(before),
            )

        self._ask("collect and rank", "", work)

    def trim(self) -> None:
        self._ask("trim", "", lambda source: Done("trim", "", trimmed=source.trim()))

    def act(self, action: str, owner: Owner) -> None:
        """``stop``, ``restart``, ``start`` or ``cancel`` the owner, if it is still the one that was seen."""
        if action not in ("stop", "restart", "start", "cancel"):
            raise ValueError(f"action {action!r}: must be stop, restart, start or cancel")

        def work(source: Source) -> Done:
            call: Callable[..., Stopped] = getattr(source, action)
            return Done(action, owner.name, stopped=call(owner.id, expect=owner.incarnation))

        self._ask(action, owner.name, work)

    def note(self, action: str, victim: str, outcome: str) -> None:
        """Put a line of our own into the journal."""
        with self._lock:
            self._own_lines.append(Line(time.time(), action, victim, outcome))
            del self._own_lines[:-500]
        self._emit_journal()

    # -- the watching thread ------------------------------------------------------------------------

    def _watch(self) -> None:
        source: Source | None = None
        failures = 0
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._asking_since = time.monotonic()
                if source is None:
                    if failures == 0:
                        self._emit(Link("connecting"))
                    source = self._enter()
                self._sample(source)
                if failures:
                    self._emit(Link("live", hello=self._hello))
                failures = 0
                pause_s = self.interval_s
            except Exception as error:
                if self._stopping.is_set():
                    break
                pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                text, hint = explain(error)
                if isinstance(error, RpcError) and source is not None:
                    # It answers, but not that: the way there is fine, and so is what was seen.
                    self._emit(Link("refused", text, hint, pause_s, self._hello))
                else:
                    if source is not None:
                        self._leave(source)
                        source = None
                    if failures == 0:
                        self.note("link", self._hello.target.name if self._hello else "", f"lost: {text}")
                    self._emit(Link("lost", text, hint, pause_s, self._hello))
                failures += 1
            finally:
                self._asking_since = None
            self._wake.wait(pause_s)
        if source is not None:
            self._leave(source)

    def _enter(self) -> Source:
        source = self._connect()
        with self._lock:
            self._open.append(source)
        try:
            hello = source.hello()
        except BaseException:
            self._leave(source)
            raise
        seen, self._hello = self._hello, hello
        if seen is not None and (seen.target.pid, seen.started) != (hello.target.pid, hello.started):
            # Another process: what the old one held says nothing about it.
            self._history.clear()
            self.note("link", hello.target.name, f"restarted: pid {seen.target.pid} → {hello.target.pid}")
        elif seen is not None:
            self.note("link", hello.target.name, "back")
        self._emit(Link("live", hello=hello))
        return source

    def _sample(self, source: Source) -> None:
        assert self._hello is not None
        order = self._order
        # One picture has no growth: by growth, the largest are asked for and ranked here.
        by = "retained" if order == "growth" else order
        table = source.top(by=by, limit=ROWS, with_ancestors=True)
        memory = source.memory()
        held = {(owner.id, owner.incarnation): owner.retained_bytes for owner in table.owners}
        self._history.add(time.monotonic(), held, memory.rss_bytes)
        growth = self._history.growth()
        table = replace(
            table,
            owners=tuple(
                replace(owner, growth_bytes_per_s=growth[owner.id, owner.incarnation])
                for owner in table.owners
            ),
        )
        if order == "growth":
            table = ranking.ranked(table, "growth")
        self._number += 1
        self._emit(
            Sample(
                number=self._number,
                at=time.time(),
                order=order,
                hello=self._hello,
                table=table,
                memory=memory,
                rss_bytes=self._history.rss(),
                rss_growth=self._history.rss_growth(),
                index={owner.id: owner for owner in table.owners},
            )
        )
        if self._number % JOURNAL_EVERY == 1:
            with contextlib.suppress(RpcError):  # an agent without a journal can still be looked at
                self._read_journal(source)

    # -- the acting thread --------------------------------------------------------------------------

    def _ask(self, action: str, victim: str, work: Callable[[Source], Done], owner_id: str = "") -> None:
        self._asked.put(_Command(action, victim, work, owner_id))

    def _serve(self) -> None:
        while (command := self._asked.get()) is not None and not self._stopping.is_set():
            self._emit(Started(command.action, command.victim))
            source: Source | None = None
            try:
                # A connection of its own for each: the target may have been replaced since the last.
                source = self._connect()
                with self._lock:
                    self._open.append(source)
                done = command.work(source)
                if command.action != "why":
                    with contextlib.suppress(Exception):  # the action is done, whatever becomes of this
                        self._read_journal(source)
                self._emit(done)
            except Exception as error:
                if self._stopping.is_set():
                    break
                text, hint = explain(error)
                if command.action != "why":
                    self.note(command.action, command.victim, f"failed: {text}")
                self._emit(Done(command.action, command.victim, command.owner_id, error=text, hint=hint))
            finally:
                if source is not None:
                    self._leave(source)
            if command.action != "why":
                self.refresh()

    def _read_journal(self, source: Source) -> None:
        entries = source.journal()
        with self._lock:
            self._target_lines = tuple(_line(entry) for entry in entries)
        self._emit_journal()

    # -- both ---------------------------------------------------------------------------------------

    def _emit_journal(self) -> None:
        with self._lock:
            lines = sorted([*self._own_lines, *self._target_lines], key=lambda line: line.time)
        self._emit(Journal(tuple(lines)))

    def _emit(self, event: Event) -> None:
        if not self._stopping.is_set():
            self._listener(event)

    def _leave(self, source: Source) -> None:
        with self._lock:
            mine = source in self._open
            if mine:
                self._open.remove(source)
        if mine:
            _close(source)


def released(before: Table, after: Table) -> tuple[Released, ...]:
    """Owners that hold less after than before, most first.

    Subtree sums would name every ancestor too, so what is compared is each owner's own share. Who is
    missing afterwards has ended, unless rows were cut off: then nothing is known about it.
    """
    now = {owner.id: owner.own_bytes for owner in after.owners}
    rows = [
        Released(owner, owner.own_bytes, now.get(owner.id, 0), ended=owner.id not in now)
        for owner in before.owners
        if owner.id in now or not is_cut(after)
    ]
    return tuple(sorted((row for row in rows if row.released_bytes > 0), key=lambda row: -row.released_bytes))


def is_cut(table: Table) -> bool:
    """Whether there are more owners than rows."""
    return len(table.owners) < table.total_owners


def _held(table: Table) -> int:
    """What the process as a whole retains by this table; the own shares where it has no such row."""
    for owner in table.owners:
        if owner.kind == "process":
            return owner.retained_bytes
    return sum(owner.own_bytes for owner in table.owners)


def _line(entry: JournalEntry) -> Line:
    return Line(
        entry.time,
        entry.action,
        entry.victim,
        entry.outcome,
        entry.predicted_bytes,
        entry.freed_bytes,
        entry.rss_before,
        entry.rss_after,
        entry.uid,
        entry.caller_pid,
    )


def _close(source: Source) -> None:
    try:
        source.close()
    except OSError:
        pass
