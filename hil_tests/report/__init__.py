# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a run leaves behind: JUnit XML for machines, an HTML page for people, a signed certificate for the board."""
