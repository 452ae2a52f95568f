# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The doctor: one look at a whole gateway, told in plain words.

Data flow one way: `context` gathers what is known, `table` names the checks, `examine` runs each under a limit, each
returns findings, `sheet` holds them all, `screen`, `page` and JSON show them, `seal` signs the page. What a finding
says of cause and next step is in `causes.toml` and nowhere else.
"""
