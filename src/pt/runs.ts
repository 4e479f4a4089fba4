/**
 * The loops over entries of one table, over word indexes [index, end) of the arena. They stand apart from PageTable, with
 * everything they need as an argument, for a measured reason: inside a method, a `words` that may be replaced within the loop
 * is checked and fetched anew at every entry (3.0 instead of 1.3 ns). None reports its stores; the caller does, once per run.
 */

/** Runs above this many entries are cleared by `fill`, whose call costs what this many stores cost. */
export const FILL_FROM = 24;

/** Writes leaves into [index, end) until one is present. @returns where it stopped */
export function fillLeaves(
  words: Int32Array,
  index: number,
  end: number,
  mask: number,
  firstLo: number,
  firstHi: number,
  sizeLg2: number,
): number {
  // Sizes below 4 GiB step the low word; bigger ones (level 4 and up) step the high word only.
  const stepLo = sizeLg2 < 32 ? 1 << sizeLg2 : 0;
  const stepHi = sizeLg2 < 32 ? 0 : 1 << (sizeLg2 - 32);
  let lo = firstLo;
  let hi = firstHi;
  for (; index < end; index += 2) {
    if ((words[index] & mask) !== 0) break;
    words[index] = lo;
    words[index + 1] = hi;
    const next = (lo + stepLo) | 0;
    // The low word wrapped iff it was above 2^31 and no longer is: steps are at most 2^31.
    hi = (hi + stepHi + ((lo & ~next) >>> 31)) | 0;
    lo = next;
  }
  return index;
}

/** Clears entries of [index, end) until one is absent. @returns where it stopped */
export function clearLeaves(words: Int32Array, index: number, end: number, mask: number): number {
  for (; index < end; index += 2) {
    if ((words[index] & mask) === 0) break;
    words[index] = 0;
    words[index + 1] = 0;
  }
  return index;
}

/** Clears leaves of formats with replicas in [index, end) until an entry is not a leaf of its own. @returns where it stopped */
export function clearPlainLeaves(words: Int32Array, index: number, end: number, mask: number, bits: number): number {
  if (end - index > FILL_FROM * 2) {
    let stop = index;
    for (; stop + 8 <= end; stop += 8) {
      if ((words[stop] & mask) !== bits || (words[stop + 2] & mask) !== bits) break;
      if ((words[stop + 4] & mask) !== bits || (words[stop + 6] & mask) !== bits) break;
    }
    while (stop < end && (words[stop] & mask) === bits) stop += 2;
    words.fill(0, index, stop);
    return stop;
  }
  for (; index < end; index += 2) {
    if ((words[index] & mask) !== bits) break;
    words[index] = 0;
    words[index + 1] = 0;
  }
  return index;
}

/** Clears leaves above level 1 in [index, end) until an entry is absent or points to a table. @returns where it stopped */
export function clearLargeLeaves(
  words: Int32Array,
  index: number,
  end: number,
  mask: number,
  tableMask: number,
  tableBits: number,
): number {
  for (; index < end; index += 2) {
    const lo = words[index];
    if ((lo & mask) === 0 || (lo & tableMask) === tableBits) break;
    words[index] = 0;
    words[index + 1] = 0;
  }
  return index;
}

/** The first absent entry of [index, end), or `end`. Four at a time: a third faster. */
export function firstAbsent(words: Int32Array, index: number, end: number, mask: number): number {
  for (; index + 8 <= end; index += 8) {
    if ((words[index] & mask) === 0 || (words[index + 2] & mask) === 0) break;
    if ((words[index + 4] & mask) === 0 || (words[index + 6] & mask) === 0) break;
  }
  while (index < end && (words[index] & mask) !== 0) index += 2;
  return index;
}
