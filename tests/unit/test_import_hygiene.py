"""What may import what: the arrows of the house point only downwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSIDE = ("diag/__init__.py", "diag/hooks.py", "diag/agent", "diag/wire")
STDLIB = sys.stdlib_module_names


def _files(*places: str) -> list[Path]:
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert found, f"nothing to check under {places}"
    return found


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names.add(".".join([*base, node.module] if node.module else base))
    return names


def _within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("path", _files(*INSIDE), ids=lambda p: str(p.relative_to(ROOT)))
def test_what_goes_inside_a_target_imports_only_the_standard_library_and_itself(path: Path) -> None:
    for name in _imports(path):
        own = _within(name, "diag.agent", "diag.wire", "diag.hooks") or name == "diag"
        assert own or name.split(".")[0] in STDLIB, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", _files("diag"), ids=lambda p: str(p.relative_to(ROOT)))
def test_diag_never_imports_the_screens_or_the_collector(path: Path) -> None:
    for name in _imports(path):
        assert not _within(name, "tui", "collector", "recipes", "tests"), name


@pytest.mark.parametrize("path", _files("tui"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_screens_reach_a_target_only_through_the_client(path: Path) -> None:
    for name in _imports(path):
        assert not _within(name, "diag.agent", "collector", "recipes"), name


@pytest.mark.parametrize("path", _files("collector"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_collector_knows_diag_only_through_its_hooks_and_serve(path: Path) -> None:
    for name in _imports(path):
        assert not _within(name, "tui"), name
        assert not _within(name, "diag") or name in ("diag", "diag.hooks"), name


def test_the_agent_runs_in_a_bare_interpreter_and_brings_nothing_along() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import diag, diag.hooks, diag.agent.server\n"
        "known = {*sys.stdlib_module_names, 'diag', '__main__'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} - known))"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_importing_diag_alone_loads_neither_asyncio_nor_the_agent() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import diag\n"
        "print([m for m in sys.modules if m.startswith(('asyncio', 'diag.'))])"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
