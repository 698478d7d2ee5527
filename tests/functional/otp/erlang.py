"""Runs scenarios in the real thing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.functional.otp.scenarios import Step

HERE = Path(__file__).parent
Log = list[Any]


def available() -> bool:
    return shutil.which("erl") is not None and shutil.which("erlc") is not None


def term(value: Any) -> str:
    """A Python value as an Erlang term; strings are atoms."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return "'{}'".format(value.replace("\\", "\\\\").replace("'", "\\'"))
    if isinstance(value, tuple):
        return "{" + ", ".join(term(item) for item in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(term(item) for item in value) + "]"
    if isinstance(value, dict):
        return "#{" + ", ".join(f"{term(key)} => {term(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"no Erlang term for {value!r}")


def compile_judge(folder: Path) -> None:
    sources = [str(source) for source in sorted(HERE.glob("judge*.erl"))]
    subprocess.run(
        ["erlc", "+warnings_as_errors", "-o", str(folder), *sources], check=True, timeout=120, cwd=folder
    )


def judge(folder: Path, scenarios: dict[str, list[Step]], *, goes_down: bool = False) -> dict[str, Log]:
    """What OTP does: a log for each scenario. ``goes_down``: the node is expected to end by itself."""
    source, log = folder / "scenarios.terms", folder / "log.jsonl"
    source.write_text(
        "".join(f"{term({'name': name, 'steps': steps})}.\n" for name, steps in scenarios.items())
    )
    log.unlink(missing_ok=True)
    done = subprocess.run(
        ["erl", "-noshell", "-noinput", "-pa", str(folder), "-run", "judge", "main", str(source), str(log)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "ERL_CRASH_DUMP_SECONDS": "0"},
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    finished = bool(lines) and lines[-1] == ["finished"]
    assert finished != goes_down, (
        f"erl exited with {done.returncode}\n{done.stdout}\n{done.stderr}\n{lines[-5:]}"
    )
    logs: dict[str, Log] = {}
    for line in lines:
        if line[0] == "scenario":
            current = logs[line[1]] = []
        elif line != ["finished"]:
            current.append(line)
    return logs
