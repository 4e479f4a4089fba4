/**
 * Proof that the address spaces do not mix. No test runs this file: `tsc -b` compiles it, and an expectation below that no
 * longer holds is a compile error of its own (TS2578), so that `npm test` stops before the first test.
 */
import { paddrOf, pfnOf, toIova, toPaddr, toPfn } from '../../src/base/index.ts';
import type { Iova, Paddr, Pfn } from '../../src/base/index.ts';
import type { PageAllocator } from '../../src/mem/index.ts';

const iova: Iova = toIova(0x1000);
const paddr: Paddr = toPaddr(0x1000);
const pfn: Pfn = toPfn(1);

// What must compile: each space with itself, the conversions, and arithmetic, which gives a plain number.
const sum: number = iova + 0x1000;
const frame: Pfn = pfnOf(paddr);
const start: Paddr = paddrOf(pfn);

// @ts-expect-error an IO address is no physical address
const iovaAsPaddr: Paddr = iova;
// @ts-expect-error nor the other way round
const paddrAsIova: Iova = paddr;
// @ts-expect-error a frame number is no byte address
const pfnAsPaddr: Paddr = pfn;
// @ts-expect-error a byte address is no frame number
const paddrAsPfn: Pfn = paddr;
// @ts-expect-error a frame number is no IO address
const pfnAsIova: Iova = pfn;
// @ts-expect-error an IO address is no frame number
const iovaAsPfn: Pfn = iova;
// @ts-expect-error a plain number has no space: it has to go through toIova, which checks the range
const plainAsIova: Iova = 0x1000;
// @ts-expect-error the result of arithmetic has lost its space
const moved: Paddr = paddr + 0x1000;
// @ts-expect-error alloc() may give -1, which is no frame
const unchecked: (pages: PageAllocator) => Pfn = (pages) => pages.alloc();

/** Keeps the values used. */
export const proof: readonly unknown[] = [
  sum,
  frame,
  start,
  iovaAsPaddr,
  paddrAsIova,
  pfnAsPaddr,
  paddrAsPfn,
  pfnAsIova,
  iovaAsPfn,
  plainAsIova,
  moved,
  unchecked,
];
