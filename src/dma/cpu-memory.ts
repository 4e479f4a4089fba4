/** Bytes as a CPU moves them (memcpy, memset). Physical memory is made of words; what lies beside a range in its words stays. */
import type { PhysMem } from '../mem/index.ts';

/** Copies between ranges that do not overlap. */
export function copyBytes(mem: PhysMem, from: number, to: number, nrBytes: number): void {
  let done = 0;
  // Words can be copied whole when both ranges cut them at the same places.
  const inStep = ((from ^ to) & 3) === 0;
  while (done < nrBytes) {
    if (inStep && ((from + done) & 3) === 0 && nrBytes - done >= 4) {
      mem.store32(to + done, mem.load32(from + done));
      done += 4;
    } else {
      storeByte(mem, to + done, loadByte(mem, from + done));
      done += 1;
    }
  }
}

export function zeroBytes(mem: PhysMem, at: number, nrBytes: number): void {
  let done = 0;
  while (done < nrBytes) {
    if (((at + done) & 3) === 0 && nrBytes - done >= 4) {
      mem.store32(at + done, 0);
      done += 4;
    } else {
      storeByte(mem, at + done, 0);
      done += 1;
    }
  }
}

export function loadByte(mem: PhysMem, paddr: number): number {
  const inWord = paddr & 3;
  return (mem.load32(paddr - inWord) >>> (8 * inWord)) & 0xff;
}

export function storeByte(mem: PhysMem, paddr: number, value: number): void {
  const inWord = paddr & 3;
  const shift = 8 * inWord;
  const word = mem.load32(paddr - inWord);
  mem.store32(paddr - inWord, (word & ~(0xff << shift)) | ((value & 0xff) << shift));
}
