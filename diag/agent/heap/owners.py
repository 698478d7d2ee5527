"""The owner tree: who can own memory, and which objects stand for each owner.

The runtime views build one of these from the application's hooks and its tasks; the engine walks the
heap from it and drops it. It holds its objects strongly, so keep it no longer than the walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class OwnerNode:
    """One possible owner."""

    parent: int
    """Index of the parent; -1 for node 0, the process. Parents come before their children."""
    kind: str
    """One of ``diag.wire.model.OWNER_KINDS``."""
    roots: list[object] = field(default_factory=list)
    """Objects that *are* this owner: its task, its subsystem object. They are barriers: others may
    refer to them without owning what they hold."""


@dataclass
class OwnerTree:
    """Owners, parents first; node 0 is the process."""

    nodes: list[OwnerNode]
    loops: Sequence[asyncio.AbstractEventLoop] = ()
    loop_node: int = 0
    """Index of the row that owns what only the event loops refer to; 0 if there is none."""

    def depth_first(self) -> list[int]:
        """Node indexes so that every subtree is contiguous. O(nodes)."""
        children: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes[1:], 1):
            if not 0 <= node.parent < index:
                raise ValueError(f"owner {index} has parent {node.parent}; parents must come first")
            children[node.parent].append(index)
        order: list[int] = []
        stack = [0] if self.nodes else []
        while stack:
            index = stack.pop()
            order.append(index)
            stack.extend(reversed(children[index]))
        return order
