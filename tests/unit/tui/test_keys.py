"""Every key, on the screens where it works."""

from __future__ import annotations

import re

import pytest

from tests.unit.tui.face import face
from tests.unit.tui.fake import World, owner
from tui.keymap import BACK, EVERYWHERE, GRID, KEYMAP, OWNERS, PICK, TREE, bindings, footer, keys_of, shown
from tui.screens.confirm import Confirm
from tui.screens.help import Help
from tui.screens.why import WhyScreen

ACME = "alcollect_client_sup:acme"


def test_no_key_means_two_things_in_one_place() -> None:
    for scopes in ((EVERYWHERE, OWNERS, TREE, GRID), (EVERYWHERE, BACK, GRID), (PICK, GRID)):
        keys = [name for key in keys_of(*scopes) for name in key.keys.split(",")]
        assert len(keys) == len(set(keys)), scopes


def test_every_binding_has_an_id_of_its_own_to_be_remapped_by() -> None:
    ids = [binding.id for binding in bindings(*{key.scope for key in KEYMAP})]  # type: ignore[union-attr]
    assert len(ids) == len(set(ids))
    assert all(ids)


def test_the_footer_fits_and_never_loses_help_and_quit() -> None:
    for width in (20, 40, 79, 120, 300):
        shown_keys = footer(keys_of(EVERYWHERE, OWNERS), width)
        labels = [label for _, label in shown_keys]
        assert labels[-2:] == ["help", "quit"]
        assert width == 20 or sum(len(key) + len(label) + 3 for key, label in shown_keys) <= width
    assert ("x", "stop") in footer(keys_of(EVERYWHERE, OWNERS), 79)


def test_keys_are_shown_as_people_read_them() -> None:
    assert shown("question_mark") == "?"
    assert shown("q,ctrl+c", first_only=False) == "q ^c"


async def test_j_k_and_the_arrows_move_the_cursor_and_the_detail_follows() -> None:
    async with face() as it:
        assert it.grid.cursor_key == f"supervisor:{ACME}"
        await it.press("j")
        assert it.grid.cursor_line == 1
        await it.press("down")
        assert it.grid.cursor_line == 2
        await it.sees(r"◆ lmcollect +application")
        await it.press("k", "up", "up")
        assert it.grid.cursor_line == 0
        await it.press("end")
        assert it.grid.cursor_line == len(it.grid.rows) - 1
        assert it.names[-1] in it.text, "scrolled to where the cursor is"
        await it.press("home", "pagedown")
        assert it.grid.cursor_line > 3
        await it.press("pageup")
        assert it.grid.cursor_line == 0


async def test_enter_shows_details_and_paths_and_escape_comes_back() -> None:
    async with face() as it:
        await it.press("enter")
        await it.sees(r"Why it is alive")
        await it.sees(r"1,605 × bytearray, held by registry")
        await it.sees(r"\['host \[1\]'\]  memoryview")
        await it.sees(rf"id +supervisor:{ACME}")
        assert isinstance(it.app.screen, WhyScreen)
        await it.press("escape")
        assert it.grid.cursor_key == f"supervisor:{ACME}"


async def test_the_numbers_switch_views() -> None:
    async with face() as it:
        await it.press("2")
        await it.sees(r"STRAT")
        assert it.app.current_mode == "supervisors"
        await it.press("9")
        await it.sees(r"VICTIM")
        await it.press("1")
        await it.sees(r"WASTE")
        assert it.app.current_mode == "tasks"


async def test_g_collects_measures_again_and_says_that_little_came_back() -> None:
    async with face() as it:
        number = it.app.latest.number  # type: ignore[union-attr]
        await it.press("g")
        await it.sees(r"GC freed 117 KiB \(340 objects\): little came back; \d+ MiB is still held")
        await it.until(lambda: it.app.latest.number > number, "measured again")  # type: ignore[union-attr]
        await it.press("9")
        await it.sees(r"✓ collect .* 117 KiB")


async def test_shift_g_ranks_what_a_collection_released() -> None:
    async with face() as it:
        await it.press("G")
        await it.sees(r"GC freed 117 KiB; owners held \d+ MiB and let go of 0 B of it")
        await it.sees(r"No owner holds less than before")
        await it.press("escape")
        await it.sees(r"WASTE")


async def test_t_trims_and_says_what_came_back() -> None:
    async with face() as it:
        await it.press("t")
        await it.sees(r"Trim gave 12.0 MiB back: RSS \d+ MiB → \d+ MiB")


async def test_x_names_victim_subtree_and_bytes_and_rests_on_keeping_it() -> None:
    async with face() as it:
        await it.press("x")
        await it.sees(r"Stop this supervisor\?")
        await it.sees(rf"▲ {ACME}")
        await it.sees(r"under +alcollect_sup ← lmcollect_sup ← lmcollect")
        await it.sees(r"takes along 3: acme.worker2, acme.worker1, acme.worker0")
        await it.sees(r"comes back +\d+ MiB  \d+,\d+,\d+ B predicted")
        assert it.app.focused is not None
        assert it.app.focused.id == "keep"
        await it.press("enter")
        assert not isinstance(it.app.screen, Confirm)
        assert not [call for call in it.world.calls if call[0] == "stop"]


