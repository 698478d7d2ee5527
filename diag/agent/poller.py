"""A small epoll: which descriptors are ready. Not ``selectors``, which gevent replaces with one that waits
for greenlets."""

from __future__ import annotations

import select
from typing import Any, Generic, TypeVar

from diag.agent import native

T = TypeVar("T")


class Poller(Generic[T]):
    """Waits for descriptors to become readable or, where asked, writable. One thread uses it."""

    def __init__(self) -> None:
        self._epoll: Any = native.original("select", "epoll")()
        self._data: dict[int, T] = {}

    def add(self, fd: int, data: T) -> None:
        """Watch for reading."""
        self._epoll.register(fd, select.EPOLLIN)
        self._data[fd] = data

    def watch(self, fd: int, *, writable: bool) -> None:
        """From now on watch for writing, or for reading again."""
        self._epoll.modify(fd, select.EPOLLOUT if writable else select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Watch no more. Harmless if it was not watched."""
        if self._data.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, timeout_s: float | None) -> list[T]:
        """What was given for each ready descriptor, or for one whose other side hung up."""
        ready = self._epoll.poll(-1 if timeout_s is None else timeout_s)
        return [self._data[fd] for fd, _events in ready if fd in self._data]

    def close(self) -> None:
        """Close the epoll descriptor itself, and nothing that is watched. In a forked child the set is still
        the parent's: this leaves it alone."""
        self._epoll.close()
