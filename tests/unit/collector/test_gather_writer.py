"""A transport that never copies: everything leaves in order, and what waits keeps its block alive."""

from __future__ import annotations

import asyncio
import socket
import weakref

from collector.forward.writer import PIECES_A_CALL, GatherWriter


def pair() -> tuple[socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    return ours, peer


async def test_many_small_pieces_arrive_whole_and_in_order_however_slowly_they_are_read() -> None:
    ours, peer = pair()
    transport = GatherWriter(ours)
    pieces = [b"%06d" % number for number in range(PIECES_A_CALL * 400)]
    for piece in pieces:
        transport.write(piece)
    assert transport.get_write_buffer_size() == 6 * len(pieces)
    received = b""
    while len(received) < 6 * len(pieces):
        received += await asyncio.get_running_loop().sock_recv(peer, 10_007)
    assert received == b"".join(pieces)
    assert transport.get_write_buffer_size() == 0
    transport.close()
    assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
    peer.close()


async def test_what_waits_keeps_its_whole_block_alive_until_it_is_dropped() -> None:
    class Block(bytearray):
        pass

    ours, peer = pair()
    transport = GatherWriter(ours)
    block = Block(1 << 20)
    gone = weakref.ref(block)
    transport.write(memoryview(block)[:32])
    del block
    assert gone() is not None
    assert transport.get_write_buffer_size() == 32
    transport.abort()
    assert gone() is None
    transport.write(b"too late")
    assert (transport.is_closing(), transport.get_write_buffer_size()) == (True, 0)
    peer.close()


async def test_a_peer_that_is_gone_closes_the_transport() -> None:
    ours, peer = pair()
    transport = GatherWriter(ours)
    peer.close()
    transport.write(b"to nobody")
    while not transport.is_closing():
        await asyncio.sleep(0)
    assert transport.get_write_buffer_size() == 0
