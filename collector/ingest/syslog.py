"""Reading a syslog message, as little of it as the question needs.

The receive path asks only :func:`has_priority`. Routing asks for one structured data parameter or the
hostname. :func:`parse` takes the whole message apart (RFC 5424, else RFC 3164 as far as it goes) and is
for people and tools, not for the hot path. Nothing here raises on bad input: syslog has always carried
anything, and a message that fits neither form is still a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["FACILITIES", "SEVERITIES", "Message", "has_priority", "hostname", "parse", "priority", "sd_param"]

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)

_PRI = re.compile(rb"<(0|[1-9][0-9]{0,2})>")
_RFC5424 = re.compile(
    rb"<(?P<pri>0|[1-9][0-9]{0,2})>(?P<version>[1-9][0-9]{0,2}) "
    rb"(?P<timestamp>-|[0-9T:.Z+-]{20,35}) (?P<hostname>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    rb"(?P<procid>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) "
    rb"(?P<sd>-|(?:\[[^ =\]\"]{1,32}(?: [^ =\]\"]{1,32}=\"(?:[^\"\\\]]|\\.)*\")*\])+)"
    rb"(?: (?P<text>.*))?\Z",
    re.DOTALL,
)
_RFC3164 = re.compile(
    rb"<(?P<pri>0|[1-9][0-9]{0,2})>"
    rb"(?P<timestamp>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-9][0-9] [0-9:]{8}"
    rb"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,Z+-]{8,24}) "  # not in the RFC, but what many daemons write
    rb"(?:(?P<hostname>[^ :\[\]]{1,255}) )?(?P<rest>.*)\Z",
    re.DOTALL,
)
_TAG = re.compile(rb"(?P<app>[^ :\[]{1,48})(?:\[(?P<procid>[^\]]{1,128})\])?: ?")
_SD_ELEMENT = re.compile(rb"\[([^ =\]\"]{1,32})((?: [^ =\]\"]{1,32}=\"(?:[^\"\\\]]|\\.)*\")*)\]")
_SD_PARAM = re.compile(rb" ([^ =\]\"]{1,32})=\"((?:[^\"\\\]]|\\.)*)\"")
_SD_ESCAPE = re.compile(rb"\\([\"\\\]])")


@dataclass(frozen=True)
class Message:
    """A message taken apart. What the sender left out is an empty text (or None)."""

    form: str
    """``rfc5424``, ``rfc3164`` or ``other`` (then only ``text`` and perhaps ``priority`` are set)."""
    priority: int | None
    timestamp: str = ""
    """As sent."""
    hostname: str = ""
    app: str = ""
    procid: str = ""
    msgid: str = ""
    structured_data: dict[str, dict[str, str]] = field(default_factory=dict)
    text: str = ""

    @property
    def facility(self) -> str:
        return "" if self.priority is None else FACILITIES[self.priority >> 3]

    @property
    def severity(self) -> str:
        return "" if self.priority is None else SEVERITIES[self.priority & 7]


def priority(message: bytes) -> int | None:
    """0..191, or None where there is no valid ``<PRI>``."""
    found = _PRI.match(message)
    value = int(found.group(1)) if found else 192
    return value if value < 192 else None


_VALID_PRI = frozenset(b"<%d>" % value for value in range(192))


def has_priority(message: bytes) -> bool:
    """Whether the message starts with a valid ``<PRI>``; about 100 ns."""
    return message[: message.find(b">", 2, 5) + 1] in _VALID_PRI


def hostname(message: bytes) -> str:
    """The sender's name by its own account, or ``""``."""
    fields = message[:512].split(b" ", 7)
    if len(fields) > 2 and fields[0].endswith(b">1"):
        return "" if fields[2] == b"-" else _text(fields[2])
    found = _RFC3164.match(message[:512])
    return _text(found.group("hostname")) if found else ""


def sd_param(message: bytes, sd_id: bytes, param: bytes) -> str:
    """The value of one structured data parameter of an RFC 5424 message, or ``""``.

    Looks for the element only where structured data can be (never in the message text)."""
    if b"[" + sd_id not in message:
        return ""
    fields = message.split(b" ", 6)
    if len(fields) < 7 or not fields[0].endswith(b">1"):
        return ""
    data, at = fields[6], 0
    while element := _SD_ELEMENT.match(data, at):
        if element.group(1) == sd_id:
            for name, value in _SD_PARAM.findall(element.group(2)):
                if name == param:
                    return _text(_SD_ESCAPE.sub(rb"\1", value))
            return ""
        at = element.end()
    return ""


def parse(message: bytes) -> Message:
    """The whole message; several microseconds. Text that is not UTF-8 keeps its octets as ``\\udcXX``."""
    pri = priority(message)
    found = _RFC5424.match(message) if pri is not None else None
    if found:
        text = found["text"] or b""
        return Message(
            form="rfc5424",
            priority=pri,
            timestamp=_nil(found["timestamp"]),
            hostname=_nil(found["hostname"]),
            app=_nil(found["app"]),
            procid=_nil(found["procid"]),
            msgid=_nil(found["msgid"]),
            structured_data=_structured_data(found["sd"]),
            text=_text(text[3:] if text.startswith(b"\xef\xbb\xbf") else text),
        )
    found = _RFC3164.match(message) if pri is not None else None
    if found:
        rest = found["rest"]
        tag = _TAG.match(rest)
        return Message(
            form="rfc3164",
            priority=pri,
            timestamp=_text(found["timestamp"]),
            hostname=_text(found["hostname"]),
            app=_text(tag["app"]) if tag else "",
            procid=_text(tag["procid"]) if tag else "",
            text=_text(rest[tag.end() :] if tag else rest),
        )
    head = _PRI.match(message) if pri is not None else None
    return Message(form="other", priority=pri, text=_text(message[head.end() :] if head else message))


def _structured_data(data: bytes) -> dict[str, dict[str, str]]:
    return {
        _text(sd_id): {
            _text(name): _text(_SD_ESCAPE.sub(rb"\1", value)) for name, value in _SD_PARAM.findall(params)
        }
        for sd_id, params in _SD_ELEMENT.findall(data)
    }


def _nil(value: bytes) -> str:
    return "" if value == b"-" else _text(value)


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "surrogateescape") if value else ""
