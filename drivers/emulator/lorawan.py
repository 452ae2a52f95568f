# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""LoRaWAN 1.0.x frames as an end device makes and understands them [LoRaWAN 1.0.4 L2 §4, §6].

EUIs, addresses, nonces and counters are numbers or bytes in the order in which people write them; the little-endian
order of the air is made here. The other side's functions (`seal_join_accept`, `data_down`) exist as well: whoever
tests a network needs both.

Not modelled: LoRaWAN 1.1, class B and C, the meaning of MAC commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

JOIN_REQUEST: Final = 0x00
JOIN_ACCEPT: Final = 0x20
UNCONFIRMED_UP: Final = 0x40
UNCONFIRMED_DOWN: Final = 0x60
CONFIRMED_UP: Final = 0x80
CONFIRMED_DOWN: Final = 0xA0

UP: Final = 0
DOWN: Final = 1

ACK: Final = 0x20
_FOPTS_LENGTH: Final = 0x0F
_MIC_BYTES: Final = 4
_BLOCK: Final = 16
_LEAST_DATA_BYTES: Final = 12
_JOIN_ACCEPT_BYTES: Final = (17, 33)
_CFLIST_FREQUENCIES: Final = 0
_CFLIST_STEP_HZ: Final = 100
_FCNT_WRAP: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Session:
    """What device and network share after activation.

    Attributes:
        dev_addr: the device's address.
        nwk_s_key: for the MIC, and for payloads on port 0.
        app_s_key: for payloads.
    """

    dev_addr: int
    nwk_s_key: bytes
    app_s_key: bytes


@dataclass(frozen=True, slots=True)
class JoinAccept:
    """What the network answers to a join request.

    Attributes:
        join_nonce: 24 bits, never the same twice.
        net_id: 24 bits.
        dev_addr: the address given.
        rx1_dr_offset: 0 to 7.
        rx2_data_rate: 0 to 15.
        rx_delay_s: 0 to 15; 0 and 1 both mean 1.
        frequencies_hz: five further channels, 0 for none; empty without CFList.
    """

    join_nonce: int
    net_id: int
    dev_addr: int
    rx1_dr_offset: int = 0
    rx2_data_rate: int = 0
    rx_delay_s: int = 1
    frequencies_hz: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Downlink:
    """A data frame for a device.

    Attributes:
        confirmed: whether the device shall acknowledge it.
        ack: whether it acknowledges the device's last frame.
        fcnt: the whole 32-bit counter.
        fopts: MAC commands.
        port: None when there is no payload.
        payload: decrypted.
    """

    confirmed: bool
    ack: bool
    fcnt: int
    fopts: bytes = b""
    port: int | None = None
    payload: bytes = b""


class FrameError(ValueError):
    """The frame is not for this device, or damaged, or a repetition; the text says which."""


def join_request(app_key: bytes, join_eui: bytes, dev_eui: bytes, dev_nonce: int) -> bytes:
    """Return a join request."""
    body = bytes((JOIN_REQUEST,)) + join_eui[::-1] + dev_eui[::-1] + dev_nonce.to_bytes(2, "little")
    return body + _cmac(app_key, body)


