/** Addresses that the stories of bugs use. */
import { PAGE_SIZE } from '../../base/index.ts';
import type { Chunks } from '../space.ts';

export const KiB4: number = PAGE_SIZE;
export const MiB2: number = 2 ** 21;
/** An address whose pages have tables of their own. */
export const IOVA = 0x4000_0000;
/** Memory that nothing else uses, aligned to 1 GiB. */
export const MEMORY = 0x1_0000_0000;

/** `nr` pages that do not follow each other. */
export function scattered(nr: number, first: number = MEMORY): Chunks {
  return Array.from({ length: nr }, (_, page): [number, number] => [first + 2 * page * KiB4, KiB4]);
}

/** `nr` pages that follow each other. */
export function run(nr: number, first: number = MEMORY): Chunks {
  return [[first, nr * KiB4]];
}
