/**
 * Why the layers look as they do: the same 4-level walk over the same tables in the representations that were rejected, as
 * ratios to the one that is used. Needs nothing built.
 *
 *   node bench/representation.js
 */

const PAGES = 1024;
const ROUNDS = 200;

/** A 4-level table that maps PAGES pages from `base` on, as int32 pairs in one arena; frame n is slot n. */
function build(base) {
  const words = new Int32Array(64 << 10);
  let frames = 1;
  for (let i = 0; i < PAGES; i++) {
    const iova = base + i * 4096;
    let frame = 0;
    for (let level = 4; level > 1; level--) {
      const at = (frame << 10) + index(iova, level) * 2;
      if (words[at] === 0) words[at] = (frames++ << 12) | 3;
      frame = words[at] >>> 12;
    }
    const at = (frame << 10) + index(iova, 1) * 2;
    words[at] = ((i + 1) << 12) | 3;
    words[at + 1] = 1;
  }
  return words;
}

function index(iova, level) {
  return Math.floor(iova / 2 ** (12 + 9 * (level - 1))) % 512;
}

/** Used: the page number split once into two 18-bit halves, words read by index. */
function walkHalves(words, iova) {
  const high = (iova / 1073741824) | 0;
  const low = (iova / 4096) & 0x3ffff;
  let at = ((high >>> 9) & 511) << 1;
  let lo = words[at];
  if ((lo & 3) === 0) return -1;
  at = ((lo >>> 12) << 10) + ((high & 511) << 1);
  lo = words[at];
  if ((lo & 3) === 0) return -1;
  at = ((lo >>> 12) << 10) + ((low >>> 9) << 1);
  lo = words[at];
  if ((lo & 3) === 0) return -1;
  at = ((lo >>> 12) << 10) + ((low & 511) << 1);
  return (words[at] & 3) === 0 ? -1 : at;
}

/** Rejected: a division, a floor and a remainder per level. */
function walkDivisions(words, iova) {
  let frame = 0;
  let at = 0;
  for (let level = 4; level >= 1; level--) {
    at = frame * 1024 + (Math.floor(iova / 2 ** (12 + 9 * (level - 1))) % 512) * 2;
    if ((words[at] & 3) === 0) return -1;
    frame = words[at] >>> 12;
  }
  return at;
}

/** Rejected: 64-bit entries and addresses as bigint. */
function walkBigint(entries, iova) {
  let frame = 0n;
  let at = 0;
  for (let shift = 39n; shift >= 12n; shift -= 9n) {
    at = Number((frame << 9n) + ((iova >> shift) & 511n));
    const entry = entries[at];
    if ((entry & 3n) === 0n) return -1;
    frame = (entry & 0xffffff000n) >> 12n;
  }
  return at;
}

/** Rejected: a Map from frame to a typed array of its own. */
function walkMap(frames, iova) {
  const high = (iova / 1073741824) | 0;
  const low = (iova / 4096) & 0x3ffff;
  const indexes = [(high >>> 9) & 511, high & 511, low >>> 9, low & 511];
  let frame = 0;
  let at = 0;
  for (let level = 0; level < 4; level++) {
    const table = frames.get(frame);
    at = indexes[level] * 2;
    if ((table[at] & 3) === 0) return -1;
    frame = table[at] >>> 12;
  }
  return at;
}

/** Rejected: an accessor that turns "possibly undefined" into a number, as noUncheckedIndexedAccess asks for. */
function word(words, at) {
  const value = words[at];
  if (value === undefined) throw new RangeError(`no word ${at}`);
  return value;
}
function walkAccessor(words, iova) {
  const high = (iova / 1073741824) | 0;
  const low = (iova / 4096) & 0x3ffff;
  let lo = word(words, ((high >>> 9) & 511) << 1);
  if ((lo & 3) === 0) return -1;
  lo = word(words, ((lo >>> 12) << 10) + ((high & 511) << 1));
  if ((lo & 3) === 0) return -1;
  lo = word(words, ((lo >>> 12) << 10) + ((low >>> 9) << 1));
  if ((lo & 3) === 0) return -1;
  const at = ((lo >>> 12) << 10) + ((low & 511) << 1);
  return (word(words, at) & 3) === 0 ? -1 : at;
}

function best(walk, tables, iovas) {
  let least = Infinity;
  let sum = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let i = 0; i < iovas.length; i++) sum += walk(tables, iovas[i]);
    least = Math.min(least, ((performance.now() - start) * 1e6) / iovas.length);
  }
  if (sum < 0) throw new Error('a walk missed');
  return least;
}

const base = 0x7f_fff0_0000;
const words = build(base);
const numbers = Float64Array.from({ length: PAGES }, (_, i) => base + i * 4096);
const bigints = BigUint64Array.from(numbers, (value) => BigInt(value));
const entries = new BigUint64Array(words.length / 2);
for (let i = 0; i < entries.length; i++) {
  entries[i] = (BigInt(words[2 * i + 1] >>> 0) << 32n) | BigInt(words[2 * i] >>> 0);
}
const frames = new Map();
for (let frame = 0; frame < 64; frame++) frames.set(frame, words.slice(frame << 10, (frame + 1) << 10));

const used = best(walkHalves, words, numbers);
process.stdout.write(`4-level walk, ${PAGES} pages: int32 pairs, halves ${used.toFixed(1)} ns\n`);
for (const [name, walk, tables, iovas] of [
  ['accessor with a check per load', walkAccessor, words, numbers],
  ['Map from frame to array', walkMap, frames, numbers],
  ['division per level', walkDivisions, words, numbers],
  ['bigint', walkBigint, entries, bigints],
]) {
  const ns = best(walk, tables, iovas);
  process.stdout.write(`  ${name.padEnd(32)}${ns.toFixed(1).padStart(8)} ns  ${(ns / used).toFixed(1)}x\n`);
}
