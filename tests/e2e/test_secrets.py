# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""No secret is in any log or in the list of processes, whatever comes in and however much is logged."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from agent.demo.authority import Authority
from agent.demo.stage import Stage
from tests.agent.enrolment.pair import gateway_files
from tests.e2e.conftest import civigate, receiver, until
from tests.receiver.broker import broker, mast
from tests.receiver.gateway import Gateway
from tests.receiver.platform import Certificates, free_port

TOKEN = "token-0d9fbe4e2a7c4a58"
MQTT_PASSWORD = "password-7a1c90ffe3"
URL_PASSWORD = "password-in-a-url-55"
WRONG_TOKEN = "guess-of-a-token-99"
GATEWAY_EUI = bytes.fromhex("0016c00100c1f16a")


def test_nothing_secret_is_logged_or_listed(stage: Stage, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificates = Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))
    api, enrolment = free_port(), free_port()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "password").write_text(MQTT_PASSWORD)
    server, client = certificates.server, certificates.client
    with broker(tmp_path, certificates) as at:
        with stage.receiver_toml.open("a") as file:
            file.write(
                f'[api]\nport = {api}\ntoken_file = "{tmp_path}/token"\nmetrics = true\n'
                f'[enrolment]\nlisten = "127.0.0.1"\nport = {enrolment}\nurl = "https://localhost"\n'
                f'certificate = "{server.certificate}"\nkey = "{server.key}"\n'
                f'[logging]\nlevel = "debug"\nformat = "json"\n'
                f'[mqtt]\nurl = "mqtts://localhost:{at.port}"\nca_file = "{authority.certificate}"\n'
                f'cert_file = "{client.certificate}"\nkey_file = "{client.key}"\n'
                f'user = "receiver"\npassword_file = "{tmp_path}/password"\n'
            )
        assert receiver("ca", "create", "--name", "Town", "-c", stage.receiver_toml).returncode == 0
        stage.kill_receiver()
        gateway_toml = stage.gateway_toml.read_text()
        key = next(line for line in gateway_toml.splitlines() if line.startswith("receipt_key"))
        stage.gateway_toml.write_text(
            f'{gateway_toml}\n[logging]\nlevel = "debug"\n'
            f'[[destination]]\nname = "water"\nurl = "mqtts://localhost:{at.port}"\n{key}\n'
            f'ca_file = "{authority.certificate}"\ncert_file = "{client.certificate}"\nkey_file = "{client.key}"\n'
            f'user = "water"\npassword_file = "{tmp_path}/password"\n[destination.filter]\nnon_lorawan = true\n'
        )
        stage.start_agent()
        until(lambda: f"civigate/v1/{GATEWAY_EUI.hex()}/receipt" in at.log(), "the agent at the broker")

        # a wrong place for a password is not a place where it shows
        (tmp_path / "wrong.toml").write_text(f'[mqtt]\nurl = "mqtts://me:{URL_PASSWORD}@broker.example.org"\n')
        said = receiver("config", "check", tmp_path / "wrong.toml")
        assert said.returncode == 2
        told = said.stderr + said.stdout

        claims = _enrol(stage, tmp_path, f"https://localhost:{enrolment}", authority.certificate)
        with httpx.Client(base_url=f"http://127.0.0.1:{api}", timeout=30) as reader:
            for token in (TOKEN, WRONG_TOKEN):
                for path in ("/metrics", "/v1/frames", f"/v1/frames?gateway={token}", "/nowhere", "/v1/gaps"):
                    reader.get(path, headers={"authorization": f"Bearer {token}"})
        context = ssl.create_default_context(cafile=str(authority.certificate))
        with httpx.Client(base_url=f"https://localhost:{enrolment}", verify=context, timeout=30) as stranger:
            for content in (b"rubbish", claims[0].encode(), b"\xff" * 8000):
                stranger.post("/v1/enrolment", content=content, headers={"x-claim": claims[0]})
        with mast(at, GATEWAY_EUI) as rogue:
            rogue.publish(b"rubbish")
            rogue.publish(Gateway(eui=GATEWAY_EUI).wire())
            for content in (b"rubbish", Gateway().wire(), bytes(5000)):
                rogue.client.publish(f"civigate/v1/{GATEWAY_EUI.hex()}/receipt", content, qos=1).wait_for_publish(30)
        until(lambda: b"refused" in stage.log_of("receiver").read_bytes(), "the receiver to refuse")

        secrets = {
            TOKEN,
            MQTT_PASSWORD,
            URL_PASSWORD,
            WRONG_TOKEN,
            *claims,
            *(code.replace("-", "") for code in claims),
        }
        secrets |= _private_parts(tmp_path, stage.receiver_toml.parent)
        listed = _command_lines()
        stage.stop_agent()
    logs = {path.name: path.read_bytes() for path in stage.receiver_toml.parent.rglob("*.log")}
    assert {"agent.log", "receiver.log"} <= set(logs)
    assert len(logs["agent.log"]) > 100
    assert len(logs["receiver.log"]) > 100
    assert len(secrets) > 20
    for secret in secrets:
        assert secret not in told
        for name, log in logs.items():
            assert secret.encode() not in log, f"{secret[:12]}... in {name}"
        assert not any(secret in line for line in listed), f"{secret[:12]}... in the list of processes"


def _enrol(stage: Stage, folder: Path, url: str, ca: Path) -> list[str]:
    """Invite two gateways; one enrols, as a person would let it, while somebody looks at the list of processes."""
    gateway = gateway_files(folder / "gateway")
    assert civigate("identity", "create", "-c", gateway.toml).returncode == 0
    invited = receiver("gateways", "invite", "--count", "2", "-c", stage.receiver_toml, "--json")
    assert invited.returncode == 0, invited.stderr
    codes: list[str] = json.loads(invited.stdout)["claims"]
    command = [sys.executable, "-m", "agent.cli.main", "enrol", url, "--claim-file", "-", "--ca", str(ca)]
    command += ["-c", str(gateway.toml)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as enrolling:
        assert codes[0] not in Path(f"/proc/{enrolling.pid}/cmdline").read_text()
        _, problem = enrolling.communicate(f"{codes[0]}\n", timeout=60)
    assert enrolling.returncode == 0, problem
    assert codes[0] not in problem
    wrong = civigate(
        "enrol", url, "--claim-file", _written(folder / "code", codes[1][:-1]), "--ca", ca, "-c", gateway.toml
    )
    assert wrong.returncode != 0
    assert codes[1][:-1] not in wrong.stderr
    return codes


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _private_parts(*folders: Path) -> set[str]:
    """Return every private key below folders, in the forms in which one might be printed."""
    parts = set()
    for folder in folders:
        for path in folder.rglob("*"):
            data = path.read_bytes() if path.is_file() and path.stat().st_size < 10_000 else b""
            if b"PRIVATE KEY" not in data:
                continue
            parts |= {line for line in data.decode().splitlines() if len(line) > 30 and "-" not in line}
            block = b"-----BEGIN" + data.split(b"-----BEGIN", 1)[1]
            key = load_pem_private_key(block, None)
            der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            parts |= {der.hex(), base64.b64encode(der).decode(), repr(der)}
    return parts


def _command_lines() -> list[str]:
    """Read how every process here was started."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                lines.append((entry / "cmdline").read_text(errors="replace"))
            except OSError:
                continue
    return lines
