# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The demonstration: the whole path on one machine, through an outage and a crash, audited from outside.

It composes the real programs as processes: a virtual concentrator, the agent, a receiver. Nothing here is used by them.
"""
