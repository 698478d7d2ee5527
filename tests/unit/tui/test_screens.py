"""What the screens show: layout at several sizes, and a target in trouble."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from diag.wire.model import Table
from tests.unit.tui.face import face
from tests.unit.tui.fake import World, owner
from tui.view import Cell


async def test_everything_has_its_place_at_80_by_24() -> None:
    async with face() as it:
        assert len(it.lines) == 24
        assert all(len(line) == 80 for line in it.lines)
        assert re.search(r"collector 4242  RSS \d+ MiB .*25% of 1.95 GiB .*RW ● LIVE", it.lines[0])
        assert re.search(r"14 tasks  pause 0.42 ms native .*malloc \d+ MiB  free 12.0 MiB", it.lines[1])
        assert re.search(r"1 Tasks  2 Supervisors  9 Journal .*21 owners by buffers", it.lines[2])
        assert re.search(r"NAME +STATE +BUFS↓ +RETAINED +WASTE +Δ/s", it.lines[3])
        assert re.search(r"^▸▲ alcollect_client_sup:acme +running +408 MiB +408 MiB +367 MiB", it.lines[4])
        text = it.text
        for word in ("initial", "current", "ancestors", "retained", "holders", "buffers"):
            assert re.search(rf"^ {word} ", text, re.M), word
        assert "427,819,008 B" in text, "exact bytes in the pane"
        assert "bytearray in registry" in text
        assert re.search(r"⏎ why.*x stop.*q quit", it.lines[23])


async def test_with_room_the_pane_stands_beside_the_table() -> None:
    async with face(size=(160, 40)) as it:
        assert re.search(r"NAME .*│ ▲ alcollect_client_sup:acme", it.lines[3])
        assert it.lines[4].startswith("▸▲ alcollect_client_sup:acme")
        assert "objects" in it.text


@pytest.mark.parametrize("size", [(40, 10), (60, 16), (200, 60), (20, 5)])
async def test_no_size_breaks_it(size: tuple[int, int]) -> None:
    async with face(size=size) as it:
        for key in ("2", "9", "1", "enter", "escape", "x", "escape", "question_mark", "escape"):
            await it.press(key)
        assert len(it.lines) == size[1]
        assert size[0] < 40 or "al" in it.text


async def test_it_survives_being_resized_with_a_question_open() -> None:
    async with face(size=(120, 40)) as it:
        await it.press("x")
        await it.pilot.resize_terminal(40, 10)
        await it.pilot.resize_terminal(80, 24)
        await it.sees(r"Stop this supervisor\?")
        await it.press("escape")
        await it.sees(r"^▸▲ alcollect_client_sup:acme|\n▸▲ alcollect_client_sup:acme")


async def test_the_tree_shows_sums_strategies_and_restarts() -> None:
    async with face() as it:
        await it.press("2")
        await it.sees(r"# collector")
        assert re.search(r"├◆ lmcollect +running +410 MiB", it.text)
        assert re.search(r"│└▲ lmcollect_sup +1:1 +0 +410 MiB", it.text)
        assert re.search(r"│ └▲ alcollect_sup +1:1 +2 +410 MiB", it.text)
        assert re.search(r"│  ├▲ alcollect_client_sup:acme +1:all +0 +408 MiB", it.text)


async def test_the_cursor_follows_the_first_until_moved_then_stays_on_its_owner() -> None:
    world = World()
    async with face(world) as it:
        await it.press("s")  # by retained: the order will change below
        await it.next_sample()
        it.grid.move_to("task:globex.worker1")
        line = it.grid.cursor_line
        world.running["acme"] = False
        await it.next_sample()
        await it.until(lambda: it.grid.cursor_line != line, "its rank changed")
        assert it.grid.cursor_key == "task:globex.worker1"
        world.running["globex"] = False
        await it.next_sample()
        await it.until(lambda: it.grid.cursor_key != "task:globex.worker1", "it ended")
        assert it.grid.cursor_key in {row.key for row in it.grid.rows}


async def test_growth_comes_with_the_second_sample() -> None:
    async with face() as it:
        assert "▲ alcollect_client_sup:acme" in it.lines[4]
        assert not re.search(r"▲ [\d.]+ \wiB *$", it.lines[4])
        await it.next_sample()
        await it.until(lambda: re.search(r"▲ [\d.]+ \wiB *$", it.lines[4]) is not None, "growth")


async def test_lower_bounds_and_cut_off_walks_are_said() -> None:
    world = World()
    world.complete = False
    async with face(world) as it:
        assert re.search(r"≥408 MiB +≥408 MiB", it.lines[4])
        assert "cut off: node budget" in it.lines[1]
        assert "≥427,919,008 B" in it.text
        await it.press("x")
        await it.sees(r"comes back +≥4\d\d MiB")


async def test_a_target_that_dies_is_said_in_the_heading_and_found_again() -> None:
    world = World()
    async with face(world) as it:
        world.alive = False
        it.app.session.refresh()
        await it.sees(r"RW ✗ LOST")
        assert "the target went away" in it.lines[1]
        assert re.search(r"as of \d\d:\d\d:\d\d", it.lines[1])
        assert "alcollect_client_sup:acme" in it.lines[4], "the last picture stays"
        await it.press("g")
        await it.sees(r"Not connected")
        world.alive = True
        await it.press("r")
        await it.sees(r"RW ● LIVE")
        await it.press("9")
        await it.sees(r"! link +collector: l")


async def test_a_target_that_never_answers_is_waited_for_in_sight() -> None:
    world = World()
    world.stalled.clear()
    async with face(world) as it:
        it.app.session._asking_since = -1e6
        await it.sees(r"… WAITING \d+ d")
        assert "busy or stalled" in it.lines[1]
        world.stalled.set()
        await it.sees(r"● LIVE")


async def test_a_target_that_refuses_is_said_with_what_to_try() -> None:
    world = World()
    world.alive = False
    async with face(world, size=(120, 24)) as it:
        await it.sees(r"✗ LOST")
        assert re.search(r"pid 4242 is gone; again in \d s, r: now \(diag ls shows", it.lines[1])


async def test_a_failed_action_is_a_sentence_not_a_traceback() -> None:
    world = World()
    async with face(world) as it:
        await it.press("x")
        world.running["acme"] = False
        await it.press(*"alcollect_client_sup", "colon", *"acme", "enter")
        await it.sees(r"! stop alcollect_client_sup:acme failed: no owner")
        await it.sees(r"refresh and look again")


async def test_names_from_the_target_are_text_never_markup_or_control() -> None:
    evil = owner("[red]x[/] \x1b[31m", actions=("cancel",), initial_call="[link=http://x]")

    class Evil(World):
        def owners(self):  # type: ignore[no-untyped-def]
            return [*super().owners(), replace(evil, id="evil")]

    async with face(Evil()) as it:
        it.grid.move_to("evil")
        await it.press("j", "k")
        it.grid.move_to("evil")
        await it.sees(r"\[red\]x\[/\] �\[31m")
        await it.sees(r"initial +\[link=http://x\]")
        await it.press("x")
        await it.sees(r"Cancel this task\?")
        await it.press("escape", "enter")
        await it.sees(r"id +evil")


async def test_what_owns_nothing_to_act_on_says_so() -> None:
    async with face() as it:
        it.grid.move_to("process")
        await it.press("x")
        await it.sees(r"collector \(process\) offers no way to stop it")


async def test_a_quiet_table_is_not_painted_again() -> None:
    async with face(World(tasks=50), size=(100, 40)) as it:
        grid = it.grid
        painted: list[object] = []
        grid.refresh = lambda *regions, **options: painted.append(regions)  # type: ignore[method-assign]
        grid.show(list(grid.rows), "buffers")
        assert painted == []
        rows = list(grid.rows)
        rows[3] = replace(rows[3], cells={**rows[3].cells, "state": Cell("new")})
        grid.show(rows, "buffers")
        assert len(painted) == 1, "the one line that changed"


async def test_five_thousand_rows_are_no_burden_and_the_rest_is_counted() -> None:
    class Huge(World):
        def owners(self):  # type: ignore[no-untyped-def]
            return [*super().owners(), *(owner(f"t{n}", retained=n) for n in range(5000))]

    async with face(Huge()) as it:
        assert len(it.grid.rows) == 500
        await it.sees(r"500 of 5,021 by buffers")
        await it.press("end")
        assert it.grid.cursor_line == 499


async def test_no_color_leaves_no_colour_and_the_meaning_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with face() as it:
        await it.next_sample()
        colours = {
            colour.get_truecolor()
            for strip in it.app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None
        }
        assert colours
        assert all(red == green == blue for red, green, blue in colours)
        assert "▸▲ alcollect_client_sup:acme" in it.text, "the cursor has its mark"
        await it.sees(
            r"▲ [\d.]+ MiB",
        )


async def test_leaving_after_a_time_is_possible_for_tests() -> None:
    async with face(until_s=0.1) as it:
        await it.until(lambda: not it.app.is_running, "the end")


async def test_what_the_watch_says_reaches_the_status_line() -> None:
    said = [""]
    async with face(watch=lambda: said[0]) as it:
        said[0] = "The load generator ended."
        await it.sees(r"! The load generator ended")


def test_tables_in_the_fake_are_the_wire_s_own() -> None:
    table = World().connect().top()
    assert isinstance(table, Table)
    assert table.owners[0].name.endswith(":acme")
