# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate doctor`: look at the whole gateway, and say in plain words what is wrong and what to do."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from agent.doctor.context import Context
    from agent.doctor.finding import Finding
    from agent.doctor.sheet import Sheet

DEFAULT_CONFIG: Final = Path("/etc/civigate/gateway.toml")
EXIT_OK: Final = 0
EXIT_WARNINGS: Final = 1
EXIT_FAILED: Final = 3
"""Not 2, with which every command ends that was called wrongly."""
_ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)
"""What a session that breaks off sends, and who wants an end."""

_EXAMPLES: Final = """examples:
  sudo civigate doctor
      looks at everything; asks the running agent and disturbs nothing; without one, the concentrator is started
  civigate doctor -c gateway.toml --hands-off
      leaves the concentrator alone also when no agent runs
  sudo civigate doctor --report /media/stick/town-hall.html
      also writes a commissioning sheet: one page with a QR code, signed with the gateway's key
  civigate doctor --verify town-hall.html --key civigate-key:ed25519:...
      on any computer: is this sheet as that gateway signed it?
  civigate doctor --explain CG-DOC-305
      what was meant by a code in a log, on a photo, on the phone

Ends with 0 when all is in order, 1 with warnings (or without the sheet that was asked for), 3 when something does not
work; 4 when a sheet does not verify, cannot be read, or the key to verify with is none.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="look at the whole gateway, and say what is wrong and what to do",
        description="Look at power, buses, concentrator, time, card, network and platform: each with evidence, cause "
        "and next step. Nothing is transmitted.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="gateway.toml (%(default)s)"
    )
    parser.add_argument("--hands-off", action="store_true", help="do not reset or start the concentrator")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a signed commissioning sheet (HTML)")
    parser.add_argument("--verify", type=Path, metavar="FILE", help="check such a sheet, and nothing else")
    parser.add_argument("--explain", metavar="CODE", help="say what a code of an earlier look means")
    parser.add_argument("--key", metavar="KEY", help="to verify with: the gateway's public key, as registered")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Look, or verify a sheet; 0 in order, 1 with warnings, 3 when something fails."""
    if args.explain is not None:
        return _explain(args)
    if args.verify is not None:
        return _verify(args)
    if args.key is not None:
        args.refuse("--key belongs to --verify")
    from agent.clock import HostClock
    from agent.doctor.context import gather

    logging.getLogger().addHandler(logging.NullHandler())  # what drivers log is told in findings
    begin_s = time.monotonic()
    context = gather(args.config, HostClock(), may_start=not args.hands_off)
    with _interruptible():
        sheet = _look(context, begin_s, show=not args.json)
    if args.json:
        _say(json.dumps(sheet.as_json()))
    _keep(context, sheet)
    written = EXIT_OK if args.report is None else _report(args, context, sheet)
    return max(written, {"fail": EXIT_FAILED, "warn": EXIT_WARNINGS}.get(sheet.verdict.value, EXIT_OK))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the end of a session and of the program be what Ctrl-C is: a concentrator that was started is stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for kind in _ENDINGS:
            signal.signal(kind, signal.SIG_IGN)  # they come in twos and threes, and one is enough
        raise KeyboardInterrupt

    before = {kind: signal.getsignal(kind) for kind in _ENDINGS}
    for kind, handler in before.items():
        if handler is not signal.SIG_IGN:  # under nohup
            signal.signal(kind, interrupt)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _say(text: str) -> None:
    """Print at once; when whoever read has gone, the look goes on without: a report may be wanted all the same."""
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno not in {errno.EPIPE, errno.EIO}:
            raise
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, sys.stdout.fileno())
        os.close(nobody)


