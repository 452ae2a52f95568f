# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Many gateways, several receivers on one shared subscription, one PostgreSQL; receivers and the server are killed.

    python -m tests.e2e.fleet --gateways 50 --kills 100 --server-kills 10 --out build/fleet.json

mosquitto, PostgreSQL and the receivers are processes of their own, as an operator runs them. The gateways are in this
process: fifty whole agents with emulated concentrators would need more than the machine of a developer has. Of an
agent each has what meets the platform: a key of its own, real batches, signed and chained, and the agent's own sender
with its MQTT transport over TLS (`agent.uplink`), window, repetition and receipts included. What it lacks is radio and
spool: batches that wait are in memory, and gateways are not killed here (`tests.e2e.outages` does that).

At the end the database is held against what was sealed, row by row.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.batch.keys import PublicKey, Resolve, ring
from agent.batch.model import Anchor, Receipt, Refusal
from agent.batch.receipt import open_answer
from agent.clock import HostClock
from agent.demo.authority import Authority
from agent.uplink.endpoint import Endpoint, open_uplink
from agent.uplink.port import Outgoing, UnreadableBatchError
from agent.uplink.sender import Sender
from receiver import config
from receiver.administration import administration
from tests.receiver.broker import Broker, broker, mast
from tests.receiver.gateway import Gateway, frame, wire
from tests.receiver.platform import PROGRAM, Certificates
from tests.receiver.postgres import Cluster, cluster

LIMIT_S = 900.0
LOOK_S = 0.01
ANSWER_LIMIT_S = 5.0
"""After which a gateway sends a batch again that a killed receiver had taken; in the field it waits 20 s."""
LONGEST_PAUSE_S = 2.0
"""Of a gateway after a failure; in the field they grow to a minute, here many kills shall fit into little time."""
MOST_WAITING = 12
"""Batches of one gateway that wait for receipts, before it seals another."""
MOST_FRAMES = 24
"""In a batch."""


class Mast:
    """A gateway without radio and spool (`agent.uplink.port.Source` and `Sink`), and its sender.

    Args:
        number: from 0; makes its EUI and its stream.
        endpoint: the broker.
        resolve: knows the platform's receipt key.
    """

    def __init__(self, number: int, endpoint: Endpoint, resolve: Resolve) -> None:
        self.gateway = Gateway(
            eui=bytes([2, 0, 0, 0, 0, 0, *number.to_bytes(2, "big")]), seed=number.to_bytes(2, "big")
        )
        self.stream_id = self.gateway.stream_id
        self.refused: list[Refusal] = []
        self._lock = threading.Lock()
        self._waiting: dict[int, Outgoing] = {}
        self._hashes: dict[int, bytes] = {}
        self._through = 0
        self._sealed = threading.Event()
        self._ended = threading.Event()
        clock = HostClock()
        self.sender = Sender(
            self.gateway.eui.hex(),
            open_uplink(endpoint, self.gateway.eui, clock),
            open_source=lambda: contextlib.nullcontext(self),
            sink=self,
            verify=lambda data: open_answer(data, resolve),
            clock=clock,
            window=endpoint.window,
            answer_timeout_s=endpoint.answer_timeout_s,
            sealed=self._sealed,
            pause=lambda seconds: self._ended.wait(min(seconds, LONGEST_PAUSE_S)),
        )

    @property
    def waiting(self) -> int:
        """Batches without a receipt."""
        return len(self._waiting)

    def stop(self) -> bool:
        """End the sender; False when it does not end in time."""
        self._ended.set()
        return self.sender.stop()

    def seal(self, frames: int) -> None:
        """Hear some frames and seal a batch with them."""
        sealed = self.gateway.seal(frames)
        with self._lock:
            self._hashes[sealed.header.number] = sealed.hash
            self._waiting[sealed.header.number] = Outgoing(sealed.header.number, sealed.hash, wire(sealed))
        self._sealed.set()

    def through(self) -> int:
        """Return the batch number up to which everything is acknowledged."""
        return self._through

    def newest(self) -> int:
        """Return the number of the batch sealed last."""
        return self.gateway.number

    def load(self, number: int) -> Outgoing | None:
        """Return a batch that waits."""
        with self._lock:
            return self._waiting.get(number)

    def prepare(self, number: int) -> None:
        """Need not: nothing has to be read."""

    def hash_of(self, number: int) -> bytes | None:
        """Return the hash of a batch."""
        return self._hashes.get(number)

    def reached(self, *, up: bool) -> None:
        """Need not know."""

    def receipt(self, receipt: Receipt) -> None:
        """Forget what a receipt covers, as a spool does."""
        assert receipt.through == 0 or self._hashes[receipt.through] == receipt.hash
        with self._lock:
            self._through = max(self._through, receipt.through)
            for number in [*self._waiting]:
                if number <= receipt.through or any(first <= number <= last for first, last in receipt.beyond):
                    del self._waiting[number]

    def refusal(self, number: int, refusal: Refusal) -> None:
        """Note what must not happen."""
        del number
        self.refused.append(refusal)

    def unreadable(self, number: int, error: UnreadableBatchError) -> None:
        """Fail: there is nothing to be damaged."""
        raise AssertionError(f"batch {number}: {error}")

    def contradicted(self, newest: int) -> None:
        """Fail: the platform has another history."""
        raise AssertionError(f"contradicted at {newest}")

    def anchor(self, anchor: Anchor) -> None:
        """Need none."""


