# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The MQTT client of paho-mqtt, with the callbacks of its version 2 whichever is installed.

Debian 12 ships 1.6, Debian 13 ships 2.1. The two differ in what callbacks are given, and 1.6 lacks an acknowledgement
by hand and the reason of a PUBACK; `agent.mqttclient1` adds that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paho.mqtt import client as mqtt

if TYPE_CHECKING or hasattr(mqtt, "CallbackAPIVersion"):
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    class Client(mqtt.Client):
        """A client of paho-mqtt 2.

        Args:
            client_id: at the broker.
            clean_session: None with MQTT 5, which says so when it connects.
            protocol: `MQTTv311` or `MQTTv5`.
            reconnect_on_failure: whether the library connects anew by itself.
            manual_ack: whether a message is acknowledged by `ack` only.
        """

        def __init__(
            self,
            client_id: str,
            *,
            clean_session: bool | None,
            protocol: int,
            reconnect_on_failure: bool = True,
            manual_ack: bool = False,
        ) -> None:
            super().__init__(
                CallbackAPIVersion.VERSION2,
                client_id=client_id,
                clean_session=clean_session,
                protocol=MQTTProtocolVersion(protocol),
                reconnect_on_failure=reconnect_on_failure,
                manual_ack=manual_ack,
            )
else:
    from agent.mqttclient1 import Client

__all__ = ["Client"]
