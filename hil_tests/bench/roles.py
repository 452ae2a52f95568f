# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The roles that a bench may fill, as protocols. A test says which it needs and knows nothing else of the bench.

| role | it is |
|---|---|
| `dut` | the gateway under test as its operator meets it: service, journal, spool, commands |
| `spi` | its concentrator, for tests of the chip; the agent must not run meanwhile |
| `power` | what cuts and gives its supply |
| `node` | a transmitter whose every parameter is known |
| `rf` | the way from the node's connector to the gateway's |
| `platform` | what the gateway delivers to, and the way there |
| `golden` | a gateway known to be good, on the same line |
| `gnss` | a GNSS receiver whose pulses lead to the concentrator |
| `clock` | the wall clock of the gateway under test |
| `disk` | what fills the disk under its spool |
| `system` | the installed package on it: service manager, versions, watchdogs |
| `air` | whatever a node cannot send: damaged packets |

What cannot be done raises `BenchError`: the bench failed then, not the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from drivers.boards import Board
from drivers.bus import OutputLine, SerialPort, SpiBus
from drivers.plans import ChannelPlan
from drivers.sx1302.concentrator import Concentrator


class BenchError(Exception):
    """The bench itself failed: a test that ends with it says nothing about the product.

    Args:
        what: what went wrong, one clause.
        role: of the bench.
        hint: what to do at the bench.
    """

    def __init__(self, what: str, *, role: str, hint: str) -> None:
        super().__init__(f"bench: {role}: {what}; {hint}")
        self.what = what
        self.role = role
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended.

    Attributes:
        command: as it was given.
        exit_code: 0 for success.
        stdout, stderr: what it said.
    """

    command: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str


class Dut(Protocol):
    """The gateway under test, as its operator meets it. Its machine runs whenever these are called."""

    def start(self) -> None:
        """Start the agent as its service manager does; harmless when it runs. Waits for nothing."""

    def stop(self) -> None:
        """End the agent as its service manager does (SIGTERM) and wait for it; harmless when it does not run."""

    def kill(self) -> None:
        """SIGKILL the agent wherever it is; what looks after it starts it again at once."""

    def runs(self) -> bool:
        """Say whether the agent's process is there."""

    def status(self) -> Mapping[str, Any] | None:
        """Return what the running agent says of itself (docs/status.md); None while it says nothing."""

    def journal(self) -> str:
        """Return what agent and service manager have said since the bench was opened, oldest first."""

    def copy_spool(self, folder: Path) -> Path:
        """Copy the spool, whatever it is doing, into a folder of the test's machine; return the database there."""

    def run(self, *command: str, stdin: bytes = b"", limit_s: float = 60.0) -> Done:
        """Run a command on the gateway to its end, as the user of the bench. `civigate` is in its path.

        Raises:
            BenchError: the gateway cannot be reached, or the command does not end in time.
        """

    @property
    def config(self) -> str:
        """Path of gateway.toml, on the gateway."""


class SpiDoor(Protocol):
    """The way to the concentrator's registers, beside the agent (role `spi`)."""

    @property
    def board(self) -> Board:
        """The board under test."""

    @property
    def plan(self) -> ChannelPlan:
        """What the concentrator is told to listen to."""

    def open_bus(self) -> SpiBus:
        """Open its bus alone; the chip is left as it is."""

    def open_reset(self) -> OutputLine | None:
        """Open its reset line; None where the bus resets the chip itself."""

    def open_concentrator(self, temperature: Callable[[], float] | None = None) -> Concentrator:
        """Open bus, lines and driver; nothing is started yet.

        Args:
            temperature: what says how warm the radios are; None for the board's sensor, if it has one.
        """

    def thermometer(self) -> Callable[[], float] | None:
        """Return what reads the board's sensor, degrees Celsius; None for a board without."""

    def release(self) -> None:
        """Let bus and lines go: the agent needs them now. What was opened of it is closed before."""


class Power(Protocol):
    """The supply of the gateway under test: 5 V, not mains."""

    def on(self) -> None:
        """Give it."""

    def off(self) -> None:
        """Cut it, without a warning to anybody."""

    def is_on(self) -> bool:
        """Say how it was left."""


