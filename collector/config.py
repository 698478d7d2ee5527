"""The collector's configuration: what there is, what it defaults to, and how a TOML file becomes it.

``load(path)`` gives a :class:`Config` or raises :class:`~collector.schema.ConfigError` naming every
mistake with file, table, key and what is allowed. The records are frozen: a running collector never
changes its configuration behind anybody's back.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from collector.schema import ConfigError, Section, did_you_mean

__all__ = [
    "FAULT_HOLDERS",
    "FAULT_KINDS",
    "REJECT",
    "Client",
    "Config",
    "ConfigError",
    "Diag",
    "Fault",
    "Listener",
    "Log",
    "Routing",
    "Spool",
    "default_control_socket",
    "demo_path",
    "load",
    "parse",
    "syslog_address",
]

REJECT = "reject"
FAULT_KINDS = ("sub-binary",)
FAULT_HOLDERS = ("locals", "registry", "queue", "transport")

MIB = 1024 * 1024
SD_NAME = re.compile(r"[!#-<>-\\^-~]{1,32}\Z")


@dataclass(frozen=True)
class Listener:
    """One address to receive on. With ``client`` all of it is that client's; without, each message is
    routed by :class:`Routing`."""

    name: str
    transport: str
    """``tcp`` or ``udp``."""
    host: str
    port: int
    """0: any free one; ``collector status`` says which."""
    client: str | None
    framing: str
    """TCP only: ``auto`` (found out per connection), ``newline`` or ``octet``."""
    max_message_bytes: int
    """What is longer is cut there and counted as truncated."""

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Client:
    name: str
    hostnames: tuple[str, ...] = ()
    """Globs; a routed message from such a host is this client's."""
    queue_budget_bytes: int = 16 * MIB
    """Accepted but not yet stored; over it, reading from this client's senders pauses. (Datagrams to a
    listener that routes are then dropped, and counted: pausing would hold up every client's.)"""


@dataclass(frozen=True)
class Routing:
    """Whose is a message that came through a listener without ``client``? The RFC 5424 structured data
    element ``sd_id`` says it in its parameter ``sd_param``; else the hostname does; else it is unknown."""

    sd_id: str = "client@32473"
    sd_param: str = "name"
    unknown_client: str = REJECT
    """``reject`` (counted and logged) or the client that takes them."""


@dataclass(frozen=True)
class Spool:
    directory: Path
    segment_bytes: int = 64 * MIB
    segment_age_s: float = 300.0
    batch_bytes: int = 256 * 1024
    """A batch is one frame of a segment, compressed and synced as a whole."""
    batch_age_ms: int = 50
    compression_level: int = 1


@dataclass(frozen=True)
class Log:
    level: str = "warning"
    stderr: bool = True
    syslog: str = ""
    """``""`` none, ``/dev/log``, or ``udp://HOST:PORT``."""


@dataclass(frozen=True)
class Diag:
    enabled: bool = True
    allow_actions: bool = False


@dataclass(frozen=True)
class Fault:
    """A fault to switch on at start; see :mod:`collector.faults`."""

    kind: str
    client: str
    holder: str
    bytes_per_s: int = 8 * MIB
    max_bytes: int = 600 * MIB

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.client}:{self.holder}"


@dataclass(frozen=True)
class Config:
    name: str
    control_socket: Path
    stop_timeout_s: float
    """How long each step of a graceful stop (taking over what has arrived, storing it) may take before it
    gives up and says what was lost. Clients stop side by side."""
    spool: Spool
    routing: Routing
    log: Log
    diag: Diag
    clients: tuple[Client, ...]
    listeners: tuple[Listener, ...]
    faults: tuple[Fault, ...] = ()
    file: str = ""

    def listeners_of(self, client: str | None) -> tuple[Listener, ...]:
        """The client's own listeners; with None, the ones that route."""
        return tuple(listener for listener in self.listeners if listener.client == client)


def demo_path() -> Path:
    """The configuration ``collector run --demo`` uses."""
    return Path(__file__).with_name("demo.toml")


