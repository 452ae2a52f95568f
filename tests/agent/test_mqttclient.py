# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Both generations of paho-mqtt say the same in the same words."""

from __future__ import annotations

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes

from agent import mqttclient1

pytest.importorskip("paho.mqtt.enums", reason="version 1.6 cannot be asked what version 2 says")

from paho.mqtt.enums import ConnackCode, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode


@pytest.mark.parametrize("code", range(6))
def test_a_refused_login_is_told_as_version_2_tells_it(code: int) -> None:
    expected = mqtt.convert_connack_rc_to_reason_code(ConnackCode(code))
    said = mqttclient1.reason_of_login(code)
    assert (said.value, str(said), said.is_failure) == (expected.value, str(expected), expected.is_failure)


@pytest.mark.parametrize("error", [0, 1, 2, 7, 16])
def test_the_end_of_a_connection_is_told_as_version_2_tells_it(error: int) -> None:
    expected = mqtt.convert_disconnect_error_code_to_reason_code(MQTTErrorCode(error))
    said = mqttclient1.reason_of_end(error)
    # which failure it was, releases of version 2 do not agree on
    assert said.is_failure is expected.is_failure


@pytest.mark.parametrize(("packet", "name"), [(PacketTypes.PUBACK, name) for name in mqttclient1._PUBACKS.values()])
def test_the_reasons_of_an_acknowledgement_are_those_of_the_standard(packet: int, name: str) -> None:
    found = ReasonCode(packet, name)
    assert mqttclient1._PUBACKS[found.value] == name
