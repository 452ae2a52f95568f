# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Build the memory card of the virtual machine: a clean Debian, as a Raspberry Pi would find it on its card.

    python -m hil_tests.vm.image bookworm trixie

Two partitions, as on Raspberry Pi OS: FAT (`/boot/firmware`) and ext4 (`/`). Beside it lie kernel and initial RAM disk,
with which QEMU starts without a boot loader, and the Debian packages that civigate depends on, not on the card itself:
installing them is part of what is tested. All is kept under the digest of what it was made of.

The tree comes from the archive of Debian by mmdebstrap, as root. An ordinary kernel, not that for clouds, which has
neither SPI nor GPIO.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARD = Path(__file__).with_name("card")
"""Files of the bench that are laid over the tree."""

SUITES = ("bookworm", "trixie")
MIB = 1 << 20
BOOT_OFFSET_BYTES = 1 * MIB
BOOT_BYTES = 64 * MIB
ROOT_OFFSET_BYTES = BOOT_OFFSET_BYTES + BOOT_BYTES
ROOT_BYTES = 2560 * MIB

_SYSTEM = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "python3", "linux-image-amd64", "initramfs-tools", "zstd"),
    *("e2fsprogs", "dosfstools", "procps", "iproute2", "gpiod", "sqlite3"),
    *("network-manager", "wpasupplicant", "iw", "hostapd"),
)
"""What Raspberry Pi OS Lite has as well, and what the tests look with; the last is an access point."""

_INITRD_MODULES = ("virtio_pci", "virtio_blk", "ext4")
_NO_USE = (
    *("systemd-logind.service", "getty@tty1.service", "console-getty.service", "apt-daily.timer"),
    *("apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer"),
    *("systemd-networkd-wait-online.service", "serial-getty@ttyS0.service"),
    *("NetworkManager.service", "NetworkManager-wait-online.service", "wpa_supplicant.service", "hostapd.service"),
)
"""Units that cost seconds of an emulated processor and show nothing; `hil_tests.vm.wifi` wants some of them."""

_ENABLED = ("bench-shell.service", "bench-concentrator.service", "bench-air.socket", "systemd-networkd.service")
_EPOCH = 1_750_000_000
_BUILD_LIMIT_S = 1800
_SECTOR_BYTES = 512
_FAT32_LBA, _LINUX = 0x0C, 0x83


@dataclass(frozen=True, slots=True)
class Card:
    """What a machine is started with; files to be copied before they are written to.

    Attributes:
        suite: of Debian.
        disk: the card, sparse, with both partitions.
        kernel: uncompressed or not, as QEMU takes it.
        initrd: initial RAM disk.
        pool: folder of packages that are not on the card.
    """

    suite: str
    disk: Path
    kernel: Path
    initrd: Path
    pool: Path


def cache_folder() -> Path:
    """Return where cards are kept: $CIVIGATE_VM_CACHE, or civigate-vm in the user's cache."""
    told = os.environ.get("CIVIGATE_VM_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(told) if told else base / "civigate-vm"


def card(suite: str, cache: Path | None = None) -> Card:
    """Return the card of a suite; build it if there is none of this recipe.

    Raises:
        SystemExit: a program is missing, this is not root, or the archive cannot be reached.
    """
    if suite not in SUITES:
        raise SystemExit(f"{suite}: no card is made of it; there are {', '.join(SUITES)}")
    folder = (cache or cache_folder()) / f"{suite}-{_digest(suite)}"
    if not (folder / "complete").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            # another run of the tests may be making it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "complete").exists():
                _build(suite, folder)
    return Card(suite, folder / "disk.raw", folder / "vmlinuz", folder / "initrd.img", folder / "pool")


def needed_packages() -> tuple[str, ...]:
    """Return the names of the Debian packages that the gateway's package depends on."""
    sys.path.insert(0, str(ROOT / "packaging"))
    import deb  # noqa: PLC0415 - a folder that is no package

    gateway = next(package for package in deb.PACKAGES if package.name == "civigate")
    return tuple(sorted(relation.partition(" ")[0] for relation in gateway.depends))


def _digest(suite: str) -> str:
    told = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for path in CARD.rglob("*") if path.is_file()):
        told.update(f"{path.relative_to(CARD)}\0".encode() + path.read_bytes())
    told.update("\0".join((suite, _mirror(), *needed_packages())).encode())
    return told.hexdigest()[:12]


def _mirror() -> str:
    return os.environ.get("MIRROR", "http://deb.debian.org/debian")