def default_control_socket(name: str) -> Path:
    """``$XDG_RUNTIME_DIR/collector/NAME.sock``, or a folder of the user's own under the temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):
        return Path(runtime, "collector", f"{name}.sock")
    return Path(tempfile.gettempdir(), f"collector-{os.getuid()}", f"{name}.sock")


def load(path: str | os.PathLike[str], *, spool: str | None = None) -> Config:
    """Read and check a file. ``spool`` overrides ``[spool] directory``. Raises ConfigError."""
    file = os.fspath(path)
    try:
        with open(file, "rb") as stream:
            table = _toml(stream)
    except OSError as error:
        raise ConfigError(file, [f"cannot be read: {error.strerror or error}"]) from None
    except ValueError as error:  # TOMLDecodeError, and text that is not UTF-8
        raise ConfigError(file, [f"is not valid TOML: {error}"]) from None
    return parse(table, file=file, spool=spool)


def _toml(stream: BinaryIO) -> dict[str, Any]:
    try:
        toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError:
        raise ConfigError(
            stream.name, ["reading TOML on Python 3.10 needs tomli: pip install 'diagtop[collector]'"]
        ) from None
    table: dict[str, Any] = toml.load(stream)
    return table


def parse(table: dict[str, Any], *, file: str = "<config>", spool: str | None = None) -> Config:
    """Check a table that was read from TOML. Relative paths are taken from the file's own folder."""
    problems: list[str] = []
    top = Section(table, "", problems)
    base = Path(file).resolve().parent
    config = _config(top, base, file, spool)
    top.finish()
    _cross_check(config, problems)
    if problems:
        raise ConfigError(file, problems)
    return config


def _config(top: Section, base: Path, file: str, spool: str | None) -> Config:
    collector = top.section("collector")
    name = collector.name("name") if collector.has("name") else collector.text("name", "collector")
    stop_timeout_s = collector.number("stop_timeout_s", 30.0, low=0.1, high=3600)
    control = collector.text("control_socket", "")
    collector.finish()
    return Config(
        name=name,
        control_socket=base / control if control else default_control_socket(name),
        stop_timeout_s=stop_timeout_s,
        spool=_spool(top.section("spool"), base, spool),
        routing=_routing(top.section("routing")),
        log=_log(top.section("log")),
        diag=_diag(top.section("diag")),
        clients=tuple(_client(section) for section in top.sections("clients")),
        listeners=tuple(_listener(section) for section in top.sections("listeners")),
        faults=tuple(_fault(section) for section in top.sections("faults")),
        file=file,
    )


def _spool(section: Section, base: Path, override: str | None) -> Spool:
    if override is not None:
        section.text("directory", "")
        directory = Path(override)
    else:
        directory = base / (section.text("directory") or "spool")
    made = Spool(
        directory=directory,
        segment_bytes=section.integer("segment_bytes", 64 * MIB, low=4096, high=1 << 40),
        segment_age_s=section.number("segment_age_s", 300.0, low=0.1, high=86400),
        batch_bytes=section.integer("batch_bytes", 256 * 1024, low=1024, high=16 * MIB),
        batch_age_ms=section.integer("batch_age_ms", 50, low=1, high=60_000),
        compression_level=section.integer("compression_level", 1, low=1, high=19),
    )
    section.finish()
    return made


def _routing(section: Section) -> Routing:
    made = Routing(
        sd_id=section.text("sd_id", "client@32473"),
        sd_param=section.text("sd_param", "name"),
        unknown_client=section.text("unknown_client", REJECT),
    )
    for key, value in (("sd_id", made.sd_id), ("sd_param", made.sd_param)):
        if not SD_NAME.match(value):
            section.fault(
                key,
                "must be an RFC 5424 name: 1 to 32 printable ASCII characters without space, '=', ']' or "
                f"'\"', got {value!r}",
            )
    section.finish()
    return made


def _log(section: Section) -> Log:
    made = Log(
        level=section.choice("level", "warning", allowed=("warning", "info", "debug", "error")),
        stderr=section.flag("stderr", True),
        syslog=section.text("syslog", ""),
    )
    if made.syslog:
        try:
            syslog_address(made.syslog)
        except ValueError as error:
            section.fault("syslog", str(error))
    section.finish()
    return made


