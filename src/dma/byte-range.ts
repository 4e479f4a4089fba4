/** What is a range of bytes at all, for arguments of the DMA API. */
import { PHYS_LIMIT } from '../mem/index.ts';

/** A constant of this module: V8 reloads imported bindings at every use. */
const LIMIT: number = PHYS_LIMIT;

/** Whole bytes, at least one, that end below 2^52: what physical memory can hold, and any domain's addresses. */
export function isByteRange(start: number, nrBytes: number): boolean {
  return (
    Math.floor(start) === start &&
    Math.floor(nrBytes) === nrBytes &&
    start >= 0 &&
    nrBytes > 0 &&
    start + nrBytes <= LIMIT
  );
}
