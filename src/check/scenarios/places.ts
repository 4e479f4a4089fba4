/** Addresses and buffers that scenarios share. */
import { PAGE_SIZE } from '../../base/index.ts';
import type { Chunks } from '../space.ts';

export const KiB4: number = PAGE_SIZE;
export const MiB2: number = 2 ** 21;
/** An IOVA whose pages share tables with nothing else; a multiple of 1 GiB. */
export const IOVA = 0x4000_0000;
/** Memory that nothing else uses; a multiple of 4 GiB. */
export const MEMORY = 0x1_0000_0000;

/** `nr` pages in one run. */
export function run(nr: number, first: number = MEMORY): Chunks {
  return [[first, nr * KiB4]];
}

/** `nr` pages that do not follow each other. */
export function scattered(nr: number, first: number = MEMORY): Chunks {
  return Array.from({ length: nr }, (_, page): [number, number] => [first + 2 * page * KiB4, KiB4]);
}