def syslog_address(text: str) -> str | tuple[str, int]:
    """Where ``[log] syslog`` points: a socket's path, or host and port. Raises ValueError."""
    if text.startswith("/"):
        return text
    host, _, port = text[len("udp://") :].rpartition(":")
    if not text.startswith("udp://") or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"must be a socket path such as /dev/log, or udp://HOST:PORT, got {text!r}")
    return host.strip("[]"), int(port)


def _diag(section: Section) -> Diag:
    made = Diag(enabled=section.flag("enabled", True), allow_actions=section.flag("allow_actions", False))
    section.finish()
    return made


def _client(section: Section) -> Client:
    made = Client(
        name=section.name("name"),
        hostnames=section.texts("hostnames"),
        queue_budget_bytes=section.integer("queue_budget_bytes", 16 * MIB, low=65536, high=1 << 40),
    )
    if made.name == REJECT:
        section.fault("name", f"{REJECT!r} is what routing.unknown_client calls no client; choose another")
    section.finish()
    return made


def _listener(section: Section) -> Listener:
    transport = section.choice("transport", allowed=("tcp", "udp"))
    if transport == "udp" and section.has("framing"):
        section.fault("framing", "is for tcp; a datagram is one message")
    client = section.text("client", "")
    host = section.text("host", "127.0.0.1")
    if not host:
        section.fault("host", "must not be empty; 0.0.0.0 is every address of this machine, :: also IPv6's")
    made = Listener(
        name=section.name("name"),
        transport=transport,
        host=host,
        port=section.integer("port", low=0, high=65535),
        client=client or None,
        framing=section.choice("framing", "auto", allowed=("auto", "newline", "octet")),
        max_message_bytes=section.integer("max_message_bytes", 64 * 1024, low=480, high=MIB),
    )
    section.finish()
    return made


def _fault(section: Section) -> Fault:
    made = Fault(
        kind=section.choice("kind", allowed=FAULT_KINDS),
        client=section.text("client"),
        holder=section.choice("holder", allowed=FAULT_HOLDERS),
        bytes_per_s=section.integer("bytes_per_s", 8 * MIB, low=1, high=1 << 34),
        max_bytes=section.integer("max_bytes", 600 * MIB, low=1, high=1 << 40),
    )
    section.finish()
    return made


def _cross_check(config: Config, problems: list[str]) -> None:
    names = [client.name for client in config.clients]
    if not names:
        problems.append("[[clients]]: at least one client is needed")
    if not config.listeners:
        problems.append("[[listeners]]: at least one listener is needed")
    _unique("clients", names, problems)
    _unique("listeners", [listener.name for listener in config.listeners], problems)
    taken: dict[tuple[str, str, int], str] = {}
    for listener in config.listeners:
        where = f"[[listeners]] {listener.name!r}"
        if listener.client and listener.client not in names:
            problems.append(f"{where} client: no such client{_named(listener.client, names)}")
        place = (listener.transport, listener.host, listener.port)
        if listener.port and place in taken:
            problems.append(
                f"{where} port: {listener.transport} {listener.address} is taken by {taken[place]!r} already"
            )
        taken.setdefault(place, listener.name)
    routed = bool(config.listeners_of(None))
    for client in config.clients:
        if config.listeners and not routed and not config.listeners_of(client.name):
            problems.append(
                f"[[clients]] {client.name!r}: nothing can reach it; give it a listener "
                f"(client = {client.name!r}), or add one without client, which routes"
            )
    unknown = config.routing.unknown_client
    if unknown != REJECT and unknown not in names:
        problems.append(
            f"[routing] unknown_client: must be {REJECT!r} or the name of a client"
            f"{_named(unknown, [REJECT, *names])}"
        )
    for number, fault in enumerate(config.faults, 1):
        if fault.client and fault.client not in names:
            problems.append(f"[[faults]] #{number} client: no such client{_named(fault.client, names)}")
    _unique("faults", [fault.key for fault in config.faults], problems)


def _unique(table: str, names: list[str], problems: list[str]) -> None:
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        problems.append(f"[[{table}]] {name!r}: is there {names.count(name)} times; once is enough")


def _named(word: str, known: list[str]) -> str:
    there_are = f" (there are: {', '.join(known)})"
    return f" named {word!r}{did_you_mean(word, known) or there_are}"
