# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver serve`: the service."""

from __future__ import annotations

import argparse
import logging

from agent import logs
from receiver import config
from receiver.cli.arguments import add_config

_EXAMPLES = """examples:
  civigate-receiver serve -c /etc/civigate/receiver.toml
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="take batches from gateways",
        description="Take batches over HTTPS and MQTT until SIGTERM or Ctrl-C. Logs 'event=ready' when it accepts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    # the web framework takes a while to load: the other commands do without
    from receiver.service import Service

    logs.configure(loaded.logging.level, loaded.logging.format)
    # what strangers do wrong is theirs; what uvicorn cannot do is ours
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    return Service(loaded).run()
