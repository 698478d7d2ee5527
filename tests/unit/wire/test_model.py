"""Records cross the wire unchanged, also between versions."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from diag.wire import model

OWNER = model.Owner(
    id="a",
    kind="task",
    name="a",
    parent=None,
    ancestors=("x", "y"),
    initial_call="",
    current_function="",
    state="",
    retained_bytes=1,
    own_bytes=2,
    loop_bytes=3,
    buffer_bytes=4,
    shared_bytes=5,
    waste_bytes=6,
    objects=7,
    growth_bytes_per_s=None,
    holders=dict.fromkeys(model.HOLDERS, 8),
    buffers=(model.Buffers("bytes", "locals", 1, 2),),
    info={"strategy": "one_for_one", "ok": True},
    actions=("stop",),
)
TABLE = model.Table(
    model.Target(1, "t", "3"), model.Cost("local", "native", 0.5, 1.5, 2, 3, True), (OWNER,), total_owners=1
)
WHY = model.Why(OWNER, (model.Path("locals", "bytes", 1, 2, (model.Step(".a", "dict", 3),)),), True)


@pytest.mark.parametrize("record", [TABLE, WHY, OWNER], ids=lambda record: type(record).__name__)
def test_a_record_comes_back_equal_from_its_json(record: object) -> None:
    text = json.dumps(model.to_json(record))
    assert model.from_json(type(record), json.loads(text)) == record
    assert json.loads(text) == json.loads(json.dumps(asdict(record)))  # type: ignore[call-overload]


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_are_an_error() -> None:
    value = {**model.to_json(TABLE), "news": 1}
    assert model.from_json(model.Table, value) == TABLE
    del value["cost"]
    with pytest.raises(TypeError, match="cost"):
        model.from_json(model.Table, value)


def test_an_older_agents_row_without_an_incarnation_is_understood() -> None:
    value = model.to_json(OWNER)
    del value["incarnation"]
    assert model.from_json(model.Owner, value) == OWNER
