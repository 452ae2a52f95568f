# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The batch format: bytes per frame with everything, beside what gateways send today, and the time it takes.

Two kinds of traffic: a recording of one sensor on a tower (it repeats itself, so it compresses well), and a model of a
town with 60 sensors whose payloads are random, because encrypted (which nothing compresses). What a recording does not
hold (concentrator counter, frequency offset, signal RSSI) comes from the same model.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

from agent.batch import codec, keyplace
from agent.batch.keys import Ed25519Signer, ES256Signer, Signer, ring
from agent.batch.model import HOUR_US, Account, Anchor, Body, HourAccount, TimeSource
from agent.demo.traffic import recording
from agent.frame import Frame
from tests.agent.batch.devices import SOFTHSM, SoftwareToken, SoftwareTpm
from tests.agent.batch.samples import GATEWAY, STREAM, traffic
from tests.bench import Row

SIZES = (1, 10, 100, 1000)
FRAMES = 1000


def rows() -> list[Row]:
    """Measure sizes and times."""
    found: list[Row] = []
    peers: list[tuple[str, Callable[[Sequence[Frame]], bytes]]] = [("Semtech JSON", _semtech_json)]
    if importlib.util.find_spec("chirpstack_api"):
        peers.append(("ChirpStack protobuf", _protobuf))
    town = traffic(FRAMES, longest=35)
    for name, frames in (("one sensor, recorded", _recorded()), ("town of 60, modelled", town)):
        payload = fmean(len(frame.phy_payload) for frame in frames)
        found.append(Row("format", f"{name}: PHYPayload", payload, "bytes/frame"))
        for size in SIZES:
            ours = _mean_bytes(frames, size, _wire)
            for peer, write in peers:
                theirs = _mean_bytes(frames, size, write)
                found.append(Row("format", f"{name}: {size} in a batch", ours, "bytes/frame", peer, theirs))
                beyond = f"{name}: {size} in a batch, beyond the PHYPayload"
                found.append(Row("format", beyond, ours - payload, "bytes/frame", peer, theirs - payload))
    return found + _times(town)


def _recorded() -> tuple[Frame, ...]:
    heard = recording("tourperret")[:FRAMES]
    return tuple(
        replace(
            model,
            phy_payload=air.payload,
            frequency_hz=air.frequency_hz,
            datarate=air.spreading_factor,
            rssi_ddbm=round(air.rssi_dbm * 10),
            rssis_ddbm=round((air.rssi_dbm + min(0.0, air.snr_db)) * 10),
            snr_qdb=round(air.snr_db * 4),
        )
        for model, air in zip(traffic(len(heard)), heard, strict=True)
    )


def _mean_bytes(frames: Sequence[Frame], size: int, write: Callable[[Sequence[Frame]], bytes]) -> float:
    """Return bytes per frame over whole batches of `size`; of small ones a hundred are enough."""
    starts = range(0, len(frames) - size + 1, size)[:100]
    groups = [frames[start : start + size] for start in starts]
    return fmean(len(write(group)) for group in groups) / size


