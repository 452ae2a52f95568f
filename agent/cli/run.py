# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate run`: the service."""

from __future__ import annotations

import argparse
import faulthandler
import signal
import threading
from pathlib import Path

EPILOG = """\
examples:
  civigate run -c /etc/civigate/gateway.toml
  civigate config check gateway.toml     what is wrong with a configuration, without running it

SIGTERM and SIGINT end it cleanly: what was heard is committed, sealed, and sent as far as the link allows.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "run",
        help="run the gateway: receive, keep, deliver",
        description="Run the gateway agent in the foreground until it is told to end.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    from agent import config, logs
    from agent.service import Service

    # systemd ends a process that hangs with SIGABRT: then the log says where each thread stood.
    faulthandler.enable()
    settings = config.load(args.config)
    logs.configure(settings.logging.level, settings.logging.format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Service(settings).run(stop)
    return 0
