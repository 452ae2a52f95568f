# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate firmware`: get the concentrator's firmware into its place, and see what is there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drivers.errors import FirmwareError
    from drivers.sx1302.firmware import FirmwareId, Mcu
    from drivers.sx1302.firmware_search import FoundImage

DEFAULT_FOLDER: Final = Path("/var/lib/civigate/firmware")
"""Where a gateway looks whose configuration says nothing else."""

_EXAMPLES: Final = """examples:
  git clone --branch V2.1.0 --depth 1 https://github.com/Lora-net/sx1302_hal
  civigate firmware import sx1302_hal
  civigate firmware import sx1302_hal-2.1.0.zip
      or .tar.gz, as it was downloaded
  civigate firmware import /opt/lora_pkt_fwd -c /etc/civigate/gateway.toml
      out of a packet forwarder or a Basics Station that already ran on this gateway
  civigate firmware list

The chip needs two images that Semtech publishes and this program does not carry: agc_fw_sx1250 and arb_fw
of sx1302_hal V2.0.0 to V2.1.0. They are known by their SHA-256; others are named and left where they are.
The patch for an SX1261 (listen before talk, noise) comes along where it is found.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its two verbs."""
    parser = subparsers.add_parser(
        "firmware",
        help="import or list the concentrator's firmware",
        description="The firmware of the two microcontrollers in the SX1302 and SX1303.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    take = verbs.add_parser(
        "import", help="find the images in a file or folder, and put them where they are looked for"
    )
    take.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="sx1302_hal, also as an archive, an image, or a compiled packet forwarder",
    )
    take.set_defaults(func=_import)
    show = verbs.add_parser("list", help="say what is there")
    show.set_defaults(func=_list)
    for verb, option in ((take, "--to"), (show, "--in")):
        verb.add_argument(
            option, dest="folder", type=Path, metavar="FOLDER", help=f"the firmware folder ({DEFAULT_FOLDER})"
        )
        verb.add_argument("-c", "--config", type=Path, metavar="FILE", help="gateway.toml, which names the folder")
        verb.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def _import(args: argparse.Namespace) -> int:
    from agent.firmware import look_into, missing, not_found
    from agent.ownership import as_owner

    folders = _folders(args)
    folder = folders[0]
    source = look_into(args.path)
    with as_owner(_home(args), folder):
        written = source.install(folder)
    taken = list(source.taken.values())
    if args.json:
        found = [_as_json(one.path, one.identity, written if one in taken else {}) for one in source.images]
        print(json.dumps({"folder": str(folder), "images": found}))
    else:
        for one in source.images:
            outcome = _refusal(one)
            if one.identity and one in taken:
                outcome = f"written to {written[one.identity.mcu]}"
            print(f"{one.path}: {one.identity or 'unknown image'}: {outcome}")
        if source.patch is not None:
            print(f"{source.patch[0]}: patch for the SX1261: written beside them into {folder}")
    if lacking := missing(folders, besides=written):
        raise not_found(args.path, lacking)
    return 0


def _list(args: argparse.Namespace) -> int:
    from drivers.errors import FirmwareError
    from drivers.sx1302.firmware import FILE_NAMES, check_file, find

    folders = _folders(args)
    rows: list[tuple[Path, FirmwareId | None, FirmwareError | None]] = []
    for mcu in FILE_NAMES:
        path = find(folders, mcu)
        try:
            rows.append((path, check_file(path, mcu), None))
        except FirmwareError as error:
            rows.append((path, None, error))
    if args.json:
        files = [
            _as_json(path, identity, {}) | {"problem": None if problem is None else problem.what}
            for path, identity, problem in rows
        ]
        print(json.dumps({"folder": str(folders[0]), "images": files}))
    else:
        for path, identity, problem in rows:
            print(f"{path}: {identity or (problem and problem.what)}")
    for _, _, problem in rows:
        if problem is not None:
            raise problem
    return 0


def _folders(args: argparse.Namespace) -> tuple[Path, ...]:
    """Return where the images may be; the first is where they go."""
    from drivers.sx1302.firmware import SYSTEM_FOLDER

    if args.folder is not None:
        return (Path(args.folder),)
    if args.config is not None:
        from agent import config

        return config.load(args.config).firmware_dirs
    return DEFAULT_FOLDER, SYSTEM_FOLDER


def _home(args: argparse.Namespace) -> Path:
    """Return the folder of the service."""
    if args.config is not None:
        from agent import config

        return config.load(args.config).gateway.state_dir
    return DEFAULT_FOLDER.parent


def _refusal(one: FoundImage) -> str:
    if one.identity is None:
        return "left: of no release that is known"
    if one.identity.synthetic:
        return "left: made for the emulator"
    if one.identity.radio == "SX125x":
        return "left: for boards with SX1255 or SX1257 radios, which are not supported"
    if not one.identity.required:
        return "left: too old, take sx1302_hal V2.1.0"
    return "left: the same as another"


def _as_json(path: Path, identity: FirmwareId | None, written: dict[Mcu, Path]) -> dict[str, object]:
    said: dict[str, object] = {"path": str(path), "mcu": None, "version": None, "radio": None, "releases": None}
    if identity is not None:
        said |= {
            "mcu": identity.mcu.value,
            "version": identity.version,
            "radio": identity.radio,
            "releases": identity.releases,
        }
        if identity.mcu in written:
            said["written"] = str(written[identity.mcu])
    return said
