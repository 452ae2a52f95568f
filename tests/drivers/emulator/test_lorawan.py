# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Frames of the emulated devices are those that other implementations make and accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.lorawan import (
    DOWN,
    UP,
    Downlink,
    FrameError,
    JoinAccept,
    Session,
    data_down,
    data_up,
    derive_session,
    join_request,
    open_data,
    open_data_down,
    open_join_accept,
    seal_join_accept,
)

DATA = json.loads((Path(__file__).parents[2] / "data" / "emulator" / "lorawan_keys.json").read_text())


def frames(*kinds: str) -> list[Any]:
    return [pytest.param(row, id=row["id"]) for row in DATA["frames"] if row["mtype"] in kinds]


@pytest.mark.parametrize(
    "row", frames("UnconfirmedDataUp", "ConfirmedDataUp", "UnconfirmedDataDown", "ConfirmedDataDown")
)
def test_data_frames_are_authentic_and_readable(row: dict[str, Any]) -> None:
    keys, crypto, expect = row["keys"], row["crypto"], row["expect"]
    nwk_s_key = bytes.fromhex(keys["nwk_s_key"])
    session = Session(int(expect["dev_addr"], 16), nwk_s_key, bytes.fromhex(keys.get("app_s_key", "00" * 16)))
    direction = UP if row["mtype"].endswith("Up") else DOWN
    frame = bytes.fromhex(row["phy"])
    if not crypto["mic_ok"]:
        with pytest.raises(FrameError, match="MIC"):
            open_data(session, frame, direction, crypto["fcnt32"])
        return
    _, _, fcnt, fopts, port, payload = open_data(session, frame, direction, crypto["fcnt32"])
    assert (fcnt, fopts.hex(), port) == (crypto["fcnt32"], expect["fopts"], expect.get("fport"))
    if "frm_plain" in crypto:
        assert payload.hex() == crypto["frm_plain"]


@pytest.mark.parametrize("row", frames("JoinRequest"))
def test_join_requests_are_made_alike(row: dict[str, Any]) -> None:
    expect = row["expect"]
    made = join_request(
        bytes.fromhex(row["keys"]["app_key_or_nwk_key"]),
        bytes.fromhex(expect["join_eui"]),
        bytes.fromhex(expect["dev_eui"]),
        expect["dev_nonce"],
    )
    assert (made.hex() == row["phy"]) is row["crypto"]["mic_ok"]


@pytest.mark.parametrize("row", frames("JoinAccept"))
def test_join_accepts_are_made_and_understood_alike(row: dict[str, Any]) -> None:
    key, truth = bytes.fromhex(row["keys"]["app_key_or_nwk_key"]), row["crypto"]["join_accept"]
    accept = open_join_accept(key, bytes.fromhex(row["phy"]))
    assert accept.join_nonce == int(truth["join_nonce"], 16)
    assert accept.net_id == int(truth["net_id"], 16)
    assert accept.dev_addr == int(truth["dev_addr"], 16)
    assert accept.rx1_dr_offset == truth["rx1_dr_offset"]
    assert accept.rx2_data_rate == truth["rx2_data_rate"]
    assert accept.rx_delay_s == truth["rx_delay"]
    assert len(accept.frequencies_hz) == (5 if truth["cf_list"] else 0)
    assert seal_join_accept(key, accept).hex() == row["phy"]
    with pytest.raises(FrameError, match="wrong MIC"):
        open_join_accept(bytes(15) + b"\xff", bytes.fromhex(row["phy"]))


@pytest.mark.parametrize("row", DATA["sessions"], ids=[row["id"] for row in DATA["sessions"]])
def test_session_keys_are_derived_alike(row: dict[str, Any]) -> None:
    given_, expect = row["input"], row["expect"]
    accept = JoinAccept(int(given_["join_nonce"], 16), int(given_["net_id"], 16), 0)
    session = derive_session(bytes.fromhex(given_["app_key"]), accept, int(given_["dev_nonce"], 16))
    assert (session.nwk_s_key.hex(), session.app_s_key.hex()) == (expect["nwk_s_key"], expect["app_s_key"])


SESSION = Session(0x26011BDA, bytes(range(16)), bytes(range(16, 32)))


@given(
    st.integers(0, (1 << 32) - 1), st.binary(max_size=222), st.integers(0, 255), st.binary(max_size=15), st.booleans()
)
def test_what_is_sent_down_is_what_is_read(fcnt: int, payload: bytes, port: int, fopts: bytes, ack: bool) -> None:
    sent = Downlink(confirmed=ack, ack=not ack, fcnt=fcnt, fopts=fopts, port=port, payload=payload)
    assert open_data_down(SESSION, data_down(SESSION, sent), max(fcnt - 100, 0)) == sent


def test_repetitions_strangers_and_the_other_direction_are_refused() -> None:
    frame = data_down(SESSION, Downlink(confirmed=False, ack=True, fcnt=7))
    with pytest.raises(FrameError, match="repetition"):
        open_data_down(SESSION, frame, 8)
    with pytest.raises(FrameError, match="another address"):
        open_data_down(Session(1, SESSION.nwk_s_key, SESSION.app_s_key), frame, 0)
    with pytest.raises(FrameError, match="direction"):
        open_data_down(SESSION, data_up(SESSION, 7, b"", 1, confirmed=False), 0)


@given(st.binary(max_size=40))
def test_noise_is_refused(frame: bytes) -> None:
    with pytest.raises(FrameError):
        open_data_down(SESSION, frame, 0)
    with pytest.raises(FrameError):
        open_join_accept(SESSION.nwk_s_key, frame)
