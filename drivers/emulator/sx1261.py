# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A virtual SX1261: listens before the concentrator talks, scans the spectrum, and tells the level of the moment.

It needs a patch of 386 words in its RAM for the first two. The patch is Semtech's and its content is not looked at
here: a complete one counts.

Not modelled: the radio waves. There is one level for all frequencies, which whoever runs the emulator sets; a scan
shows it in three neighbouring bins. Packets on the air do not raise it. Which level of the result line means busy is
unknown; the AGC is told the answer directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.emulator.sx126x import RadioMode, Sx126x

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_DBM: Final = -120.0
"""Level of the channel when nobody says otherwise."""

PATCH_WORDS: Final = 386

_VERSION_ADDRESS: Final = 0x0320
_VERSION_BARE: Final = b"SX1261 V2D 2D02"
_VERSION_PATCHED: Final = b"SX1261 V2D 2D06"
_PATCH_ENABLE: Final = 0x0610
_PATCH_ENABLED: Final = 0x10
_PATCH_ADDRESS: Final = 0x8000
_SCAN_STATUS: Final = 0x07CD
_SCAN_RESULTS: Final = 0x0401
_RSSI_WINDOW: Final = 0x089B

_GET_RSSI_INST: Final = 0x15
_UPDATE_PATCH: Final = 0xD9
_LISTEN: Final = 0x9A
_SCAN: Final = 0x9B

_SCAN_NONE: Final = 0x00
_SCAN_RUNNING: Final = 0x0F
_SCAN_ABORTED: Final = 0xF0
_SCAN_DONE: Final = 0xFF
_BINS: Final = 33
_BIN_DB: Final = 4
_SAMPLE_NS: Final = 8_200


@dataclass(slots=True)
class _Scan:
    """A spectral scan: how many samples, and when it is done."""

    samples: int
    done_ns: int
    aborted: bool = False


class Sx1261(Sx126x):
    """The radio beside the concentrator.

    Attributes:
        channel_dbm: the level it measures, everywhere.
        patched: the patch is in place.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.channel_dbm = QUIET_DBM
        self._forget()
        super().__init__()

    def busy(self) -> bool:
        """Tell whether the channel is too loud to talk; False while nobody listens."""
        return self._threshold_dbm is not None and self.channel_dbm > self._threshold_dbm

    @property
    def patched(self) -> bool:
        """Whether the patch is in place."""
        return self._patched

    def _power_on_reset(self) -> None:
        super()._power_on_reset()
        self._forget()

    def _forget(self) -> None:
        self._patched = False
        self._patch: set[int] = set()
        self._threshold_dbm: float | None = None
        self._scan: _Scan | None = None

    def _execute_special(self, opcode: int, parameters: bytes, answer: bytearray) -> bool:
        if opcode == _GET_RSSI_INST and self.mode is RadioMode.RECEIVE and len(answer) >= 3:
            answer[2] = max(0, min(255, round(-2 * self.channel_dbm)))
        elif opcode == _UPDATE_PATCH:
            self._patched = len(self._patch) == PATCH_WORDS
        elif opcode == _LISTEN and self._ready() and len(parameters) >= 5:
            self._threshold_dbm = -parameters[3] / 2
        elif opcode == _SCAN and self._ready() and len(parameters) >= 3:
            samples = parameters[0] << 8 | parameters[1]
            self._scan = _Scan(samples, self._now_ns() + samples * _SAMPLE_NS)
        else:
            return False
        return True

    def _ready(self) -> bool:
        return self._patched and self.mode is RadioMode.RECEIVE

    def _store(self, address: int, data: bytes) -> None:
        if address == _PATCH_ENABLE and data[0] == _PATCH_ENABLED:
            self._patch.clear()
        elif self.registers.get(_PATCH_ENABLE) == _PATCH_ENABLED and len(data) == 4:
            word, offset = divmod(address - _PATCH_ADDRESS, 4)
            if offset == 0 and 0 <= word < PATCH_WORDS:
                self._patch.add(word)
        elif address == _RSSI_WINDOW and data[0] == 0:
            self._stop()
        super()._store(address, data)

    def _stop(self) -> None:
        self._threshold_dbm = None
        if self._scan is not None and self._now_ns() < self._scan.done_ns:
            self._scan.aborted = True

    def _load(self, address: int) -> int:
        if 0 <= address - _VERSION_ADDRESS < len(_VERSION_BARE):
            return (_VERSION_PATCHED if self._patched else _VERSION_BARE)[address - _VERSION_ADDRESS]
        if address == _SCAN_STATUS:
            return self._scan_status()
        if 0 <= address - _SCAN_RESULTS < 2 * _BINS:
            return self._scan_results()[address - _SCAN_RESULTS]
        return super()._load(address)

    def _scan_status(self) -> int:
        if self._scan is None:
            return _SCAN_NONE
        if self._scan.aborted:
            return _SCAN_ABORTED
        return _SCAN_DONE if self._now_ns() >= self._scan.done_ns else _SCAN_RUNNING

    def _scan_results(self) -> bytes:
        counts = [0] * _BINS
        if self._scan is not None and self._scan_status() == _SCAN_DONE:
            middle = max(0, min(_BINS - 1, round(-self.channel_dbm / _BIN_DB)))
            for bin_ in (max(middle - 1, 0), min(middle + 1, _BINS - 1)):
                counts[bin_] += self._scan.samples // 5
            counts[middle] += self._scan.samples - 2 * (self._scan.samples // 5)
        return b"".join(count.to_bytes(2, "big") for count in counts)
