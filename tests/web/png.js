/** Reads PNG files in Node, which has no decoder: 8 bits, grey, RGB or RGBA, not interlaced, as Pillow writes them. */

import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";

const CHANNELS = { 0: 1, 2: 3, 6: 4 }; // by colour type

/** @returns {{data: Uint8ClampedArray, width: number, height: number}} RGBA */
export function readPng(path) {
  const file = readFileSync(path);
  const parts = [];
  for (let at = 8; at < file.length; at += 12 + file.readUInt32BE(at)) {
    const [kind, length] = [file.toString("latin1", at + 4, at + 8), file.readUInt32BE(at)];
    if (kind === "IDAT") parts.push(file.subarray(at + 8, at + 8 + length));
  }
  const [width, height, depth, type] = [file.readUInt32BE(16), file.readUInt32BE(20), file[24], file[25]];
  const channels = CHANNELS[type];
  if (depth !== 8 || !channels || file[28]) throw new Error(`${path} is another kind of PNG`);
  const lines = inflateSync(Buffer.concat(parts));
  const length = width * channels;
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  let above = new Uint8Array(length);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (length + 1)];
    const line = lines.subarray(y * (length + 1) + 1, (y + 1) * (length + 1));
    for (let x = 0; x < length; x++) {
      const [left, corner] = x < channels ? [0, 0] : [line[x - channels], above[x - channels]];
      const up = above[x];
      line[x] += [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
    }
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 4; channel++) {
        if (channel === 3 && channels < 4) continue;
        data[4 * (y * width + x) + channel] = line[x * channels + (channels === 1 ? 0 : channel)];
      }
    }
    above = line;
  }
  return { data, width, height };
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [toLeft, toUp, toCorner] = [left, up, corner].map((value) => Math.abs(guess - value));
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}
