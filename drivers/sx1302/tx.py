# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Transmission: LoRa, FSK and a test carrier, at once, at a counter value, or at the next PPS.

What may not be sent is refused before the chip is touched; what comes too late is refused before it is
triggered, for the trigger compares 32 bits, and a moment that has just passed would come round 134 s later.
Register values are those of the vendor's software, most of them in a few bursts [HAL 2.1.0 sx1302_send].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError, DriverError, HandshakeTimeoutError
from drivers.sx1302.counter import TICKS_PER_US, WRAP_US
from drivers.sx1302.fsk import SYNC_WORD
from drivers.sx1302.ledger import AirtimeLedger, Use
from drivers.sx1302.limits import check, check_past
from drivers.sx1302.lora import BANDWIDTH_CODE, low_data_rate, sync_peaks
from drivers.sx1302.mcu import MAILBOX_PARAMETERS
from drivers.sx1302.registers import field
from drivers.sx1302.transmission import (
    STATUS,
    CarrierTransmission,
    FskTransmission,
    LoraTransmission,
    Transmission,
    Trigger,
    TxFate,
    TxStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.boards import Board, TxGain
    from drivers.bus import Clock
    from drivers.plans import ChannelPlan, Listening
    from drivers.sx1302.limits import Permit
    from drivers.sx1302.registers import Field
    from drivers.sx1302.regmap import RegisterMap, Setting

CRYSTAL_HZ: Final = 32_000_000
FREQUENCY_FRACTION_BITS: Final = 18
"""Frequencies of the modulator count 32 MHz / 2^18 = 122.07 Hz."""

AGC_FREQUENCY_FRACTION_BITS: Final = 25
"""Those that the AGC hands to the SX1250 count 32 MHz / 2^25."""

BUFFER_OFFSET: Final = 0x100
"""From the first register of a chain to its payload buffer."""


class LateTransmissionError(DriverError, TimeoutError):
    """A packet whose moment has passed, or is too close to be met."""


TX_LEAD_US: Final = 3_000
"""Least time from the trigger's programming to the first symbol: 1.5 ms of start delay, and some for SPI."""

TX_HORIZON_US: Final = WRAP_US - 1_000_000
"""Farthest moment that the 32-bit trigger can tell from an earlier one, less a second."""

PPS_PERIOD_US: Final = 1_000_000

ABORT_LIMIT_S: Final = 1.0
ABORT_POLL_S: Final = 0.001

START_DELAY_TICKS: Final = 48_000
"""1.5 ms at 32 MHz: from a chain's start to its first symbol."""

RADIO_DELAY_TICKS: Final = {125_000: 19, 250_000: 24, 500_000: 21}
MODEM_DELAY_TICKS: Final = {125_000: 64, 250_000: 32, 500_000: 16}
"""Of SX1250 and LoRa modulator, by bandwidth."""

SOURCE_CARRIER: Final = 0
SOURCE_LORA: Final = 1
SOURCE_FSK: Final = 2
MODULATION_LORA: Final = 0
MODULATION_FSK: Final = 1
AGC_BANDWIDTH_NOT_LORA: Final = 0x80
"""Asks the AGC to take the deviation out of the mailbox."""

CADRXTX_TX: Final = 2
CARRIER_DEVIATION_STEP_HZ: Final = 10_000
CARRIER_TONE_STEPS: Final = 64
FSK_GAUSSIAN_BT: Final = 2
FSK_VARIABLE_LENGTH: Final = 1
FSK_WHITENING: Final = 2


class _Registers:
    """The fields of one transmit chain."""

    def __init__(self, radio: str) -> None:
        def tx(name: str) -> Field:
            return field(f"TX_TOP_{radio}_{name}")

        self.fsm_status = tx("TX_FSM_STATUS_TX_STATUS")
        self.trigger_bits = {
            Trigger.IMMEDIATE: tx("TX_TRIG_TX_TRIG_IMMEDIATE"),
            Trigger.PPS: tx("TX_TRIG_TX_TRIG_GPS"),
            None: tx("TX_TRIG_TX_TRIG_DELAYED"),
        }
        self.target = tx("TIMER_TRIG_BYTE3_TIMER_DELAYED_TRIG")
        self.start_delay_msb = tx("TX_START_DELAY_MSB_TX_START_DELAY")
        self.start_delay_lsb = tx("TX_START_DELAY_LSB_TX_START_DELAY")
        self.write_buffer = tx("TX_CTRL_WRITE_BUFFER")
        self.modulation_type = tx("GEN_CFG_0_MODULATION_TYPE")
        self.agc_bandwidth = tx("AGC_TX_BW_AGC_TX_BW")
        self.agc_power = tx("AGC_TX_PWR_AGC_TX_PWR")
        self.source = tx("TX_RFFE_IF_CTRL_TX_IF_SRC")
        self.digital_gain = tx("TX_RFFE_IF_IQ_GAIN_IQ_GAIN")
        self.i_offset = tx("TX_RFFE_IF_I_OFFSET_I_OFFSET")
        self.q_offset = tx("TX_RFFE_IF_Q_OFFSET_Q_OFFSET")
        self.frequency = tuple(tx(f"TX_RFFE_IF_FREQ_RF_{part}_FREQ_RF") for part in "HML")
        self.deviation = tuple(tx(f"TX_RFFE_IF_FREQ_DEV_{part}_FREQ_DEV") for part in "HL")
        self.tone = tx("TX_RFFE_IF_TEST_MOD_FREQ")
        self.lora_bandwidth = tx("TXRX_CFG0_0_MODEM_BW")
        self.lora_sf = tx("TXRX_CFG0_0_MODEM_SF")
        self.ppm_offset_header = tx("TXRX_CFG0_1_PPM_OFFSET_HDR_CTRL")
        self.ppm_offset = tx("TXRX_CFG0_1_PPM_OFFSET")
        self.coding_rate = tx("TXRX_CFG0_1_CODING_RATE")
        self.fine_sync = tx("TXRX_CFG0_2_FINE_SYNCH_EN")
        self.modem_en = tx("TXRX_CFG0_2_MODEM_EN")
        self.cadrxtx = tx("TXRX_CFG0_2_CADRXTX")
        self.implicit_header = tx("TXRX_CFG0_2_IMPLICIT_HEADER")
        self.lora_crc = tx("TXRX_CFG0_2_CRC_EN")
        self.lora_length = tx("TXRX_CFG0_3_PAYLOAD_LENGTH")
        self.modem_start = tx("TXRX_CFG1_1_MODEM_START")
        self.preamble_lsb = tx("TXRX_CFG1_2_PREAMBLE_SYMB_NB")
        self.preamble_msb = tx("TXRX_CFG1_3_PREAMBLE_SYMB_NB")
        self.chirp_lowpass = tx("TX_CFG0_0_CHIRP_LOWPASS")
        self.chirp_invert = tx("TX_CFG0_0_CHIRP_INVERT")
        self.continuous = tx("TX_CFG0_0_CONTINUOUS")
        self.sync_peaks = (tx("FRAME_SYNCH_0_PEAK1_POS"), tx("FRAME_SYNCH_1_PEAK2_POS"))
        self.fsk_length = tx("FSK_PKT_LEN_PKT_LENGTH")
        self.fsk_mode = tx("FSK_CFG_0_PKT_MODE")
        self.fsk_crc = tx("FSK_CFG_0_CRC_EN")
        self.fsk_crc_ibm = tx("FSK_CFG_0_CRC_IBM")
        self.fsk_whitening = tx("FSK_CFG_0_DCFREE_ENC")
        self.fsk_preamble = tuple(tx(f"FSK_PREAMBLE_SIZE_{part}_PREAMBLE_SIZE") for part in ("MSB", "LSB"))
        self.fsk_bit_rate = tuple(tx(f"FSK_BIT_RATE_{part}_BIT_RATE") for part in ("MSB", "LSB"))
        self.fsk_gaussian_en = tx("FSK_MOD_FSK_GAUSSIAN_EN")
        self.fsk_gaussian_bt = tx("FSK_MOD_FSK_GAUSSIAN_SELECT_BT")
        self.fsk_sync_en = tx("FSK_MOD_FSK_REF_PATTERN_EN")
        self.fsk_sync_size = tx("FSK_MOD_FSK_REF_PATTERN_SIZE")
        self.fsk_preamble_seq = tx("FSK_MOD_FSK_PREAMBLE_SEQ")
        self.fsk_sync = tuple(tx(f"FSK_REF_PATTERN_BYTE{byte}_FSK_REF_PATTERN") for byte in range(7, -1, -1))


CHAINS: Final = (_Registers("A"), _Registers("B"))


def frequency_register(frequency_hz: int) -> int:
    """Return a frequency in steps of the modulator, truncated."""
    return (frequency_hz << FREQUENCY_FRACTION_BITS) // CRYSTAL_HZ


def start_delay_ticks(transmission: LoraTransmission) -> int:
    """Return the time from a chain's start to the first symbol of a LoRa packet, to have 1.5 ms in all."""
    bandwidth_hz = transmission.bandwidth_hz
    filter_ticks = ((1 << _chirp_lowpass(transmission.spreading_factor)) - 1) * 1_000_000 // bandwidth_hz
    return START_DELAY_TICKS - (RADIO_DELAY_TICKS[bandwidth_hz] + filter_ticks + MODEM_DELAY_TICKS[bandwidth_hz])


@dataclass(frozen=True, slots=True)
class _Armed:
    """What was armed last: the counter value of its first symbol, None when that is not known; when it was armed."""

    due_us: int | None
    refused: bool = False
    aborted: bool = False


class Transmitter:
    """The transmit chain of a board.

    Args:
        registers: of the SX1302.
        clock: for waits and their limits.
        counter_us: reads the concentrator's counter, 64 bits.
        board: says which chain transmits, and how its power is set.
        plan: says where transmission is allowed, and the sync word.
        antenna_gain_dbi: of antenna less cable, taken off the radiated power that is asked for.
        ledger: what was sent in the past hour; outlives the chip, and every start of it. Without, all that a band's
            duty cycle allows is taken for used at this moment.
        listen: has the channel listened to before each transmission, with what the band asks for, which may be
            nothing; None when nobody can.
        has_pulses: whether the GNSS receiver's pulses come; a packet for the next one would wait for ever.
    """

    def __init__(
        self,
        registers: RegisterMap,
        clock: Clock,
        counter_us: Callable[[], int],
        *,
        board: Board,
        plan: ChannelPlan,
        antenna_gain_dbi: float,
        ledger: AirtimeLedger | None = None,
        listen: Callable[[Transmission, Listening | None], None] | None = None,
        has_pulses: Callable[[], bool] = lambda: True,
    ) -> None:
        self._registers = registers
        self._clock = clock
        self._counter_us = counter_us
        self._board = board
        self._plan = plan
        self._antenna_gain_dbi = antenna_gain_dbi
        self._ledger = AirtimeLedger(plan.transmit, clock.monotonic_ns()) if ledger is None else ledger
        self._listen = listen
        self._has_pulses = has_pulses
        self._armed: _Armed | None = None

    def permit(self, transmission: Transmission) -> Permit:
        """Say what a transmission is allowed by, without touching the chip; its past is judged when it is sent.

        Raises:
            ForbiddenTransmissionError: it is not allowed.
        """
        listens = self._listen is not None
        return check(transmission, self._board, self._plan, self._antenna_gain_dbi, listens=listens)

    def send(self, transmission: Transmission, trigger: Trigger | int) -> None:
        """Program a transmission and arm its trigger; returns before it is on the air.

        Args:
            transmission: what to send.
            trigger: at once, at the next PPS, or the counter value in microseconds at which the first symbol
                shall leave, 3 ms to 133 s ahead.

        Raises:
            ForbiddenTransmissionError: board or plan do not allow it, or the band's share of time is used up; the
                chip was not touched.
            LateTransmissionError: its moment has passed, or is too near or too far; nothing was armed.
            ChipError: the chain is busy with another transmission.
            BusError: the bus fails.
        """
        permit = self.permit(transmission)
        now_ns = self._clock.monotonic_ns()
        # Before the chip is asked for its time, a timed packet may still be as far ahead as can be.
        horizon_us = TX_HORIZON_US if isinstance(trigger, int) else 0
        band = check_past(permit, self._ledger, now_ns, now_ns + horizon_us * 1000)
        chain = self._chain()
        if isinstance(trigger, int):
            lead_us = self._check_moment(trigger)
            now_ns = self._clock.monotonic_ns()
            band = check_past(permit, self._ledger, now_ns, now_ns + lead_us * 1000)
        status = self.status()
        if status is not TxStatus.FREE:
            raise ChipError(
                f"the transmit chain is {status.value}",
                op="transmit",
                where=chain.fsm_status.name,
                hint="wait until it is free, or abort what it does",
                code="CG-TX-002",
                retryable=True,
            )
        if trigger is Trigger.PPS and not self._has_pulses():
            raise ChipError(
                "no pulse came for seconds",
                op="transmit",
                where="PPS",
                hint="check that the GNSS receiver has a fix, and that its PPS leads to the concentrator",
                code="CG-TX-007",
                retryable=True,
            )
        if self._listen is not None:
            self._listen(transmission, band.listening)
        self._armed = None
        registers = self._registers
        delay_ticks = start_delay_ticks(transmission) if isinstance(transmission, LoraTransmission) else 0
        with registers.batch():
            registers.apply((bit, 0) for bit in chain.trigger_bits.values())
            registers.apply(_common_settings(chain, transmission, permit.gain))
            if isinstance(transmission, LoraTransmission):
                registers.apply(_lora_settings(chain, transmission, public=self._plan.public))
                self._fill_buffer(chain, transmission.payload)
            elif isinstance(transmission, FskTransmission):
                self._deviate(transmission.deviation_hz)
                registers.apply(_fsk_settings(chain, transmission))
                self._fill_buffer(chain, bytes((len(transmission.payload),)) + transmission.payload)
            else:
                self._deviate(_carrier_deviation_hz(transmission))
                registers.apply([(chain.tone, _carrier_tone(transmission))])
            if isinstance(trigger, int):
                target = (trigger * TICKS_PER_US - delay_ticks) % (1 << 32)
                registers.write_bytes(chain.target, target.to_bytes(4, "big"))
        if isinstance(trigger, int):
            # Programming takes its time; only now is it known whether the moment can still be met.
            lead_us = self._check_moment(trigger)
            self._charge(permit, lead_us)
            registers.write(chain.trigger_bits[None], 1)
            self._armed = _Armed(trigger)
            self._check_trigger(trigger)
        else:
            self._charge(permit, PPS_PERIOD_US if trigger is Trigger.PPS else 0)
            registers.write(chain.trigger_bits[trigger], 1)
            self._armed = _Armed(None)

    def fate(self) -> TxFate | None:
        """Say what became of the transmission that was armed last; None before the first since the chip's start.

        What the chip does not tell is when it was on the air: who wants to be sure looks while it emits.

        Raises:
            BusError: the bus fails.
        """
        armed = self._armed
        if armed is None:
            return None
        if armed.refused:
            return TxFate.REFUSED
        status = self.status()
        if status is TxStatus.SCHEDULED:
            return TxFate.SCHEDULED
        if status is TxStatus.EMITTING:
            return TxFate.EMITTING
        if armed.aborted:
            return TxFate.ABORTED
        if status is TxStatus.UNKNOWN or (armed.due_us is not None and self._counter_us() < armed.due_us):
            return TxFate.LOST
        return TxFate.SENT

    def uses(self) -> tuple[Use, ...]:
        """Return how much of its share of the past hour each band has used that has one."""
        return self._ledger.uses(self._clock.monotonic_ns())

    def status(self) -> TxStatus:
        """Ask the chip what the chain is doing.

        Raises:
            BusError: the bus fails.
        """
        return STATUS.get(self._registers.read(self._chain().fsm_status), TxStatus.UNKNOWN)

    def chip_started(self) -> None:
        """Forget what was armed: a chip that was reset cannot be asked about it. The account of airtime stays."""
        self._armed = None

    def refuse(self) -> None:
        """Note that the channel was not quiet when the packet was due, and take its trigger back.

        Raises:
            HandshakeTimeoutError: the chain does not become free.
            BusError: the bus fails.
        """
        if self._armed is not None:
            self._armed = replace(self._armed, refused=True)
        self.abort()

    def abort(self) -> None:
        """Take all triggers back and wait until the chain is free, a second at most.

        Raises:
            HandshakeTimeoutError: the chain does not become free.
            BusError: the bus fails.
        """
        chain = self._chain()
        if self._armed is not None and self.status() is not TxStatus.FREE:
            self._armed = replace(self._armed, aborted=True)
        self._registers.apply((bit, 0) for bit in chain.trigger_bits.values())
        deadline_ns = self._clock.monotonic_ns() + round(ABORT_LIMIT_S * 1e9)
        while (status := self.status()) is not TxStatus.FREE:
            if self._clock.monotonic_ns() >= deadline_ns:
                raise HandshakeTimeoutError(
                    f"still {status.value} {ABORT_LIMIT_S:g} s after its triggers were taken back",
                    op="abort transmission",
                    where=chain.fsm_status.name,
                    hint="start the concentrator again",
                    code="CG-TX-003",
                    retryable=True,
                )
            self._clock.sleep(ABORT_POLL_S)

    def _chain(self) -> _Registers:
        return CHAINS[self._board.transmit_radio]

    def _charge(self, permit: Permit, lead_us: int) -> None:
        """Put the transmission on the account before it is armed: what is armed may be sent, whatever comes."""
        if permit.airtime_us is not None:
            now_ns = self._clock.monotonic_ns()
            end_ns = now_ns + (lead_us + permit.airtime_us) * 1000
            self._ledger.charge(permit.low_hz, permit.high_hz, now_ns, end_ns, permit.airtime_us)

    def _check_moment(self, counter_us: int) -> int:
        """Return how far ahead a moment is, microseconds."""
        lead_us = counter_us - self._counter_us()
        if not TX_LEAD_US <= lead_us <= TX_HORIZON_US:
            when = f"{-lead_us} us too late" if lead_us < 0 else f"{lead_us} us ahead"
            raise LateTransmissionError(
                f"the packet is {when}; {TX_LEAD_US} to {TX_HORIZON_US} us can be met",
                op="transmit",
                where="trigger",
                hint="hand downlinks over 40 to 100 ms before they are due; a later one is lost",
                code="CG-TX-004",
            )
        return lead_us

    def _check_trigger(self, counter_us: int) -> None:
        """Take a trigger back that was set after its moment: it would send when the counter came round, 134 s later.

        Between the last look at the counter and the trigger the host may have done something else for long.
        """
        if self._counter_us() < counter_us - TX_LEAD_US:
            return
        while (now_us := self._counter_us()) < counter_us + TX_LEAD_US:
            self._clock.sleep((counter_us + TX_LEAD_US - now_us) / 1e6)
        if self.status() is TxStatus.SCHEDULED:
            self.abort()
            raise LateTransmissionError(
                "the host was held up before it set the trigger, which was too late",
                op="transmit",
                where="trigger",
                hint="look for what keeps this machine busy, and hand downlinks over earlier; this one is lost",
                code="CG-TX-008",
            )

    def _deviate(self, deviation_hz: int) -> None:
        """Tell the AGC the deviation, with which it sets up the SX1250."""
        value = (deviation_hz << AGC_FREQUENCY_FRACTION_BITS) // CRYSTAL_HZ
        self._registers.write_bytes(MAILBOX_PARAMETERS[2], value.to_bytes(3, "big"))

    def _fill_buffer(self, chain: _Registers, data: bytes) -> None:
        base = chain.fsm_status.address & ~0xFF
        self._registers.write(chain.write_buffer, 1)
        self._registers.write_memory(base + BUFFER_OFFSET, data)
        self._registers.write(chain.write_buffer, 0)


def _split(fields: tuple[Field, ...], value: int) -> Iterator[Setting]:
    """Spread a value over byte fields, the most significant first."""
    for position, part in enumerate(reversed(fields)):
        yield part, value >> 8 * position & 0xFF


def _common_settings(chain: _Registers, transmission: Transmission, gain: TxGain) -> Iterator[Setting]:
    yield chain.i_offset, 0
    yield chain.q_offset, 0
    yield chain.agc_power, gain.register
    yield chain.digital_gain, 0
    yield from _split(chain.frequency, frequency_register(transmission.frequency_hz))
    if isinstance(transmission, LoraTransmission):
        source, modulation, deviation_hz = SOURCE_LORA, MODULATION_LORA, transmission.bandwidth_hz // 2
        agc_bandwidth = BANDWIDTH_CODE[transmission.bandwidth_hz]
    elif isinstance(transmission, FskTransmission):
        source, modulation, deviation_hz = SOURCE_FSK, MODULATION_FSK, transmission.deviation_hz
        agc_bandwidth = AGC_BANDWIDTH_NOT_LORA
    else:
        source, modulation = SOURCE_CARRIER, MODULATION_LORA
        deviation_hz, agc_bandwidth = _carrier_deviation_hz(transmission), AGC_BANDWIDTH_NOT_LORA
    yield chain.source, source
    yield chain.modulation_type, modulation
    yield chain.agc_bandwidth, agc_bandwidth
    yield from _split(chain.deviation, frequency_register(deviation_hz))


def _lora_settings(chain: _Registers, transmission: LoraTransmission, *, public: bool) -> Iterator[Setting]:
    sf, bandwidth_hz = transmission.spreading_factor, transmission.bandwidth_hz
    yield chain.lora_bandwidth, BANDWIDTH_CODE[bandwidth_hz]
    yield chain.lora_sf, sf
    yield chain.preamble_msb, transmission.preamble_symbols >> 8
    yield chain.preamble_lsb, transmission.preamble_symbols & 0xFF
    yield chain.chirp_lowpass, _chirp_lowpass(sf)
    yield chain.coding_rate, transmission.coding_rate
    yield chain.modem_en, 1
    yield chain.cadrxtx, CADRXTX_TX
    yield chain.modem_start, 1
    yield chain.continuous, 0
    yield chain.chirp_invert, int(transmission.invert_polarity)
    yield chain.implicit_header, int(transmission.implicit_header)
    yield chain.lora_crc, int(transmission.crc)
    yield from zip(chain.sync_peaks, sync_peaks(sf, public=public), strict=True)
    yield chain.fine_sync, int(sf <= 6)
    yield chain.lora_length, len(transmission.payload)
    yield chain.ppm_offset_header, 0
    yield chain.ppm_offset, int(low_data_rate(bandwidth_hz, sf))
    yield from _split((chain.start_delay_msb, chain.start_delay_lsb), start_delay_ticks(transmission))


def _fsk_settings(chain: _Registers, transmission: FskTransmission) -> Iterator[Setting]:
    """The start delay is left alone: whether the chip applies it to FSK is not known [HAL 2.1.0]."""
    yield chain.fsk_mode, FSK_VARIABLE_LENGTH
    yield chain.fsk_crc, int(transmission.crc)
    yield chain.fsk_crc_ibm, 0
    yield chain.fsk_whitening, FSK_WHITENING
    yield chain.fsk_gaussian_en, 1
    yield chain.fsk_gaussian_bt, FSK_GAUSSIAN_BT
    yield chain.fsk_sync_en, 1
    yield chain.fsk_sync_size, len(SYNC_WORD) - 1
    yield chain.fsk_preamble_seq, 0
    yield from zip(chain.fsk_sync, SYNC_WORD.ljust(len(chain.fsk_sync), b"\x00"), strict=True)
    yield from _split(chain.fsk_bit_rate, CRYSTAL_HZ // transmission.bitrate_bps)
    yield from _split(chain.fsk_preamble, transmission.preamble_bytes)
    yield chain.fsk_length, len(transmission.payload)


def _chirp_lowpass(spreading_factor: int) -> int:
    return 6 if spreading_factor < 10 else 7


def _carrier_deviation_hz(transmission: CarrierTransmission) -> int:
    """The next multiple of 10 kHz that reaches the tone."""
    steps = -(-abs(transmission.offset_hz) // CARRIER_DEVIATION_STEP_HZ)
    return steps * CARRIER_DEVIATION_STEP_HZ


def _carrier_tone(transmission: CarrierTransmission) -> int:
    """The tone as a part of the deviation, two's complement in a byte."""
    return transmission.offset_hz * CARRIER_TONE_STEPS // _carrier_deviation_hz(transmission) & 0xFF
