/**
 * Where each part of a unit keeps its state inside the unit's one Int32Array. One array, so that a model checker copies,
 * compares and restores a unit with one call.
 *
 * [0, 16) words of the registers 0x00 to 0x3f, [16, 32) of 0x2000 to 0x203f, [32, 48) words of this file that are not
 * registers, then the caches, each on a host cache line.
 */
import { deadlineWords } from '../queue/deadline.ts';
import { setCacheWords } from '../tlb/set-cache.ts';
import type { FullAmdviConfig } from './config.ts';

/** First register of the upper block and its word. */
export const UPPER_OFFSET = 0x2000;
export const UPPER = 16;
/** Bytes of registers in each block. */
export const BLOCK_BYTES = 0x40;

/**
 * The device table entry used last, while it is one that plainly translates: source id (-1: none), IOTLB key without high
 * page bits, hash salt, facts and slot of the top table (device-table.ts), first high word that is beyond its levels. Cleared
 * by whatever changes the device-table cache, the exclusion range or the control register.
 */
export const HOT_SID = 32;
export const HOT_KEY = 33;
export const HOT_SALT = 34;
export const HOT_FACTS = 35;
export const HOT_SLOT = 36;
export const HOT_LIMIT_HI = 37;
/** Device whose TLB a test wants silent at its next invalidation, plus one; 0 when none. */
export const INJECTED_SID = 38;
/** Size classes above 4 KiB that the IOTLB may hold, a bit each in two words. A set bit may be late to go. */
export const LARGE = 39;
/** Deadlines (queue/deadline.ts). */
export const DEADLINES = 41;
export const DEADLINE_COMMANDS = 0;
export const NR_DEADLINES = 1;

const CACHES = 48;

/** IOTLB classes: log2 of the page's size, minus 12. The largest page that an entry can code has 2^53 bytes. */
export const NR_PAGE_CLASSES = 42;
/** PDE cache classes are levels 2 to 6. */
export const NR_LEVEL_CLASSES = 7;

export interface StateLayout {
  readonly devices: number;
  readonly iotlb: number;
  readonly pdeCache: number;
  readonly nrWords: number;
}

/** Data words of an IOTLB entry: translation low, high, and with source-id tags the domain that it belongs to. */
export function nrIotlbData(config: FullAmdviConfig): number {
  return config.tagBySid ? 3 : 2;
}

export function stateLayout(config: FullAmdviConfig): StateLayout {
  const devices = Math.max(CACHES, DEADLINES + deadlineWords(NR_DEADLINES));
  const iotlb = devices + setCacheWords(config.deviceCache, 2, 1);
  const pdeCache = iotlb + setCacheWords(config.iotlb, nrIotlbData(config), NR_PAGE_CLASSES);
  return { devices, iotlb, pdeCache, nrWords: pdeCache + setCacheWords(config.pdeCache, 2, NR_LEVEL_CLASSES) };
}