async def test_a_supervisor_goes_only_after_its_very_name_was_typed() -> None:
    async with face() as it:
        await it.press("x", *"alcollect", "enter")
        await it.sees(r"That is not its name; nothing was done")
        assert not [call for call in it.world.calls if call[0] == "stop"]
        await it.press("tab", "tab", "enter")
        assert not [call for call in it.world.calls if call[0] == "stop"], "the button is no way round it"
        for character in ACME.removeprefix("alcollect"):
            await it.press({"_": "underscore", ":": "colon"}.get(character, character))
        await it.press("enter")
        await it.sees(rf"Stopped {ACME} \+1: \d+ MiB predicted, \d+ MiB freed.\s+RSS \d+ MiB → 90.0 MiB")
        await it.until(lambda: ACME not in it.names, "it left the table")
        assert [call[1] for call in it.world.calls if call[0] == "stop"] == [f"supervisor:{ACME}"]
        await it.press("9")
        await it.sees(r"✓ stop +alcol\S+acme +\d+ MiB +\d+ MiB +\d+ MiB→90.0 MiB")


async def test_escape_keeps_it() -> None:
    async with face() as it:
        await it.press("x", *"alcollect", "escape")
        assert not isinstance(it.app.screen, Confirm)
        assert not [call for call in it.world.calls if call[0] == "stop"]


async def test_up_in_the_question_chooses_the_whole_application() -> None:
    async with face() as it:
        await it.press("x", "a", "up", "up", "up", "up")
        await it.sees(r"Stop this application\?")
        await it.sees(r"takes along 1\d: ")
        await it.press("down")
        await it.sees(r"▲ lmcollect_sup")
        await it.press("up", *"lmcollect", "enter")
        await it.sees(r"Stopped lmcollect")
        assert it.world.application_running is False


async def test_a_plain_task_is_cancelled_without_typing_but_never_by_the_first_enter() -> None:
    async with face() as it:
        it.grid.move_to("task:heartbeat")
        await it.press("x")
        await it.sees(r"Cancel this task\?")
        await it.sees(r"takes along nothing else")
        assert "Type its name" not in it.text
        await it.press("right", "enter")
        await it.sees(r"Cancelled heartbeat")
        assert [call[1] for call in it.world.calls if call[0] == "cancel"] == ["task:heartbeat"]


async def test_the_question_follows_the_figures_and_notices_that_its_victim_ended() -> None:
    async with face() as it:
        await it.press("x")
        await it.sees(r"comes back +408 MiB")
        await it.next_sample()
        await it.sees(r"comes back +4[1-9]\d MiB")
        it.world.running["acme"] = False
        await it.next_sample()
        await it.sees(r"It ended meanwhile")
        await it.press("tab", "enter")
        assert not [call for call in it.world.calls if call[0] == "stop"]


async def test_shift_r_restarts_after_the_same_question_and_starts_what_is_stopped() -> None:
    async with face() as it:
        it.grid.move_to("task:acme.worker1")
        await it.press("R")
        await it.sees(r"Restart this task\?")
        await it.press("right", "enter")
        await it.sees(r"Restarted acme.worker1")
        it.world.application_running = False
        await it.next_sample()
        it.grid.move_to("application:lmcollect")
        await it.press("R")
        await it.sees(r"Started lmcollect")
        assert it.world.application_running


async def test_a_child_that_is_down_comes_back_without_a_question() -> None:
    class Down(World):
        def owners(self):  # type: ignore[no-untyped-def]
            down = owner("sup:down", "supervisor", retained=0, state="terminated", actions=("restart",))
            return [*super().owners(), down]

    async with face(Down()) as it:
        it.grid.move_to("supervisor:sup:down")
        await it.press("R")
        await it.sees(r"Restarted sup:down")
        await it.press("x")
        await it.sees(r"offers no way to stop it")


async def test_u_goes_to_the_owning_supervisor_in_the_tree() -> None:
    async with face() as it:
        it.grid.move_to("task:globex.worker2")
        await it.press("u")
        await it.until(lambda: it.app.current_mode == "supervisors", "the tree")
        await it.until(lambda: it.grid.cursor_key == "supervisor:alcollect_client_sup:globex", "its owner")
        await it.press("u")
        await it.until(lambda: it.grid.cursor_key == "supervisor:alcollect_sup", "and its owner")


async def test_u_at_the_top_says_so() -> None:
    async with face() as it:
        it.grid.move_to("process")
        await it.press("u")
        await it.sees(r"is at the top")


