# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Build the Debian packages `civigate` and `civigate-receiver`, and a bill of materials beside each.

    python packaging/deb.py --out build/deb

What goes in is what git lists, as it lies in the working tree; owners, modes, times and order are set here, so that the
same commit gives the same bytes on any machine with the same dpkg-deb. Times are those of the newest commit, or
SOURCE_DATE_EPOCH [reproducible-builds.org/specs/source-date-epoch].
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "packaging"
for folder in (ROOT, HERE):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import completion  # noqa: E402 - only now can it be found
import licences  # noqa: E402 - the same
import manpages  # noqa: E402
import sbom  # noqa: E402

from agent.spool.store import SCHEMA_VERSION as SPOOL_VERSION  # noqa: E402
from receiver.ledger.schema import SCHEMA_VERSION as LEDGER_VERSION  # noqa: E402

XZ = ("-Zxz", "-z9", "--threads-max=1")
"""One thread: how blocks are cut depends on their number."""
_SYSTEM, _UNKNOWN = 9, b"\xff"
"""Byte of the header, and its value for none [RFC 1952, 2.3.1]."""


@dataclass(frozen=True, slots=True)
class Package:
    """What makes a binary package.

    Attributes:
        name: of the package, and of its command.
        main: module with `main()`.
        modules: folders of the working tree; what they import of the project comes along.
        config: name of the configuration file.
        store: its database, which outlives it.
        schema: newest version of that database that it knows.
        depends: with the lowest versions that the code runs with; those of Debian 12 wherever they do.
        recommends: likewise.
        suggests: likewise.
        summary: one line.
        description: paragraphs.
        data: file in packaging/ and where it goes.
    """

    name: str
    main: str
    modules: tuple[str, ...]
    config: str
    store: str
    schema: int
    depends: tuple[str, ...]
    recommends: tuple[str, ...]
    suggests: tuple[str, ...]
    summary: str
    description: tuple[str, ...]
    data: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> str:
        """Where its modules go: not where other programs look for modules, since `agent` is nobody's name."""
        return f"usr/lib/{self.name}"


