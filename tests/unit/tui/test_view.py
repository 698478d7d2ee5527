from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag.wire.model import Buffers, Collected, Cost, Hello, Memory, Owner, Path, Stopped, Table, Trimmed, Why
from tests.unit.tui.fake import MB, TARGET, World, owner
from tui.details import more_lines, owner_lines, text_of, why_lines
from tui.events import Done, Link, Sample
from tui.evidence import collected, doing, finding, stopped, trimmed
from tui.heading import heading, tabs
from tui.view import ancestors_of, matches, rank_rows, subtree_of, tree_rows


def sample_of(owners: Sequence[Owner], order: str = "buffers", complete: bool = True) -> Sample:
    cost = Cost("local", "native", 0.4, 3.1, 4, 100, complete)
    return Sample(
        number=1,
        at=0.0,
        order=order,
        hello=Hello(1, "0", "0", TARGET, "native", True, (), 0, 0.0),
        table=Table(TARGET, cost, tuple(owners), len(owners)),
        memory=Memory(500 * MB, 2_000_000_000, 1, 2, 3, 4, 5),
        rss_bytes=(1.0, 2.0),
        rss_growth=None,
        index={each.id: each for each in owners},
    )


def names(rows: Sequence[object]) -> list[str]:
    return [row.cells["name"].text for row in rows]  # type: ignore[attr-defined]


def test_the_target_s_own_ranking_is_kept() -> None:
    sample = sample_of([owner("b", buffers=1), owner("a", buffers=9)])
    assert names(rank_rows(sample)) == ["· b", "· a"]


@pytest.mark.parametrize("pattern", ["ACME", "receiver", "sup", "waiting", "!globex", " ", "!"])
def test_a_filter_looks_at_every_word_of_an_owner(pattern: str) -> None:
    one = owner("x", ancestors=("sup:acme",), state="waiting", initial_call="m.receiver")
    assert matches(one, pattern)
    assert not matches(one, "!acme")
    assert not matches(one, "globex")


def tree() -> list[Owner]:
    return [
        owner("p", "process", parent=None),
        owner("app", "application", retained=90 * MB),
        owner("sup", "supervisor", parent="application:app", retained=80 * MB),
        owner("w1", parent="supervisor:sup", retained=70 * MB),
        owner("w2", parent="supervisor:sup", retained=2_000),
        owner("lone", retained=10),
    ]


def test_the_tree_puts_branches_above_twigs_and_large_before_small() -> None:
    assert names(tree_rows(sample_of(tree(), order="retained"))) == [
        "# p",
        "├◆ app",
        "│└▲ sup",
        "│ ├· w1",
        "│ └· w2",
        "└· lone",
    ]


def test_a_filtered_tree_keeps_the_branches_that_lead_to_a_match() -> None:
    assert names(tree_rows(sample_of(tree()), "w2")) == ["# p", "└◆ app", " └▲ sup", "  └· w2"]


def test_a_folded_branch_counts_what_it_hides() -> None:
    rows = tree_rows(sample_of(tree()), folded={"supervisor:sup"})
    assert names(rows) == ["# p", "├◆ app", "│└▲ sup (+2)", "└· lone"]


def test_an_owner_whose_parent_was_cut_off_still_shows() -> None:
    orphan = owner("w", parent="supervisor:cut")
    assert names(tree_rows(sample_of([orphan]))) == ["· w"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10**9)), max_size=30))
def test_the_tree_shows_every_owner_exactly_once(shape: list[tuple[int, int]]) -> None:
    owners = [owner("p", "process", parent=None)]
    for number, (parent, size) in enumerate(shape):
        above = owners[parent % len(owners)].id
        owners.append(owner(f"n{number}", parent=above, retained=size))
    rows = tree_rows(sample_of(owners))
    assert sorted(row.key for row in rows) == sorted(each.id for each in owners)


def test_small_shifts_do_not_shuffle_the_tree() -> None:
    def order(a: int, b: int) -> list[str]:
        return names(tree_rows(sample_of([owner("a", retained=a), owner("b", retained=b)], order="retained")))

    assert order(5 * MB, 5_100_000) == order(5_100_000, 5 * MB)
    assert order(5 * MB, 50 * MB) != order(50 * MB, 5 * MB)


def test_who_goes_along_and_who_stands_above() -> None:
    owners = tree()
    sample = sample_of(owners)
    assert [each.name for each in subtree_of(sample, owners[1])] == ["sup", "w1", "w2"]
    assert [each.name for each in ancestors_of(sample, owners[3])] == ["sup", "app"]


def test_a_ring_of_parents_does_not_hang_anything() -> None:
    ring = [owner("a", parent="task:b"), owner("b", parent="task:a")]
    sample = sample_of(ring)
    assert len(ancestors_of(sample, ring[0])) <= 2
    assert {each.name for each in subtree_of(sample, ring[0])} == {"b"}
    tree_rows(sample)


def test_the_pane_gives_the_talk_s_facts_and_exact_bytes() -> None:
    world = World()
    sample = sample_of(world.owners())
    acme = next(each for each in world.owners() if each.name.endswith(":acme"))
    text = text_of(owner_lines(sample, acme, 78))
    assert "alcollect_client_sup:acme  supervisor · running · one_for_all" in text
    assert "initial   collector.alcollect_client_sup.init" in text
    assert "current   collector.supervision.server.Server.loop:88" in text
    assert "ancestors alcollect_sup ← lmcollect_sup ← lmcollect" in text
    assert "retained  419,530,400 B" in text
    assert "1,600 × bytearray in registry  419,430,400 B  360 MiB wasted" in text
    assert text.index("registry 400 MiB") < text.index("locals <0.1%")
    assert "queue" not in text


