"""Where one syslog message ends and the next begins on a TCP stream (RFC 6587).

Two framings are in use. *Newline*: a message ends at LF. *Octet-counted*: each message is preceded by
its length in ASCII digits and one space, and may contain anything. Senders do not announce which; a
:class:`Framer` finds out from the first bytes: ``digits SP '<'`` can only be octet counting, because a
message that starts with its priority starts with ``<``.

A framer keeps nothing but the unfinished tail. It works on whole chunks (one ``split`` for hundreds of
messages): per-message Python code is what a collector cannot afford.
"""

from __future__ import annotations

import re

__all__ = ["MAX_OCTET_COUNT", "Framer", "FramingError"]

MAX_OCTET_COUNT = 16 * 1024 * 1024
"""A larger count is taken for garbage: waiting for so many octets would swallow the whole connection."""

_OCTET = re.compile(rb"[1-9][0-9]{0,9} <")
_OCTET_PREFIX = re.compile(rb"[1-9][0-9]{0,9}( ?)\Z")
_COUNT = re.compile(rb"[\r\n]*([1-9][0-9]{0,9}) ")
_COUNT_PREFIX = re.compile(rb"([1-9][0-9]{0,9})?\Z")
_LINE_ENDS = re.compile(rb"[\r\n]*")


class FramingError(Exception):
    """The stream makes no sense any more; the connection must be closed. ``messages`` were whole."""

    def __init__(self, problem: str, messages: list[bytes], *, oversized: bool = False) -> None:
        super().__init__(problem)
        self.messages = messages
        self.oversized = oversized


class Framer:
    """Cuts one connection's stream into messages.

    ``framing`` is ``auto``, ``newline`` or ``octet``; with ``auto`` it says so until the first bytes
    decided. ``truncated`` counts messages cut at ``max_message_bytes`` (what follows up to their end is
    skipped). Empty lines are no messages.
    """

    __slots__ = ("_skip_line", "_skip_octets", "_tail", "framing", "max_message_bytes", "truncated")

    def __init__(self, framing: str = "auto", max_message_bytes: int = 64 * 1024) -> None:
        self.framing = framing
        self.max_message_bytes = max_message_bytes
        self.truncated = 0
        self._tail = b""
        self._skip_line = False
        self._skip_octets = 0

    @property
    def pending_bytes(self) -> int:
        """How much of an unfinished message is kept."""
        return len(self._tail)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that ``chunk`` completes, in order. Raises FramingError; then call no more."""
        data = self._tail + chunk if self._tail else chunk
        self._tail = b""
        if self.framing == "auto" and not self._detect(data):
            self._tail = data
            return []
        if self.framing == "newline":
            return self._newline(data)
        return self._octets(data)

    def close(self) -> list[bytes]:
        """The stream is over: the unfinished message, if there is one.

        A line without its LF is whole (many senders leave out the last one); an octet-counted message
        with octets missing is counted as truncated.
        """
        tail, self._tail = self._tail, b""
        if self.framing == "octet":
            found = _COUNT.match(tail)
            cut = tail[found.end() :] if found else b""
            self.truncated += bool(cut)
            return [cut] if cut else []
        if self._skip_line:
            return []
        return [line for line in self._capped([tail]) if line]

    def _detect(self, data: bytes) -> bool:
        if _OCTET.match(data):
            self.framing = "octet"
        elif data and not _OCTET_PREFIX.match(data):
            self.framing = "newline"
        return self.framing != "auto"

    def _newline(self, data: bytes) -> list[bytes]:
        if self._skip_line:
            end = data.find(b"\n")
            if end < 0:
                return []
            self._skip_line = False
            data = data[end + 1 :]
        lines = data.split(b"\n")
        tail = lines.pop()
        # A message just as long as allowed may have its CR before the LF: hence the one octet more.
        if len(tail) > self.max_message_bytes + 1:
            lines.append(tail)
            self._skip_line = True
        else:
            self._tail = tail
        if b"\r" in data or (lines and max(map(len, lines)) > self.max_message_bytes):
            lines = self._capped(lines)
        if b"" in lines:
            lines = [line for line in lines if line]
        return lines

    def _capped(self, lines: list[bytes]) -> list[bytes]:
        limit = self.max_message_bytes
        kept = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if len(line) > limit:
                self.truncated += 1
                line = line[:limit]
            kept.append(line)
        return kept

    def _octets(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        at = 0
        if self._skip_octets:
            at = min(self._skip_octets, len(data))
            self._skip_octets -= at
        limit = self.max_message_bytes
        size = len(data)
        while at < size:
            space = data.find(b" ", at, at + 11)
            digits = data[at:space] if space > 0 else b""
            if not digits.isdigit():
                found = _COUNT.match(data, at)  # tolerate a line end between messages
                if found is None:
                    line_ends = _LINE_ENDS.match(data, at)
                    at = line_ends.end() if line_ends else at  # not kept: there may be any number of them
                    if _COUNT_PREFIX.match(data, at):
                        break
                    raise FramingError(f"expected an octet count, found {data[at : at + 16]!r}", messages)
                digits, space = found.group(1), found.end() - 1
            count = int(digits)
            if count > MAX_OCTET_COUNT:
                raise FramingError(f"octet count {count} is over {MAX_OCTET_COUNT}", messages, oversized=True)
            start = space + 1
            end = start + count
            if count > limit and size - start >= limit:
                messages.append(data[start : start + limit])
                self.truncated += 1
                self._skip_octets = max(0, end - size)
                at = min(end, size)
                continue
            if end > size:
                break
            if count:
                messages.append(data[start:end])
            at = end
        self._tail = data[at:]
        return messages
