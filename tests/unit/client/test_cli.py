"""The diag command: its exits, its refusals, its JSON, over a connection that is not there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from diag.client import cli, targets
from diag.client.attach import discover
from diag.client.attach.discover import Prepared
from diag.wire import model
from diag.wire.errors import TargetError
from tests.unit.wire.test_ranking import owner, table

ROWS = table(
    replace(owner("sup", "process"), kind="supervisor", actions=("stop", "restart"), incarnation="1.1"),
    replace(owner("w1", "sup", buffer_bytes=5 << 20), actions=("stop", "restart"), incarnation="2.1"),
    replace(owner("plain", "process"), actions=("stop", "cancel"), incarnation="3.1"),
    replace(owner("gone", "process"), kind="done_task"),
    replace(owner("process", None), kind="process"),
)


class Fake:
    """A connection that remembers what it was asked."""

    def __init__(self, allow: bool = True) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.allow = allow
        self.stopped: tuple[str, ...] | None = None

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def hello(self) -> model.Hello:
        return model.Hello(1, "0", "", model.Target(1, "fake", "3"), "native", self.allow, (), 0, 0.0)

    def top(self, by: str = "buffers", limit: int | None = None, **more: Any) -> model.Table:
        self.asked.append(("top", by, limit))
        return replace(ROWS, owners=ROWS.owners[:limit])

    def memory(self) -> model.Memory:
        return model.Memory(100 << 20, None, None, 50 << 20, 10 << 20, 3, 2)

    def _act(self, action: str, owner_id: str, expect: str | None, deadline_s: float) -> model.Stopped:
        self.asked.append((action, owner_id, expect, deadline_s))
        return model.Stopped(
            action, self.stopped if self.stopped is not None else (owner_id,), 10, 9, 100, 90
        )

    def stop(self, *args: Any) -> model.Stopped:
        return self._act("stop", *args)

    def restart(self, *args: Any) -> model.Stopped:
        return self._act("restart", *args)

    def cancel(self, *args: Any) -> model.Stopped:
        return self._act("cancel", *args)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    connection = Fake()
    monkeypatch.setattr(targets, "connect", lambda target: connection)
    return connection


def test_json_has_all_rows_and_people_get_a_screenful(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "x", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["owners"]) == 5
    assert shown == json.loads(json.dumps(model.to_json(ROWS)))
    assert cli.main(["top", "x"]) == 0
    assert fake.asked == [("top", "buffers", None), ("top", "buffers", 20)]
    assert "5.0 MiB" in capsys.readouterr().out


def test_figures_of_a_cut_off_walk_are_marked_as_lower_bounds(
    fake: Fake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = replace(ROWS, cost=replace(ROWS.cost, complete=False, note="cut off: too deep"))
    monkeypatch.setattr(fake, "top", lambda *_, **__: cut)
    cli.main(["top", "x"])
    out = capsys.readouterr().out
    assert "≥5.0 MiB" in out
    assert "cut off: too deep" in out


def test_stop_passes_the_incarnation_that_was_shown(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop", "x", "w1", "--yes", "--json", "--deadline", "3"]) == 0
    assert fake.asked[-1] == ("stop", "w1", "2.1", 3.0)
    done = json.loads(capsys.readouterr().out)
    assert {"stopped", "predicted_bytes", "freed_bytes", "rss_before", "rss_after"} <= done.keys()


def test_what_is_not_gone_by_the_deadline_exits_1(fake: Fake) -> None:
    fake.stopped = ()
    assert cli.main(["stop", "x", "w1", "--yes"]) == 1


def test_without_a_terminal_and_without_yes_nothing_is_even_asked_of_the_target(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["stop", "x", "w1"]) == 2
    assert fake.asked == []
    assert "--yes" in capsys.readouterr().err


def test_a_read_only_target_is_known_before_anybody_is_asked(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.allow = False
    assert cli.main(["stop", "x", "w1", "--yes"]) == 3
    assert fake.asked == []
    assert "allow_actions=True" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("victim", "typed", "code"),
    [
        ("plain", "y", 0),
        ("plain", "", 1),
        ("plain", "plain", 1),
        ("sup", "sup", 0),
        ("sup", "y", 1),
        ("sup", "", 1),
    ],
)
def test_a_supervisor_has_to_be_typed_by_name_and_a_task_confirmed(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, victim: str, typed: str, code: int
) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed + "\n"))
    monkeypatch.setattr(sys, "stderr", shown)
    assert cli.main(["stop", "x", victim]) == code
    assert (fake.asked[-1][0] == "stop") is (code == 0)
    assert victim in shown.getvalue()
    if victim == "sup":
        assert "below  1: w1" in shown.getvalue()


@pytest.mark.parametrize(
    ("action", "victim", "hint"),
    [("restart", "plain", "stop, cancel"), ("cancel", "gone", "diag why"), ("stop", "process", "nothing")],
)
def test_what_does_not_fit_is_refused_with_what_does(
    fake: Fake, capsys: pytest.CaptureFixture[str], action: str, victim: str, hint: str
) -> None:
    assert cli.main([action, "x", victim, "--yes"]) == 3
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["top", "x", "-n", "-1"],
        ["top", "x", "--window", "0"],
        ["why", "x", "w1", "-n", "0"],
        ["journal", "x", "-n", "-2"],
        ["stop", "x", "w1", "--yes", "--deadline", "0"],
    ],
)
def test_numbers_that_make_no_sense_are_usage_errors(fake: Fake, argv: list[str]) -> None:
    assert cli.main(argv) == 2
    assert fake.asked == []


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["top"], ["top", "x", "--by", "beauty"]])
def test_a_wrong_command_line_exits_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2


def test_memory_says_what_the_platform_does_not_say(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["memory", "x"])
    out = capsys.readouterr().out
    assert "platform does not say" in out
    assert "50.0 MiB (50% of resident)" in out


def prepared(pid: int, name: str, problem: str = "") -> Prepared:
    return Prepared(pid, name, "3", 0, 1.0, 1, "native", True, f"/run/{pid}.sock", problem)


def test_a_name_resolves_only_if_exactly_one_process_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = [prepared(1, "one"), prepared(2, "two"), prepared(3, "two"), prepared(4, "", "stuck")]
    monkeypatch.setattr(discover, "prepared", lambda: everyone)
    assert targets.resolve("one") == "/run/1.sock"
    with pytest.raises(TargetError, match="2 processes") as caught:
        targets.resolve("two")
    assert "2, 3" in caught.value.hint
    with pytest.raises(TargetError) as caught:
        targets.resolve("ones")
    assert "one" in caught.value.hint
    assert "not answering: 4" in caught.value.hint


def test_a_path_is_taken_as_it_is() -> None:
    assert targets.resolve("/a/b") == "/a/b"
    assert targets.resolve("x.sock") == "x.sock"


def test_a_reader_that_stops_reading_is_no_error() -> None:
    code = (
        "import sys\n"
        "from diag.client import cli\n"
        "from diag.client.commands import listing\n"
        "listing.ls = lambda args: [print('x' * 1000) for _ in range(1000)] and 0\n"
        "sys.exit(cli.main(['ls']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    out = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (out.returncode, out.stderr) == (0, b"")


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for command in (
        "ls",
        "top",
        "why",
        "memory",
        "gc",
        "trim",
        "stop",
        "restart",
        "start",
        "cancel",
        "journal",
    ):
        assert f"    {command} " in out
    assert "Exit codes" in out


def test_the_base_install_answers_in_plain_text_without_rich() -> None:
    code = (
        "import sys; sys.modules['rich'] = None; sys.stdout.isatty = lambda: True\n"
        "from diag.client import output\n"
        "output.print_table(['A', 'B'], [['x', 'y']])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "A  B\nx  y\n"
