// SPDX-FileCopyrightText: 2026 civigate contributors
// SPDX-License-Identifier: EUPL-1.2
//
// A reader of civigate batches, receipts and refusals, written from docs/batch-format.md alone: a published CBOR library,
// a published zstd library, and Node's own cryptography. The numbers in comments are chapters of that document.

import { createHash, createPublicKey, verify } from "node:crypto";
import * as zlib from "node:zlib";
import { Decoder } from "cbor-x";
import { decompress } from "fzstd";

const MALFORMED = 1, UNKNOWN_KEY = 2, BAD_SIGNATURE = 4, BODY_MISMATCH = 5, UNSUPPORTED_VERSION = 9;
const MAX = Number.MAX_SAFE_INTEGER;
const HALF_ORDER = 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8n;
const MAX_WIRE = 2101248, MAX_BODY = 2097152, MAX_HEADER = 1024, MAX_ANSWER = 32768;

export class Refused extends Error {
  constructor(reason, what) {
    super(what);
    this.reason = reason;
  }
}

function need(condition, what, reason = MALFORMED) {
  if (!condition) throw new Refused(reason, what);
}

// ---- 2. Encoding -----------------------------------------------------------------------------------------------------

const decoder = new Decoder({ mapsAsObjects: false, useRecords: false, int64AsNumber: false });

function head(major, value) {
  const n = BigInt(value);
  if (n < 24n) return Buffer.from([(major << 5) | Number(n)]);
  for (const [info, size] of [[24, 1], [25, 2], [26, 4], [27, 8]]) {
    if (n < 1n << BigInt(8 * size)) {
      const bytes = Buffer.alloc(1 + size);
      bytes[0] = (major << 5) | info;
      for (let i = 0; i < size; i++) bytes[size - i] = Number((n >> BigInt(8 * i)) & 0xffn);
      return bytes;
    }
  }
  throw new Refused(MALFORMED, "integer beyond 64 bits");
}

function encode(item, depth = 8) {
  if (typeof item === "bigint" || Number.isInteger(item)) {
    need(!Object.is(item, -0), "a float");
    return item < 0 ? head(1, -1n - BigInt(item)) : head(0, item);
  }
  if (item instanceof Uint8Array) return Buffer.concat([head(2, item.length), item]);
  if (typeof item === "string") {
    const text = Buffer.from(item, "utf8");
    return Buffer.concat([head(3, text.length), text]);
  }
  need(depth > 0, "nested too deeply");
  if (Array.isArray(item)) {
    return Buffer.concat([head(4, item.length), ...item.map((element) => encode(element, depth - 1))]);
  }
  if (item instanceof Map) {
    const members = [...item].map(([key, value]) => {
      need(typeof key === "string" || typeof key === "number" || typeof key === "bigint", "map key");
      return [encode(key), encode(value, depth - 1)];
    });
    members.sort((one, other) => Buffer.compare(one[0], other[0]));
    return Buffer.concat([head(5, members.length), ...members.flat()]);
  }
  throw new Refused(MALFORMED, "a type that is not allowed");
}

// What decodes and encodes to the same bytes again was in deterministic encoding.
function decode(bytes, limit) {
  need(bytes.length <= limit, "too long");
  let item, again;
  try {
    item = decoder.decode(bytes);
    again = encode(item);
  } catch (error) {
    throw new Refused(MALFORMED, `not CBOR of the allowed kind: ${error.message}`);
  }
  need(again.equals(Buffer.from(bytes)), "not in deterministic encoding");
  return simple(item);
}

// The library gives some integers as BigInt; a number is enough where it is exact.
function simple(item) {
  if (typeof item === "bigint") return item >= -BigInt(MAX) && item <= BigInt(MAX) ? Number(item) : item;
  if (Array.isArray(item)) return item.map(simple);
  if (item instanceof Map) return new Map([...item].map(([key, value]) => [simple(key), simple(value)]));
  return item;
}

const isBytes = (item, size) => item instanceof Uint8Array && (size === undefined || item.length === size);
const isNumber = (item, low = 0, high = MAX) => Number.isInteger(item) && item >= low && item <= high;
const hex = (bytes) => Buffer.from(bytes).toString("hex");
export const sha256 = (bytes) => createHash("sha256").update(bytes).digest();