def _build(suite: str, folder: Path) -> None:
    for program, package in (("mmdebstrap", ""), ("mke2fs", "e2fsprogs"), ("mkfs.fat", "dosfstools")):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing: apt install {package or program}")
    if os.geteuid() != 0:
        raise SystemExit("a tree of Debian is made by root: use sudo, or set CIVIGATE_VM_CACHE to one that is made")
    began = time.monotonic()
    print(f"building a card of {suite}, some minutes: {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="civigate-vm-", dir=folder.parent) as scratch:
        tree, made = Path(scratch) / "tree", Path(scratch) / "made"
        (made / "pool").mkdir(parents=True)
        _bootstrap(suite, tree, made)
        _partition(tree, made)
        (made / "complete").touch()
        made.rename(folder)
    print(f"built in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _bootstrap(suite: str, tree: Path, made: Path) -> None:
    """Make the tree, and take out of it what does not belong on the card."""
    log = made / "build.log"
    conf = "etc/initramfs-tools/conf.d/bench.conf"
    slim = (
        f'mkdir -p "$1/etc/initramfs-tools/conf.d"; printf "MODULES=list\\nCOMPRESS=zstd\\n" >"$1/{conf}"; '
        f'printf "%s\\n" {" ".join(_INITRD_MODULES)} >"$1/etc/initramfs-tools/modules"'
    )
    hooks = (
        # what installing civigate will want, by the archive's own reckoning
        'rm -f "$1"/var/cache/apt/archives/*.deb',
        f'chroot "$1" apt-get install -y --download-only {" ".join(needed_packages())}',
        f'cp "$1"/var/cache/apt/archives/*.deb "{made / "pool"}"; rm "$1"/var/cache/apt/archives/*.deb',
        f'cp -rT "{CARD}" "$1"; chmod -R u=rwX,go=rX "$1/etc/systemd" "$1/etc/bench"',
        'echo gateway >"$1/etc/hostname"; echo 127.0.0.1 localhost gateway >"$1/etc/hosts"',
        'mkdir -p "$1/boot/firmware" "$1/media/stick" "$1/var/lib/civigate"',
        f'chroot "$1" systemctl mask --quiet {" ".join(_NO_USE)}',
        f'chroot "$1" systemctl enable --quiet {" ".join(_ENABLED)}',
        # Nothing is to be fetched later, and documentation is installed as anywhere.
        'rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap',
        'printf \'APT::Install-Recommends "false";\\nAcquire::Languages "none";\\n\' >"$1/etc/apt/apt.conf.d/90bench"',
        'chroot "$1" passwd --quiet --delete root',
        # work of a first boot that a card from a factory has behind it, too
        'chroot "$1" ldconfig; chroot "$1" journalctl --update-catalog; chroot "$1" systemd-machine-id-setup',
        'rm -rf "$1"/var/lib/apt/lists/*; touch "$1/etc/.updated" "$1/var/.updated"',
    )
    command = [
        # What it mounts into the tree is seen by nobody else: if it is killed, nothing of this system is left in there
        # for whoever clears the folder away.
        *("unshare", "--mount", "--propagation", "private", "--fork", "--kill-child"),
        *("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(_SYSTEM)}"),
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        f"--essential-hook={slim}",
        *(f"--customize-hook={hook}" for hook in hooks),
        *(suite, str(tree), f"deb {_mirror()} {suite} main"),
    ]
    with log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=output, check=False, timeout=_BUILD_LIMIT_S)
    if done.returncode != 0:
        said = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"mmdebstrap has failed, perhaps without a way to {_mirror()} (set MIRROR):\n{said}")


def _partition(tree: Path, made: Path) -> None:
    """Put the tree into a file with two partitions; needs neither a loop device nor a mount."""
    boot = tree / "boot"
    shutil.copyfile(next(iter(sorted(boot.glob("vmlinuz-*")))), made / "vmlinuz")
    shutil.copyfile(next(iter(sorted(boot.glob("initrd.img-*")))), made / "initrd.img")
    disk = made / "disk.raw"
    with disk.open("wb") as file:
        file.write(_master_boot_record())
        file.truncate(ROOT_OFFSET_BYTES + ROOT_BYTES)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)}
    fat = made / "boot.fat"
    with fat.open("wb") as file:
        file.truncate(BOOT_BYTES)
    _run("mkfs.fat", "-F", "32", "-n", "bootfs", "-i", "C1716A7E", str(fat), environment=environment)
    _run("dd", f"if={fat}", f"of={disk}", "bs=1M", f"seek={BOOT_OFFSET_BYTES // MIB}", "conv=sparse,notrunc")
    fat.unlink()
    options = f"offset={ROOT_OFFSET_BYTES},lazy_itable_init=1,nodiscard"
    _run(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-L",
        "root",
        "-d",
        str(tree),
        "-E",
        options,
        str(disk),
        f"{ROOT_BYTES // 1024}k",
    )


def _master_boot_record() -> bytes:
    """Return the first sector: two primary partitions, without code and without cylinders, heads and sectors."""
    entries = b"".join(
        struct.pack("<4xB3xII", kind, offset // _SECTOR_BYTES, size // _SECTOR_BYTES)
        for kind, offset, size in (
            (_FAT32_LBA, BOOT_OFFSET_BYTES, BOOT_BYTES),
            (_LINUX, ROOT_OFFSET_BYTES, ROOT_BYTES),
        )
    )
    return (bytes(440) + b"\x7e\x6a\x71\xc1\0\0" + entries).ljust(510, b"\0") + b"\x55\xaa"


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=_BUILD_LIMIT_S)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def main(argv: Sequence[str] | None = None) -> int:
    """Build what is asked for, and print where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"default: {' '.join(SUITES)}")
    for suite in parser.parse_args(argv).suites or SUITES:
        print(card(suite).disk.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
