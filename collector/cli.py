"""``collector``: the reference log collector's command line.

Exit codes: 0 done; 1 it did not work (the message says why and what to try); 2 the command line or the
configuration is wrong; 3 no collector answers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from collector.commands import control, load, run, spool
from collector.config import ConfigError
from collector.control import ControlError, Unreachable
from collector.load.plan import PlanError
from collector.node import CannotStart
from collector.spool.codec import MissingExtra
from collector.spool.directory import SpoolError
from diag import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="collector", description="A log collector: syslog in, crc-framed zstd segments out."
    )
    parser.add_argument("--version", action="version", version=f"collector {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in (run, control, load, spool):
        group.register(commands)
    args = parser.parse_args(argv)
    try:
        code: int = args.handler(args)
        return code
    except ConfigError as error:
        return _say(str(error), 2)
    except PlanError as error:
        return _say(str(error), 2)
    except Unreachable as error:
        return _say(str(error), 3)
    except (CannotStart, ControlError, MissingExtra, SpoolError) as error:
        return _say(str(error), 1)
    except KeyboardInterrupt:
        return 130


def _say(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"collector: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
