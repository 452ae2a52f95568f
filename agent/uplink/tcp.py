# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is asked of the kernel about a TCP connection: how large its segments may be, how many bytes it carried."""

from __future__ import annotations

import socket
import struct

from agent.uplink.port import Traffic

SEGMENT_BYTES = 1220
"""Payload of the largest segment, both ways: what fits every path that IPv6 may take (1280 bytes, RFC 8200 §5, less 60
of headers). Paths whose routers swallow what is too large, and tell nobody, are common behind mobile modems and VPNs; a
connection over one works until its first full segment. The price is one header of 40 bytes in 1220 instead of 1460."""

OPTIONS = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES))
"""For every connection, before it is made."""

# struct tcp_info of linux/tcp.h only ever grows at its end: 8 bytes of flags, 24 counters of 32 bits, then 64-bit ones.
_TOTAL_RETRANS_OFFSET = 100
_BYTES_RECEIVED_OFFSET = 128
_DATA_SEGS_OUT_OFFSET = 156
_BYTES_SENT_OFFSET = 200
_LENGTH = 208


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect with `OPTIONS`, to the first address of the host that takes it.

    Raises:
        OSError: none does; the error is the last one's.
    """
    problem: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            for option in OPTIONS:
                sock.setsockopt(*option)
            sock.settimeout(timeout_s)
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem or OSError(f"{host} has no address")


def traffic(sock: socket.socket) -> Traffic:
    """Return what a TCP connection has carried so far; nothing where the kernel does not tell (before 4.19).

    Source: [linux/tcp.h] struct tcp_info: tcpi_bytes_received, tcpi_bytes_sent, tcpi_data_segs_out, tcpi_total_retrans.
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
    (segments,) = struct.unpack_from("=I", info, _DATA_SEGS_OUT_OFFSET)
    (repeated,) = struct.unpack_from("=I", info, _TOTAL_RETRANS_OFFSET)
    return Traffic(sent, received, segments, repeated)
