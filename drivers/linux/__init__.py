# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What Linux serves the drivers with: spidev, GPIO, clocks. The only importer of C extensions."""
