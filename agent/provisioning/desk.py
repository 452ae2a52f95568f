# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The request that is being worked on: a copy that nobody pulls out with the card reader, gone when it is done.

The secrets leave the boot partition as soon as the copy is on the card; so a gateway that waits for a network for weeks
shows them to nobody who reads the partition, and a power cut at any place loses nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent import durable
from agent.enrolment import certificate
from agent.errors import AgentError, ConfigError
from agent.provisioning import network, request
from agent.provisioning.boot import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from agent.provisioning.boot import BootPartition
    from agent.provisioning.request import Request

FILE_NAME: Final = "request.toml"
_MODE: Final = 0o600
_MAX_CA_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the request in work lies.

    Attributes:
        folder: of its own, for root alone; made when it is needed.
        root: of the system that is set up.
    """

    folder: Path
    root: Path

    def take(self, partition: BootPartition) -> tuple[Request, bool] | None:
        """Take a new request from the boot partition, or go on with the one that is here.

        Returns:
            The request and whether it is new; None when there is nothing to do.

        Raises:
            ConfigError: the new one cannot be used; nothing was changed.
            OSError: it cannot be kept.
        """
        given = partition.request()
        if given is not None:
            with given.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                hint = "write it anew: 'civigate provision example' shows what belongs into it"
                raise ConfigError(f"longer than {MAX_BYTES} bytes", where=given.name, hint=hint, code="CG-PRV-004")
            if not request.is_outcome(data):
                taken = self.check(given)
                if taken.network is not None:
                    network.plan(taken.network, self.root)
                self._keep(taken, data, partition.folder)
                return taken, True
        here = self.folder / FILE_NAME
        return (request.load(here), False) if here.exists() else None

    def check(self, path: Path) -> Request:
        """Read a civigate.toml and all that it names, and check what can be checked on any computer.

        Raises:
            ConfigError: it cannot be used.
        """
        asked = request.load(path)
        if asked.provision.ca_file is not None:
            _authorities(path.parent / asked.provision.ca_file)
        if asked.provision.firmware is not None:
            _firmware(path.parent / asked.provision.firmware)
        return asked

    def authorities(self, asked: Request) -> Path | None:
        """Return the file with the platform's authorities, None when the request names none."""
        return None if asked.provision.ca_file is None else self.folder / asked.provision.ca_file

    def clear(self) -> None:
        """Forget the request: all is done, or nothing can be done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, asked: Request, data: bytes, beside: Path) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if asked.provision.ca_file is not None:
            name = asked.provision.ca_file
            durable.replace(self.folder / name, (beside / name).read_bytes(), _MODE)
        durable.replace(self.folder / FILE_NAME, data, _MODE)


def _authorities(path: Path) -> None:
    where, hint = f"civigate.toml: provision.ca_file ({path.name})", "copy the PEM file of the platform beside it"
    try:
        with path.open("rb") as file:
            certificate.chain_from_pem(file.read(_MAX_CA_BYTES), path.name)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=where, hint=hint, code="CG-PRV-005") from error
    except AgentError as error:
        raise ConfigError(error.what, where=where, hint=hint, code="CG-PRV-005") from error


def _firmware(path: Path) -> None:
    from agent.firmware import look_into  # noqa: PLC0415 - searching is for those who bring some
    from drivers.errors import DriverError  # noqa: PLC0415

    where, hint = f"civigate.toml: provision.firmware ({path.name})", "copy sx1302_hal V2.1.0 beside it, as downloaded"
    try:
        if not look_into(path).taken:
            raise ConfigError("has no firmware that this program can use", where=where, hint=hint, code="CG-PRV-006")
    except (OSError, DriverError) as error:
        if isinstance(error, ConfigError):
            raise
        what = error.what if isinstance(error, DriverError) else f"cannot be read: {error.strerror}"
        raise ConfigError(what, where=where, hint=hint, code="CG-PRV-006") from error
