// SPDX-FileCopyrightText: 2026 civigate contributors
// SPDX-License-Identifier: EUPL-1.2
//
// node vectors.mjs VECTORS.json: verify all test vectors; one line on success, an exit code otherwise.

import { deepStrictEqual, ok, strictEqual } from "node:assert";
import { readFileSync } from "node:fs";
import { openAnswer, openBatch, openSuccession, publicKey, Refused } from "./verifier.mjs";

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const bytes = (text) => Buffer.from(text, "hex");
let flips = 0;

const keys = new Map();
for (const entry of vectors.keys) {
  const key = publicKey(bytes(entry.cose_key));
  strictEqual(key.kid, entry.kid);
  strictEqual(key.algorithm, entry.algorithm);
  keys.set(key.kid, key);
}

function refuses(name, open) {
  try {
    open();
  } catch (error) {
    if (error instanceof Refused) return error.reason;
    throw new Error(`${name}: ${error.stack}`);
  }
  throw new Error(`${name}: accepted`);
}

function eachFlip(data, open) {
  for (let bit = 0; bit < data.length * 8; bit++, flips++) {
    const altered = Buffer.from(data);
    altered[bit >> 3] ^= 0x80 >> (bit & 7);
    refuses(`bit ${bit}`, () => open(altered));
  }
}

// chapter 9.3: the hash that the next batch must name, by the number it must have
const joins = new Map([[1, "00".repeat(32)]]);
for (const vector of vectors.batches) {
  const opened = openBatch(bytes(vector.wire), keys);
  deepStrictEqual(opened.header, vector.header, vector.name);
  deepStrictEqual(opened.content, vector.content, vector.name);
  strictEqual(opened.hash, vector.hash);
  strictEqual(opened.kid, vector.kid);
  strictEqual(opened.body, vector.body);
  for (const stone of opened.content.tombstones) joins.set(stone.last_number + 1, stone.last_hash);
  if (opened.header.number === 4) joins.delete(7); // its tombstone is about batches that came before any of these
  joins.set(opened.header.number + 1, opened.hash);
}
for (const vector of vectors.batches) strictEqual(vector.header.previous_hash, joins.get(vector.header.number), vector.name);
eachFlip(bytes(vectors.batches[0].wire), (altered) => openBatch(altered, keys));
eachFlip(bytes(vectors.batches[2].wire), (altered) => openBatch(altered, keys));

for (const vector of vectors.answers) {
  deepStrictEqual({ ...openAnswer(bytes(vector.data), keys) }, { kid: vector.kid, kind: vector.kind, content: vector.content });
}
eachFlip(bytes(vectors.answers[2].data), (altered) => openAnswer(altered, keys));

for (const vector of vectors.refused_batches) {
  const reason = refuses(vector.name, () => openBatch(bytes(vector.wire), keys));
  // chapter 6, step 5: libraries notice a broken frame at different points
  const same = reason === vector.reason || (vector.name.startsWith("compression: ") && reason === 5);
  ok(same, `${vector.name}: reason ${reason}, expected ${vector.reason}`);
}
for (const vector of vectors.refused_answers) refuses(vector.name, () => openAnswer(bytes(vector.data), keys));

for (const vector of vectors.successions) deepStrictEqual(openSuccession(bytes(vector.data)), vector.content);
for (const vector of vectors.refused_successions) refuses(vector.name, () => openSuccession(bytes(vector.data)));
eachFlip(bytes(vectors.successions[0].data), (altered) => openSuccession(altered));
const announced = openSuccession(bytes(vectors.batches[1].content.succession));
strictEqual(announced.predecessor, vectors.batches[1].kid);
strictEqual(announced.successor, vectors.batches[2].kid);

for (const vector of vectors.versions) {
  if (vector.reason === null) openBatch(bytes(vector.wire), keys);
  else strictEqual(refuses(vector.name, () => openBatch(bytes(vector.wire), keys)), vector.reason, vector.name);
}

ok(vectors.batches.length && vectors.answers.length && vectors.refused_batches.length && vectors.refused_answers.length);
console.log(
  `${vectors.batches.length} batches and ${vectors.answers.length} answers verified, ` +
    `${vectors.refused_batches.length + vectors.refused_answers.length} refused, ${flips} flipped bits refused`,
);
