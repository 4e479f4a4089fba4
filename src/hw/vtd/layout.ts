/**
 * Where each part of a unit keeps its state inside the unit's one Int32Array. One array, so that a model checker copies,
 * compares and restores a unit with one call.
 *
 * [0, 64) register words by offset / 4 (everything below 0x100), [64, 96) words of this file that are not registers,
 * then four words per fault recording register, then the caches, each on a host cache line.
 */
import { setCacheWords } from '../tlb/set-cache.ts';
import type { FullVtdConfig } from './config.ts';

/**
 * The context used last, while it is one that translates: source id (-1: none), IOTLB key without high page bits, hash salt,
 * facts and slot of the top table (context.ts), first high word that is beyond its width. Cleared by whatever changes the
 * context cache, the root or TE.
 */
export const HOT_SID = 64;
export const HOT_KEY = 65;
export const HOT_SALT = 66;
export const HOT_FACTS = 82;
export const HOT_SLOT = 83;
export const HOT_LIMIT_HI = 84;
/** Root table address that the last SRTP latched. Writing RTADDR alone changes nothing (11.4.5). */
export const ROOT_LO = 67;
export const ROOT_HI = 68;
/** Queue address and descriptor count that QIE latched. */
export const QUEUE_LO = 69;
export const QUEUE_HI = 70;
export const QUEUE_NR = 71;
/** Fault record that the next fault goes into. */
export const FAULT_NEXT = 72;
/** Deadlines of the slots below, as queue/deadline.ts keeps them: its first word says which are armed. */
export const DEADLINES = 73;
export const DEADLINE_QUEUE = 0;
export const DEADLINE_CONTEXT = 1;
export const DEADLINE_IOTLB = 2;
export const NR_DEADLINES = 3;
/** Error that a test wants at the next wait descriptor (FSTS.ITE or FSTS.ICE, or 0), and its requester. */
export const INJECTED = 80;
export const INJECTED_SID = 81;

export const RECORDS = 96;

/** IOTLB classes: 4 KiB, 2 MiB, 1 GiB pages. Class + 1 is the level of the leaf. */
export const NR_PAGE_CLASSES = 3;
/** Paging-structure cache classes are levels 2..4. */
export const NR_LEVEL_CLASSES = 5;

export interface StateLayout {
  readonly contexts: number;
  readonly iotlb: number;
  readonly pageCache: number;
  readonly nrWords: number;
}

/** Data words of an IOTLB entry: translation low, high, and with source-id tags the domain that it belongs to. */
export function nrIotlbData(config: FullVtdConfig): number {
  return config.tagBySid ? 3 : 2;
}

export function stateLayout(config: FullVtdConfig): StateLayout {
  const contexts = RECORDS + Math.ceil(config.nfr / 4) * 16;
  const iotlb = contexts + setCacheWords(config.contextCache, 2, 1);
  const pageCache = iotlb + setCacheWords(config.iotlb, nrIotlbData(config), NR_PAGE_CLASSES);
  return { contexts, iotlb, pageCache, nrWords: pageCache + setCacheWords(config.pageCache, 2, NR_LEVEL_CLASSES) };
}
