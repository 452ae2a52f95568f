# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate provision`: set up a gateway by one file on its boot partition."""

from __future__ import annotations

import argparse
from pathlib import Path

STATE_DIR = Path("/var/lib/civigate-provision")
CONFIG = Path("/etc/civigate/gateway.toml")
EXIT_UNFINISHED = 1

_EXAMPLES = """examples:
  civigate provision example > /media/bootfs/civigate.toml
      on a laptop, with the card in its reader: then fill in name, platform and claim
  civigate provision check /media/bootfs/civigate.toml
      says what is wrong with it before the card goes into the gateway
  civigate provision run
      what the gateway does at each start, as root: reads the file, finds the concentrator, makes the key, enrols; and
      writes into the file what came of it. Where the file cannot be used, nothing is done but a note beside it.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its verbs."""
    parser = commands.add_parser(
        "provision",
        help="set up a gateway by a file on its boot partition",
        description="From a flashed card to an enrolled gateway, by civigate.toml on the boot partition.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    run = verbs.add_parser("run", help="do what the file asks for, until the gateway is enrolled")
    run.add_argument("--boot", type=Path, metavar="FOLDER", help="the boot partition (/boot/firmware, or /boot)")
    run.add_argument("-c", "--config", type=Path, default=CONFIG, metavar="FILE", help=f"gateway.toml ({CONFIG})")
    run.add_argument(
        "--state", type=Path, default=STATE_DIR, metavar="FOLDER", help=f"for the request in work ({STATE_DIR})"
    )
    run.set_defaults(func=_run)
    check = verbs.add_parser("check", help="say whether a civigate.toml is right")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(func=_check)
    example = verbs.add_parser("example", help="print a documented civigate.toml")
    example.set_defaults(func=_example)


def _run(args: argparse.Namespace) -> int:
    import signal
    import threading

    from agent import logs
    from agent.provisioning import boot
    from agent.provisioning.desk import Desk
    from agent.provisioning.outcome import Stage
    from agent.provisioning.provisioner import Places, Provisioner

    logs.configure("info")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    root = Path("/")
    partition = boot.find() if args.boot is None else boot.BootPartition(args.boot)
    outcome = Provisioner(Places(partition, Desk(args.state, root), args.config, root), stop).run()
    if outcome is None:
        return 0
    print(f"{outcome.stage.value}{f': {outcome.detail}' if outcome.detail else ''}")
    return 0 if outcome.stage in {Stage.ENROLLED, Stage.ONLINE} else EXIT_UNFINISHED


def _check(args: argparse.Namespace) -> int:
    from agent.provisioning.desk import Desk

    asked = Desk(Path(), Path("/")).check(args.file)
    print(f"{args.file}: ok; gateway {asked.provision.name} for {asked.provision.platform}")
    return 0


def _example(_args: argparse.Namespace) -> int:
    from agent.provisioning import request

    print(request.example(), end="")
    return 0
