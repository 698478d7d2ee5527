"""What clients' logs look like: text as varied as real logs, from a seeded random generator.

A profile is a function that takes a random generator and gives ``(priority, app, msgid, text)``. Varied
text matters: filler that compresses a hundredfold would flatter the spool.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

__all__ = ["PROFILES", "Profile", "Record", "profile_of"]

Record = tuple[int, str, str, str]
"""priority, app, msgid, text"""
Profile = Callable[[random.Random], Record]

_PATHS = (
    *("/", "/index.html", "/login", "/logout", "/api/v2/orders", "/api/v2/orders/{n}", "/api/v2/users/{n}"),
    *("/cart", "/checkout", "/search?q={w}+{w}", "/static/css/site.{h}.css", "/static/js/app.{h}.js"),
    *("/images/products/{n}.webp", "/feeds/{w}.xml", "/healthz", "/.env", "/wp-login.php"),
)
_KIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + _KIT + " Chrome/{a}.0.{b}.{c} Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) " + _KIT + " Version/17.{b} Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{a}.0) Gecko/20100101 Firefox/{a}.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_{b} like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "curl/8.{b}.{c}",
    "python-requests/2.{b}.{c}",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
)  # fmt: skip
_WORDS = (
    *("order", "invoice", "billing", "session", "cache", "queue", "worker", "payment", "refund", "shipment"),
    *("customer", "warehouse", "catalog", "profile", "token", "gateway", "upstream", "replica", "index"),
    *("snapshot", "tenant", "report", "export", "webhook", "subscription", "quota", "ledger", "batch"),
)
_DONE = ("created", "updated", "expired", "retried", "queued", "accepted", "declined")
_USERS = (
    *("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj"),
    *("olivia", "peggy", "rupert", "sybil", "trent", "victor", "walter", "svc-backup", "svc-deploy"),
)
_STATUS = (200, 200, 200, 200, 200, 200, 200, 204, 301, 302, 304, 304, 400, 401, 403, 404, 404, 500, 502, 503)
_METHODS = ("GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE")


def _pick(rng: random.Random, items: tuple[str, ...]) -> str:
    return items[int(rng.random() * len(items))]


def _number(rng: random.Random, below: int) -> int:
    return int(rng.random() * below)


def _ip(rng: random.Random) -> str:
    bits = rng.getrandbits(32)
    return f"{1 + (bits >> 24) % 223}.{bits >> 16 & 255}.{bits >> 8 & 255}.{bits & 255}"


def _inside_ip(rng: random.Random) -> str:
    bits = rng.getrandbits(24)
    return f"10.{bits >> 16 & 15}.{bits >> 8 & 255}.{1 + (bits & 253)}"


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def web(rng: random.Random) -> Record:
    """nginx access log."""
    path = _pick(rng, _PATHS)
    if "{" in path:
        path = path.format(n=_number(rng, 100_000), w=_pick(rng, _WORDS), h=_hex(rng, 8))
    agent = _pick(rng, _AGENTS)
    if "{" in agent:
        agent = agent.format(a=110 + _number(rng, 20), b=_number(rng, 12), c=_number(rng, 200))
    status = _STATUS[_number(rng, len(_STATUS))]
    user = _pick(rng, _USERS) if rng.random() < 0.2 else "-"
    text = (
        f'{_ip(rng)} - {user} "{_pick(rng, _METHODS)} {path} HTTP/1.1" {status} '
        f'{int(rng.expovariate(1 / 9000))} "-" "{agent}" rt={rng.expovariate(20):.3f} '
        f"uct={rng.expovariate(900):.3f} id={_hex(rng, 32)}"
    )
    return 16 * 8 + (4 if status >= 500 else 6), "nginx", "access", text


def firewall(rng: random.Random) -> Record:
    """A packet filter's log."""
    drop = rng.random() < 0.35
    proto = _pick(rng, ("TCP", "TCP", "TCP", "UDP", "ICMP"))
    ports = "" if proto == "ICMP" else f" SPT={1024 + _number(rng, 64512)} DPT={_port(rng)}"
    text = (
        f"[{rng.random() * 9e6:.6f}] {'DROP' if drop else 'ACCEPT'} IN=eth{_number(rng, 4)} "
        f"OUT={'' if drop else f'eth{_number(rng, 4)}'} MAC={':'.join(_hex(rng, 2) for _ in range(6))} "
        f"SRC={_ip(rng)} DST={_inside_ip(rng)} LEN={40 + _number(rng, 1460)} TOS=0x00 PREC=0x00 "
        f"TTL={32 + _number(rng, 96)} ID={rng.getrandbits(16)} PROTO={proto}{ports} "
        f"WINDOW={rng.getrandbits(16)}"
    )
    return 0 * 8 + (4 if drop else 6), "kernel", "netfilter", text


