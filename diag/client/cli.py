"""The ``diag`` command: a table of commands, and what their errors exit with."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import diag
from diag.client import output
from diag.client.commands import acting, listing, looking
from diag.client.commands.shared import Usage
from diag.wire.errors import INVALID_PARAMS, DiagError, RpcError

_EPILOG = """\
TARGET is a pid, a unique process name or a socket path; OWNER an id or a unique name from 'diag top'.
Every command takes --json. Exit codes: 0 done, 1 not done (declined, or not gone by the deadline),
2 usage, 3 target or owner not found, refused or gone.
"""


def parser() -> argparse.ArgumentParser:
    """The command line as a whole."""
    top = argparse.ArgumentParser(
        prog="diag",
        description="Look into a live Python process: who holds the memory, why, and stop it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"diag {diag.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (listing, looking, acting):
        group.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except Usage as error:
        output.complain(str(error), "see 'diag COMMAND --help'")
        return 2
    except DiagError as error:
        output.complain(error.message, error.hint)
        return 2 if isinstance(error, RpcError) and error.code == INVALID_PARAMS else 3
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep the interpreter from complaining about it at exit.
        _silence_stdout()
        return 0
    except OSError as error:
        _silence_stdout()
        output.complain(f"the answer cannot be written: {error.strerror or error}", "is the disk full?")
        return 1
    except KeyboardInterrupt:
        return 130


def _silence_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
