# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate firmware`: get the concentrator's firmware into its place, and see what is there."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    from drivers import sx1261_patch
    from drivers.sx1302.firmware import FILE_NAMES
    from drivers.sx1302.firmware_search import search

    folders = _folders(args)
    folder = folders[0]
    images = search(args.path)
    taken = {
        one.identity.mcu: one for one in images if one.identity and one.identity.required and not one.identity.synthetic
    }
    written = {mcu: folder / FILE_NAMES[mcu] for mcu in FILE_NAMES if mcu in taken}
    for mcu, target in written.items():
        _write(target, taken[mcu].image)
    patch = sx1261_patch.find(args.path)
    if patch is not None:
        _write(folder / sx1261_patch.FILE_NAME, patch[1])
    if args.json:
        found = [_as_json(one.path, one.identity, written if one in taken.values() else {}) for one in images]
        print(json.dumps({"folder": str(folder), "images": found}))
    else:
        for one in images:
            outcome = _refusal(one)
            if one.identity and one in taken.values():
                outcome = f"written to {written[one.identity.mcu]}"
            print(f"{one.path}: {one.identity or 'unknown image'}: {outcome}")
        if patch is not None:
            print(f"{patch[0]}: patch for the SX1261: written to {folder / sx1261_patch.FILE_NAME}")
    missing = [mcu for mcu in FILE_NAMES if mcu not in taken and not _usable(folders, mcu)]
    if missing:
        raise _not_found(args.path, missing)
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


def _usable(folders: Sequence[Path], mcu: Mcu) -> bool:
    from drivers.errors import FirmwareError
    from drivers.sx1302.firmware import check_file, find

    try:
        check_file(find(folders, mcu), mcu)
    except FirmwareError:
        return False
    return True


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


def _write(target: Path, image: bytes) -> None:
    """Put an image in its place, whole or not at all.

    Raises:
        FirmwareError: the folder cannot be written.
    """
    from drivers.errors import FirmwareError

    fresh = target.with_suffix(".new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    except OSError as error:
        raise FirmwareError(
            f"cannot be written: {error.strerror}",
            op="import firmware",
            where=str(target),
            hint="run this as a user who may write there (sudo), or name another folder with --to",
            code="CG-FW-010",
        ) from error


def _not_found(path: Path, missing: Iterable[Mcu]) -> FirmwareError:
    from drivers.errors import FirmwareError

    return FirmwareError(
        f"no image for the {' and the '.join(mcu.upper() for mcu in missing)} that this program can use",
        op="import firmware",
        where=str(path),
        hint="take sx1302_hal V2.1.0 from https://github.com/Lora-net/sx1302_hal, unpacked",
        code="CG-FW-011",
    )


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
