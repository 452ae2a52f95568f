# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Hardware and its emulation: buses, the SX1302/3 concentrator, its radios, and a virtual concentrator."""
