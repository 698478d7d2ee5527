"""The core of diagtop works without its face."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CORE = ("format", "history", "source", "events", "session", "view", "details", "evidence", "guard")


@pytest.mark.parametrize("module", CORE)
def test_the_core_never_imports_textual(module: str) -> None:
    code = f"import sys, tui.{module}; print('textual' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
