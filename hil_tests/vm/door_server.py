# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The guest's half of `door`: runs a command with each connection as its stdin and stdout, one at a time.

Sent to the guest as text: it imports nothing of the project. Arguments: the port, then the command.
"""

from __future__ import annotations

import socket
import subprocess
import sys


def main() -> None:
    """Serve until killed."""
    port, *command = sys.argv[1:]
    with socket.create_server(("", int(port))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                subprocess.run(command, stdin=connection.fileno(), stdout=connection.fileno(), check=False)


if __name__ == "__main__":
    main()
