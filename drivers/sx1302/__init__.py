# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SX1302/SX1303 concentrator: registers, start-up, receive, counter."""
