# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What came of a provisioning, as the technician reads it on a laptop."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.errors import AgentError
    from agent.provisioning.request import NetworkSection, Request

_WIDTH: Final = 90


class Stage(StrEnum):
    """How far it has come."""

    WORKING = "working"
    """The file is right; the gateway is at it."""
    NO_CONCENTRATOR = "no concentrator"
    """No concentrator answers, or not as the board that was named."""
    WHICH_BOARD = "which board"
    """Several boards look the same from here: the file must name one."""
    WAITING = "waiting for the platform"
    """The gateway receives; the platform cannot be reached yet, or has not approved yet. It goes on trying."""
    CARD = "the card does not take it"
    """A file cannot be written: the card is full, worn or read-only. It goes on trying; see `card`."""
    REFUSED = "refused"
    """The platform said no. Nothing more happens before there is a new file."""
    ENROLLED = "enrolled"
    """Certificate, key and destination are here; the first receipt is not."""
    ONLINE = "online"
    """The platform has answered with a signature. By MQTT it signs for frames alone: there the link is enough."""


OVER: Final = frozenset({Stage.WHICH_BOARD, Stage.REFUSED, Stage.ONLINE})
"""Stages after which nothing more happens by itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known so far; empty where nothing is.

    Attributes:
        stage: how far it has come.
        detail: why it is there, for a person.
        next_step: what to do about it, for a person.
        version: of the program.
        eui: of the gateway, 16 hex digits.
        chip: that was found.
        bus: where.
        boards: the profile that is used, or those that look the same.
        firmware: whether it is there: "present" or what is missing.
        key: thumbprint of the key that was made here, hex.
        destination: what the platform is called in gateway.toml.
        radio: what the radio did: "receiving", or what is wrong.
        doctor: what 'civigate doctor' said then: "ok", "warn" or "fail".
        problems: what is not in order, one line each.
        date: UTC, ISO 8601, where the time is known.
    """

    stage: Stage
    detail: str = ""
    next_step: str = ""
    version: str = ""
    eui: str = ""
    chip: str = ""
    bus: str = ""
    boards: tuple[str, ...] = ()
    firmware: str = ""
    key: str = ""
    destination: str = ""
    radio: str = ""
    doctor: str = ""
    problems: tuple[str, ...] = ()
    date: str = ""


def write(request: Request, outcome: Outcome) -> str:
    """Write civigate.toml as it is after it was read: what was asked for without secrets, and what came of it."""
    said = [
        f"# {outcome.stage.value.upper()}",
        *(f"# {line}" for text in (outcome.detail, outcome.next_step) for line in textwrap.wrap(text, _WIDTH)),
        "#",
        "# This file was read; claim code and Wi-Fi password are no longer in it. To have the gateway read it",
        "# again, delete the part [result] and put in what is missing.",
        "",
        "[provision]",
        *_asked(request),
    ]
    if request.network is not None:
        said += ["", "[network]", *_network(request.network)]
    said += ["", "[result]"]
    for key in Outcome.__dataclass_fields__:
        value = getattr(outcome, key)
        if value:
            said.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(said) + "\n"


def explain(error: AgentError) -> str:
    """Write the note that is left beside a civigate.toml that cannot be used."""
    where = error.where.rpartition("/")[2]
    lines = [
        "civigate.toml cannot be used, and nothing was changed.",
        "",
        f"Where:      {where}",
        f"What:       {error.what}",
        f"What to do: {error.hint}",
        "",
        "Correct civigate.toml, save it as plain text (UTF-8) on this partition, and start the gateway again.",
        "This note goes away by itself when the file is right.",
        f"(code {error.code})",
    ]
    return "\n".join(lines) + "\n"


def not_kept(outcome: Outcome) -> str:
    """Write the note that is left beside a civigate.toml that the card does not take."""
    lines = [
        "civigate.toml was read, but the card does not take it. Nothing was changed.",
        "",
        f"What:       {outcome.detail}",
        f"What to do: {outcome.next_step}",
        "",
        "The gateway goes on trying by itself. Until then claim code and Wi-Fi password stay in civigate.toml.",
        "This note goes away by itself when the card takes it.",
    ]
    return "\n".join(lines) + "\n"


def _asked(request: Request) -> list[str]:
    asked = request.provision
    values = {
        "format": asked.format,
        "name": asked.name,
        "platform": asked.platform,
        "fingerprint": asked.fingerprint,
        "ca_file": asked.ca_file,
        "region": asked.region,
        "board": asked.board,
        "bus": None if asked.bus is None else str(asked.bus),
        "antenna_gain_dbi": asked.antenna_gain_dbi,
        "gnss": asked.gnss,
        "firmware": asked.firmware,
    }
    return _lines(values) + (['#claim = "..."'] if asked.claim is not None else [])


def _network(network: NetworkSection) -> list[str]:
    values = {
        "ssid": network.ssid,
        "country": network.country,
        "interface": network.interface,
        "address": None if network.address is None else str(network.address),
        "gateway": network.gateway,
        "dns": network.dns or None,
        "ntp": network.ntp or None,
    }
    return _lines(values) + (['#psk = "..."'] if network.psk is not None else [])


def _lines(values: Mapping[str, object]) -> list[str]:
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]