def _body(frames: Sequence[Frame]) -> Body:
    count = len(frames)
    last = frames[-1]
    anchor = Anchor(last.session.boot_id, last.boottime_us, 1_767_225_600_000_000, 15_000, TimeSource.PLATFORM)
    account = Account(heard=3 * count, bad_crc=count, filtered=count, spooled=count)
    hours = (HourAccount(last.session.boot_id, last.boottime_us // HOUR_US, account),)
    return Body(tuple(frames), account, (anchor,), (), {"uptime_s": 86_400, "concentrator_starts": 3}, hours)


def _seal(frames: Sequence[Frame], signer: Signer) -> codec.Sealed:
    return codec.seal(
        _body(frames),
        signer,
        gateway_eui=GATEWAY,
        stream_id=STREAM,
        number=1000,
        first_seq=100_000,
        previous_hash=b"\x11" * 32,
        filter_version=1,
    )


_SIGNER = Ed25519Signer.generate()


def _wire(frames: Sequence[Frame]) -> bytes:
    sealed = _seal(frames, _SIGNER)
    return codec.pack(sealed.signed_header, sealed.body)


def _semtech_json(frames: Sequence[Frame]) -> bytes:
    """Write what a packet forwarder puts into one PUSH_DATA datagram, twelve bytes of header included."""
    packets = [
        {
            "jver": 1,
            "tmst": frame.counter_us & 0xFFFFFFFF,
            "chan": frame.if_chain,
            "rfch": frame.rf_chain,
            "freq": frame.frequency_hz / 1e6,
            "mid": 0,
            "stat": 1,
            "modu": "LORA",
            "datr": f"SF{frame.datarate}BW125",
            "codr": "4/5",
            "rssis": (frame.rssis_ddbm or 0) // 10,
            "lsnr": (frame.snr_qdb or 0) / 4,
            "foff": frame.frequency_offset_hz,
            "rssi": frame.rssi_ddbm // 10,
            "size": len(frame.phy_payload),
            "data": base64.b64encode(frame.phy_payload).decode(),
        }
        for frame in frames
    ]
    return bytes(12) + json.dumps({"rxpk": packets}, separators=(",", ":")).encode()


def _protobuf(frames: Sequence[Frame]) -> bytes:
    """Write what ChirpStack's gateway bridge publishes: one message for each frame."""
    gw = importlib.import_module("chirpstack_api.gw")
    written = b""
    for frame in frames:
        message = gw.UplinkFrame()
        message.phy_payload = frame.phy_payload
        message.tx_info.frequency = frame.frequency_hz
        lora = message.tx_info.modulation.lora
        lora.bandwidth, lora.spreading_factor, lora.code_rate = frame.bandwidth_hz, frame.datarate, gw.CR_4_5
        info = message.rx_info
        info.gateway_id, info.uplink_id = GATEWAY.hex(), frame.counter_us & 0xFFFFFFFF
        info.gw_time.FromMicroseconds(1_767_225_600_000_000 + frame.boottime_us)
        info.rssi, info.snr = frame.rssi_ddbm // 10, (frame.snr_qdb or 0) / 4
        info.channel, info.rf_chain, info.crc_status = frame.if_chain, frame.rf_chain, gw.CRC_OK
        info.context = (frame.counter_us & 0xFFFFFFFF).to_bytes(4, "big")
        written += message.SerializeToString()
    return written


def _times(frames: Sequence[Frame]) -> list[Row]:
    found: list[Row] = []
    resolve = ring(_SIGNER.public)
    for size in (100, 1000):
        group = frames[:size]
        write_us, open_us = _us(partial(_wire, group)), _us(partial(codec.open_wire, _wire(group), resolve))
        found.append(Row("format", f"encode, sign, compress; {size} in a batch", write_us / size, "us/frame"))
        found.append(Row("format", f"verify, decompress, decode; {size} in a batch", open_us / size, "us/frame"))
    data = bytes(200)
    signers: tuple[Signer, ...] = (_SIGNER, ES256Signer.generate())
    for signer in signers:
        sign_us = _us(partial(signer.sign, data))
        verify_us = _us(partial(signer.public.verify, signer.sign(data), data))
        found.append(Row("format", f"sign, {signer.algorithm.name}", 1e6 / sign_us, "1/s"))
        found.append(Row("format", f"verify, {signer.algorithm.name}", 1e6 / verify_us, "1/s"))
    with _devices() as made:
        for device, signer in made:
            found.append(
                Row("format", f"sign and check, ES256 in {device}", 1e6 / _us(partial(signer.sign, data)), "1/s")
            )
    return found


@contextlib.contextmanager
def _devices() -> Iterator[list[tuple[str, Signer]]]:
    """Give keys in a TPM and a token, both in software: what the way there costs. Chips take longer."""
    with tempfile.TemporaryDirectory(prefix="keys-") as name, contextlib.ExitStack() as ends:
        made: list[tuple[str, Signer]] = []
        if shutil.which("swtpm") and importlib.util.find_spec("tpm2_pytss"):
            tpm = SoftwareTpm(Path(name))
            tpm.start()
            ends.callback(tpm.stop)
            place = keyplace.parse_device(f"tpm:0x81000001?tcti={tpm.tcti}")
            made.append(("a TPM 2.0 (swtpm)", keyplace.create(place)))
        if SOFTHSM.exists() and shutil.which("softhsm2-util") and importlib.util.find_spec("pkcs11"):
            token = SoftwareToken(Path(name))
            os.environ["SOFTHSM2_CONF"] = str(token.configuration)
            made.append(("a PKCS#11 token (SoftHSM)", keyplace.create(keyplace.parse_device(token.uri()))))
        yield made


def _us(work: Callable[[], object]) -> float:
    """Return microseconds for one call: the best of five rounds, which other processes disturbed least."""
    best = float("inf")
    for _ in range(5):
        start, calls = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < 0.1:
            work()
            calls += 1
        best = min(best, elapsed / calls)
    return best * 1e6
