# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bill of materials has the fields of BSI TR-03183-2, says what is in the package, and is checked."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sbom

from tests.packaging.conftest import Built

pytestmark = pytest.mark.xdist_group("packaging")
Document = dict[str, Any]


@pytest.fixture
def said(built: Built) -> Document:
    document: Document = json.loads(built.bill.read_text())
    return document


def test_it_is_right_and_tells_of_every_file(built: Built, said: Document) -> None:
    assert sbom.check(said) == []
    assert sbom.compare(said, built.deb, built.tree) == []


def test_what_is_only_recommended_is_optional(said: Document) -> None:
    scopes = {one["name"]: one["scope"] for one in said["components"] if "scope" in one}
    assert (scopes["python3-cbor2"], scopes["ca-certificates"]) == ("required", "optional")


def test_it_names_every_package_that_is_needed(built: Built, said: Document) -> None:
    control = (built.control / "control").read_text()
    needed = re.search("^Depends: (.*)$", control, re.MULTILINE)
    assert needed is not None
    assert {relation.split()[0] for relation in needed[1].split(", ")} <= {one["name"] for one in said["components"]}


def test_a_licence_that_is_not_ours_is_told(built: Built, said: Document) -> None:
    primary = said["metadata"]["component"]
    if primary["name"] == "civigate-receiver":
        assert primary["licenses"] == [{"license": {"id": "EUPL-1.2", "acknowledgement": "concluded"}}]
        return
    (all_of_them,) = primary["licenses"]
    assert all_of_them["expression"] == "BSD-3-Clause AND EUPL-1.2 AND MIT AND ODbL-1.0"
    (chip,) = (one for one in said["components"] if one["name"].endswith("/registers.csv"))
    assert (chip["manufacturer"]["name"], chip["licenses"][0]["license"]["id"]) == ("Semtech", "BSD-3-Clause")
    assert chip["copyright"].startswith("2019 Semtech")
    makers = {one["manufacturer"]["name"] for one in said["components"] if one["type"] == "file"}
    assert makers >= {"civigate contributors", "CESNET", "Filipe Fidalgo", "Semtech"}


def test_what_debian_does_not_have_is_not_said_to_be_its(said: Document) -> None:
    for one in said["components"]:
        if one["name"] == "python3-lgpio":
            assert one["purl"].startswith("pkg:deb/raspberrypi/python3-lgpio?repository_url=archive.raspberrypi.com")
            assert one["manufacturer"]["name"] == "joan"


def test_a_changed_added_or_missing_file_is_noticed(built: Built, said: Document) -> None:
    files = [one for one in said["components"] if one["type"] == "file"]
    files[0]["hashes"][0]["content"] = "0" * 128
    files[1]["name"] = "/usr/bin/else"
    assert len(sbom.compare(said, built.deb, built.tree)) == 3


def test_a_document_is_held_against_the_package_beside_it(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sbom.main(["check", str(built.bill)]) == 0
    bill, other = tmp_path / built.bill.name, tmp_path / built.deb.name
    shutil.copy(built.bill, bill)
    assert sbom.main(["check", str(bill)]) == 0, "a document alone can be read as well"
    tree = shutil.copytree(built.tree, tmp_path / "tree", symlinks=True)
    shutil.copytree(built.control, tree / "DEBIAN")
    (tree / "usr/bin/more").write_text("#!/bin/sh\n")
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, other], check=True, capture_output=True)
    assert sbom.main(["check", str(bill)]) == 1
    said = capsys.readouterr().out
    assert "/usr/bin/more: not listed" in said
    assert f"{other.name}: other content" in said


def _without(said: Document, name: str) -> None:
    (ref,) = (one["bom-ref"] for one in said["components"] if one["name"] == name)
    said["components"] = [one for one in said["components"] if one["name"] != name]
    said["dependencies"] = [one for one in said["dependencies"] if one["ref"] != ref]
    said["dependencies"][0]["dependsOn"].remove(ref)
    said["compositions"][1]["dependencies"].remove(ref)


def _needed(said: Document, name: str) -> Document:
    found: Document = next(one for one in said["components"] if one["name"] == name)
    return found


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda said: said["metadata"]["component"].update(name="other"), "the document says other"),
        (lambda said: said["metadata"]["component"].update(version="99"), "the document says 99"),
        (lambda said: said["metadata"]["component"].update(purl="pkg:deb/civigate/other@99"), "purl is"),
        (lambda said: _without(said, "python3-cbor2"), "of python3-cbor2 it needs"),
        (lambda said: _without(said, "ca-certificates"), "of ca-certificates it needs"),
        (lambda said: _needed(said, "ca-certificates").update(scope="required"), "of ca-certificates it needs"),
        (lambda said: _needed(said, "python3-cbor2")["properties"][0].update(value=">= 9"), "listed is ('>= 9'"),
        (lambda said: said["dependencies"][0]["dependsOn"].remove("pkg:deb/debian/systemd"), "nothing depends on"),
        (lambda said: _first(said).update(licenses=[]), "other licence"),
    ],
)
def test_a_document_that_is_whole_and_of_another_package_is_noticed(
    built: Built, said: Document, spoil: Callable[[Document], object], complaint: str
) -> None:
    spoil(said)
    assert any(complaint in fault for fault in sbom.compare(said, built.deb, built.tree))


def _first(said: Document) -> Document:
    found: Document = said["components"][0]
    return found


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda said: said.pop("serialNumber"), "serialNumber"),
        (lambda said: said.update(specVersion="1.5"), "specVersion"),
        (lambda said: said.update(vulnerabilities=[]), "vulnerabilities"),
        (lambda said: said["metadata"].update(timestamp="yesterday"), "timestamp"),
        (lambda said: said["metadata"].pop("manufacturer"), "creator of the document"),
        (lambda said: said["metadata"]["component"].pop("purl"), "purl"),
        (lambda said: _first(said).pop("manufacturer"), "creator"),
        (lambda said: _first(said).pop("name"), "no name"),
        (lambda said: _first(said).pop("version"), "no version"),
        (lambda said: _first(said).pop("licenses"), "no licence"),
        (lambda said: _first(said).pop("externalReferences"), "no SHA-512"),
        (lambda said: _first(said)["externalReferences"][0]["hashes"][0].update(alg="SHA-256"), "no SHA-512"),
        (lambda said: _first(said)["properties"].pop(0), "bsi:component:filename"),
        (lambda said: _first(said)["properties"].append(_first(said)["properties"][1]), "bsi:component:executable"),
        (lambda said: _first(said)["properties"][2].update(value="yes"), "bsi:component:archive"),
        (lambda said: _first(said)["properties"].pop(3), "bsi:component:structured"),
        (lambda said: said["components"].append(_first(said)), "twice"),
        (lambda said: said["dependencies"].pop(), "nothing is said of what it depends on"),
        (lambda said: said["dependencies"][0]["dependsOn"].append("x"), "not listed"),
        (lambda said: said["compositions"].pop(), "complete"),
    ],
)
def test_the_checker_sees_what_lacks(said: Document, spoil: Callable[[Document], object], complaint: str) -> None:
    spoilt = copy.deepcopy(said)
    spoil(spoilt)
    assert any(complaint in fault for fault in sbom.check(spoilt))