_BOTH = (
    "systemd (>= 252)",
    "python3 (>= 3.11)",
    "python3-cbor2 (>= 5.4)",
    "python3-cryptography (>= 38)",
    "python3-paho-mqtt (>= 1.6.1)",
    "python3-zstandard (>= 0.19)",
    "sqlite-utils (>= 3.30)",
)
PACKAGES = (
    Package(
        name="civigate",
        main="agent.cli.main",
        modules=("agent/", "drivers/"),
        config="gateway.toml",
        store="/var/lib/civigate/spool.db",
        schema=SPOOL_VERSION,
        depends=(
            *_BOTH,
            "python3-rich (>= 13)",
            "python3-segno (>= 1.4)",
            "python3-serial (>= 3.5)",
            "python3-spidev (>= 3.5)",
            "python3-tenacity (>= 8.2)",
            "python3-urllib3 (>= 1.26.12)",
        ),
        # The second is in the archive of Raspberry Pi OS, not in Debian's.
        recommends=("ca-certificates", "python3-lgpio"),
        suggests=("civigate-receiver", "gcc", "i2c-tools", "libc6-dev"),
        summary="LoRaWAN gateway with a spool, signed batches and receipts",
        description=(
            "Drives an SX1302 or SX1303 concentrator, keeps every frame of one's own sensors in a spool until the "
            "platform has signed for it, and brings them there in signed, chained batches.",
            "The spool in /var/lib/civigate survives upgrade, removal and purge.",
        ),
        data=(
            ("systemd/civigate.service", "usr/lib/systemd/system/civigate.service"),
            ("systemd/civigate-clock.service", "usr/lib/systemd/system/civigate-clock.service"),
            ("systemd/civigate-provision.service", "usr/lib/systemd/system/civigate-provision.service"),
            ("system.conf/60-civigate-watchdog.conf", "usr/lib/systemd/system.conf.d/60-civigate-watchdog.conf"),
            ("udev/60-civigate.rules", "usr/lib/udev/rules.d/60-civigate.rules"),
            ("sysusers/civigate.conf", "usr/lib/sysusers.d/civigate.conf"),
            ("tmpfiles/civigate.conf", "usr/lib/tmpfiles.d/civigate.conf"),
            ("lintian/civigate", "usr/share/lintian/overrides/civigate"),
        ),
    ),
    Package(
        name="civigate-receiver",
        main="receiver.cli.main",
        modules=("receiver/",),
        config="receiver.toml",
        store="/var/lib/civigate-receiver/ledger.db",
        schema=LEDGER_VERSION,
        depends=(*_BOTH, "python3-fastapi (>= 0.110)", "python3-uvicorn (>= 0.27)"),
        recommends=("ca-certificates",),
        suggests=("mosquitto", "python3-prometheus-client (>= 0.16)", "python3-psycopg (>= 3.1)"),
        summary="platform side of civigate gateways: verify, store, acknowledge",
        description=(
            "Takes the batches of civigate gateways over HTTPS and MQTT, verifies and stores them, signs receipts, and "
            "accounts for every frame. Needs Debian 13 or newer.",
            "The ledger in /var/lib/civigate-receiver survives upgrade, removal and purge.",
        ),
        data=(
            ("systemd/civigate-receiver.service", "usr/lib/systemd/system/civigate-receiver.service"),
            ("sysusers/civigate-receiver.conf", "usr/lib/sysusers.d/civigate-receiver.conf"),
            ("tmpfiles/civigate-receiver.conf", "usr/lib/tmpfiles.d/civigate-receiver.conf"),
            ("lintian/civigate-receiver", "usr/share/lintian/overrides/civigate-receiver"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files come from.

    Attributes:
        root: of the working tree.
        files: that git lists, relative to it.
        epoch: seconds since 1970 that every file gets.
        version: of the packages.
        project: version in pyproject.toml.
    """

    root: Path
    files: tuple[str, ...]
    epoch: int
    version: str
    project: str


def read_source(root: Path = ROOT) -> Source:
    """Ask git what there is.

    Raises:
        SystemExit: there is no git, and thus no list of files.
    """
    project = str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])
    try:
        files = _git(root, "ls-files", "-z").split("\0")
        time, commit = _git(root, "log", "-1", "--format=%ct %h", "--abbrev=10").split()
        tagged = f"v{project}" in _git(root, "tag", "--points-at", "HEAD").split()
        changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{root}: not a git clone; packages are built from one, which says what belongs in") from error
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time))
    version = project
    if not tagged or changed:
        # `~` sorts before the release that this leads to
        version += f"~git{datetime.fromtimestamp(int(time), UTC):%Y%m%d%H%M%S}.{commit}" + (
            "+changed" if changed else ""
        )
    present = tuple(sorted(name for name in files if name and (root / name).is_file()))
    return Source(root, present, epoch, version, project)


def build(package: Package, source: Source, out: Path) -> Path:
    """Build one package and its bill of materials; return the path of the package.

    Raises:
        subprocess.CalledProcessError: dpkg-deb has refused it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="civigate-deb-") as scratch:
        tree = Path(scratch) / "tree"
        _lay_out(package, source, tree)
        _control(package, source, tree)
        _settle(tree, source.epoch)
        deb = out / f"{package.name}_{source.version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--uniform-compression", *XZ, "--build", str(tree), str(deb)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(source.epoch), "LC_ALL": "C.UTF-8"},
        )
        maker = vendor()
        relations = dict.fromkeys(package.depends, "required") | dict.fromkeys(package.recommends, "optional")
        document = sbom.document(
            name=package.name,
            version=source.version,
            summary=package.summary,
            deb=deb,
            tree=tree,
            relations=relations,
            maker=maker,
            epoch=source.epoch,
        )
        deb.with_suffix(".cdx.json").write_text(sbom.dump(document), encoding="utf-8")
    return deb


def vendor() -> sbom.Maker:
    """Return who answers for the packages: packaging/vendor.toml."""
    said = tomllib.loads((HERE / "vendor.toml").read_text())
    return sbom.Maker(said["name"], said["email"], said["url"])


def _lay_out(package: Package, source: Source, tree: Path) -> None:
    imported = _imported([name for name in source.files if name.startswith(package.modules)], source)
    for name in source.files:
        if name.startswith(package.modules) or name in imported:
            _put(tree / package.folder / name, (source.root / name).read_bytes())
    info = tree / package.folder / f"civigate-{source.project}.dist-info"
    _put(info / "METADATA", f"Metadata-Version: 2.1\nName: civigate\nVersion: {source.version}\n")
    _put(tree / "usr/bin" / package.name, _launcher(package), mode=0o755)
    for name, place in package.data:
        _put(tree / place, (HERE / name).read_bytes())
    # Modules are compiled on the machine, by each Python that it gets.
    runtime = f"usr/share/python3/runtime.d/{package.name}.rtupdate"
    _put(tree / runtime, _fill((HERE / "etc/rtupdate").read_text(), package), mode=0o755)
    doc = tree / "usr/share/doc" / package.name
    _put(doc / "changelog.gz", _zip(_changelog(package, source)))
    _put(doc / "NEWS.gz", _zip((source.root / "CHANGELOG.md").read_bytes()))
    for page in ("README.md", "SECURITY.md"):
        _put(doc / page, (source.root / page).read_bytes())
    example = "gateway.example.toml" if package.name == "civigate" else "receiver.example.toml"
    _put(doc / "examples" / package.config, (source.root / "docs" / example).read_bytes())
    for page, text in manpages.pages(package.name, source.version, source.epoch).items():
        _put(tree / "usr/share/man" / f"man{page[-1]}" / f"{page}.gz", _zip(text.encode()))
    script = completion.script(package.name)
    _put(tree / "usr/share/bash-completion/completions" / package.name, script)
    _put(doc / "copyright", licences.statement(tree, source.root / "LICENSES", vendor().url))


def _imported(names: Sequence[str], source: Source) -> set[str]:
    """Return the modules that others import, sooner or later, with the packages around them."""
    found: set[str] = set()
    left = [name for name in names if name.endswith(".py")]
    while left:
        for node in ast.walk(ast.parse((source.root / left.pop()).read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in modules:
                parts = module.split(".")
                above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
                files = {f"{path}{end}" for path in above for end in (".py", "/__init__.py", "/py.typed")}
                new = (files & set(source.files)) - found
                found |= new
                left += [name for name in new if name.endswith(".py")]
    return found


def _launcher(package: Package) -> str:
    return textwrap.dedent(
        f"""\
        #!/usr/bin/python3 -E
        import os
        import sys

        # The folder of this file is no place for modules, and no variable of a caller says what root runs.
        sys.path[0] = "/{package.folder}"
        if sys.argv[1:2] == ["demo"]:
            # It starts the other programs as modules of its own interpreter.
            os.environ["PYTHONPATH"] = "/usr/lib/civigate:/usr/lib/civigate-receiver"
            sys.path.append("/usr/lib/civigate-receiver")

        from {package.main} import main

        sys.exit(main())
        """
    )


def _control(package: Package, source: Source, tree: Path) -> None:
    maker = vendor()
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    size = sum(-(-path.stat().st_size // 1024) for path in files) + sum(1 for path in tree.rglob("*") if path.is_dir())
    fields = {
        "Package": package.name,
        "Version": source.version,
        "Architecture": "all",
        "Maintainer": f"{maker.name} <{maker.email}>",
        "Installed-Size": str(size),
        "Depends": ", ".join(sorted(package.depends)),
        "Recommends": ", ".join(package.recommends),
        "Suggests": ", ".join(package.suggests),
        # reprepro passes over packages without these two.
        "Section": "comm",
        "Priority": "optional",
        "Homepage": maker.url,
    }
    lines = [f"{field}: {value}" for field, value in fields.items() if value]
    lines.append(f"Description: {package.summary}")
    for number, paragraph in enumerate(package.description):
        lines += [" ."] * bool(number) + textwrap.wrap(paragraph, 78, initial_indent=" ", subsequent_indent=" ")
    control = tree / "DEBIAN"
    _put(control / "control", "\n".join(lines) + "\n")
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}" for path in files)  # noqa: S324
    _put(control / "md5sums", "\n".join(sums) + "\n")
    for name in ("preinst", "postinst", "prerm", "postrm"):
        _put(control / name, _fill((HERE / "maintainer" / name).read_text(), package), mode=0o755)


def _fill(text: str, package: Package) -> str:
    units = " ".join(Path(place).name for _, place in package.data if place.endswith(".service"))
    known = {
        "@PACKAGE@": package.name,
        "@CONFIG@": package.config,
        "@STORE@": package.store,
        "@SCHEMA@": str(package.schema),
        "@UNITS@": units,
    }
    for mark, value in known.items():
        text = text.replace(mark, value)
    return text


def _changelog(package: Package, source: Source) -> bytes:
    maker = vendor()
    when = format_datetime(datetime.fromtimestamp(source.epoch, UTC))
    text = f"{package.name} ({source.version}) unstable; urgency=medium\n\n  * See NEWS.gz.\n\n"
    return f"{text} -- {maker.name} <{maker.email}>  {when}\n".encode()


def _put(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)


def _settle(tree: Path, epoch: int) -> None:
    """Give everything the modes and times that the builder's umask and clock would decide otherwise."""
    for path in [tree, *tree.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch))


def _zip(content: bytes) -> bytes:
    """Compress; the header names no time and no system, which some versions of Python put in and others do not."""
    zipped = gzip.compress(content, 9, mtime=0)
    return zipped[:_SYSTEM] + _UNKNOWN + zipped[_SYSTEM + 1 :]


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Build what is asked for, and print the paths."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "deb", help="folder (default: build/deb)")
    parser.add_argument("--version", help="instead of the one made of pyproject.toml and git")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="default: all")
    args = parser.parse_args(argv)
    if shutil.which("dpkg-deb") is None:
        parser.error("dpkg-deb is missing: this needs Debian")
    source = read_source()
    if args.version:
        source = Source(source.root, source.files, source.epoch, args.version, source.project)
    for package in PACKAGES:
        if not args.packages or package.name in args.packages:
            print(build(package, source, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
