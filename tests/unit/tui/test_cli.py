from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from diag import __version__
from diag.client.attach.discover import Prepared
from tests.unit.tui.fake import MB
from tui import cli
from tui.hangup import leave_with_the_terminal
from tui.picker import Picker
from tui.widgets.grid import Grid

BILLING = Prepared(4242, "billing", "3.12.1", 1000, 7200.0, 402 * MB, "native", True, "/run/diag/4242-1.sock")


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "tui.cli"]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_help_and_version_need_no_terminal() -> None:
    assert "--demo" in run("--help").stdout
    assert run("--version").stdout == f"diagtop {__version__}\n"


def test_without_a_terminal_it_names_the_command_for_scripts() -> None:
    done = run("4242")
    assert done.returncode == 2
    assert "diag top TARGET --json" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--demo", "4242"), "--demo brings its own target"),
        (("--interval", "soon"), "is not a number of seconds"),
        (("--interval", "0"), "from 0.05"),
        (("a", "b"), "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_said(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['textual'] = None; import tui.cli; sys.exit(tui.cli.main([]))"
    done = run(code=code)
    assert done.returncode == 2
    assert "pip install 'diagtop[tui]'" in done.stderr


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_has_terminal", lambda: True)
    monkeypatch.setattr(cli, "leave_with_the_terminal", lambda fd: None)
    monkeypatch.setattr("sys.stdin", sys.__stdin__)


@pytest.mark.usefixtures("terminal")
def test_a_target_that_is_not_there_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["no-such-process-anywhere"]) == 3
    assert "no prepared process is called 'no-such-process-anywhere'" in capsys.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_where_nothing_can_be_attached_it_says_how_to_make_it_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("diag.client.attach.discover.prepared", lambda: [])
    assert cli.main([]) == 3
    assert "diag.serve(" in capsys.readouterr().err


def test_the_only_process_is_attached_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diag.client.attach.discover.prepared", lambda: [BILLING])
    assert cli._pick() == BILLING.path


async def test_the_picker_lists_processes_and_returns_the_chosen_one() -> None:
    other = replace(BILLING, pid=4243, name="mail", path="/run/diag/4243-1.sock", allow_actions=False)
    silent = replace(BILLING, pid=9, name="", path="/run/diag/9-1.sock", problem="it does not answer")
    app = Picker(lambda: [BILLING, other, silent])
    async with app.run_test(size=(80, 24)) as pilot:
        grid = app.query_one(Grid)
        for _ in range(200):
            await pilot.pause(0.02)
            if grid.rows:
                break
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "Which process?" in text
        assert "1 of them do not answer" in text
        for word in ("4242", "billing", "402 MiB", "2.0 h", "3.12.1", "RW", "RO", "it does not answer"):
            assert word in text
        await pilot.press("j", "enter")
    assert app.return_value == other.path


async def test_the_picker_can_be_left_and_survives_an_empty_list() -> None:
    app = Picker(lambda: [])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause(0.1)
        await pilot.press("enter", "r", "q")
    assert app.return_value is None


def test_when_the_terminal_hangs_up_it_leaves() -> None:
    ours, theirs = pty.openpty()
    left = threading.Event()
    thread = leave_with_the_terminal(theirs, left.set)
    assert not left.is_set()
    os.close(ours)
    thread.join(20)
    assert left.is_set()
    os.close(theirs)
