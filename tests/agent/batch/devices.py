# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A TPM 2.0 and a PKCS#11 token in software: swtpm and SoftHSM, real implementations behind the real libraries."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
PATIENCE_S = 60.0


class SoftwareTpm:
    """A TPM at a socket; what it holds survives a stop. Its folder's name must be short (a socket's is at most 107)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "tpm"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        """How it is reached."""
        return f"swtpm:path={self._socket}"

    def start(self) -> None:
        """Plug it in."""
        self._process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._folder}"),
                *("--server", f"type=unixio,path={self._socket}"),
                *("--ctrl", f"type=unixio,path={self._socket}.ctrl", "--flags", "not-need-init,startup-clear"),
            ],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_S
        # a connection would be a client, and it serves one at a time
        while not {str(self._socket), f"{self._socket}.ctrl"} <= _listening():
            if time.monotonic() > deadline:
                raise TimeoutError("swtpm does not come up")
            time.sleep(0.01)

    def freeze(self) -> None:
        """Let it hang: it takes what it is asked and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Pull it out."""
        if self._process is not None:
            self._process.terminate()
            self.thaw()
            self._process.wait(PATIENCE_S)
            self._process = None
        self._socket.unlink(missing_ok=True)
        Path(f"{self._socket}.ctrl").unlink(missing_ok=True)


def _listening() -> set[str]:
    """Return the names of the sockets that somebody listens on (flag __SO_ACCEPTCON)."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {row[7] for row in rows if len(row) == 8 and int(row[3], 16) & 0x10000}


class SoftwareToken:
    """A token with the PIN 2468; SoftHSM finds it by `$SOFTHSM2_CONF`: `configuration`."""

    PIN = "2468"

    def __init__(self, folder: Path, label: str = "city") -> None:
        self.label = label
        self._tokens, self._pulled = folder / "tokens", folder / "pulled"
        self._tokens.mkdir()
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {self._tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.pin_file = folder / "pin"
        self.write_pin(self.PIN)
        subprocess.run(
            [
                *("softhsm2-util", "--init-token", "--free", "--label", label),
                *("--pin", self.PIN, "--so-pin", "13579"),
            ],
            env={**os.environ, "SOFTHSM2_CONF": str(self.configuration)},
            check=True,
            capture_output=True,
        )

    def known_here(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process find it: the library reads its configuration once, and may have done so for another test."""
        import pkcs11

        patch.setenv("SOFTHSM2_CONF", str(self.configuration))
        with contextlib.suppress(pkcs11.exceptions.PKCS11Error):
            pkcs11.lib(str(SOFTHSM)).reinitialize()

    def write_pin(self, pin: str) -> None:
        """Change what stands in the PIN file."""
        self.pin_file.touch(mode=0o600)
        self.pin_file.write_text(pin + "\n")

    def uri(self, name: str = "gateway") -> str:
        """Return the URI of a key."""
        return f"pkcs11:token={self.label};object={name}?module-path={SOFTHSM}&pin-source=file:{self.pin_file}"

    def pull(self) -> None:
        """Pull it out."""
        self._tokens.rename(self._pulled)

    def plug_in(self) -> None:
        """Plug it in again."""
        self._pulled.rename(self._tokens)
