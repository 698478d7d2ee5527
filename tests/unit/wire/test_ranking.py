"""Who comes first: the owner that holds the bytes itself, not whoever contains it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diag.wire import ranking
from diag.wire.model import Cost, Owner, Table, Target

MB = 1 << 20


def rank(tree: dict[str, tuple[str | None, float]]) -> list[str]:
    """Names in rank order; the tree gives each name its parent and its own bytes."""
    names = list(tree)
    total = {name: own for name, (_, own) in tree.items()}
    for name in reversed(names):
        parent = tree[name][0]
        if parent is not None:
            total[parent] += total[name]
    parents = [-1 if tree[name][0] is None else names.index(tree[name][0] or "") for name in names]
    return [names[at] for at in ranking.order(parents, [total[name] for name in names])]


def collector(**own: float) -> dict[str, tuple[str | None, float]]:
    shape = {
        "process": None,
        "lmcollect": "process",
        "lmcollect_sup": "lmcollect",
        "alcollect_sup": "lmcollect_sup",
        "acme_sup": "alcollect_sup",
        "acme_parser": "acme_sup",
        "acme_batcher": "acme_sup",
        "acme_writer": "acme_sup",
        "globex_sup": "alcollect_sup",
        "globex_parser": "globex_sup",
    }
    return {name: (parent, own.get(name, 0.1 * MB)) for name, parent in shape.items()}


def test_the_client_supervisor_comes_first_when_its_own_table_holds_the_bytes() -> None:
    assert rank(collector(acme_sup=500 * MB))[0] == "acme_sup"


def test_the_client_supervisor_comes_first_when_several_of_its_tasks_hold_them() -> None:
    assert rank(collector(acme_parser=170 * MB, acme_batcher=165 * MB, acme_writer=165 * MB))[0] == "acme_sup"


def test_a_single_task_that_holds_them_comes_before_every_supervisor_above_it() -> None:
    assert rank(collector(acme_parser=500 * MB))[0] == "acme_parser"


def test_two_clients_that_leak_alike_come_before_the_supervisor_of_all_clients_only_if_they_hold_more() -> (
    None
):
    order = rank(collector(acme_sup=300 * MB, globex_sup=100 * MB))
    assert order.index("acme_sup") < order.index("alcollect_sup")
    assert order.index("lmcollect") > order.index("globex_sup")


def test_the_process_contains_everyone_and_comes_last() -> None:
    assert rank(collector(process=900 * MB, acme_sup=MB))[-1] == "process"


def test_the_process_alone_is_still_shown() -> None:
    assert rank({"process": (None, 5.0)}) == ["process"]


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(-1000, 100_000)), max_size=40))
def test_the_order_is_always_a_permutation_with_the_process_last(shape: list[tuple[int, int]]) -> None:
    parents = [-1, *(up % (at + 1) for at, (up, _) in enumerate(shape))]
    figures = [0.0, *(float(own) for _, own in shape)]
    order = ranking.order(parents, figures)
    assert sorted(order) == list(range(len(parents)))
    assert order[-1] == 0


def owner(name: str, parent: str | None, **fields: object) -> Owner:
    figures = [name for name, kind in Owner.__annotations__.items() if kind == "int"]
    known: dict[str, object] = dict.fromkeys(figures, 0)
    known |= {"growth_bytes_per_s": None, **fields}
    return Owner(name, "task", name, parent, (), "", "", "", **known)  # type: ignore[arg-type]


def table(*rows: Owner) -> Table:
    cost = Cost("local", "native", 0.0, 0.0, 0, 0, True)
    return Table(Target(1, "t", "3.12"), cost, rows, len(rows))


def test_ranking_by_growth_puts_owners_that_were_seen_once_behind_those_seen_twice() -> None:
    rows = [
        owner("process", None, growth_bytes_per_s=10.0),
        owner("new", "process"),
        owner("still", "process", growth_bytes_per_s=0.0),
        owner("grows", "process", growth_bytes_per_s=10.0),
    ]
    assert [row.name for row in ranking.ranked(table(*rows), "growth").owners] == [
        "grows",
        "still",
        "process",
        "new",
    ]


def test_a_row_whose_parent_was_cut_off_is_ranked_like_any_other() -> None:
    rows = [owner("small", "gone", buffer_bytes=1), owner("large", "gone", buffer_bytes=2)]
    assert [row.name for row in ranking.ranked(table(*rows), "buffers").owners] == ["large", "small"]
