# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The hardware-in-the-loop suite: the same tests on an emulated concentrator and on a gateway with a real one.

`pytest hil_tests` runs on the emulator; `pytest hil_tests --gateway gateway.toml` on the machine it is typed on, with
the concentrator that this configuration names (no agent may run meanwhile). What a bench lacks is skipped by name.
"""
