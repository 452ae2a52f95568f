# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Where a private key is: a file, a TPM 2.0, or a PKCS#11 token; one text form for each.

    /var/lib/civigate/gateway.key
    tpm:0x81000001?tcti=device:/dev/tpmrm0&pin-source=file:/etc/civigate/tpm-pin
    pkcs11:token=city;object=gateway?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=credential:pin

The last is a URI of RFC 7512. The libraries of the devices are imported when a key is first used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, unquote, unquote_to_bytes

from agent.batch import keyfile
from agent.batch.hardware import DeviceSigner, Patience
from agent.batch.keys import Algorithm, Signer
from agent.batch.pin import PinSource

if TYPE_CHECKING:
    from agent.batch.token import TokenKey

DEFAULT_TCTI = "device:/dev/tpmrm0"
FIRST_HANDLE, LAST_HANDLE = 0x81000000, 0x81FFFFFF
"""Persistent objects of a TPM 2.0 [TPM 2.0 Part 2 §7.5]; those of the owner end at 0x817fffff."""
_TPM, _PKCS11 = "tpm:", "pkcs11:"
_QUERY = {_TPM: {"tcti", "pin-source"}, _PKCS11: {"module-path", "pin-source"}}
_PATH = {"token", "serial", "manufacturer", "model", "object", "id", "type"}
MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A key in a file (`agent.batch.keyfile`)."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def text(self) -> str:
        """The form for configuration files."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class TpmPlace:
    """A P-256 key in a TPM 2.0.

    Attributes:
        handle: of the persistent object, 0x81000000 to 0x81ffffff.
        tcti: how the TPM is reached, as tpm2-tss writes it.
        pin: of its authorisation value, None where it has none.
    """

    handle: int
    tcti: str = DEFAULT_TCTI
    pin: PinSource | None = None

    def __str__(self) -> str:
        return f"{_TPM}{self.handle:#x}"

    @property
    def text(self) -> str:
        """The form for configuration files, which `parse_device` reads."""
        return _text(str(self), "tcti", self.tcti if self.tcti != DEFAULT_TCTI else "", self.pin)


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """A P-256 or Ed25519 key in a PKCS#11 token.

    Attributes:
        module: the vendor's library.
        token: label of the token, None for any.
        serial: serial number of the token, None for any.
        label: label of the key ("object" in the URI), None for any.
        id: id of the key, None for any.
        pin: of the token's user.
    """

    module: Path
    token: str | None = None
    serial: str | None = None
    label: str | None = None
    id: bytes | None = None
    pin: PinSource | None = None

    def __str__(self) -> str:
        named = [f"{name}={value}" for name, value in (("token", self.token), ("serial", self.serial)) if value]
        named += [f"object={self.label}"] if self.label else []
        named += [f"id={self.id.hex()}"] if self.id else []
        return _PKCS11 + ";".join(named)

    @property
    def text(self) -> str:
        """The form for configuration files, which `parse_device` reads."""
        named = [("token", self.token), ("serial", self.serial), ("object", self.label), ("id", self.id)]
        path = ";".join(f"{name}={quote(value, safe='')}" for name, value in named if value)
        return _text(_PKCS11 + path, "module-path", str(self.module), self.pin)


KeyPlace: TypeAlias = FilePlace | TpmPlace | TokenPlace


def parse_device(text: str) -> TpmPlace | TokenPlace:
    """Read the text form of a key in a device.

    Raises:
        ValueError: it is none.
    """
    if len(text) > MAX_TEXT or not text.isascii() or not text.isprintable():
        raise ValueError("longer than 1024 characters, or with others than ASCII")
    if text.startswith(_TPM):
        return _tpm(text)
    if text.startswith(_PKCS11):
        return _token(text)
    raise ValueError("begins neither with tpm: nor with pkcs11:")


def open_signer(place: KeyPlace) -> Signer:
    """Return what signs with the key at a place.

    A file is read at once. A device is first asked when something is to be signed, and again after each failure: it may
    be plugged in later, and come back.

    Raises:
        IdentityError: the file cannot be used; for devices see `agent.batch.hardware`.
    """
    match place:
        case FilePlace(path):
            return keyfile.load(path)
        case TpmPlace():
            from agent.batch.tpm import TpmKey  # noqa: PLC0415 - it needs an optional package

            return DeviceSigner(TpmKey(place.handle, place.tcti, place.pin), str(place))
        case TokenPlace():
            return DeviceSigner(_token_key(place), str(place))


def create(place: KeyPlace, algorithm: Algorithm | None = None) -> Signer:
    """Make a key at a place where there is none; one that is there is never replaced.

    Args:
        place: where.
        algorithm: None for what suits the place: Ed25519 in a file, P-256 in a device.

    Raises:
        IdentityError: CG-IDN-005, there is one; -006, it cannot be written; -020 to -025, the device.
    """
    match place:
        case FilePlace(path):
            return keyfile.create(path, algorithm or Algorithm.EDDSA)
        case TpmPlace():
            from agent.batch.tpm import TpmKey  # noqa: PLC0415 - as above

            key = TpmKey(place.handle, place.tcti, place.pin)
            Patience(str(place)).ask(key.create)
            return DeviceSigner(key, str(place))
        case TokenPlace():
            token = _token_key(place)
            Patience(str(place)).ask(lambda: token.create(algorithm or Algorithm.ES256))
            return DeviceSigner(token, str(place))


def _token_key(place: TokenPlace) -> TokenKey:
    from agent.batch.token import TokenKey  # noqa: PLC0415 - as above

    return TokenKey(place.module, place.pin, token=place.token, serial=place.serial, label=place.label, key_id=place.id)


def _tpm(text: str) -> TpmPlace:
    handle, query = _divided(text, _TPM)
    if not re.fullmatch(r"0x[0-9a-fA-F]{8}", handle) or not FIRST_HANDLE <= int(handle, 16) <= LAST_HANDLE:
        raise ValueError(f"no persistent handle from {FIRST_HANDLE:#x} to {LAST_HANDLE:#x}")
    return TpmPlace(int(handle, 16), query.get("tcti", DEFAULT_TCTI), _pin(query))


def _token(text: str) -> TokenPlace:
    path, query = _divided(text, _PKCS11)
    said: dict[str, str] = {}
    for part in filter(None, path.split(";")):
        name, equals, value = part.partition("=")
        if name not in _PATH or not equals or name in said:
            raise ValueError(f'"{name}" is not known, has no value, or stands twice')
        said[name] = value
    if unquote(said.get("type", "private")) != "private":
        raise ValueError("type is not private")
    if "object" not in said and "id" not in said:
        raise ValueError("names no key: object=LABEL or id=%XX")
    if not query.get("module-path", "").startswith("/"):
        raise ValueError("no module-path=/PATH of the token's library")
    text_of = {name: unquote(value) for name, value in said.items()}
    return TokenPlace(
        Path(query["module-path"]),
        text_of.get("token"),
        text_of.get("serial"),
        text_of.get("object"),
        unquote_to_bytes(said["id"]) if "id" in said else None,
        _pin(query),
    )


def _divided(text: str, scheme: str) -> tuple[str, dict[str, str]]:
    path, _, query = text.removeprefix(scheme).partition("?")
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name == "pin-value":
            raise ValueError("a PIN does not belong here: pin-source=file:/PATH or credential:NAME")
        if name not in _QUERY[scheme] or not value or name in found:
            raise ValueError(f'"{name}" is not known, has no value, or stands twice')
        found[name] = unquote(value)
    return path, found


def _text(path: str, name: str, value: str, pin: PinSource | None) -> str:
    said = [f"{name}={quote(value, safe='/:=,')}"] if value else []
    said += [f"pin-source={quote(pin.text, safe='/:')}"] if pin else []
    return "?".join(filter(None, (path, "&".join(said))))


def _pin(query: dict[str, str]) -> PinSource | None:
    return PinSource(query["pin-source"]) if "pin-source" in query else None