class Receiver:
    """One of several, as a process that is started again whenever it was killed.

    Args:
        folder: of its configuration and log.
        text: the configuration.
    """

    def __init__(self, folder: Path, text: str) -> None:
        folder.mkdir()
        self.toml = folder / "receiver.toml"
        self.toml.write_text(text)
        self._log = folder / "receiver.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; does not wait for it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*PROGRAM, "serve", "-c", str(self.toml)], stderr=log)

    @property
    def starts(self) -> int:
        """How often it was subscribed."""
        return self._log.read_bytes().count(b"state='subscribed'") if self._log.exists() else 0

    def kill(self) -> None:
        """SIGKILL it, wherever it is."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(LIMIT_S)

    def said(self) -> str:
        """Return its log."""
        return self._log.read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        gateways: that sent.
        receivers: that took.
        kills: SIGKILLs of receivers.
        server_kills: SIGKILLs of the database server.
        batches: sealed.
        frames: in them.
        sent: batches that left a gateway, repetitions included.
        lost: frames that are not in the database.
        doubled: rows of the database that nobody sent, or once too often.
        refused: batches that a receiver refused, and alarms.
        behind: retained receipts that say less than the database at the end.
        chain_ok: whether `civigate-receiver status` finds everything in order.
        seconds: from the first batch to the last receipt.
    """

    gateways: int
    receivers: int
    kills: int
    server_kills: int
    batches: int
    frames: int
    sent: int
    lost: int
    doubled: int
    refused: int
    behind: int
    chain_ok: bool
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the ledger is what was sent."""
        return self.lost == self.doubled == self.refused == self.behind == 0 < self.frames and self.chain_ok


class Fleet:
    """One run.

    Args:
        folder: empty.
        server: the database server.
        at: the broker.
        gateways: how many.
        receivers: how many.
        seed: of sizes, moments and victims.
        tell: takes a line for a person.
    """

    def __init__(
        self,
        folder: Path,
        server: Cluster,
        at: Broker,
        *,
        gateways: int,
        receivers: int,
        seed: int,
        tell: Callable[[str], None],
    ) -> None:
        self._server = server
        self._at = at
        self._chance = random.Random(seed)
        self._tell = tell
        self._database = server.database()
        text = f"""
