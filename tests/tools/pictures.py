"""Takes the pictures of the documentation: the real program on the real demo, nothing drawn by hand.

``python -m tests.tools.pictures [FOLDER]`` writes ``rescue.svg`` and its sisters (default: docs/images).
Takes half a minute: the leak has to grow to be seen.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from tui.app import Diagtop
from tui.demo import Demo
from tui.screens.confirm import Confirm
from tui.screens.why import WhyScreen
from tui.widgets.grid import Grid

ROOT = Path(__file__).resolve().parents[2]
SIZE = (100, 30)
ACME = "alcollect_client_sup:acme"
LEAKED_BYTES = 200 << 20
PATIENCE_S = 90.0


async def take_all(folder: Path) -> None:
    with Demo() as demo:
        app = Diagtop(demo.connect, interval_s=1.0)
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: leaked(app) > LEAKED_BYTES, "the leak")
            await pilot.press("home", "g")
            await until(pilot, lambda: "little came back" in app.finding.text, "the collection")
            await until(pilot, lambda: first(app).endswith(f"/{ACME}"), "the leak ranked first")
            save(app, folder / "rescue.svg")
            await pilot.press("enter")
            await until(pilot, lambda: answered(app), "the paths")
            save(app, folder / "rescue-why.svg")
            await pilot.press("escape", "x")
            await until(pilot, lambda: isinstance(app.screen, Confirm), "the question")
            await pilot.press(*({"_": "underscore", ":": "colon"}.get(each, each) for each in ACME))
            await pilot.pause(0.5)
            save(app, folder / "rescue-stop.svg")
            await pilot.press("enter")
            await until(pilot, lambda: app.finding.text.startswith("Stopped"), "the stop")
            await until(pilot, lambda: leaked(app) == 0, "the next sample")
            await pilot.pause(6.0)
            await pilot.press("t")
            await until(pilot, lambda: app.finding.text.startswith("Trim"), "the trim")
            save(app, folder / "rescue-done.svg")


async def until(pilot: Pilot[int], test: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not test():
        if time.monotonic() > deadline:
            raise SystemExit(f"pictures: never came: {what}")
        await pilot.pause(0.1)
    await pilot.pause(0.2)


def leaked(app: Diagtop) -> int:
    sample = app.latest
    if sample is None:
        return 0
    return max((owner.buffer_bytes for owner in sample.table.owners if owner.name == ACME), default=0)


def first(app: Diagtop) -> str:
    return app.screen.query_one(Grid).rows[0].key


def answered(app: Diagtop) -> bool:
    return isinstance(app.screen, WhyScreen) and app.screen.answered


def save(app: Diagtop, path: Path) -> None:
    """The screen as SVG that needs nothing from elsewhere: any monospaced font will do."""
    picture = app.export_screenshot(title="diagtop --demo")
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.S)
    picture = picture.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
    path.write_text(picture)
    print(f"{path}: {len(picture):,} characters", file=sys.stderr)


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(take_all(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