def _look(context: Context, begin_s: float, *, show: bool) -> Sheet:
    """Run all checks, and show each finding as soon as it is there."""
    from agent.command import in_colour
    from agent.doctor import screen
    from agent.doctor.examine import examine
    from agent.doctor.sheet import compose, unseen
    from agent.doctor.table import CHECKS

    colour, width = in_colour(), shutil.get_terminal_size((110, 24)).columns
    findings: list[Finding] = []

    def tell(some: tuple[Finding, ...]) -> None:
        findings.extend(some)
        if show:
            for finding in some:
                _say("\n".join(screen.lines(finding, colour=colour, width=width)))

    if show:
        _say(screen.heading(context))
    with closing(cast("Generator[tuple[Finding, ...]]", examine(CHECKS, context))) as looked:
        for some in looked:
            tell(some)
    tell(unseen(findings))
    sheet = compose(context, findings, time.monotonic() - begin_s, time.time_ns() // 1000)
    if show:
        _say(screen.closing(sheet))
    return sheet


def _keep(context: Context, sheet: Sheet) -> None:
    """Leave the sheet where status and web page find it; a user who may not do that has seen it all the same."""
    from agent.doctor.sheet import keep
    from agent.errors import AgentError

    if context.config is not None:
        with suppress(OSError, AgentError):
            keep(context.config.gateway.runtime_dir, sheet)


def _report(args: argparse.Namespace, context: Context, sheet: Sheet) -> int:
    """Write the commissioning sheet; return how that went. What was found counts all the same."""
    from agent.command import complain
    from agent.errors import AgentError

    try:
        _write(args, context, sheet)
    except AgentError as error:
        complain("civigate", error)
        return EXIT_WARNINGS
    except OSError as error:
        hint = "name a file in a folder that is there and takes it; with sudo, this user's rights do not matter"
        what = f"cannot be written: {error.strerror}"
        complain("civigate", AgentError(what, where=str(args.report), hint=hint, code="CG-DOC-905"))
        return EXIT_WARNINGS
    return EXIT_OK


def _write(args: argparse.Namespace, context: Context, sheet: Sheet) -> None:
    """Write the commissioning sheet, signed where this user may use the key."""
    from agent.doctor.identity import signer
    from agent.doctor.page import render
    from agent.doctor.seal import seal
    from agent.errors import AgentError

    try:
        key = None if context.config is None else signer(context.config)
        why = "" if context.config is not None else "there is no configuration"
    except AgentError as error:
        key, why = None, str(error)
    try:
        page = render(sheet, signed=key is not None, why=why)
    except ImportError as error:
        hint = "install it: sudo apt install python3-segno, or pip install segno"
        raise AgentError(str(error), where="QR code", hint=hint, code="CG-DOC-904") from error
    args.report.write_bytes(page if key is None else seal(page, sheet, key))
    note = "signed" if key is not None else f"not signed: {why}"
    print(f"sheet: {args.report} ({note})", file=sys.stderr)


def _explain(args: argparse.Namespace) -> int:
    """Say what a code means; words that only a look knows stand in braces."""
    from agent.doctor.causes import table

    wanted = args.explain.strip("[]").upper()
    entry = next((cause for cause in table().values() if cause.code == wanted), None)
    if entry is None:
        args.refuse(f"{wanted}: no code of the doctor; they look like CG-DOC-301")
    else:
        step = entry.next_step.replace("{hint}", "as the line itself says")
        print(f"{entry.code} ({entry.verdict.value})\nwhy: {entry.cause}\ndo:  {step}")
    return EXIT_OK


def _verify(args: argparse.Namespace) -> int:
    """Check a sheet with the key that was given, else that of this gateway, else the one that the sheet names."""
    from datetime import UTC, datetime

    from agent.batch.keys import PublicKey
    from agent.doctor.page import embedded_key
    from agent.doctor.seal import MAX_PAGE_BYTES, NotSealedError, unseal
    from agent.errors import IdentityError

    where = str(args.verify)
    try:
        with args.verify.open("rb") as file:
            page = file.read(MAX_PAGE_BYTES)
    except OSError as error:
        what, hint = f"cannot be read: {error.strerror}", "name the file of a sheet"
        raise NotSealedError(what, where=where, hint=hint, code="CG-DOC-906") from error
    text, whose = args.key or embedded_key(page), "the key that was given"
    if args.key is None:
        whose = "a key that only the sheet itself names: compare it with the registered one, or give --key"
    if not text:
        hint = "give the registered key: --key civigate-key:..."
        raise NotSealedError("names no key, so it is not signed", where=where, hint=hint, code="CG-DOC-901")
    try:
        key = PublicKey.from_text(text)
    except IdentityError as error:
        raise NotSealedError(error.what, where=error.where, hint=error.hint, code=error.code) from error
    sealed = unseal(page, key, where=where)
    moment = datetime.fromtimestamp(sealed.utc_us / 1e6, UTC)
    said = {
        "eui": sealed.eui.hex() or None,
        "verdict": sealed.verdict,
        "utc_us": sealed.utc_us,
        "kid": sealed.kid.hex(),
        "vouched": args.key is not None,
    }
    if args.json:
        print(json.dumps(said))
    else:
        gateway = said["eui"] or "of unknown EUI"
        print(f"unchanged; gateway {gateway}, verdict {sealed.verdict}, {moment:%Y-%m-%d %H:%M:%S} UTC")
        print(f"signed by {sealed.kid.hex()}: {whose}")
    return EXIT_OK if args.key is not None else EXIT_WARNINGS