[receiver]
data_dir = "data"
[ledger]
url = "{server.url(self._database)}"
[identity]
key_file = "{folder / "receipt.key"}"
{at.section(group="civigate")}
"""
        self.receivers = [Receiver(folder / f"receiver{number}", text) for number in range(receivers)]
        toml = self.receivers[0].toml
        made = _ask("identity", "create", toml)
        self._resolve = ring(PublicKey.from_text(str(made["public_key"])))
        endpoint = Endpoint(
            "city",
            f"mqtts://localhost:{at.port}",
            at.certificates.authority,
            at.certificates.client.certificate,
            at.certificates.client.key,
            answer_timeout_s=ANSWER_LIMIT_S,
        )
        self._masts = [Mast(number, endpoint, self._resolve) for number in range(gateways)]
        with administration(config.load(toml)) as admin:
            for one in self._masts:
                admin.add_gateway(one.gateway.eui, one.gateway.signer.public, "")

    def run(self, *, kills: int, server_kills: int, batches: int) -> Report:
        """Send at least so many batches while so many kills happen, then draw up the account."""
        for receiver in self.receivers:
            receiver.start()
        self._until("the receivers to subscribe", lambda: all(receiver.starts for receiver in self.receivers))
        for one in self._masts:
            one.sender.start()
        begin = time.monotonic()
        victims = ["receiver"] * kills + ["server"] * server_kills
        self._chance.shuffle(victims)
        share = batches // (len(victims) + 1)
        for number, victim in enumerate(victims, 1):
            self._send(share)
            if victim == "receiver":
                # always the same one: wherever it is, also in the middle of its start
                self.receivers[0].kill()
                self.receivers[0].start()
            else:
                self._server.kill()
                self._server.start()
            if number % 10 == 0:
                self._tell(f"{number} of {len(victims)} kills, {time.monotonic() - begin:.0f} s")
        self._send(share)
        self._until("all receipts", lambda: not any(one.waiting for one in self._masts))
        seconds = time.monotonic() - begin
        return self._account(kills, server_kills, seconds)

    def close(self) -> None:
        """End gateways and receivers."""
        with ThreadPoolExecutor(len(self._masts)) as pool:
            for stopped in pool.map(Mast.stop, self._masts):
                assert stopped
        with ThreadPoolExecutor(len(self.receivers)) as pool:
            list(pool.map(Receiver.stop, self.receivers))

    def _send(self, batches: int) -> None:
        """Seal so many batches, by whichever gateway has room."""
        for _ in range(batches):
            one = self._chance.choice(self._masts)
            self._until("room for a batch", lambda one=one: one.waiting < MOST_WAITING)  # type: ignore[misc]
            one.seal(self._chance.randrange(MOST_FRAMES))

    def _account(self, kills: int, server_kills: int, seconds: float) -> Report:
        sealed = Counter(
            (one.stream_id, seq, hashlib.sha256(_payload(seq)).digest())
            for one in self._masts
            for seq in range(1, one.gateway.seq)
        )
        with self._server.connect(self._database) as db:
            stored = Counter(
                (bytes(stream), seq, hashlib.sha256(payload).digest())
                for stream, seq, payload in db.execute(
                    "SELECT stream_id, seq, phy_payload FROM frame JOIN stream ON stream.id = frame.stream"
                )
            )
            row = db.execute("SELECT (SELECT count(*) FROM alarm) + (SELECT count(*) FROM quarantine)").fetchone()
        assert row is not None
        return Report(
            gateways=len(self._masts),
            receivers=len(self.receivers),
            kills=kills,
            server_kills=server_kills,
            batches=sum(one.gateway.number for one in self._masts),
            frames=sealed.total(),
            sent=sum(one.sender.status.counts.get("sent", 0) for one in self._masts)
            + sum(one.sender.status.counts.get("resent", 0) for one in self._masts),
            lost=(sealed - stored).total(),
            doubled=(stored - sealed).total(),
            refused=sum(len(one.refused) for one in self._masts) + int(row[0]),
            behind=self._behind(),
            chain_ok=bool(_ask("status", None, self.receivers[0].toml)["ok"]),
            seconds=round(seconds, 1),
        )

    def _behind(self) -> int:
        """Count the retained receipts that say less than what was committed, once the receivers have looked again."""
        newest = {one.gateway.eui: one.gateway.number for one in self._masts if one.gateway.number}

        def kept(eui: bytes) -> int:
            with mast(self._at, eui) as later:
                said = open_answer(later.answer().payload, self._resolve)
            assert isinstance(said, Receipt)
            return said.through

        deadline = time.monotonic() + 30
        behind = list(newest)
        while behind and time.monotonic() < deadline:
            behind = [eui for eui in behind if kept(eui) < newest[eui]]
        return len(behind)

    def _until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(receiver.said()[-1500:] for receiver in self.receivers)
                raise AssertionError(f"waited {LIMIT_S:.0f} s for {what}\n{logs}")
            time.sleep(LOOK_S)


def _payload(seq: int) -> bytes:
    """Return the payload of a frame as the gateways of these tests hear it."""

    return frame(seq).phy_payload


def _ask(command: str, verb: str | None, toml: Path) -> dict[str, object]:
    words = [command, *([verb] if verb else []), "-c", str(toml), "--json"]
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def fleet(
    *, gateways: int, receivers: int = 3, seed: int = 1, tell: Callable[[str], None], keep: Path | None = None
) -> Iterator[Fleet]:
    """Start broker and server, and make a fleet."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-fleet-")))
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority(folder)
        certificates = Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))
        server = stack.enter_context(cluster(durable=True))
        at = stack.enter_context(broker(folder, certificates))
        options = {"gateways": gateways, "receivers": receivers, "seed": seed}
        with contextlib.closing(Fleet(folder, server, at, tell=tell, **options)) as made:
            yield made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as asked for."""
    parser = argparse.ArgumentParser(description="Many gateways, several receivers, one database; killed and audited.")
    parser.add_argument("--gateways", type=int, default=50, help="that send (50)")
    parser.add_argument("--receivers", type=int, default=3, help="on one shared subscription (3)")
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs of one receiver (30)")
    parser.add_argument("--server-kills", type=int, default=5, help="SIGKILLs of the database server (5)")
    parser.add_argument("--batches", type=int, default=5000, help="in all (5000)")
    parser.add_argument("--seed", type=int, default=1, help="of sizes and moments (1)")
    parser.add_argument("--keep", type=Path, help="leave configuration and logs in this empty folder")
    parser.add_argument("--out", type=Path, default=Path("build/fleet.json"), help="where the report goes")
    args = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # by default these would end this process alone, and leave the programs that it has started
        signal.signal(number, lambda number, _: sys.exit(128 + number))

    def tell(line: str) -> None:
        print(line, flush=True)

    keep = None if args.keep is None else args.keep.resolve()
    with fleet(gateways=args.gateways, receivers=args.receivers, seed=args.seed, tell=tell, keep=keep) as made:
        report = made.run(kills=args.kills, server_kills=args.server_kills, batches=args.batches)
    text = json.dumps(asdict(report) | {"good": report.good}, indent=1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n")
    tell(text)
    return 0 if report.good else 4


if __name__ == "__main__":
    sys.exit(main())