def _port(rng: random.Random) -> int:
    return (22, 25, 53, 80, 123, 443, 443, 443, 3389, 5432, 8080, 8443)[_number(rng, 12)]


def windows(rng: random.Random) -> Record:
    """The Windows security log as forwarders send it: JSON."""
    event, task = ((4624, "Logon"), (4625, "Logon"), (4634, "Logoff"), (4672, "Special Logon"))[
        _number(rng, 4)
    ]
    failed = event == 4625
    text = json.dumps(
        {
            "EventID": event,
            "Channel": "Security",
            "RecordNumber": rng.getrandbits(28),
            "Category": task,
            "EventType": "AUDIT_FAILURE" if failed else "AUDIT_SUCCESS",
            "TargetUserName": _pick(rng, _USERS),
            "TargetDomainName": "CORP",
            "TargetLogonId": f"0x{_hex(rng, 8)}",
            "LogonType": (2, 3, 3, 3, 5, 7, 10)[_number(rng, 7)],
            "IpAddress": _inside_ip(rng),
            "IpPort": 1024 + _number(rng, 64512),
            "ProcessName": "C:\\Windows\\System32\\"
            + _pick(rng, ("lsass.exe", "svchost.exe", "winlogon.exe")),
            "LogonGuid": f"{{{_hex(rng, 8)}-{_hex(rng, 4)}-{_hex(rng, 4)}-{_hex(rng, 4)}-{_hex(rng, 12)}}}",
            "Message": "An account failed to log on." if failed else f"An account event ({task}).",
        }
    )
    return 10 * 8 + (4 if failed else 6), "Microsoft-Windows-Security-Auditing", str(event), text


def app(rng: random.Random) -> Record:
    """A service's own log: key=value, now and then an error with a stack."""
    chance = rng.random()
    level, severity = ("ERROR", 3) if chance < 0.02 else ("WARN", 4) if chance < 0.1 else ("INFO", 6)
    first, second = _pick(rng, _WORDS), _pick(rng, _WORDS)
    text = (
        f"level={level} trace={_hex(rng, 32)} span={_hex(rng, 16)} tenant={_number(rng, 400)} "
        f'user={_pick(rng, _USERS)} msg="{first} {second} {_pick(rng, _DONE)}" '
        f"{first}_id={rng.getrandbits(40)} took_ms={rng.expovariate(1 / 40):.2f} "
        f"attempt={1 + _number(rng, 3)}"
    )
    if level == "ERROR":
        frames = " | ".join(
            f"at com.example.{_pick(rng, _WORDS)}.{_pick(rng, _WORDS).title()}Service.handle"
            f"(Service.java:{_number(rng, 900)})"
            for _ in range(2 + _number(rng, 5))
        )
        text += f' error="{second} timed out after {_number(rng, 30_000)} ms" stack="{frames}"'
    return 1 * 8 + severity, f"{first}-service", "event", text


PROFILES: dict[str, Profile] = {"web": web, "firewall": firewall, "windows": windows, "app": app}


def profile_of(name: str, number: int) -> str:
    """The profile of the ``number``-th client: ``mixed`` goes round, any other name is what it says."""
    return list(PROFILES)[number % len(PROFILES)] if name == "mixed" else name
