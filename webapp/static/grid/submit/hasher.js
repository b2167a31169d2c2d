// A worker that takes the sha256 of files part by part, however large they are. Browsers have no such thing: theirs
// wants all bytes at once, and pages from plain HTTP do not even have that.
"use strict";

const PART = 4 * 1024 * 1024;
// The first 32 bits of the fractional parts of the cube roots of the first 64 primes, and of square roots (FIPS 180-4).
const K = new Uint32Array(64);
const START = new Uint32Array(8);
for (let found = 0, number = 2; found < 64; number++) {
  let prime = true;
  for (let one = 2; one * one <= number; one++) if (number % one === 0) { prime = false; break; }
  if (!prime) continue;
  if (found < 8) START[found] = (Math.sqrt(number) % 1) * 4294967296;
  K[found] = (Math.cbrt(number) % 1) * 4294967296;
  found++;
}

class Sha256 {
  constructor() {
    this.state = START.slice();
    this.words = new Uint32Array(64);
    this.rest = new Uint8Array(64);
    this.held = 0;
    this.length = 0;
  }

  add(bytes) {
    this.length += bytes.length;
    let at = 0;
    if (this.held) {
      at = Math.min(64 - this.held, bytes.length);
      this.rest.set(bytes.subarray(0, at), this.held);
      this.held += at;
      if (this.held < 64) return;
      this.blocks(this.rest, 0, 64);
      this.held = 0;
    }
    const end = bytes.length - (bytes.length - at) % 64;
    this.blocks(bytes, at, end);
    this.rest.set(bytes.subarray(end), 0);
    this.held = bytes.length - end;
  }

  blocks(bytes, from, to) {
    const w = this.words, s = this.state;
    for (let at = from; at < to; at += 64) {
      for (let i = 0, p = at; i < 16; i++, p += 4) w[i] = (bytes[p] << 24) | (bytes[p + 1] << 16) | (bytes[p + 2] << 8) | bytes[p + 3];
      for (let i = 16; i < 64; i++) {
        const x = w[i - 15], y = w[i - 2];
        const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      let a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
      for (let i = 0; i < 64; i++) {
        const t1 = (h + (((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
        const t2 = ((((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
      }
      s[0] += a; s[1] += b; s[2] += c; s[3] += d; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
    }
  }

  digest() {
    const bits = this.length * 8;
    const end = new Uint8Array(this.held < 56 ? 64 - this.held : 128 - this.held);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(bits / 4294967296));
    view.setUint32(end.length - 4, bits >>> 0);
    this.add(end);
    return [...this.state].map((word) => word.toString(16).padStart(8, "0")).join("");
  }
}

async function hashed(file) {
  if (self.crypto && crypto.subtle && file.size <= PART) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  const sha256 = new Sha256();
  for (let at = 0; at < file.size; at += PART) {
    sha256.add(new Uint8Array(await file.slice(at, at + PART).arrayBuffer()));
    postMessage({ done: Math.min(file.size, at + PART) });
  }
  return sha256.digest();
}

onmessage = async (event) => {
  try {
    postMessage({ sha256: await hashed(event.data) });
  } catch (error) {
    postMessage({ error: String(error && error.message || error) });
  }
};
