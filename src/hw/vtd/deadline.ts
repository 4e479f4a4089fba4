/**
 * Points in time at which hardware will act, kept in a unit's state: invalidation may take time (VT-d rev. 4.1 section
 * 6.5.2.8 lets commands complete at any later moment), and a driver that does not wait must be able to lose.
 */
import { hi32, lo32 } from '../../base/index.ts';
import { ARMED, DEADLINES } from './layout.ts';

/** Arms one of the DEADLINE_* slots. One that is armed keeps its earlier time: work already under way does not restart. */
export function armDeadline(words: Int32Array, slot: number, timeNs: number): void {
  if ((words[ARMED] & (1 << slot)) !== 0) return;
  words[ARMED] |= 1 << slot;
  words[DEADLINES + slot * 2] = lo32(timeNs);
  words[DEADLINES + slot * 2 + 1] = hi32(timeNs);
}

/** Forgets a deadline. The words are cleared too, so that equal units are equal bytes. */
export function disarmDeadline(words: Int32Array, slot: number): void {
  words[ARMED] &= ~(1 << slot);
  words[DEADLINES + slot * 2] = 0;
  words[DEADLINES + slot * 2 + 1] = 0;
}

/** Whether an armed deadline has come; it is then disarmed. */
export function takeDeadline(words: Int32Array, slot: number, nowNs: number): boolean {
  if ((words[ARMED] & (1 << slot)) === 0) return false;
  const timeNs = words[DEADLINES + slot * 2 + 1] * 4294967296 + (words[DEADLINES + slot * 2] >>> 0);
  if (nowNs < timeNs) return false;
  disarmDeadline(words, slot);
  return true;
}
