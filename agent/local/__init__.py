# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the running agent shows to those who stand beside it: a socket, and a page in a browser if it is wanted."""

SOCKET_NAME = "agent.sock"
"""In runtime_dir."""
