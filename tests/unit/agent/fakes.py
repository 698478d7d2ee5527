"""Stand-ins for an application's own supervisors, as the hooks show them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from diag import hooks


class Node:
    """An application or supervisor made of nothing but what the hooks ask for."""

    def __init__(
        self, name: str, kind: Literal["application", "supervisor"] = "supervisor", **info: Any
    ) -> None:
        self.diag_kind: Any = kind
        self.diag_name = name
        self.children: list[hooks.Child] = []
        self.info = info
        self.task: asyncio.Task[Any] | None = None
        self.asked: list[tuple[str, str]] = []

    def diag_task(self) -> asyncio.Task[Any] | None:
        return self.task

    def diag_info(self) -> Mapping[str, str | int | float | bool]:
        return self.info

    def diag_children(self) -> Sequence[hooks.Child]:
        return list(self.children)

    async def diag_stop_child(self, child_id: str) -> None:
        self.asked.append(("stop", child_id))
        for at, child in enumerate(self.children):
            if child.id == child_id and child.task is not None:
                child.task.cancel()
                await asyncio.wait([child.task])
                self.children[at] = hooks.Child(child_id, child.name, "terminated")
                return
        raise KeyError(child_id)

    async def diag_restart_child(self, child_id: str) -> None:
        self.asked.append(("restart", child_id))

    async def diag_stop(self) -> None:
        self.asked.append(("stop", ""))
        self.info = {**self.info, "state": "stopped"}

    async def diag_start(self) -> None:
        self.asked.append(("start", ""))
        self.info = {**self.info, "state": "running"}

    def over(self, *nodes: Node) -> Node:
        """Take these as children."""
        self.children += [hooks.Child(node.diag_name, node.diag_name, "running", node=node) for node in nodes]
        return self

    def runs(self, name: str, task: asyncio.Task[Any], **more: Any) -> Node:
        """Take this task as a worker."""
        self.children.append(hooks.Child(name, name, "running", task=task, **more))
        return self