@dataclass(frozen=True, slots=True)
class RadioSettings:
    """What a reference node sends and listens with.

    Attributes:
        frequency_hz: carrier.
        sf: spreading factor, 5 to 12.
        bandwidth_hz: 125000, 250000 or 500000.
        coding_rate: 1 to 4 for 4/5 to 4/8.
        power_dbm: at its connector.
        preamble_symbols: 6 to 65535.
        inverted: inverted polarity, as gateways send.
        public: the sync word of LoRaWAN's public networks; without it a gateway hears nothing.
    """

    frequency_hz: int
    sf: int
    bandwidth_hz: int = 125_000
    coding_rate: int = 1
    power_dbm: int = 14
    preamble_symbols: int = 8
    inverted: bool = False
    public: bool = True


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Which node it is, for the report.

    Attributes:
        kind: family of modules, e.g. "RAK3172".
        serial: what tells it from others; empty when it does not say.
        firmware: its version.
    """

    kind: str
    serial: str
    firmware: str


@dataclass(frozen=True, slots=True)
class TxReport:
    """A packet that the node says it has sent.

    Attributes:
        payload: its bytes.
        settings: what it was sent with.
        done_ns: CLOCK_MONOTONIC_RAW of the test's machine when the node said so.
    """

    payload: bytes
    settings: RadioSettings
    done_ns: int


@dataclass(frozen=True, slots=True)
class NodeReception:
    """A packet that the node has heard.

    Attributes:
        payload: its bytes.
        rssi_dbm, snr_db: as the node measures them.
        end_ns: when its last symbol had come, CLOCK_MONOTONIC_RAW of the test's machine, as well as the node tells it.
    """

    payload: bytes
    rssi_dbm: float
    snr_db: float
    end_ns: int


class ReferenceNode(Protocol):
    """A transmitter whose every parameter is known; it joins nothing and sends any bytes."""

    @property
    def powers_dbm(self) -> range:
        """What it can be set to."""

    def identify(self) -> NodeIdentity:
        """Ask it who it is."""

    def configure(self, settings: RadioSettings) -> None:
        """Set frequency, data rate and power; ends listening.

        Raises:
            BenchError: the node does not take them.
        """

    def transmit(self, payload: bytes) -> TxReport:
        """Send one packet; returns when the node says that it is sent.

        Raises:
            BenchError: the node does not answer, or refuses.
        """

    def listen(self) -> None:
        """Listen from now on, with the same settings."""

    def heard(self, within_s: float) -> NodeReception | None:
        """Return the next packet since `listen`, None when none comes in time."""


class RfPath(Protocol):
    """Pads, attenuator and cables between node and gateway."""

    @property
    def steps_db(self) -> Sequence[float]:
        """The attenuations that can be set, all of the way included; a single one with fixed pads."""

    @property
    def attenuation_db(self) -> float:
        """The one that is set."""

    def attenuate(self, attenuation_db: float) -> None:
        """Set one of `steps_db`."""


@dataclass(frozen=True, slots=True)
class PlatformFrame:
    """A frame in the platform's ledger.

    Attributes:
        seq: its number, as the gateway gave it.
        payload: PHYPayload.
        counter_us: end of packet by the concentrator's counter.
        utc_us, utc_error_us: what time it was, with the bound of its error; None while nobody knows.
    """

    seq: int
    payload: bytes
    counter_us: int
    utc_us: int | None
    utc_error_us: int | None


class Platform(Protocol):
    """The receiver on the bench, and the way to it."""

    def frames(self) -> Sequence[PlatformFrame]:
        """Return what is in the ledger from the gateway under test, by number."""

    def verifies(self) -> bool:
        """Say whether chain and sums of everything that it took verify."""

    def cut(self) -> None:
        """Take the gateway's way to it away."""

    def restore(self) -> None:
        """Give it back."""

    def lie(self, how: str) -> None:
        """Answer the gateway falsely from now on: one of `LIES`; "" for the truth."""

    def lies_told(self) -> int:
        """Return how often it has, since the bench was opened."""


LIES = ("wrong digest", "old acknowledgement", "duplicate acknowledgement", "nothing")
"""What a platform may do wrong: sign for another batch's bytes, repeat a receipt of before, answer the same thing
twice, or not at all."""


@dataclass(frozen=True, slots=True)
class GoldenReception:
    """A packet as the golden gateway heard it.

    Attributes:
        payload: its bytes.
        rssi_dbm: of the channel.
        snr_db: None when it does not say.
    """

    payload: bytes
    rssi_dbm: float
    snr_db: float | None


class Golden(Protocol):
    """A gateway known to be good that hears the same node through a splitter."""

    @property
    def offset_db(self) -> float:
        """What its way attenuates more than that of the gateway under test."""

    def heard(self, payload: bytes) -> GoldenReception | None:
        """Return how it heard a packet; None when it has not."""


class GnssDoor(Protocol):
    """A GNSS receiver whose pulses lead to the concentrator under test."""

    def port(self, folder: Path) -> AbstractContextManager[Callable[[int], SerialPort]]:
        """Give what opens its serial port at a rate; takes a folder for temporary files."""


class WallClock(Protocol):
    """The wall clock of the gateway under test, in the hands of the bench."""

    def set_wrong(self, offset_s: float) -> None:
        """Let it be off by so much, and synchronised with nothing; from the agent's next start on at the latest."""

    def synchronise(self) -> None:
        """Let it know the time, as NTP would."""


class Disk(Protocol):
    """What fills the disk under the spool of the gateway under test."""

    def full(self) -> AbstractContextManager[None]:
        """Let no write to the spool find room, until the end."""


class System(Protocol):
    """The operating system of the gateway under test, with civigate installed as a package."""

    @property
    def service(self) -> str:
        """Name of the agent's unit."""

    def install(self, which: str) -> Done:
        """Install the package of "this" or the "previous" release, as an administrator does."""

    def hang_kernel(self) -> None:
        """Stop the kernel without a reboot: only a watchdog of the hardware ends that."""


class Air(Protocol):
    """Whatever a reference node cannot send."""

    def send_damaged(self, payload: bytes, settings: RadioSettings) -> None:
        """Let a packet arrive whose payload does not fit its CRC."""


@runtime_checkable
class Witness(Protocol):
    """A role that can tell something when a test failed."""

    def evidence(self, folder: Path) -> None:
        """Write console, journal, trace, or a copy of the spool into files of this folder; may write none."""


IN_WORDS: Final = {
    "dut": "gateway under test",
    "spi": "way to the registers of the concentrator",
    "power": "switch for the supply",
    "node": "reference node",
    "rf": "path of known attenuation",
    "platform": "platform",
    "golden": "golden gateway, a second one known to be good",
    "gnss": "GNSS receiver",
    "clock": "hand on the gateway's clock",
    "disk": "hand on the gateway's disk",
    "system": "installed system (package, systemd, watchdogs)",
    "air": "transmitter of damaged packets",
}
"""The roles in the order of the table above, as a report names them to somebody who does not know them."""
ROLES: Final = tuple(IN_WORDS)
