"""``diagtop``: the command line of the screens."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from diag import __version__
from diag.wire.errors import DiagError
from tui.hangup import leave_with_the_terminal

USAGE = 2
NO_TARGET = 3

DESCRIPTION = """\
Which task holds the memory of a running Python process, why it is alive, and a safe way to stop it.

Without TARGET: the processes that can be attached, to pick from. In the screens, ? explains the keys.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 left as asked, 2 wrong usage or something is not installed, 3 target not found, refused
    or gone."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.demo and options.target is not None:
        parser.error("--demo brings its own target; leave TARGET away")
    try:
        import textual  # noqa: F401
    except ImportError:
        return _fail(USAGE, "the screens are not installed", "pip install 'diagtop[tui]'")
    if not _has_terminal():
        return _fail(USAGE, "diagtop needs a terminal", "in scripts use: diag top TARGET --json")
    leave_with_the_terminal(sys.stdin.fileno())
    for name in ("COLUMNS", "LINES"):
        # Some parents export the size they had (readline does); the terminal itself knows its size now.
        os.environ.pop(name, None)
    try:
        if options.demo:
            from tui.demo import run_demo

            return run_demo(interval_s=options.interval, seconds=options.seconds)
        return _watch(options.target, options.interval, options.seconds)
    except DiagError as error:
        return _fail(NO_TARGET, error.message, error.hint)
    except KeyboardInterrupt:
        return 130


def _watch(target: str | None, interval_s: float, seconds: float | None) -> int:
    from diag.client import targets
    from diag.client.connection import Connection
    from tui.app import Diagtop

    wanted = target if target is not None else _pick()
    if wanted is None:
        return 0
    if not wanted:
        return NO_TARGET
    targets.connect(wanted).close()  # say what is wrong before the screen is taken over

    def connect() -> Connection:
        return targets.connect(wanted)

    app = Diagtop(connect, interval_s=interval_s, until_s=seconds)
    code = app.run()
    return int(code if code is not None else app.return_code or 0)


def _pick() -> str | None:
    """The socket of the only process there is, or of the one chosen; None: chose none; empty: none there."""
    from diag.client.attach.discover import prepared
    from tui.picker import HOW_TO_PREPARE, Picker

    found = prepared()
    answering = [each for each in found if not each.problem]
    if not found:
        print("\n".join(HOW_TO_PREPARE), file=sys.stderr)
        return ""
    if len(found) == 1 and answering:
        return answering[0].path
    return Picker(prepared).run()


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _fail(code: int, message: str, hint: str = "") -> int:
    print(f"diagtop: {message}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="diagtop", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "target", metavar="TARGET", nargs="?", help="a pid, a unique process name, or a socket"
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="start a log collector with traffic and a leak, and watch it; everything ends with diagtop",
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_seconds,
        default=2.0,
        help="between two samples (default: 2)",
    )
    parser.add_argument(
        "--seconds", metavar="N", type=_seconds, default=None, help="leave by itself after N seconds"
    )
    parser.add_argument("--version", action="version", version=f"diagtop {__version__}")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.05 to 86400")
    return value


if __name__ == "__main__":
    sys.exit(main())
