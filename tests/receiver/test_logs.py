# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import receiver
from tests.receiver.gateway import Gateway
from tests.receiver.platform import Certificates, platform

EVENT = re.compile(r"event=[a-z0-9_]+( [a-z][a-z0-9_]*=| %s$|$)")


def test_each_line_is_one_object_with_an_event(tmp_path: Path, certificates: Certificates) -> None:
    made = platform(tmp_path, certificates, extra='[logging]\nformat = "json"')
    with made.process(ready=b'"event": "ready"'), made.client() as client:
        client.post("/v1/batches", content=Gateway().wire())
        client.post("/v1/batches", content=b"rubbish\nand more")
    lines = [json.loads(line) for line in (tmp_path / "receiver.log").read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert events[0] == "ready"
    assert lines[0]["https"] == f"127.0.0.1:{made.port}"
    assert events.count("refused") == 2
    refused = next(line for line in lines if line["event"] == "refused")
    assert (refused["reason"], refused["number"], refused["level"]) == ("UNKNOWN_KEY", 1, "warning")
    assert not refused["detail"].startswith("'"), "quoted once is enough"
    assert events[-1] == "stopped"
    assert {line["logger"].split(".")[0] for line in lines} == {"receiver"}


def test_every_line_of_the_receiver_has_an_event_with_a_name() -> None:
    found = []
    for path in Path(next(iter(receiver.__path__))).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log"), attr="info" | "warning" | "error" | "exception"),
                    args=[ast.Constant(value=str(text)), *_],
                ):
                    found.append((f"{path.name}:{node.lineno}", text))
    assert len(found) > 15
    assert [place for place, text in found if not EVENT.match(text)] == []
