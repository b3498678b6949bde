/** What the tests share: the folder that reference.py has written, and arrays in it. */

import { readFileSync } from "node:fs";

export const FOLDER = process.env.REFERENCE;
if (!FOLDER) throw new Error("REFERENCE must name the folder that reference.py has written; run: make test-web");

export function readBytes(name) {
  return readFileSync(`${FOLDER}/${name}`);
}

export function readJson(name) {
  return JSON.parse(readBytes(name));
}

/** A file of float32. */
export function readFloats(name) {
  const bytes = readBytes(name);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** The greatest difference of two arrays, as a share of the greatest value of the second. */
export function relativeError(found, expected) {
  if (found.length !== expected.length) return Infinity;
  const greatest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return found.reduce((most, value, at) => Math.max(most, Math.abs(value - expected[at])), 0) / greatest;
}

/** What a heatmap may be off: 1e-4, or what float32 itself is off in maps of the method, as export has measured it. */
export function limit({ resolution }) {
  return resolution > 1e-3 ? resolution : 1e-4;
}
