# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Reference nodes: modules that send any bytes on command, over a serial port."""
