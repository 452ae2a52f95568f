# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.lorawan import (
    Data,
    Foreign,
    Header,
    JoinAccept,
    JoinRequest,
    Network,
    NotLoRaWAN,
    Proprietary,
    Rejoin,
    decode,
    dev_addr_block,
    network_of,
    parse_eui,
)

Vector = dict[str, "str | dict[str, str | int | bool | None]"]

FOLDER = Path(__file__).parents[1] / "data" / "lorawan"
VECTORS: list[Vector] = [
    vector
    for name in ("phypayload", "malformed")
    for vector in json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
]
REASONS = {
    "empty": Foreign.EMPTY,
    "too_short_for_mic": Foreign.SHORT,
    "fhdr_truncated": Foreign.FHDR,
    "fopts_truncated": Foreign.F_OPTS,
    "join_request_length": Foreign.JOIN_LENGTH,
    "join_accept_length": Foreign.JOIN_LENGTH,
    "rejoin_empty": Foreign.REJOIN_TYPE,
    "rejoin_type": Foreign.REJOIN_TYPE,
    "rejoin02_length": Foreign.REJOIN_LENGTH,
    "rejoin1_length": Foreign.REJOIN_LENGTH,
}


def say(header: Header) -> dict[str, str | int | bool | None]:
    """Put a header into the words of the vectors."""
    if isinstance(header, Data):
        said: dict[str, str | int | bool | None] = {
            "mtype": ("Confirmed" if header.confirmed else "Unconfirmed") + ("DataUp" if header.uplink else "DataDown"),
            "dev_addr": f"{header.dev_addr:08x}",
            "fctrl": f"{header.f_ctrl:02x}",
            "adr": header.adr,
            "ack": header.ack,
            "fcnt": header.f_cnt,
            "fopts_len": header.f_opts_bytes,
            "fport": header.f_port,
        }
        return said | (
            {"adr_ack_req": header.adr_ack_req, "class_b": header.class_b}
            if header.uplink
            else {"fpending": header.f_pending}
        )
    if isinstance(header, JoinRequest):
        euis = {"join_eui": f"{header.join_eui:016x}", "dev_eui": f"{header.dev_eui:016x}"}
        return {"mtype": "JoinRequest", "dev_nonce": header.dev_nonce, **euis}
    if isinstance(header, Rejoin):
        said = {"mtype": "RejoinRequest", "rejoin_type": header.kind, "rjcount": header.rj_count}
        said |= {"dev_eui": f"{header.dev_eui:016x}"}
        said |= {} if header.net_id is None else {"net_id": f"{header.net_id:06x}"}
        return said | ({} if header.join_eui is None else {"join_eui": f"{header.join_eui:016x}"})
    return {"mtype": type(header).__name__}


@pytest.mark.parametrize("vector", VECTORS, ids=[str(vector["id"]) for vector in VECTORS])
def test_vector(vector: Vector) -> None:
    phy = bytes.fromhex(str(vector["phy"]))
    header = decode(phy)
    expect = vector.get("expect")
    if "expect_error" in vector and not (phy and phy[0] >> 5 != 7 and phy[0] & 3 and len(phy) >= 5):
        assert header == NotLoRaWAN(REASONS[str(vector["expect_error"])])
    elif not isinstance(expect, dict) or (expect["major"] and expect["mtype"] != "Proprietary"):
        assert header == NotLoRaWAN(Foreign.MAJOR)
    else:
        said = say(header)
        assert said == {key: expect.get(key) for key in said}
        if isinstance(header, (JoinAccept, Proprietary)):
            assert header.payload_bytes == len(phy) - 5
        if isinstance(header, Data):
            assert header.payload_bytes == len(str(expect.get("frm_payload") or "")) // 2


def test_the_vectors_cover_every_kind() -> None:
    kinds = {type(decode(bytes.fromhex(str(vector["phy"])))) for vector in VECTORS}
    assert kinds == {Data, JoinRequest, JoinAccept, Rejoin, Proprietary, NotLoRaWAN}


def test_the_commonest_frame_on_a_real_gateway_is_not_lorawan() -> None:
    assert decode(bytes.fromhex("0102030405060708")) == NotLoRaWAN(Foreign.MAJOR)
    assert decode(bytes.fromhex("0402030405060708")) == NotLoRaWAN(Foreign.JOIN_LENGTH)


def test_rejoin_type_1() -> None:
    phy = bytes([0xC0, 1, *range(8), *range(0x10, 0x18), 0x34, 0x12, *b"mic!"])
    assert decode(phy) == Rejoin(1, None, 0x0706050403020100, 0x1716151413121110, 0x1234)


@given(st.binary(max_size=255))
def test_any_bytes_have_a_header(phy: bytes) -> None:
    header = decode(phy)
    assert isinstance(header, Header)
    if isinstance(header, Data):
        has_port = header.f_port is not None
        assert 12 + header.f_opts_bytes + has_port + header.payload_bytes == len(phy)


@pytest.mark.parametrize(
    ("net_id", "first", "last"),
    [
        (0x000000, 0x00000000, 0x01FFFFFF),
        (0x000013, 0x26000000, 0x27FFFFFF),
        (0x00003C, 0x78000000, 0x79FFFFFF),
        (0x20006D, 0x80000000 | 0x2D << 24, 0x80000000 | 0x2D << 24 | 0xFFFFFF),
        (0xC00053, 0xFC014C00, 0xFC014FFF),
        (0xFFFFFF, 0xFEFFFF80, 0xFEFFFFFF),
    ],
)
def test_the_addresses_of_a_network(net_id: int, first: int, last: int) -> None:
    assert dev_addr_block(net_id) == (first, last)


@given(st.integers(0, 0xFFFFFF), st.data())
def test_an_address_of_a_network_names_it(net_id: int, data: st.DataObject) -> None:
    first, last = dev_addr_block(net_id)
    network = network_of(data.draw(st.integers(first, last)))
    assert network is not None
    assert network.kind == net_id >> 21
    bits = (last - first).bit_length()
    assert network.nwk_id == net_id & (1 << 31 - network.kind - bits) - 1
    assert network_of(first - 1) != network
    assert network_of(last + 1) != network


def test_what_a_device_address_says() -> None:
    assert network_of(0x26011BDA) == Network(0, 0x13)
    assert network_of(0xFF000000) is None
    assert network_of(0xFFFFFFFF) is None


@pytest.mark.parametrize("text", ["0016C001ff10a235", "00-16-C0-01-FF-10-A2-35", "00:16:c0:01:ff:10:a2:35"])
def test_ways_to_write_an_eui(text: str) -> None:
    assert parse_eui(text) == bytes.fromhex("0016c001ff10a235")


@pytest.mark.parametrize(
    "text",
    ["", "0016", "0016c001ff10a23", "0016c001ff10a2355", "00-16:C0-01-FF-10-A2-35", "\N{ARABIC-INDIC DIGIT ZERO}" * 16],
)
def test_what_is_no_eui(text: str) -> None:
    with pytest.raises(ValueError, match="16 hex digits"):
        parse_eui(text)
