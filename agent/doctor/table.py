# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""All checks, in the order in which a person reads them: what others rest on comes first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from agent.doctor.examine import Check

if TYPE_CHECKING:
    from agent.doctor.context import Context
    from agent.doctor.finding import Finding

# Each imports its module when it runs: so what one check needs is loaded while others wait for a device.


def _configuration(context: Context) -> Iterator[Finding]:
    from agent.doctor import gateway

    return gateway.configuration(context)


def _agent(context: Context) -> Iterator[Finding]:
    from agent.doctor import gateway

    return gateway.agent(context)


def _power(context: Context) -> Iterator[Finding]:
    from agent.doctor import power

    return power.power(context)


def _bus(context: Context) -> Iterator[Finding]:
    from agent.doctor import buses

    return buses.bus(context)


def _lines(context: Context) -> Iterator[Finding]:
    from agent.doctor import buses

    return buses.lines(context)


def _serial(context: Context) -> Iterator[Finding]:
    from agent.doctor import buses

    return buses.serial(context)


def _firmware(context: Context) -> Iterator[Finding]:
    from agent.doctor import images

    return images.firmware(context)


def _concentrator(context: Context) -> Iterator[Finding]:
    from agent.doctor import concentrator

    return concentrator.concentrator(context)


def _gnss(context: Context) -> Iterator[Finding]:
    from agent.doctor import times

    return times.gnss(context)


def _clock(context: Context) -> Iterator[Finding]:
    from agent.doctor import times

    return times.clock(context)


def _disk(context: Context) -> Iterator[Finding]:
    from agent.doctor import card

    return card.disk(context)


def _spool(context: Context) -> Iterator[Finding]:
    from agent.doctor import card

    return card.spool(context)


def _key(context: Context) -> Iterator[Finding]:
    from agent.doctor import identity

    return identity.key(context)


def _network(context: Context) -> Iterator[Finding]:
    from agent.doctor import network

    return network.network(context)


def _platform(context: Context) -> Iterator[Finding]:
    from agent.doctor import platform

    return platform.platforms(context)


def _filter(context: Context) -> Iterator[Finding]:
    from agent.doctor import heard

    return heard.filters(context)


def _heard(context: Context) -> Iterator[Finding]:
    from agent.doctor import heard

    return heard.heard(context)


# A key's device has 60 s to answer (agent.batch.hardware): whether it does is for the check to say, not for its limit.
CHECKS: Final = (
    Check("config", _configuration),
    Check("agent", _agent),
    Check("power", _power),
    Check("bus", _bus),
    Check("lines", _lines),
    Check("serial", _serial),
    Check("firmware", _firmware, 30.0, "chip"),
    Check("chip", _concentrator, 60.0, "chip"),
    Check("gnss", _gnss, 30.0, "gnss"),
    Check("clock", _clock),
    Check("disk", _disk),
    Check("spool", _spool, 40.0, "spool"),
    Check("key", _key, 75.0, "key"),
    Check("network", _network),
    Check("platform", _platform, 60.0, "platform", "way-unwalked"),
    Check("filter", _filter, 40.0, "spool"),
    Check("heard", _heard, 40.0, "spool"),
)
