/**
 * Points in time at which hardware will act, kept in a unit's state: commands may complete at any later moment (VT-d rev. 4.1
 * section 6.5.2.8, AMD-Vi 48882 section 2.4.1), and a driver that does not wait must be able to lose.
 *
 * At `at` in the state stands a word that tells which slots are armed, a bit each; low and high nanoseconds of each follow.
 */
import { hi32, lo32 } from '../../base/index.ts';

/** Words that a unit with so many slots sets aside. */
export function deadlineWords(nrSlots: number): number {
  return 1 + nrSlots * 2;
}

/** Arms a slot. One that is armed keeps its earlier time: work already under way does not restart. */
export function armDeadline(words: Int32Array, at: number, slot: number, timeNs: number): void {
  if ((words[at] & (1 << slot)) !== 0) return;
  words[at] |= 1 << slot;
  words[at + 1 + slot * 2] = lo32(timeNs);
  words[at + 2 + slot * 2] = hi32(timeNs);
}

/** Forgets a deadline. The words are cleared too, so that equal units are equal bytes. */
export function disarmDeadline(words: Int32Array, at: number, slot: number): void {
  words[at] &= ~(1 << slot);
  words[at + 1 + slot * 2] = 0;
  words[at + 2 + slot * 2] = 0;
}

/**
 * Puts every armed deadline to the end of time: the work then waits until somebody asks for it by name, and units that have
 * the same work waiting are equal bytes whenever it was asked for.
 */
export function postponeDeadlines(words: Int32Array, at: number, nrSlots: number): void {
  for (let slot = 0; slot < nrSlots; slot++) {
    if ((words[at] & (1 << slot)) === 0) continue;
    words[at + 1 + slot * 2] = -1;
    words[at + 2 + slot * 2] = 0x1fffff;
  }
}

/** Whether an armed deadline has come; it is then disarmed. */
export function takeDeadline(words: Int32Array, at: number, slot: number, nowNs: number): boolean {
  if ((words[at] & (1 << slot)) === 0) return false;
  const timeNs = words[at + 2 + slot * 2] * 4294967296 + (words[at + 1 + slot * 2] >>> 0);
  if (nowNs < timeNs) return false;
  disarmDeadline(words, at, slot);
  return true;
}
