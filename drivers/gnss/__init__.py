# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""GNSS: what a receiver on a serial port says, and the seconds whose pulses the concentrator latches.

    bytes -> framing -> messages -> receiver: which second was the last one? (SecondMark)
    chip's latch -> drivers.sx1302.pps: when was the last pulse?             (Pulse)
    both -> synchroniser -> Reference: counter <-> GPS time <-> UTC, with a bound on the error

`Synchroniser` is fed by two threads and asked by any. For somebody who needs the time of a counter value, or the
counter value of a time (fine time stamps, transmissions at a GPS time):

    reference = synchroniser.reference  # None: the time is not known, or was not since the chip was started
    if reference is not None and reference.error_ns(ticks) < 1_000:
        gps_ns = reference.gps_ns(ticks)  # ticks: the 32 MHz counter, 64 bits, counter_us * 32
        ticks = reference.counter_ticks(gps_ns)

A `Reference` never changes and costs nothing to ask; take a new one for each question. Its bound grows with the
distance from its pulse, so one that is not renewed (no fix, no pulses, unplugged) is told by its error, not by a flag.
A transmission with the trigger "next PPS" leaves at the next whole second of `gps_ns`.
"""
