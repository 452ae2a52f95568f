# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Bill of materials of a Debian package: CycloneDX 1.6 with the fields of BSI TR-03183-2, and its checker.

    python packaging/sbom.py check build/deb/civigate_*.cdx.json

Listed are the package, each file in it, and each package of the distribution that it depends on. What those in turn
depend on is the distribution's to say, and differs from one to the next: the document says that it ends there.
Sources: BSI TR-03183-2 v2.1 section 5.2; BSI's property taxonomy for CycloneDX v0.1; CycloneDX 1.6.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import licences

SPEC_VERSION = "1.6"
_NAMESPACE = uuid.UUID("6b0a9d52-6a55-5c2c-9b41-0c3f6e1c7f3d")
"""Of the serial numbers, so that the same package has the same one."""
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SERIAL = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHA512 = re.compile(r"[0-9a-f]{128}")
_SCOPES = {"Depends": "required", "Recommends": "optional"}
_PROPERTIES = {
    "bsi:component:executable": ("executable", "non-executable"),
    "bsi:component:archive": ("archive", "no archive"),
    "bsi:component:structured": ("structured", "unstructured"),
}
_DISTRIBUTION_LICENCES = {
    "ca-certificates": "GPL-2.0-or-later AND MPL-2.0",
    "python3": "PSF-2.0",
    "python3-cbor2": "MIT",
    "python3-cryptography": "Apache-2.0 OR BSD-3-Clause",
    "python3-fastapi": "MIT",
    "python3-lgpio": "Unlicense",
    "python3-paho-mqtt": "EPL-2.0 OR BSD-3-Clause",
    "python3-rich": "MIT",
    "python3-segno": "BSD-3-Clause",
    "python3-serial": "BSD-3-Clause",
    "python3-spidev": "MIT",
    "python3-tenacity": "Apache-2.0",
    "python3-urllib3": "MIT",
    "python3-uvicorn": "BSD-3-Clause",
    "python3-zstandard": "BSD-3-Clause",
    "sqlite-utils": "Apache-2.0",
    "systemd": "LGPL-2.1-or-later",
}
"""As their debian/copyright says of the parts that are used."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes something: name, and where to reach him."""

    name: str
    email: str
    url: str

    @property
    def entity(self) -> dict[str, Any]:
        """As CycloneDX writes an organisation."""
        return {"name": self.name, "url": [self.url], "contact": [{"email": self.email}]}


DEBIAN = Maker("Debian", "debian-devel@lists.debian.org", "https://www.debian.org")
JOAN = Maker("joan", "joan@abyz.me.uk", "http://abyz.me.uk/lg/")
"""Who makes lgpio, as its setup.py says."""
_ELSEWHERE = {
    "python3-lgpio": ("pkg:deb/raspberrypi/python3-lgpio?repository_url=archive.raspberrypi.com%2Fdebian", JOAN),
}
"""What Debian does not have: where it is, and who makes it."""


