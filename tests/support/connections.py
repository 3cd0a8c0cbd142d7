"""TCP connections with small buffers where wanted, closed in every way, none left open at the end."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_SO_ATTACH_FILTER = 26

# Trials leave connections in every state; `close_all` ends those that a trial did not.
_open_writers: set[asyncio.StreamWriter] = set()


async def connect(port: int, *, receive_buffer: int = 0, address: str = "") -> Connection:
    """A connection to this machine; with `receive_buffer`, one that takes in little before the other side waits.

    `address`: the client's own, of those of this machine (127.0.0.0/8).
    """
    plug = socket.socket()
    plug.setblocking(False)
    if address:
        plug.bind((address, 0))
    if receive_buffer:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=plug, limit=receive_buffer or 2**16)
    except BaseException:
        # A cancelled watch, too, may be about to connect.
        plug.close()
        raise
    _open_writers.add(writer)
    return reader, writer


def close(writer: asyncio.StreamWriter) -> None:
    """Close as a browser tab does (FIN)."""
    writer.close()
    _open_writers.discard(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close as a crashing client does (RST): a linger time of 0 discards what is unsent."""
    if not writer.transport.is_closing():
        _get_socket(writer).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    _open_writers.discard(writer)


def vanish(writer: asyncio.StreamWriter) -> None:
    """Vanish without closing: the kernel drops all that arrives on this connection and acknowledges nothing."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0 bytes
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    _get_socket(writer).setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


async def close_all() -> None:
    for writer in list(_open_writers):
        reset(writer)
    # A transport lets go of its socket two rounds of the loop after it was told to close.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _get_socket(writer: asyncio.StreamWriter) -> socket.socket:
    plug: socket.socket = writer.get_extra_info("socket")
    return plug


def find_free_port() -> int:
    """A port that was free a moment ago, for a process that cannot tell which one the system chose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
