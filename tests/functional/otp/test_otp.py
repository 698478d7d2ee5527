"""Our supervisors against Erlang/OTP's own: the same children, the same blows, the same story."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from tests.functional.otp import erlang, ours
from tests.functional.otp.scenarios import APPLICATIONS, DOWN, SUPERVISORS

pytestmark = pytest.mark.otp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not erlang.available():
        reason = "erl and erlc are not installed (Debian: apt install erlang-base)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("otp")
    erlang.compile_judge(folder)
    return folder


@pytest.fixture(scope="module")
def otp(folder: Path) -> dict[str, erlang.Log]:
    """What OTP does in all scenarios; one Erlang node runs them all."""
    return erlang.judge(folder, {**SUPERVISORS, **APPLICATIONS})


def told(log: erlang.Log, *, unordered: bool = False) -> str:
    """A log as text, so that a difference can be read. ``unordered``: dynamic children are stopped all at
    once, so the order in which they say so means nothing."""
    lines = [" ".join(str(part) for part in event) for event in log]
    if unordered:
        groups = itertools.groupby(lines, key=lambda line: line.startswith("terminate"))
        lines = [line for together, group in groups for line in (sorted(group) if together else group)]
    return "\n".join(lines)


@pytest.mark.parametrize("name", SUPERVISORS)
async def test_our_supervisors_do_what_otp_does(otp: dict[str, erlang.Log], name: str) -> None:
    dynamic = "simple_one_for_one" in str(SUPERVISORS[name])
    assert told(await ours.run(SUPERVISORS[name]), unordered=dynamic) == told(otp[name], unordered=dynamic)


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_our_applications_do_what_otp_does(otp: dict[str, erlang.Log], name: str) -> None:
    assert told(await ours.run(APPLICATIONS[name])) == told(otp[name])


@pytest.mark.parametrize("name", DOWN)
async def test_the_end_of_everything_goes_as_in_otp(folder: Path, name: str) -> None:
    theirs = erlang.judge(folder, {name: DOWN[name]}, goes_down=True)[name]
    assert told(await ours.run(DOWN[name])) == told(theirs)


def test_the_comparison_would_notice_a_difference(otp: dict[str, erlang.Log]) -> None:
    stories = {told(log) for log in otp.values()}
    assert len(stories) >= 20
    assert all("start" in story for story in stories)