def document(
    *,
    name: str,
    version: str,
    summary: str,
    deb: Path,
    tree: Path,
    relations: Mapping[str, str],
    maker: Maker,
    epoch: int,
) -> dict[str, Any]:
    """Return the bill of materials of a package.

    Args:
        name: of the package.
        version: of it.
        summary: one line.
        deb: the package.
        tree: what was packed, with the folder DEBIAN.
        relations: as in Depends, e.g. "python3-cbor2 (>= 5.4)", each with its scope; of alternatives the first counts.
        maker: who answers for it.
        epoch: seconds since 1970 for the time stamp.
    """
    root = _purl(name, version)
    paths = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_relative_to(tree / "DEBIAN"))
    terms = {path: licences.read(path) for path in paths}
    package = _component(
        root,
        name,
        version,
        filename=deb.name,
        digest=_sha512(deb.read_bytes()),
        creator=maker.entity,
        site=maker.url,
        licence=licences.together(one.expression for one in terms.values()),
        archive=True,
        structured=True,
    )
    package |= {"type": "application", "description": summary, "purl": root}
    package["externalReferences"] += [
        {"type": "source-distribution", "url": maker.url},
        {"type": "rfc-9116", "url": f"{maker.url}/.well-known/security.txt"},
    ]
    files = []
    for path, said in terms.items():
        where = str(path.relative_to(tree))
        component = _component(
            f"{root}#{where}",
            f"/{where}",
            version,
            filename=path.name,
            digest=_sha512(path.read_bytes()),
            creator=maker.entity if said.holders == licences.OURS.holders else _entity(said.holders),
            site=maker.url,
            licence=said.expression,
            executable=bool(path.stat().st_mode & 0o111) or path.suffix in {".py", ".service"},
            archive=path.suffix in {".gz", ".xz"},
            structured=True,
        )
        notice = "; ".join(str(holder) for holder in said.holders)
        files.append(component | {"type": "file", "copyright": notice})
    needed = [_needed(relation, scope) for relation, scope in relations.items()]
    refs = [component["bom-ref"] for component in files]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, root)}",
        "version": 1,
        "metadata": {
            "timestamp": f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "lifecycles": [{"phase": "build"}],
            "tools": {
                "components": [{"type": "application", "name": "civigate packaging/sbom.py", "version": version}]
            },
            "manufacturer": maker.entity,
            "component": package,
        },
        "components": files + needed,
        "dependencies": [
            {"ref": root, "dependsOn": sorted([*refs, *(component["bom-ref"] for component in needed)])},
            *({"ref": component["bom-ref"], "dependsOn": []} for component in [*files, *needed]),
        ],
        "compositions": [
            {"aggregate": "complete", "assemblies": [root], "dependencies": sorted([root, *refs])},
            {"aggregate": "unknown", "dependencies": sorted(component["bom-ref"] for component in needed)},
        ],
    }


def _purl(name: str, version: str) -> str:
    return f"pkg:deb/civigate/{name}@{version}?arch=all"


def dump(said: Mapping[str, Any]) -> str:
    """Write a document, always in the same way."""
    return json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _component(
    ref: str,
    name: str,
    version: str,
    *,
    filename: str,
    digest: str,
    creator: Mapping[str, Any],
    site: str,
    licence: str,
    executable: bool = True,
    archive: bool = False,
    structured: bool = False,
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "bom-ref": ref,
        "name": name,
        "version": version,
        "manufacturer": creator,
        "licenses": _licences(licence),
        "properties": [
            {"name": "bsi:component:filename", "value": filename},
            {"name": "bsi:component:executable", "value": _PROPERTIES["bsi:component:executable"][not executable]},
            {"name": "bsi:component:archive", "value": _PROPERTIES["bsi:component:archive"][not archive]},
            {"name": "bsi:component:structured", "value": _PROPERTIES["bsi:component:structured"][not structured]},
        ],
        "hashes": [{"alg": "SHA-512", "content": digest}],
    }
    hashes = [{"alg": "SHA-512", "content": digest}]
    said["externalReferences"] = [{"type": "distribution", "url": f"{site}/{filename}", "hashes": hashes}]
    return said


def _entity(holders: Sequence[licences.Holder]) -> dict[str, Any]:
    """Describe those who made a file that is not ours."""
    contacts = sorted({holder.contact for holder in holders if holder.contact})
    said: dict[str, Any] = {"name": ", ".join(dict.fromkeys(holder.name for holder in holders))}
    if addresses := [one for one in contacts if "://" not in one]:
        said["contact"] = [{"email": one} for one in addresses]
    return said | {"url": [one for one in contacts if "://" in one]}


def _needed(relation: str, scope: str) -> dict[str, Any]:
    """Describe a package of the distribution: which version and bytes, the system decides that it is installed on."""
    name, bound = _relation(relation)
    purl, maker = _ELSEWHERE.get(name, (f"pkg:deb/debian/{name}", DEBIAN))
    return {
        "type": "library",
        "bom-ref": purl,
        "purl": purl,
        "name": name,
        "manufacturer": maker.entity,
        "licenses": _licences(_DISTRIBUTION_LICENCES[name]),
        "scope": scope,
        "properties": [
            {"name": "civigate:relation", "value": bound},
            {"name": "civigate:supplied-by", "value": "distribution"},
        ],
    }


