# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The list of what a gateway is tested for. Each test of the suite belongs to one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list.

    Attributes:
        number: "H01" to "H22".
        title: what is shown, in words of the certificate.
        failure: what it means when it fails, for whoever reads the report.
        required: whether a certificate says PASS only with it.
    """

    number: str
    title: str
    failure: str
    required: bool = True


CATALOGUE: Final = (
    Entry(
        "H01",
        "Chip version and EUI are read; 1000 read-backs without an error",
        "The chip does not answer reliably: board not seated, SPI off, a bus too fast. Do not mount it.",
    ),
    Entry(
        "H02",
        "The reset line really resets",
        "The reset line leads elsewhere (the pin in the board's profile) or is broken: a hung chip would stay hung.",
    ),
    Entry(
        "H03",
        "Every register has its reset value",
        "Not the chip that it says it is, a damaged one, or a bus that reads wrongly.",
    ),
    Entry(
        "H04",
        "Transfers of 1 to 4096 bytes arrive whole",
        "Long transfers are damaged: under load, packets would be too. Suspect the bus: speed, contacts, supply.",
    ),
    Entry(
        "H05",
        "Firmware loads and radios calibrate, twice in a row",
        "Firmware is missing or not of this chip, or a radio does not calibrate: its clock, supply or soldering.",
    ),
    Entry(
        "H06",
        "The counter runs, wraps, stays monotonic, and keeps time with the host",
        "Crystal or counter are off: the times of frames drift, and answers to sensors miss their moment.",
    ),
    Entry(
        "H07",
        "Every channel hears every spreading factor, with the right level and time",
        "A channel is deaf, or its level is wrong: antenna port, filter, radio. If all are deaf: cable and node.",
    ),
    Entry(
        "H08",
        "RSSI follows the level, and is that of the golden gateway",
        "Levels cannot be trusted. If the golden gateway is off by as much, node or cable are at fault, not the board.",
    ),
    Entry(
        "H09",
        "Bad checksums, long packets, bursts and overflow are borne and counted",
        "Under load, packets are lost without a word, or damaged ones pass for whole.",
    ),
    Entry(
        "H10",
        "Transmission: frequency, spreading factor, polarity, and the moment",
        "Sensors would not hear its answers.",
    ),
    Entry(
        "H11",
        "Forbidden, late and colliding transmissions are refused",
        "It might send what the law forbids, or into its own transmission. Do not operate it.",
    ),
    Entry(
        "H12",
        "The temperature is plausible, and taken into account",
        "The sensor is missing or wrong: levels drift with the weather.",
    ),
    Entry(
        "H13",
        "The service is up on a clean system: sandboxed, without root",
        "The package is not installed as it should be: it does not run, or with more rights than it needs.",
    ),
    Entry(
        "H14",
        "A hung agent and a hung kernel are restarted by their watchdogs",
        "A hang would last until somebody climbs the mast.",
    ),
    Entry(
        "H15",
        "Power cuts: no committed frame lost, none twice at the platform",
        "Readings are lost or doubled when the power fails. Suspect the card first: some keep less than they say.",
    ),
    Entry(
        "H16",
        "The platform is away: order is kept, the backlog drains, live frames are not starved",
        "After an outage readings are missing, in disorder, or late.",
    ),
    Entry(
        "H17",
        "False and missing answers of the platform cost nothing",
        "It believes an answer that it must not: readings would be deleted that nobody has.",
    ),
    Entry(
        "H18",
        "A wrong clock at boot: the times of frames are corrected and marked",
        "Readings carry a wrong time, and do not say so.",
    ),
    Entry(
        "H19",
        "The disk is full: known, borne, and left again without loss",
        "A full disk stops the gateway or loses readings, and nobody notices.",
    ),
    Entry(
        "H20",
        "An unplugged reference node is the bench's fault, not the product's",
        "The bench cannot tell its own faults from those of the board: no verdict of it is to be trusted.",
    ),
    Entry(
        "H21",
        "A day's soak: memory, files and queue stay flat, few packets are missed",
        "It loses memory, files or packets little by little, and would fail after days or weeks.",
        required=False,
    ),
    Entry(
        "H22",
        "Upgrade with a full spool; a downgrade is refused",
        "An update may lose what waits on the gateway, or leave it without a way back.",
    ),
)
NUMBERS: Final = tuple(entry.number for entry in CATALOGUE)
