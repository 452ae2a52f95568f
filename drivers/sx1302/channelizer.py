# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Step 5 of the start: which radio and which offset each demodulation path listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.plans import MULTI_SF_CHANNELS
from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.plans import ChannelPlan, FskChannel, MultiSfChannel, ServiceChannel
    from drivers.sx1302.registers import Field
    from drivers.sx1302.regmap import Setting

RADIO_SELECT = field("RX_TOP_RADIO_SELECT_RADIO_SELECT")
SERVICE_RADIO_SELECT = field("RX_TOP_LORA_SERVICE_FSK_LORA_SERVICE_RADIO_SEL_RADIO_SELECT")
FSK_RADIO_SELECT = field("RX_TOP_LORA_SERVICE_FSK_FSK_CFG_3_RADIO_SELECT")
MULTI_SF_IF = tuple(
    (field(f"RX_TOP_FREQ_{i}_MSB_IF_FREQ_{i}"), field(f"RX_TOP_FREQ_{i}_LSB_IF_FREQ_{i}"))
    for i in range(MULTI_SF_CHANNELS)
)
SERVICE_IF = (
    field("RX_TOP_LORA_SERVICE_FSK_LORA_SERVICE_FREQ_MSB_IF_FREQ_0"),
    field("RX_TOP_LORA_SERVICE_FSK_LORA_SERVICE_FREQ_LSB_IF_FREQ_0"),
)
FSK_IF = (
    field("RX_TOP_LORA_SERVICE_FSK_FSK_FREQ_MSB_IF_FREQ_0"),
    field("RX_TOP_LORA_SERVICE_FSK_FSK_FREQ_LSB_IF_FREQ_0"),
)
RSSI_FILTER_ALPHA = field("RX_TOP_RSSI_CONTROL_RSSI_FILTER_ALPHA")
CHAN_RSSI_DEF = field("RX_TOP_RSSI_DEF_VALUE_CHAN_RSSI_DEF_VALUE")
CHAN_DAGC_MODE = field("RX_TOP_CHANN_DAGC_CFG5_CHAN_DAGC_MODE")
CHAN_DAGC_THRESHOLD_HIGH = field("RX_TOP_CHANN_DAGC_CFG1_CHAN_DAGC_THRESHOLD_HIGH")
CHAN_DAGC_THRESHOLD_LOW = field("RX_TOP_CHANN_DAGC_CFG2_CHAN_DAGC_THRESHOLD_LOW")
CHAN_DAGC_MAX_ATTEN = field("RX_TOP_CHANN_DAGC_CFG3_CHAN_DAGC_MAX_ATTEN")
CHAN_DAGC_MIN_ATTEN = field("RX_TOP_CHANN_DAGC_CFG3_CHAN_DAGC_MIN_ATTEN")

IF_STEP_NUMERATOR_HZ: Final = 15_625
IF_STEP_DENOMINATOR: Final = 32
"""An IF register counts steps of 15625/32 = 488.28 Hz."""

IF_REGISTER_MASK: Final = 0x1FFF


def _divide_towards_zero(numerator: int, denominator: int) -> int:
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def if_register(if_hz: int) -> int:
    """Return the signed value of an IF register: whole steps, truncated towards zero."""
    return _divide_towards_zero(if_hz * IF_STEP_DENOMINATOR, IF_STEP_NUMERATOR_HZ)


def if_error_hz(if_hz: int) -> int:
    """Return by how much the wanted IF exceeds the one the register stands for, in Hz."""
    register_hz = _divide_towards_zero(if_register(if_hz) * IF_STEP_NUMERATOR_HZ, IF_STEP_DENOMINATOR)
    return if_hz - register_hz


def settings(plan: ChannelPlan) -> Iterator[Setting]:
    """Radio and IF of every path, and the channel gain control [HAL 2.1.0 sx1302_channelizer_configure]."""
    yield RADIO_SELECT, sum(channel.rf_chain << index for index, channel in enumerate(plan.multi_sf))
    for index, registers in enumerate(MULTI_SF_IF):
        # A path without a channel stays switched off; its IF is parked at the radio's centre.
        channel = plan.multi_sf[index] if index < len(plan.multi_sf) else None
        yield from _if_settings(registers, plan, channel)
    for registers, select, other in (
        (SERVICE_IF, SERVICE_RADIO_SELECT, plan.service),
        (FSK_IF, FSK_RADIO_SELECT, plan.fsk),
    ):
        yield select, other.rf_chain if other else 0
        yield from _if_settings(registers, plan, other)
    yield RSSI_FILTER_ALPHA, 5
    yield CHAN_RSSI_DEF, 85
    yield CHAN_DAGC_MODE, 1
    yield CHAN_DAGC_THRESHOLD_HIGH, 255
    yield CHAN_DAGC_THRESHOLD_LOW, 0
    yield CHAN_DAGC_MAX_ATTEN, 15
    yield CHAN_DAGC_MIN_ATTEN, 0


def _if_settings(
    registers: tuple[Field, Field],
    plan: ChannelPlan,
    channel: MultiSfChannel | ServiceChannel | FskChannel | None,
) -> Iterator[Setting]:
    value = if_register(plan.if_hz(channel)) & IF_REGISTER_MASK if channel else 0
    most, least = registers
    yield most, value >> 8
    yield least, value & 0xFF
