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
        required: whether a certificate says PASS only with it.
    """

    number: str
    title: str
    required: bool = True


CATALOGUE: Final = (
    Entry("H01", "Chip version and EUI are read; 1000 read-backs without an error"),
    Entry("H02", "The reset line really resets"),
    Entry("H03", "Every register has its reset value"),
    Entry("H04", "Transfers of 1 to 4096 bytes arrive whole"),
    Entry("H05", "Firmware loads and radios calibrate, twice in a row"),
    Entry("H06", "The counter runs, stays monotonic, and keeps time with the host"),
    Entry("H07", "Every channel hears every spreading factor, with the right level and time"),
    Entry("H08", "RSSI follows the level, and is that of the golden gateway"),
    Entry("H09", "Bad checksums, long packets, bursts and overflow are borne and counted"),
    Entry("H10", "Transmission: frequency, spreading factor, polarity, and the moment"),
    Entry("H11", "Forbidden, late and colliding transmissions are refused"),
    Entry("H12", "The temperature is plausible, and taken into account"),
    Entry("H13", "The service is up on a clean system: sandboxed, without root"),
    Entry("H14", "A hung agent and a hung kernel are restarted by their watchdogs"),
    Entry("H15", "Power cuts: no committed frame lost, none twice at the platform"),
    Entry("H16", "The platform is away: order is kept, the backlog drains, live frames are not starved"),
    Entry("H17", "False and missing answers of the platform cost nothing"),
    Entry("H18", "A wrong clock at boot: the times of frames are corrected and marked"),
    Entry("H19", "The disk is full: known, borne, and left again without loss"),
    Entry("H20", "An unplugged reference node is the bench's fault, not the product's"),
    Entry("H21", "A day's soak: memory, files and queue stay flat, few packets are missed", required=False),
    Entry("H22", "Upgrade with a full spool; a downgrade is refused"),
)
NUMBERS: Final = tuple(entry.number for entry in CATALOGUE)
