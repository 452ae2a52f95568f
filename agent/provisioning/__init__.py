# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From a flashed card to an enrolled gateway, by one small file on the boot partition, with nobody at a keyboard."""