async def test_slash_filters_while_typing_and_escape_drops_it() -> None:
    async with face() as it:
        await it.press("slash", *"globex")
        assert all("globex" in name for name in it.names)
        await it.press("enter", "j")
        assert it.grid.cursor_line == 1
        await it.sees(r"/globex")
        await it.press("slash", *["backspace"] * 6, "exclamation_mark", *"globex", "enter")
        assert it.names
        assert not any("globex" in name for name in it.names)
        await it.press("escape")
        assert len(it.names) == it.app.latest.table.total_owners  # type: ignore[union-attr]


async def test_a_filter_that_matches_nobody_says_so() -> None:
    async with face() as it:
        await it.press("slash", *"zzz", "enter")
        await it.sees(r"No owner matches 'zzz'")
        await it.press("j", "enter", "x", "u", "R")
        assert not isinstance(it.app.screen, Confirm)


async def test_s_changes_the_ranking() -> None:
    async with face() as it:
        await it.sees(r"BUFS↓")
        for order, mark in (("retained", "RETAINED↓"), ("waste", "WASTE↓"), ("growth", "Δ/s↓")):
            await it.press("s")
            await it.sees(mark)
            await it.sees(f"by {order}")
        await it.press("s")
        await it.sees(r"BUFS↓")


async def test_f_holds_the_picture_while_sampling_goes_on() -> None:
    async with face() as it:
        await it.press("f")
        await it.sees(r"‖ FROZEN")
        held = it.lines[4]
        number = it.app.sample.number  # type: ignore[union-attr]
        await it.next_sample()
        assert it.app.sample.number == number  # type: ignore[union-attr]
        assert it.lines[4] == held
        await it.press("f")
        await it.sees(r"● LIVE")
        assert it.lines[4] != held


async def test_question_mark_explains_every_key_and_any_way_out_closes_it() -> None:
    async with face(size=(100, 60)) as it:
        for way_out in ("escape", "q", "question_mark", "enter"):
            await it.press("question_mark")
            assert isinstance(it.app.screen, Help)
            text = it.text
            for key in KEYMAP:
                if key.scope in (EVERYWHERE, OWNERS, TREE, GRID):
                    assert key.help in text, key.help
            await it.press(way_out)
            assert not isinstance(it.app.screen, Help)


async def test_left_and_right_fold_and_unfold_a_branch() -> None:
    async with face(size=(100, 40)) as it:
        await it.press("2")
        await it.until(lambda: bool(it.grid.rows), "the tree")
        it.grid.move_to(f"supervisor:{ACME}")
        await it.press("left")
        assert "acme.worker0" not in it.names
        await it.sees(rf"{ACME} \(\+3\)")
        await it.press("left")
        assert it.grid.cursor_key == "supervisor:alcollect_sup"
        it.grid.move_to(f"supervisor:{ACME}")
        await it.press("right")
        assert "acme.worker0" in it.names


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_q_and_ctrl_c_leave(key: str) -> None:
    async with face() as it:
        await it.press(key)
        await it.until(lambda: it.app.return_code is not None or not it.app.is_running, "the end")
    assert it.world.closed == it.world.connections


async def test_ctrl_c_leaves_even_while_a_name_is_typed() -> None:
    async with face() as it:
        await it.press("x", "a", "ctrl+c")
        await it.until(lambda: not it.app.is_running, "the end")


async def test_r_samples_now() -> None:
    async with face() as it:
        number = it.app.latest.number  # type: ignore[union-attr]
        await it.press("r")
        await it.until(lambda: it.app.latest.number > number, "a new one")  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["g", "G", "t", "x", "R"])
async def test_on_a_read_only_target_every_action_says_how_to_allow_it(key: str) -> None:
    async with face(World(allow_actions=False)) as it:
        await it.sees(r"RO ● LIVE")
        await it.press(key)
        await it.sees(r"Read-only")
        assert re.search(r"allow_actions", it.text)
        assert not [call for call in it.world.calls if call[0] in ("collect", "trim", "stop", "restart")]


async def test_typing_ahead_is_understood() -> None:
    async with face() as it:
        for key in ("slash", *"gtxlobex"):
            it.app.simulate_key(key)
        await it.sees("No owner matches 'gtxlobex'")
        await it.press("escape")
        for key in ("j", "j", "x"):
            it.app.simulate_key(key)
        await it.sees("Stop this application")
        await it.press("escape", "home")
        for key in ("x", *"tgRq1"):
            it.app.simulate_key(key)
        await it.until(lambda: bool(it.app.screen.query("#name")), "the question")
        await it.sees(r"tgRq1")
        assert not [call for call in it.world.calls if call[0] in ("collect", "trim")], "all was text"


async def test_the_keys_of_the_views_do_nothing_behind_a_question() -> None:
    async with face() as it:
        it.grid.move_to("task:heartbeat")
        await it.press("x", "g", "t", "1", "2", "q", "R")
        assert isinstance(it.app.screen, Confirm)
        await it.press("escape")
        assert it.app.is_running
        assert not [call for call in it.world.calls if call[0] in ("collect", "trim")]
        assert it.app.current_mode == "tasks"