@given(st.integers(30, 200))
def test_no_line_of_the_pane_outgrows_it(width: int) -> None:
    above = tuple(f"sup{number}" for number in range(30))
    kinds = tuple(Buffers("bytearray", "registry", 10**6, 10**12, 10**9) for _ in range(3))
    long = owner("n", initial_call="a.very.long.module.path." * 8, ancestors=above)
    long = replace(long, buffers=kinds, info={"strategy": "one_for_one", "x": "y " * 50})
    for line in [*owner_lines(None, long, width), *more_lines(long, width)]:
        assert len("".join(text for text, _ in line).rstrip()) <= width
    assert "".join(text_of(owner_lines(None, long, width)).split()).count("a.very.long.module.path.") == 8


def test_bytes_that_need_a_closed_connection_are_said_apart() -> None:
    text = text_of(owner_lines(None, owner("n", retained=9 << 20, loop_bytes=2 << 20), 78))
    assert "2.00 MiB of it only once its connection closes" in text


def test_many_kinds_of_buffers_are_summed_up() -> None:
    kinds = tuple(Buffers(f"t{n}", "locals", 1, 1024 * (n + 1)) for n in range(6))
    text = text_of(owner_lines(None, owner("n", buffers=0) and replace(owner("n"), buffers=kinds), 78))
    assert "and 3 more kinds, 6.00 KiB" in text


def test_paths_without_an_answer_say_so() -> None:
    nobody = owner("n")
    assert "No path was found" in text_of(why_lines(Why(nobody, (), True)))
    cut = text_of(why_lines(Why(nobody, (Path("locals", "dict", 10, 2, ()),), False, "budget")))
    assert "≥10 B" in cut
    assert "Cut off" in cut


def test_little_came_back_is_said_only_where_little_did() -> None:
    little = collected(Collected(None, 1 * MB, 10, 1, 1, 1.0), 500 * MB)
    assert "little came back; 500 MiB is still held" in little.text
    much = collected(Collected(None, 400 * MB, 10, 1, 1, 1.0), 500 * MB)
    assert "little" not in much.text
    assert much.tone == "good"
    calm = collected(Collected(None, 1 * MB, 10, 500 * MB, 500 * MB, 1.0), 20 * MB)
    assert calm.tone == "note"
    assert "tasks hold 20.0 MiB, little of the 500 MiB RSS" in calm.text
    assert "freed 1.00 MiB" in collected(Collected(None, 1 * MB, 10, 1, 1, 1.0), None).text


def test_a_stop_says_what_was_predicted_and_what_came_back() -> None:
    good = stopped(Stopped("stop", ("a", "b", "c"), 100 * MB, 99 * MB, 500 * MB, 400 * MB), "a")
    assert good.text == "Stopped a +2: 100 MiB predicted, 99.0 MiB freed."
    assert good.next == "RSS 500 MiB → 400 MiB."
    assert good.tone == "good"
    kept = stopped(Stopped("stop", ("a",), 100 * MB, 99 * MB, 500 * MB, 490 * MB), "a")
    assert "t asks the C allocator for the rest" in kept.next
    short = stopped(Stopped("cancel", ("a",), 100 * MB, 1_000, 5, 5, "still alive after 5 s"), "a")
    assert short.tone == "bad"
    assert "still alive after 5 s" in short.next


def test_every_other_end_has_its_sentence() -> None:
    assert trimmed(Trimmed(0, 5, 5, 1)).text.startswith("Trim: the allocator had nothing")
    assert finding(Done("trim", "", trimmed=Trimmed(5 * MB, 9 * MB, 4 * MB, 1))).tone == "good"
    assert finding(Done("stop", "x", error="no", hint="try y")).next == "try y"
    assert finding(Done("why", "x")).text == ""
    assert finding(Done("start", "x", stopped=Stopped("start", (), 0, 0, 1, 1))).text == "Started x."
    assert doing("collect", "").text == "Collecting garbage …"
    assert doing("stop", "x").text == "Stopping x …"


def width_of(spans: Sequence[tuple[str, str]]) -> int:
    return sum(len(text) for text, _ in spans)


@given(
    width=st.integers(10, 220),
    frozen=st.booleans(),
    state=st.sampled_from(["live", "lost", "refused", "connecting"]),
    waiting=st.sampled_from([0.0, 7.0]),
    known=st.booleans(),
)
def test_the_heading_fits_every_width_and_state(
    width: int, frozen: bool, state: str, waiting: float, known: bool
) -> None:
    sample = sample_of(World().owners()) if known else None
    link = Link(state, "the target went away", "try again", 2.0, sample.hello if sample else None)
    for line in heading(sample, link, frozen=frozen, waiting_s=waiting, width=width):
        assert width_of(line) <= max(width, 30)


def test_the_line_of_views_marks_the_current_one_and_fits() -> None:
    views = (("1", "tasks", "Tasks"), ("2", "supervisors", "Supervisors"))
    for width in (30, 80):
        parts = tabs(views, "tasks", [("21 owners", ""), (" by buffers", "")], width)
        assert [spans[0][0].strip() for spans, current in parts if current] == ["1 Tasks"]
        assert sum(width_of(spans) for spans, _ in parts) <= width