// node:zlib has crc32 from version 20.15 on
function crc32(bytes) {
  if (zlib.crc32) return zlib.crc32(bytes);
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

// ---- 3. Keys -----------------------------------------------------------------------------------------------------------

export function publicKey(coseKey) {
  const members = decode(coseKey, 128);
  const kid = hex(sha256(coseKey));
  const base64url = (bytes) => Buffer.from(bytes).toString("base64url");
  if (members.get(1) === 1) {
    const jwk = { kty: "OKP", crv: "Ed25519", x: base64url(members.get(-2)) };
    return { kid, algorithm: -8, key: createPublicKey({ key: jwk, format: "jwk" }) };
  }
  const jwk = { kty: "EC", crv: "P-256", x: base64url(members.get(-2)), y: base64url(members.get(-3)) };
  return { kid, algorithm: -7, key: createPublicKey({ key: jwk, format: "jwk" }) };
}

// ---- 4. Signed messages ------------------------------------------------------------------------------------------------

function openSigned(message, keys, limit) {
  need(message.length > 0 && message[0] === 0xd2, "not a COSE_Sign1 message");
  const parts = decode(message.subarray(1), limit);
  need(Array.isArray(parts) && parts.length === 4, "COSE_Sign1 has four parts");
  const [protectedHeader, unprotected, payload, signature] = parts;
  need(isBytes(protectedHeader) && unprotected instanceof Map && isBytes(payload) && isBytes(signature, 64), "COSE_Sign1");
  need(unprotected.size === 0, "unprotected header is not empty");
  const header = decode(protectedHeader, limit);
  need(header instanceof Map && header.size === 2, "protected header has two members");
  const algorithm = header.get(1), kid = header.get(4);
  need(typeof algorithm === "number" && isBytes(kid, 32), "algorithm and kid");
  const known = keys.get(hex(kid));
  need(known !== undefined, "key is not registered", UNKNOWN_KEY);
  need(known.algorithm === algorithm, "algorithm is not the key's", BAD_SIGNATURE);
  const signed = encode(["Signature1", protectedHeader, new Uint8Array(0), payload]);
  let good;
  if (algorithm === -8) {
    good = verify(null, signed, known.key, signature);
  } else {
    good = BigInt("0x" + hex(signature.subarray(32))) <= HALF_ORDER &&
      verify("sha256", signed, { key: known.key, dsaEncoding: "ieee-p1363" }, signature);
  }
  need(good, "signature does not verify", BAD_SIGNATURE);
  return { payload: decode(payload, limit), kid: hex(kid) };
}

function needKind(payload, kind) {
  need(Array.isArray(payload) && payload.length >= 2 && payload[0] === kind, "another kind of message");
  need(isNumber(payload[1], -MAX), "version");
  need(payload[1] === 1, "another version", UNSUPPORTED_VERSION);
}

// ---- 5. Header -----------------------------------------------------------------------------------------------------------

function readHeader(payload) {
  needKind(payload, 1);
  need(payload.length === 11, "header has eleven members");
  const [, version, eui, stream, number, firstSeq, count, previous, bodyHash, bodyLength, filterVersion] = payload;
  need(isBytes(eui, 8) && isBytes(stream, 16) && isBytes(previous, 32) && isBytes(bodyHash, 32), "header");
  need(isNumber(number, 1) && isNumber(firstSeq, 1) && isNumber(count, 0, 4096), "header");
  need(isNumber(bodyLength, 1, MAX_BODY) && isNumber(filterVersion), "header");
  need((number === 1) === previous.every((byte) => byte === 0), "previous hash");
  return {
    gateway_eui: hex(eui),
    stream_id: hex(stream),
    number,
    first_seq: firstSeq,
    frame_count: count,
    previous_hash: hex(previous),
    body_sha256: hex(bodyHash),
    body_length: bodyLength,
    filter_version: filterVersion,
    version,
  };
}

// ---- 6. Batch on the wire --------------------------------------------------------------------------------------------------

export function openBatch(wire, keys) {
  const parts = decode(wire, MAX_WIRE);
  need(Array.isArray(parts) && parts.length === 4, "envelope has four parts");
  const [signedHeader, codec, carried, check] = parts;
  need(isBytes(signedHeader) && isNumber(codec) && isBytes(carried) && isBytes(check, 4), "envelope");
  const covered = Buffer.concat([signedHeader, Buffer.from([codec & 0xff]), carried]);
  need(crc32(covered) === Buffer.from(check).readUInt32BE(0), "check");
  need(codec === 0 || codec === 1, "unknown codec", UNSUPPORTED_VERSION);
  const { payload, kid } = openSigned(signedHeader, keys, MAX_HEADER);
  const header = readHeader(payload);
  const encoded = codec === 1 ? unzip(Buffer.from(carried), header.body_length) : carried;
  need(encoded.length === header.body_length, "body length", BODY_MISMATCH);
  need(hex(sha256(encoded)) === header.body_sha256, "body hash", BODY_MISMATCH);
  const content = readBody(encoded);
  need(content.frames.length === header.frame_count, "frame count", BODY_MISMATCH);
  return { header, content, kid, body: hex(encoded), hash: hex(sha256(signedHeader)) };
}

// One frame that states its size [RFC 8878 §3.1.1]; its blocks are walked so that nothing stands behind it.
function unzip(bytes, length) {
  need(bytes.length >= 6 && bytes.readUInt32LE(0) === 0xfd2fb528, "not a zstd frame");
  const descriptor = bytes[4];
  const single = (descriptor >> 5) & 1, sizeFlag = descriptor >> 6;
  need((descriptor & 0x08) === 0, "reserved bit");
  let position = 5 + (single ? 0 : 1);
  need((descriptor & 3) === 0, "needs a dictionary");
  const sizeBytes = [single, 2, 4, 8][sizeFlag];
  need(sizeBytes > 0, "states no size", BODY_MISMATCH);
  need(position + sizeBytes <= bytes.length, "cut");
  let size = 0n;
  for (let i = sizeBytes - 1; i >= 0; i--) size = (size << 8n) | BigInt(bytes[position + i]);
  if (sizeBytes === 2) size += 256n;
  need(size === BigInt(length), "states another size", BODY_MISMATCH);
  position += sizeBytes;
  for (let last = false; !last; ) {
    need(position + 3 <= bytes.length, "cut");
    const block = bytes.readUIntLE(position, 3);
    last = (block & 1) === 1;
    const type = (block >> 1) & 3;
    need(type !== 3, "reserved block");
    position += 3 + (type === 1 ? 1 : block >> 3);
  }
  if (descriptor & 0x04) position += 4;
  need(position === bytes.length, "not exactly one frame");
  // Into a buffer of this size, so that a frame that lies cannot fill the memory.
  const plain = new Uint8Array(length);
  try {
    const written = decompress(bytes, plain);
    need(written.length === length, "not the size that it states");
  } catch (error) {
    throw new Refused(MALFORMED, `does not decompress: ${error.message}`);
  }
  return plain;
}

// ---- 7. Body -------------------------------------------------------------------------------------------------------------

const ACCOUNT = [
  "heard", "bad_crc", "filtered", "duplicate", "spooled", "evicted", "expired", "quarantined", "overrun",
];

function members(item, last) {
  need(item instanceof Map, "not a map");
  for (const key of item.keys()) {
    need((typeof key === "number" || typeof key === "bigint") && key >= 0 && (key <= last || key >= 32), "unknown member");
  }
  return item;
}

function list(item, limit) {
  if (item === undefined) return [];
  need(Array.isArray(item) && item.length <= limit, "not an array, or too long");
  return item;
}

function readBody(encoded) {
  const body = members(decode(encoded, MAX_BODY), 5);
  const boots = list(body.get(0), 65536);
  need(boots.every((boot) => isBytes(boot, 16)), "boot id");
  const boot = (position) => {
    need(isNumber(position, 0, boots.length - 1), "no such boot");
    return hex(boots[position]);
  };
  const buckets = (counts) => {
    need(Array.isArray(counts) && counts.length === 9 && counts.every((count) => isNumber(count)), "account");
    return Object.fromEntries(ACCOUNT.map((name, index) => [name, counts[index]]));
  };
  const account = buckets(body.get(1));
  const anchors = list(body.get(2), 1024).map((anchor) => {
    need(Array.isArray(anchor) && anchor.length === 5 && isNumber(anchor[4], 1, 3), "anchor");
    need(anchor.slice(1, 4).every((time) => isNumber(time)), "anchor");
    const [at, boottime, utc, uncertainty, source] = anchor;
    return { boot_id: boot(at), boottime_us: boottime, utc_us: utc, uncertainty_us: uncertainty, source };
  });
  const tombstones = list(body.get(3), 1024).map((stone) => {
    need(Array.isArray(stone) && (stone.length === 6 || stone.length === 9), "tombstone");
    const [count, reason, firstBoot, firstTime, lastBoot, lastTime, first = 0, last = 0, hash = new Uint8Array(32)] = stone;
    need(isNumber(count) && isNumber(reason, 1, 3) && isNumber(firstTime) && isNumber(lastTime), "tombstone");
    need(stone.length === 6 || (isNumber(first, 1) && isNumber(last, first) && isBytes(hash, 32)), "withdrawn batches");
    return {
      count,
      first_boottime_us: firstTime,
      last_boottime_us: lastTime,
      reason,
      first_boot_id: boot(firstBoot),
      last_boot_id: boot(lastBoot),
      first_number: first,
      last_number: last,
      last_hash: hex(hash),
    };
  });
  const health = body.get(4) ?? new Map();
  need(health instanceof Map && health.size <= 64, "health");
  for (const [name, value] of health) {
    const size = typeof name === "string" ? Buffer.byteLength(name) : 0;
    need(size >= 1 && size <= 32 && isNumber(value, -MAX), "health");
  }
  const hours = list(body.get(36), 1024).map((part) => {
    need(Array.isArray(part) && isNumber(part[1], 0, Math.floor(MAX / 3.6e9)), "hour");
    return { boot_id: boot(part[0]), hour: part[1], account: buckets(part.slice(2)) };
  });
  need(new Set(hours.map((part) => `${part.boot_id} ${part.hour}`)).size === hours.length, "an hour comes twice");
  const frames = body.has(5) ? readFrames(members(body.get(5), 17), boot) : [];
  const succession = body.get(34);
  need(succession === undefined || (isBytes(succession) && succession.length >= 1 && succession.length <= 512), "succession");
  return {
    frames,
    account,
    anchors,
    tombstones,
    health: Object.fromEntries(health),
    hours,
    succession: succession === undefined ? "" : hex(succession),
    predecessor: readPredecessor(body.get(35)),
  };
}

// ---- 8. Frames -----------------------------------------------------------------------------------------------------------

// 8.1; sums and products in BigInt, because codes can have 56 bits
function column(item, count, low, high, optional = false) {
  if (item === undefined) {
    need(optional, "column is missing");
    return new Array(count).fill(null);
  }
  if (Number.isInteger(item) || typeof item === "bigint") {
    need(item >= low && item <= high, "column out of range");
    return new Array(count).fill(Number(item));
  }
  need(Array.isArray(item) && item.length === 4, "column");
  const [base, step, width, bits] = item;
  need([base, step].every((part) => Number.isInteger(part) || typeof part === "bigint"), "column");
  need(step >= 1 && isNumber(width, 1, 56) && isBytes(bits), "column");
  need(bits.length === Math.ceil((count * width) / 8), "column");
  for (let bit = count * width; bit < bits.length * 8; bit++) need(!((bits[bit >> 3] >> (7 - (bit & 7))) & 1), "column");
  const values = [];
  for (let i = 0; i < count; i++) {
    let code = 0n;
    for (let plane = 0; plane < width; plane++) {
      const bit = plane * count + i;
      code = (code << 1n) | BigInt((bits[bit >> 3] >> (7 - (bit & 7))) & 1);
    }
    if (optional && code === 0n) {
      values.push(null);
      continue;
    }
    const value = BigInt(base) + BigInt(step) * (optional ? code - 1n : code);
    need(value >= BigInt(low) && value <= BigInt(high), "column out of range");
    values.push(Number(value));
  }
  return values;
}

// 8.3
function table(item, ranges) {
  need(Array.isArray(item) && item.length === ranges.length + 1 && isNumber(item[0], 1, 4096), "table");
  const columns = ranges.map(([low, high], index) => column(item[index + 1], item[0], low, high));
  return Array.from({ length: item[0] }, (_, row) => columns.map((values) => values[row]));
}

function readFrames(map, boot) {
  const UINT32 = 2 ** 32 - 1;
  const runs = list(map.get(0), 4096).map((run) => {
    need(Array.isArray(run) && run.length === 5 && isNumber(run[2], 1, 4096), "run");
    need(isNumber(run[1]) && isNumber(run[3]) && isNumber(run[4]), "run");
    return { session: { boot_id: boot(run[0]), number: run[1] }, count: run[2], boottime: run[3], counter: run[4] };
  });
  const n = runs.reduce((sum, run) => sum + run.count, 0);
  need(n >= 1 && n <= 4096, "frames");
  const channels = table(map.get(1), [[0, UINT32], [0, 255], [0, 255]]);
  const channel = column(map.get(2), n, 0, channels.length - 1);
  const rates = table(map.get(3), [[0, 1], [0, UINT32], [0, UINT32], [0, 255]]);
  const rate = column(map.get(4), n, 0, rates.length - 1);
  // Differences of numbers up to 2^53, and differences of those: a JavaScript number may round them, so in BigInt.
  const elapsed = bigColumn(map.get(5), n);
  const residual = bigColumn(map.get(6), n);
  const crc = column(map.get(7), n, 0, 2);
  const rssi = column(map.get(8), n, -32768, 32767);
  const signal = column(map.get(9), n, -65536, 65536, true);
  const snr = column(map.get(10), n, -32768, 32767, true);
  const offset = column(map.get(11), n, -(2 ** 31), 2 ** 31 - 1);
  const fine = column(map.get(12), n, 0, UINT32, true);
  const payloads = readPayloads(map, column(map.get(13), n, 0, 255));
  const frames = [];
  for (const run of runs) {
    let boottime = BigInt(run.boottime), counter = BigInt(run.counter);
    for (let place = 0; place < run.count; place++) {
      const i = frames.length;
      need(place > 0 || (elapsed[i] === 0n && residual[i] === 0n), "first frame of a run");
      boottime += elapsed[i];
      counter += residual[i] + elapsed[i];
      need(boottime >= 0n && boottime <= BigInt(MAX) && counter >= 0n && counter <= BigInt(MAX), "time out of range");
      const signalRssi = signal[i] === null ? null : signal[i] + rssi[i];
      need(signalRssi === null || isNumber(signalRssi, -32768, 32767), "signal RSSI");
      const [frequency, ifChain, rfChain] = channels[channel[i]];
      const [modulation, bandwidth, datarate, codingRate] = rates[rate[i]];
      frames.push({
        session: run.session,
        boottime_us: Number(boottime),
        counter_us: Number(counter),
        frequency_hz: frequency,
        modulation,
        bandwidth_hz: bandwidth,
        datarate,
        coding_rate: codingRate,
        crc: crc[i],
        rssi_ddbm: rssi[i],
        rssis_ddbm: signalRssi,
        snr_qdb: snr[i],
        frequency_offset_hz: offset[i],
        if_chain: ifChain,
        rf_chain: rfChain,
        phy_payload: payloads[i],
        fine_timestamp_ns: fine[i],
      });
    }
  }
  return frames;
}

function bigColumn(item, count) {
  if (Number.isInteger(item) || typeof item === "bigint") return new Array(count).fill(BigInt(item));
  need(Array.isArray(item) && item.length === 4, "column");
  const codes = column([0, 1, item[2], item[3]], count, 0, 2 ** 56);
  const exact = item[2] <= 53 ? codes.map(BigInt) : wideCodes(item[2], item[3], count);
  need([item[0], item[1]].every((part) => Number.isInteger(part) || typeof part === "bigint") && item[1] >= 1, "column");
  return exact.map((code) => BigInt(item[0]) + BigInt(item[1]) * code);
}

function wideCodes(width, bits, count) {
  return Array.from({ length: count }, (_, i) => {
    let code = 0n;
    for (let plane = 0; plane < width; plane++) {
      const bit = plane * count + i;
      code = (code << 1n) | BigInt((bits[bit >> 3] >> (7 - (bit & 7))) & 1);
    }
    return code;
  });
}

// 8.4
function readPayloads(map, lengths) {
  const divided = lengths.filter((length) => length >= 9).length;
  const fronts = [];
  if (divided > 0) {
    const heads = map.get(14), necks = map.get(16);
    need(isBytes(heads) && heads.length > 0 && heads.length % 5 === 0, "heads");
    const rows = heads.length / 5;
    need(isBytes(necks, 4 * divided), "necks");
    column(map.get(15), divided, 0, rows - 1).forEach((row, i) => {
      const front = [];
      for (let j = 0; j < 5; j++) front.push(heads[j * rows + row]);
      for (let j = 0; j < 4; j++) front.push(necks[j * divided + i]);
      fronts.push(Buffer.from(front));
    });
  } else {
    need(!map.has(14) && !map.has(15) && !map.has(16), "heads without payloads");
  }
  const tails = map.get(17);
  const sizes = lengths.map((length) => (length >= 9 ? length - 9 : length));
  need(isBytes(tails, sizes.reduce((sum, size) => sum + size, 0)), "tails");
  let position = 0, front = 0;
  return lengths.map((length, i) => {
    const tail = tails.subarray(position, position + sizes[i]);
    position += sizes[i];
    return (length >= 9 ? hex(fronts[front++]) : "") + hex(tail);
  });
}

// 9.5
function readPredecessor(item) {
  if (item === undefined) return null;
  need(Array.isArray(item) && item.length === 3, "predecessor");
  const [stream, through, hash] = item;
  need(isBytes(stream, 16) && isNumber(through) && isBytes(hash, 32), "predecessor");
  need((through === 0) === hash.every((byte) => byte === 0), "predecessor");
  return { stream_id: hex(stream), through, hash: hex(hash) };
}

// 9.4: verified with the key that it announces itself
export function openSuccession(data) {
  need(data.length > 0 && data[0] === 0xd2, "not a COSE_Sign1 message");
  const parts = decode(data.subarray(1), 512);
  need(Array.isArray(parts) && parts.length === 4 && isBytes(parts[2]), "COSE_Sign1 has four parts");
  const claimed = decode(parts[2], 512);
  needKind(claimed, 4);
  need(claimed.length === 5, "succession has five members");
  const [, , eui, predecessor, coseKey] = claimed;
  need(isBytes(eui, 8) && isBytes(predecessor, 32) && isBytes(coseKey), "succession");
  let successor;
  try {
    successor = publicKey(coseKey);
  } catch (error) {
    throw new Refused(MALFORMED, `no key: ${error.message}`);
  }
  openSigned(data, new Map([[successor.kid, successor]]), 512);
  need(successor.kid !== hex(predecessor), "a key that follows itself");
  return { gateway_eui: hex(eui), predecessor: hex(predecessor), successor: successor.kid };
}

// ---- 10. Answers ---------------------------------------------------------------------------------------------------------

export function openAnswer(data, keys) {
  const { payload, kid } = openSigned(data, keys, MAX_ANSWER);
  need(Array.isArray(payload) && (payload[0] === 2 || payload[0] === 3), "neither receipt nor refusal");
  needKind(payload, payload[0]);
  if (payload[0] === 2) {
    need(payload.length === 7, "receipt has seven members");
    const [, , stream, through, hash, utc, beyond] = payload;
    need(isBytes(stream, 16) && isNumber(through) && isBytes(hash, 32) && isNumber(utc), "receipt");
    need((through === 0) === hash.every((byte) => byte === 0), "receipt");
    need(Array.isArray(beyond) && beyond.length <= 1024, "ranges");
    let before = through;
    for (const range of beyond) {
      need(Array.isArray(range) && range.length === 2, "range");
      need(isNumber(range[0], before + 1) && isNumber(range[1], range[0]), "range");
      before = range[1];
    }
    return { kid, kind: "receipt", content: { stream_id: hex(stream), through, hash: hex(hash), utc_us: utc, beyond } };
  }
  need(payload.length === 8, "refusal has eight members");
  const [, , stream, number, hash, reason, detail, utc] = payload;
  need(isBytes(stream, 16) && isNumber(number) && isBytes(hash, 32) && isNumber(reason, 1, 10), "refusal");
  need(typeof detail === "string" && Buffer.byteLength(detail) <= 240 && isNumber(utc), "refusal");
  const content = { stream_id: hex(stream), number, batch_hash: hex(hash), reason, detail, utc_us: utc };
  return { kid, kind: "refusal", content };
}
