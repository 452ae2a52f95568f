# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The virtual machine bench: a Debian with its own systemd, real device nodes, and a power cable to pull.

`make hil-vm` builds what it needs and runs all; docs/vm.md says what it shows, and what only hardware can.
"""