def seal_join_accept(app_key: bytes, accept: JoinAccept) -> bytes:
    """Return a join accept as it goes on the air: encrypted by decryption, so that devices need only encrypt."""
    body = bytes((JOIN_ACCEPT,)) + accept.join_nonce.to_bytes(3, "little") + accept.net_id.to_bytes(3, "little")
    body += accept.dev_addr.to_bytes(4, "little")
    body += bytes((accept.rx1_dr_offset << 4 | accept.rx2_data_rate, accept.rx_delay_s))
    if accept.frequencies_hz:
        body += b"".join((hz // _CFLIST_STEP_HZ).to_bytes(3, "little") for hz in accept.frequencies_hz)
        body += bytes((_CFLIST_FREQUENCIES,))
    clear = body[1:] + _cmac(app_key, body)
    decryptor = Cipher(algorithms.AES(app_key), modes.ECB()).decryptor()  # noqa: S305 - as the standard says
    return body[:1] + decryptor.update(clear)


def open_join_accept(app_key: bytes, frame: bytes) -> JoinAccept:
    """Return what a join accept says.

    Raises:
        FrameError: it is none, or not for a device with this key.
    """
    if len(frame) not in _JOIN_ACCEPT_BYTES or frame[0] != JOIN_ACCEPT:
        raise FrameError("no join accept")
    clear = frame[:1] + _aes(app_key, frame[1:])
    body, mic = clear[:-_MIC_BYTES], clear[-_MIC_BYTES:]
    if _cmac(app_key, body) != mic:
        raise FrameError("join accept with a wrong MIC")
    cflist = body[13:]
    frequencies: tuple[int, ...] = ()
    if cflist and cflist[-1] == _CFLIST_FREQUENCIES:
        frequencies = tuple(
            int.from_bytes(cflist[at : at + 3], "little") * _CFLIST_STEP_HZ for at in range(0, len(cflist) - 1, 3)
        )
    return JoinAccept(
        join_nonce=int.from_bytes(body[1:4], "little"),
        net_id=int.from_bytes(body[4:7], "little"),
        dev_addr=int.from_bytes(body[7:11], "little"),
        rx1_dr_offset=body[11] >> 4 & 7,
        rx2_data_rate=body[11] & 0x0F,
        rx_delay_s=body[12] & 0x0F,
        frequencies_hz=frequencies,
    )


def derive_session(app_key: bytes, accept: JoinAccept, dev_nonce: int) -> Session:
    """Return the session of a device that has joined."""
    nonces = accept.join_nonce.to_bytes(3, "little") + accept.net_id.to_bytes(3, "little")
    nonces += dev_nonce.to_bytes(2, "little")
    nwk_s_key, app_s_key = (_aes(app_key, (bytes((kind,)) + nonces).ljust(_BLOCK, b"\0")) for kind in (1, 2))
    return Session(accept.dev_addr, nwk_s_key, app_s_key)


def data_up(
    session: Session, fcnt: int, payload: bytes, port: int, *, confirmed: bool, ack: bool = False, fopts: bytes = b""
) -> bytes:
    """Return a data frame to the network."""
    mhdr = CONFIRMED_UP if confirmed else UNCONFIRMED_UP
    return _data(session, mhdr, UP, fcnt, payload, port=port, ack=ack, fopts=fopts)


def data_down(session: Session, downlink: Downlink) -> bytes:
    """Return a data frame to the device."""
    mhdr = CONFIRMED_DOWN if downlink.confirmed else UNCONFIRMED_DOWN
    return _data(
        session,
        mhdr,
        DOWN,
        downlink.fcnt,
        downlink.payload,
        port=downlink.port,
        ack=downlink.ack,
        fopts=downlink.fopts,
    )


def open_data_down(session: Session, frame: bytes, expected_fcnt: int) -> Downlink:
    """Return what a data frame to the device says.

    Args:
        session: the device's.
        frame: as received.
        expected_fcnt: the least counter that is new.

    Raises:
        FrameError: it is not for this device, not authentic, or a repetition.
    """
    mhdr, ack, fcnt, fopts, port, payload = open_data(session, frame, DOWN, expected_fcnt)
    return Downlink(mhdr == CONFIRMED_DOWN, ack, fcnt, fopts, port, payload)


def open_data(
    session: Session, frame: bytes, direction: int, expected_fcnt: int
) -> tuple[int, bool, int, bytes, int | None, bytes]:
    """Return the parts of a data frame: MHDR, ACK, whole counter, FOpts, port, payload in clear.

    Raises:
        FrameError: another kind or address, a wrong MIC (as a repetition has), or cut short.
    """
    kinds = (UNCONFIRMED_UP, CONFIRMED_UP) if direction == UP else (UNCONFIRMED_DOWN, CONFIRMED_DOWN)
    if len(frame) < _LEAST_DATA_BYTES or frame[0] not in kinds:
        raise FrameError("no data frame of this direction")
    if int.from_bytes(frame[1:5], "little") != session.dev_addr:
        raise FrameError("for another address")
    body, mic = frame[:-_MIC_BYTES], frame[-_MIC_BYTES:]
    # The air has the low half of the counter; the high half is the least that does not make it old.
    fcnt = expected_fcnt + (int.from_bytes(frame[6:8], "little") - expected_fcnt) % _FCNT_WRAP
    if _data_mic(session, body, direction, fcnt) != mic:
        raise FrameError("a wrong MIC, or a repetition")
    options = 8 + (frame[5] & _FOPTS_LENGTH)
    if options > len(body):
        raise FrameError("FOpts longer than the frame")
    port = body[options] if len(body) > options else None
    payload = crypt(session, body[options + 1 :], port or 0, direction, fcnt)
    return frame[0], bool(frame[5] & ACK), fcnt, body[8:options], port, payload


def crypt(session: Session, payload: bytes, port: int, direction: int, fcnt: int) -> bytes:
    """Return a payload encrypted, or decrypted, which is the same."""
    key = session.app_s_key if port else session.nwk_s_key
    head = bytes((0x01, 0, 0, 0, 0, direction)) + session.dev_addr.to_bytes(4, "little") + fcnt.to_bytes(4, "little")
    blocks = b"".join(head + bytes((0, index + 1)) for index in range(-(-len(payload) // _BLOCK)))
    stream = _aes(key, blocks)
    return bytes(a ^ b for a, b in zip(payload, stream, strict=False))


def _data(
    session: Session, mhdr: int, direction: int, fcnt: int, payload: bytes, *, port: int | None, ack: bool, fopts: bytes
) -> bytes:
    body = bytes((mhdr,)) + session.dev_addr.to_bytes(4, "little")
    body += bytes(((ACK if ack else 0) | len(fopts),)) + (fcnt % _FCNT_WRAP).to_bytes(2, "little") + fopts
    if port is not None:
        body += bytes((port,)) + crypt(session, payload, port, direction, fcnt)
    return body + _data_mic(session, body, direction, fcnt)


def _data_mic(session: Session, body: bytes, direction: int, fcnt: int) -> bytes:
    head = bytes((0x49, 0, 0, 0, 0, direction)) + session.dev_addr.to_bytes(4, "little") + fcnt.to_bytes(4, "little")
    return _cmac(session.nwk_s_key, head + bytes((0, len(body))) + body)


def _cmac(key: bytes, data: bytes) -> bytes:
    cmac = CMAC(algorithms.AES(key))
    cmac.update(data)
    return cmac.finalize()[:_MIC_BYTES]


def _aes(key: bytes, blocks: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - as the standard says
    return encryptor.update(blocks)
