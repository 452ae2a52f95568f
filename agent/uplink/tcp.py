# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the kernel knows about a TCP connection: how many bytes it really carried, retransmissions and TLS included."""

from __future__ import annotations

import socket
import struct

from agent.uplink.port import Traffic

# struct tcp_info of linux/tcp.h only ever grows at its end: 8 bytes of flags, 24 counters of 32 bits, then 64-bit ones.
_BYTES_RECEIVED_OFFSET = 128
_BYTES_SENT_OFFSET = 200
_LENGTH = 208


def traffic(sock: socket.socket) -> Traffic:
    """Return the payload bytes of a TCP connection so far; nothing where the kernel does not tell (before 4.19).

    Source: [linux/tcp.h] struct tcp_info, tcpi_bytes_received and tcpi_bytes_sent.
    """
    if not hasattr(socket, "TCP_INFO"):
        return Traffic()
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
    except OSError:
        return Traffic()
    if len(info) < _LENGTH:
        return Traffic()
    (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED_OFFSET)
    (sent,) = struct.unpack_from("=Q", info, _BYTES_SENT_OFFSET)
    return Traffic(sent, received)