def _relation(relation: str) -> tuple[str, str]:
    """Return name and bound of a relation, e.g. ">= 5.4" or "any"; of alternatives those of the first."""
    name, _, bound = relation.partition(" | ")[0].partition(" ")
    return name, bound.strip("()") or "any"


def _licences(expression: str) -> list[dict[str, Any]]:
    if " " in expression:
        return [{"expression": expression, "acknowledgement": "concluded"}]
    return [{"license": {"id": expression, "acknowledgement": "concluded"}}]


def _sha512(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest()


def check(said: Mapping[str, Any]) -> list[str]:
    """Return what the guideline asks for and the document lacks, one sentence each; none when it is right."""
    return list(_faults(said))


def _faults(said: Mapping[str, Any]) -> Iterator[str]:
    if said.get("bomFormat") != "CycloneDX":
        yield "bomFormat is not CycloneDX"
    if tuple(map(int, str(said.get("specVersion", "0")).split("."))) < (1, 6):
        yield "specVersion is below 1.6"
    if not _SERIAL.fullmatch(str(said.get("serialNumber", ""))):
        yield "serialNumber is no UUID: the document has no SBOM-URI"
    if "vulnerabilities" in said:
        yield "vulnerabilities do not belong in here"
    metadata = said.get("metadata", {})
    if not _STAMP.fullmatch(str(metadata.get("timestamp", ""))):
        yield "metadata.timestamp is no UTC time"
    if not _reachable(metadata.get("manufacturer")):
        yield "metadata.manufacturer, the creator of the document, has neither e-mail nor URL"
    primary = metadata.get("component", {})
    components = [primary, *said.get("components", [])]
    refs = [str(component.get("bom-ref", "")) for component in components]
    for ref in sorted({ref for ref in refs if refs.count(ref) > 1}) if len(set(refs)) < len(refs) else ():
        yield f"bom-ref {ref!r} is there twice"
    for component in components:
        yield from _faults_of(component)
    if not primary.get("purl"):
        yield "the primary component has no purl"
    known = {str(entry.get("ref")): entry.get("dependsOn") for entry in said.get("dependencies", [])}
    for ref in refs:
        if ref not in known:
            yield f"{ref}: nothing is said of what it depends on"
    for ref, needed in known.items():
        yield from (f"{ref}: depends on {other}, which is not listed" for other in needed or () if other not in refs)
    stated = {ref for entry in said.get("compositions", []) for ref in entry.get("dependencies", [])}
    yield from (f"{ref}: nothing says whether its dependencies are complete" for ref in refs if ref not in stated)


def _faults_of(component: Mapping[str, Any]) -> Iterator[str]:
    name = component.get("bom-ref") or component.get("name") or "a component"
    if not component.get("name"):
        yield f"{name}: no name"
    if not _reachable(component.get("manufacturer")):
        yield f"{name}: its creator has neither e-mail nor URL"
    if not any(_is_licence(one) for one in component.get("licenses", [])):
        yield f"{name}: no licence of distribution (acknowledgement concluded)"
    properties = [(str(one.get("name")), str(one.get("value"))) for one in component.get("properties", [])]
    if ("civigate:supplied-by", "distribution") in properties:
        if not component.get("purl"):
            yield f"{name}: no purl"
        return
    if not component.get("version"):
        yield f"{name}: no version"
    values = dict(properties)
    if not values.get("bsi:component:filename"):
        yield f"{name}: no bsi:component:filename"
    for key, allowed in _PROPERTIES.items():
        if [value in allowed for found, value in properties if found == key] != [True]:
            yield f"{name}: {key} is not there once with one of {', '.join(allowed)}"
    digests = [
        digest.get("content", "")
        for reference in component.get("externalReferences", [])
        if reference.get("type") == "distribution"
        for digest in reference.get("hashes", [])
        if digest.get("alg") == "SHA-512"
    ]
    if not digests or not all(_SHA512.fullmatch(digest) for digest in digests):
        yield f"{name}: no SHA-512 of what is distributed"


def _reachable(entity: Any) -> bool:
    if not isinstance(entity, Mapping):
        return False
    addresses = [contact.get("email") for contact in entity.get("contact", [])]
    return any("@" in str(one) for one in addresses) or any("://" in str(one) for one in entity.get("url", []))


def _is_licence(one: Mapping[str, Any]) -> bool:
    inner = one.get("license", one)
    found = inner.get("id") or inner.get("expression")
    return bool(found) and inner.get("acknowledgement") == "concluded"


def compare(said: Mapping[str, Any], deb: Path, tree: Path) -> list[str]:
    """Return where the document and the package differ.

    Args:
        said: the document.
        deb: the package.
        tree: the package, unpacked.
    """
    listed = {
        component["name"]: (component["hashes"][0]["content"], component["licenses"])
        for component in said["components"]
        if component["type"] == "file"
    }
    there = {
        f"/{path.relative_to(tree)}": (_sha512(path.read_bytes()), _licences(licences.read(path).expression))
        for path in tree.rglob("*")
        if path.is_file()
    }
    faults = [f"{name}: not listed" for name in sorted(there.keys() - listed.keys())]
    faults += [f"{name}: listed and not there" for name in sorted(listed.keys() - there.keys())]
    for name in sorted(there.keys() & listed.keys()):
        what = ("content", "licence")
        pairs = zip(what, there[name], listed[name], strict=True)
        faults += [f"{name}: other {one}" for one, found, told in pairs if found != told]
    if said["metadata"]["component"]["hashes"][0]["content"] != _sha512(deb.read_bytes()):
        faults.append(f"{deb.name}: other content")
    return faults + list(_other_than_its_control(said, deb))


def _other_than_its_control(said: Mapping[str, Any], deb: Path) -> Iterator[str]:
    primary = said["metadata"]["component"]
    name, version = _field(deb, "Package"), _field(deb, "Version")
    for key, value in ("name", name), ("version", version), ("purl", _purl(name, version)):
        if primary.get(key) != value:
            yield f"{deb.name}: {key} is {value}, the document says {primary.get(key)}"
    needed = {
        package: (bound, scope)
        for field, scope in _SCOPES.items()
        for package, bound in map(_relation, filter(None, _field(deb, field).split(", ")))
    }
    packages = {one["bom-ref"]: one for one in said["components"] if one["type"] == "library"}
    listed = {one["name"]: (one["properties"][0]["value"], one["scope"]) for one in packages.values()}
    for package in sorted(needed.keys() | listed.keys()):
        if needed.get(package) != listed.get(package):
            yield f"{deb.name}: of {package} it needs {needed.get(package)}, listed is {listed.get(package)}"
    depends = {str(ref) for one in said["dependencies"] if one["ref"] == primary["bom-ref"] for ref in one["dependsOn"]}
    yield from (f"{deb.name}: nothing depends on {ref}" for ref in sorted(packages.keys() - depends))


def _field(deb: Path, name: str) -> str:
    done = subprocess.run(["dpkg-deb", "--field", str(deb), name], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _differences(said: Mapping[str, Any], file: Path) -> list[str]:
    """Return where a document differs from the package beside it; none where there is no package."""
    deb = file.with_name(file.name.removesuffix(".cdx.json") + ".deb")
    if not deb.exists():
        return []
    with tempfile.TemporaryDirectory(prefix="civigate-sbom-") as tree:
        subprocess.run(["dpkg-deb", "--extract", str(deb), tree], check=True)
        return compare(said, deb, Path(tree))


def main(argv: Sequence[str] | None = None) -> int:
    """Check documents, and the packages beside them; 0 when all are right, 1 when not."""
    parser = argparse.ArgumentParser(description="Check bills of materials against BSI TR-03183-2.")
    parser.add_argument("verb", choices=("check",))
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    wrong = 0
    for file in args.files:
        said = json.loads(file.read_text(encoding="utf-8"))
        faults = check(said) or _differences(said, file)
        wrong += bool(faults)
        print(f"{file}: {'ok' if not faults else f'{len(faults)} faults'}")
        for fault in faults[:50]:
            print(f"  {fault}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
