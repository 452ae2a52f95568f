# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Stand-ins for what a rig has on serial ports: each speaks its dialect on a pseudo-terminal, with its bad habits; and
for the service manager of its gateway.

What a fake node sends goes to a real air if it is given one: that of the emulator, so that a rig file, fakes and an
emulated concentrator together are a bench on which everything between is real.
"""
