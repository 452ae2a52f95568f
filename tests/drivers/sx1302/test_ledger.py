# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The account of airtime: no hour ever has more than its share, whatever is asked for and whenever the process ends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drivers.plans import TransmitBand, load_plan
from drivers.sx1302.ledger import REBOOT_US, STEP_S, AirtimeLedger, share_us

S = 1_000_000_000
HOUR_NS = 3600 * S
EU868 = load_plan("eu868").transmit
BAND_L = next(band for band in EU868 if band.name == "L")
LOW_HZ, HIGH_HZ = 867_037_500, 867_162_500


def send(ledger: AirtimeLedger, now_ns: int, airtime_us: int, lead_us: int = 0) -> bool:
    """Ask and charge as the transmitter does."""
    start_ns = now_ns + lead_us * 1000
    if ledger.check(BAND_L, now_ns, start_ns, airtime_us) is not None:
        return False
    ledger.charge(LOW_HZ, HIGH_HZ, now_ns, start_ns + airtime_us * 1000, airtime_us)
    return True


class Hours(RuleBasedStateMachine):
    """A transmitter that wants to send all the time, and its process that ends now and then."""

    @initialize()
    def begin(self) -> None:
        self.now_ns = 5 * S
        self.sent: list[tuple[int, int]] = []
        self.ledger = AirtimeLedger.unused(EU868, self.now_ns)

    @rule(seconds=st.floats(0, 2000))
    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)

    @rule(airtime_us=st.integers(1000, 9_000_000), lead_us=st.sampled_from((0, 50_000, 5_000_000, 130_000_000)))
    def want(self, airtime_us: int, lead_us: int) -> None:
        start_ns = self.now_ns + lead_us * 1000
        if send(self.ledger, self.now_ns, airtime_us, lead_us):
            self.sent.append((start_ns, start_ns + airtime_us * 1000))
            self.now_ns = self.sent[-1][1]  # the chain is busy until then

    @rule()
    def restart(self) -> None:
        self.ledger = AirtimeLedger.recalled(EU868, self.now_ns, self.ledger.memory(), same_boot=True)

    @rule(uptime_s=st.floats(0, 500))
    def reboot(self, uptime_s: float) -> None:
        """Time begins anew; what was sent was sent before."""
        now_ns = int(uptime_s * S)
        self.sent = [(start - self.now_ns, end - self.now_ns) for start, end in self.sent]
        self.ledger = AirtimeLedger.recalled(EU868, now_ns, self.ledger.memory(), same_boot=False)
        self.now_ns = now_ns

    @invariant()
    def no_hour_has_more_than_its_share(self) -> None:
        for _, last_ns in self.sent:
            within = (min(end, last_ns) - max(start, last_ns - HOUR_NS) for start, end in self.sent)
            assert sum(max(us, 0) for us in within) <= share_us(BAND_L) * 1000

    @invariant()
    def the_account_stays_small(self) -> None:
        assert len(self.ledger.memory()) < 40_000


Hours.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestHours = Hours.TestCase


def test_what_is_free_again_is_free_then_and_not_before() -> None:
    ledger, now_ns = AirtimeLedger.unused(EU868, 0), 0
    while send(ledger, now_ns, 1_500_000):
        now_ns += 2 * S
    free_ns = ledger.check(BAND_L, now_ns, now_ns, 1_500_000)
    assert free_ns is not None
    assert HOUR_NS <= free_ns <= HOUR_NS + 2 * STEP_S * S
    assert ledger.check(BAND_L, free_ns - 1, free_ns, 1_500_000) == free_ns
    assert ledger.check(BAND_L, free_ns, free_ns, 1_500_000) is None


@given(airtimes=st.lists(st.integers(1, 3_000_000), max_size=30))
def test_what_is_used_is_what_was_sent(airtimes: list[int]) -> None:
    ledger = AirtimeLedger.unused(EU868, 0)
    accepted = sum(us for us in airtimes if send(ledger, 0, us))
    (use,) = [use for use in ledger.uses(0) if use.band is BAND_L]
    assert (use.used_us, use.limit_us) == (accepted, 36_000_000)


def test_without_memory_all_is_used_for_an_hour() -> None:
    ledger = AirtimeLedger(EU868, 100 * S)
    assert all(use.used_us == use.limit_us for use in ledger.uses(100 * S))
    assert ledger.check(BAND_L, 100 * S, 100 * S, 1) == 3720 * S
    assert ledger.check(BAND_L, 3720 * S, 3720 * S, 36_000_000) is None
    without_limit = next(band for band in EU868 if band.name == "Q")
    assert ledger.check(without_limit, 100 * S, 100 * S, 60_000_000) is None


def test_after_a_reboot_what_was_sent_before_counts_from_the_boot_on() -> None:
    before = AirtimeLedger.unused(EU868, 0)
    assert send(before, 90_000 * S, 20_000_000)
    after = AirtimeLedger.recalled(EU868, 30 * S, before.memory(), same_boot=False)
    assert after.used_us(BAND_L, 30 * S) == 20_000_000 + REBOOT_US
    assert after.used_us(BAND_L, 3660 * S) == 0


def test_another_plan_inherits_what_its_frequencies_had() -> None:
    wide = (TransmitBand(863_000_000, 870_000_000, 16.0),)
    before = AirtimeLedger.unused(wide, 0)
    before.charge(LOW_HZ, HIGH_HZ, 10 * S, 20 * S, 5_000_000)
    after = AirtimeLedger.recalled(EU868, 30 * S, before.memory(), same_boot=True)
    assert {use.band.name: use.used_us for use in after.uses(30 * S)} == dict.fromkeys("KLMNPR", 5_000_000)


def test_a_pause_between_transmissions() -> None:
    (band,) = load_plan("as923_jp").transmit
    ledger = AirtimeLedger.unused((band,), 0)
    ledger.charge(922_937_500, 923_062_500, 10 * S, 11 * S, 1_000_000)
    assert ledger.check(band, 11 * S, 11 * S + 49_000_000, 1000) == 11 * S + 50_000_000
    assert ledger.check(band, 11 * S, 11 * S + 50_000_000, 1000) is None


@pytest.mark.parametrize(
    "memory",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format":2,"ranges":[]}',
        '{"format":1,"ranges":[[1,2]]}',
        '{"format":1,"ranges":[[1,2,[[0,-1]]]]}',
        '{"format":1,"ranges":[[1,2,[[0,1e300]]]]}',
        '{"format":1,"ranges":[[1,true,[]]]}',
        json.dumps({"format": 1, "ranges": [[n, n + 1, []] for n in range(65)]}),
        "[" * 100_000,
    ],
)
def test_a_memory_that_makes_no_sense_is_none(memory: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are for a log
        AirtimeLedger.recalled(EU868, 0, memory, same_boot=True)


@given(st.text(max_size=200))
def test_any_text_is_a_memory_or_a_value_error(memory: str) -> None:
    try:
        AirtimeLedger.recalled(EU868, 0, memory, same_boot=True)
    except ValueError:
        return
