# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.filter import Filter, FilterRules, Span, parse_dev_addrs, parse_euis, parse_net_id
from agent.frame import CrcStatus
from agent.lorawan import Data, Foreign, Header, JoinAccept, JoinRequest, NotLoRaWAN, Proprietary, Rejoin

TTN = Data(uplink=True, confirmed=False, dev_addr=0x26011BDA, f_ctrl=0, f_cnt=1, f_port=2, payload_bytes=3)
JOIN = JoinRequest(0x70B3D57ED0000001, 0x1122334455667788, 7)
EVERYTHING: list[Header] = [
    TTN,
    TTN._replace(uplink=False),
    JOIN,
    JoinAccept(12),
    Rejoin(0, 0x13, None, 0x1122334455667788, 1),
    Rejoin(1, None, JOIN.join_eui, JOIN.dev_eui, 1),
    Proprietary(4),
    NotLoRaWAN(Foreign.MAJOR),
]


def accepted(rules: FilterRules) -> list[Header]:
    compiled = Filter(rules)
    return [header for header in EVERYTHING if compiled.accepts(header)]


def test_without_rules_nothing_is_accepted() -> None:
    assert accepted(FilterRules()) == []
    assert accepted(FilterRules(no_crc=True)) == []


@pytest.mark.parametrize("spans", ["26000000/7", "26011bda", "26011BDA-26011bda", "00000000/0"])
def test_data_by_address(spans: str) -> None:
    assert accepted(FilterRules(dev_addr=(parse_dev_addrs(spans),))) == [TTN]


@pytest.mark.parametrize("spans", ["28000000/7", "26011bdb", "26011b00-26011bd9"])
def test_data_of_others(spans: str) -> None:
    assert accepted(FilterRules(dev_addr=(parse_dev_addrs(spans),))) == []


def test_network() -> None:
    assert accepted(FilterRules(net_ids=(parse_net_id("000013"),))) == [TTN, EVERYTHING[4]]
    assert accepted(FilterRules(net_ids=(parse_net_id("000014"),))) == []


def test_joins() -> None:
    assert accepted(FilterRules(join_eui=(parse_euis("70b3d57ed0000000/40"),))) == [JOIN, EVERYTHING[5]]
    assert accepted(FilterRules(dev_eui=(JOIN.dev_eui,))) == [JOIN, EVERYTHING[4], EVERYTHING[5]]


def test_ports_narrow_what_an_address_lets_in() -> None:
    everyone = (parse_dev_addrs("00000000/0"),)
    assert accepted(FilterRules(f_ports=(2,))) == []
    assert accepted(FilterRules(dev_addr=everyone, f_ports=(2,))) == [TTN]
    assert accepted(FilterRules(dev_addr=everyone, f_ports=(1, 3))) == []
    portless = TTN._replace(f_port=None)
    assert Filter(FilterRules(dev_addr=everyone, f_ports=(0,))).accepts(portless)
    assert not Filter(FilterRules(dev_addr=everyone, f_ports=(1,))).accepts(portless)
    assert Filter(FilterRules(dev_addr=everyone)).accepts(portless)


def test_what_is_not_of_a_network() -> None:
    assert accepted(FilterRules(proprietary=True)) == [Proprietary(4)]
    assert accepted(FilterRules(non_lorawan=True)) == [NotLoRaWAN(Foreign.MAJOR)]


def test_crc() -> None:
    rules = FilterRules(dev_addr=(parse_dev_addrs("26000000/7"),))
    assert not Filter(rules).accepts(TTN, CrcStatus.NONE)
    lenient = Filter(FilterRules(dev_addr=rules.dev_addr, no_crc=True))
    assert lenient.accepts(TTN, CrcStatus.NONE)
    assert not lenient.accepts(TTN, CrcStatus.BAD)
    assert not lenient.accepts(JOIN, CrcStatus.NONE)


spans = st.builds(lambda a, b: Span(min(a, b), max(a, b)), st.integers(0, 60), st.integers(0, 60))


@given(st.lists(spans, max_size=6), st.integers(0, 61))
def test_many_ranges_are_one_set(ranges: list[Span], address: int) -> None:
    compiled = Filter(FilterRules(dev_addr=tuple(ranges)))
    expected = any(first <= address <= last for first, last in ranges)
    assert compiled.accepts(TTN._replace(dev_addr=address)) == expected


@given(st.lists(spans, max_size=4), st.lists(spans, max_size=4))
def test_the_digest_tells_meanings_apart_and_not_words(some: list[Span], others: list[Span]) -> None:
    one, other = (Filter(FilterRules(dev_addr=tuple(ranges))) for ranges in (some, others))
    same = all(
        one.accepts(TTN._replace(dev_addr=address)) == other.accepts(TTN._replace(dev_addr=address))
        for address in range(62)
    )
    assert (one.digest == other.digest) == same


def test_the_digest_is_stable_over_releases() -> None:
    # A change of this value counts up the filter version of every gateway in the field.
    rules = FilterRules(dev_addr=(parse_dev_addrs("26000000/7"),), net_ids=(0x13,), f_ports=(2, 1), proprietary=True)
    assert Filter(rules).digest.hex()[:16] == "7fe651986947ab8c"


BAD_SPANS = [
    *("", "26", "2600000g", "26000000/", "26000000/33", "26000000/-1", "26000000/7/7", "26000001/7", "26000000-"),
    *("27000000-26000000", "+6000000", "26000000/\N{ARABIC-INDIC DIGIT SEVEN}", "2600 000", "0x260000"),
]


@pytest.mark.parametrize("text", BAD_SPANS)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"digits|prefix|begins"):
        parse_dev_addrs(text)
