# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

from agent.enrolment.message import NONCE_BYTES
from receiver.enrolment import challenge
from receiver.enrolment.challenge import Challenges


def test_a_challenge_is_good_once_for_a_while_and_only_here() -> None:
    now_s = [1000.0]
    challenges = Challenges(lambda: now_s[0])
    nonce, late = challenges.make(), challenges.make()
    assert len(nonce) == NONCE_BYTES
    assert challenges.redeem(nonce)
    assert not challenges.redeem(nonce)
    assert not Challenges(lambda: now_s[0]).redeem(late), "of another process"
    altered = bytes([late[0], late[1] ^ 1]) + late[2:]
    assert not challenges.redeem(altered)
    now_s[0] += challenge.LIFETIME_S + 1
    assert not challenges.redeem(late)
    assert challenges.redeem(challenges.make())
    assert not challenges.redeem(nonce), "forgotten, but too old as well"
