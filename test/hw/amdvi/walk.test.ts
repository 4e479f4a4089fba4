import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { all, DID, GiB, naive, observed, PAGE_FAULT, PAGE_TAB_ERROR, R, Rig, RW, SID, W } from './rig.ts';

describe('worked examples', () => {
  test.each([1, 2, 3, 4, 5, 6])('a page through %i levels', (levels) => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels });
    // The highest page that the levels reach; a request has 53 bits at most.
    const iova = Math.min(2 ** (12 + 9 * levels), 2 ** 53) - 4096;
    rig.map(top, iova, 0x12345000, RW, 12, levels);
    expect(rig.unit.translate(SID, iova + 0x678, R)).toBe(0x12345678);
    expect(rig.unit.translate(SID, iova + 0x678, W)).toBe(0x12345678);
    expect(rig.unit.iotlbEntries()).toEqual([
      { tag: DID, domain: DID, iova, sizeLg2: 12, paddr: 0x12345000, rights: RW, fault: 0 },
    ]);
  });

  // 2.2.3: next level 0 maps the default size of the level, 7 the size that the address codes. 512 GiB is level 4's own size.
  const sizes = Array.from({ length: 41 }, (_, n) => 12 + n).filter((lg2) => lg2 <= 51);
  test.each(sizes)('a page of 2^%i bytes', (sizeLg2) => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 6 });
    const size = 2 ** sizeLg2;
    const iova = size * 3;
    const paddr = sizeLg2 === 51 ? 0 : size;
    rig.map(top, iova, paddr, RW, sizeLg2, 6);
    for (const offset of [0, 0x123, size / 2, size - 1]) {
      expect(rig.unit.translate(SID, iova + offset, RW), `+${offset}`).toBe(paddr + offset);
    }
    expect(rig.unit.translate(SID, iova - 1, R)).toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID, iova + size, R)).toBe(PAGE_FAULT);
    // Whichever of the copies was read: it is one entry of the IOTLB.
    expect(rig.unit.iotlbEntries()).toEqual([{ tag: DID, domain: DID, iova, sizeLg2, paddr, rights: RW, fault: 0 }]);
  });

  test('a size that the level does not have is a fault: its own, or the next level’s', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 4 });
    // At level 2 (own size 2 MiB) 4 MiB to 512 MiB may be coded. 2 MiB is bits 19:12 = ones; 1 GiB is bits 28:12.
    rig.entry(rig.entryAt(top, 4, 0, 2), 7, 0x000ff000);
    rig.entry(rig.entryAt(top, 4, 0x200000, 2), 7, 0x001ff000);
    rig.entry(rig.entryAt(top, 4, 0x400000, 2), 7, 0x1ffff000);
    rig.entry(rig.entryAt(top, 4, 0x600000, 2), 7, 0x0ffff000);
    expect(rig.unit.translate(SID, 0, R)).toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID, 0x200000, R)).toBe(0x200000);
    expect(rig.unit.translate(SID, 0x400000, R)).toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID, 0x600000, R)).toBe(0x600000);
    expect(rig.unit.pendingFaults().map((event) => event.flags)).toEqual([0x10, 0x10]);
  });

  test('the top level of six maps nothing', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 6 });
    rig.entry(top, 0, 0);
    expect(observed(rig, SID, 0x1000, R)).toBe(-0x2010n);
  });

  test.each([
    [4, 1],
    [4, 2],
    [3, 1],
    [6, 1],
    [6, 2],
    [5, 3],
  ])('a table of level %i leads to one of level %i: the address bits between are zero', (from, to) => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: from });
    const table = rig.table();
    rig.entry(top, to, table);
    const leaf = rig.entryAt(table, to, 0x5000, 1);
    rig.entry(leaf, 0, 0xabc000);
    expect(rig.unit.translate(SID, 0x5008, W)).toBe(0xabc008);
    for (let skipped = to + 1; skipped < from; skipped++) {
      const bit = 2 ** (3 + 9 * skipped);
      expect(observed(rig, SID, 0x5008 + bit, W), `level ${skipped}`).toBe(-0x2010n);
      expect(observed(rig, SID, 0x5008 + bit, W), 'from the caches').toBe(-0x2010n);
    }
    expect(rig.unit.translate(SID, 0x5010, W)).toBe(0xabc010);
  });

  test('levels that do not go down are faults', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 3 });
    for (const [index, next] of [3, 4, 5, 6].entries()) {
      rig.entry(top + index * 8, next, rig.table());
      expect(observed(rig, SID, index * GiB, R), `3 to ${next}`).toBe(-0x2010n);
    }
    const leaf = rig.entryAt(top, 3, 5 * GiB, 1);
    rig.entry(leaf, 1, 0x9000);
    expect(observed(rig, SID, 5 * GiB, R), '1 to 1').toBe(-0x2010n);
  });

  test('an address above the levels is a fault, not an alias', () => {
    for (const levels of [1, 2, 3, 4]) {
      const rig = new Rig().enable();
      const top = rig.dte(SID, { levels });
      rig.map(top, 0, 0x5000, RW, 12, levels);
      expect(rig.unit.translate(SID, 0, R)).toBe(0x5000);
      expect(observed(rig, SID, 2 ** (12 + 9 * levels), R), `${levels} levels`).toBe(-0x2010n);
      expect(observed(rig, SID, 2 ** 52, R), `${levels} levels`).toBe(-0x2010n);
    }
  });

  test('rights are ANDed from the device table entry down', () => {
    for (const [dte, pde, pte] of [
      [R, RW, RW],
      [RW, R, RW],
      [RW, RW, R],
    ]) {
      const rig = new Rig().enable();
      const top = rig.dte(SID, { levels: 2, rights: dte });
      const table = rig.table();
      rig.entry(top, 1, table, pde);
      rig.entry(table, 0, 0x7000, pte);
      expect(rig.unit.translate(SID, 0, R)).toBe(0x7000);
      expect(observed(rig, SID, 0, W), `${dte} ${pde} ${pte}`).toBe(-0x2050n);
      expect(observed(rig, SID, 0, RW)).toBe(-0x2050n);
      expect(rig.unit.translate(SID, 0, R), 'read still works').toBe(0x7000);
    }
  });

  test('devices of one domain share translations, not the rights of their own entries', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID);
    rig.dte(SID + 1, { top, rights: R });
    rig.map(top, 0x1000, 0x2000);
    expect(rig.unit.translate(SID, 0x1000, RW)).toBe(0x2000);
    expect(rig.unit.translate(SID + 1, 0x1000, W)).toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID + 1, 0x1000, R)).toBe(0x2000);
    expect(rig.unit.translate(SID, 0x1000, W)).toBe(0x2000);
    expect(rig.unit.iotlbEntries()).toHaveLength(1);
  });

  test('reserved bits: 58:52 where a page is mapped, 60:52 where a table follows; U, FC, software bits are free', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 2 });
    const table = rig.table();
    for (let bit = 52; bit < 64; bit++) {
      const at = (bit - 52) * 8;
      rig.mem.store64(table + at, 0x3001, 0x60000000 | (1 << (bit - 32)));
      rig.entry(top, 1, table);
      expect(observed(rig, SID, (bit - 52) * 4096, R), `leaf bit ${bit}`).toBe(bit <= 58 ? -0x2090n : 0x3000n);
      const other = (bit - 52 + 1) * 8;
      rig.mem.store64(top + other, (table & -4096) | (1 << 9) | 1, 0x60000000 | (1 << (bit - 32)));
      expect(observed(rig, SID, (bit - 52 + 1) * 0x200000 + 63 * 4096, R), `directory bit ${bit}`).toBe(
        bit <= 60 ? -0x2090n : -0x2000n,
      );
    }
    for (const bit of [1, 2, 3, 4, 5, 6, 7, 8]) {
      rig.mem.store64(table + 100 * 8, 0x3001 | (1 << bit), 0x60000000);
      expect(rig.unit.translate(SID, 100 * 4096, R), `ignored bit ${bit}`).toBe(0x3000);
      rig.submit([0, 0x30000005, 100 * 4096, 0]);
    }
  });

  test('a table outside of memory: the event tells the place of the entry that could not be read', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 3 });
    rig.entry(top, 2, 0xfffff_f000_0000);
    expect(rig.unit.translate(SID, 5 * 0x200000, W)).toBe(PAGE_TAB_ERROR);
    rig.dte(SID + 1, { top: 0x8_0000_0000, levels: 4 });
    expect(rig.unit.translate(SID + 1, 3 * 2 ** 39, R)).toBe(PAGE_TAB_ERROR);
    expect(rig.unit.pendingFaults()).toMatchObject([
      { reason: 4, sid: SID, domain: DID, address: 0xfffff_f000_0000 + 5 * 8, flags: 0x220 },
      { reason: 4, sid: SID + 1, domain: DID, address: 0x8_0000_0000 + 3 * 8, flags: 0x200 },
    ]);
    // Not remembered: the memory may appear.
    const leaf = rig.mem;
    leaf.store64(0xfffff_f000_0000 + 5 * 8, 0x00400001, 0x60000000);
    leaf.store64(0x8_0000_0000 + 3 * 8, 1, 0x60000000);
    expect(rig.unit.translate(SID, 5 * 0x200000 + 8, W)).toBe(0x400008);
    expect(rig.unit.translate(SID + 1, 3 * 2 ** 39 + 8, R)).toBe(8);
  });
});

/** An entry with everything random, but so that walks get somewhere. */
const nextLevel = fc.oneof({ weight: 6, arbitrary: fc.integer({ min: 0, max: 5 }) }, fc.integer({ min: 0, max: 7 }));
const entryArbitrary = fc.record({
  index: fc.oneof(fc.constantFrom(0, 1, 511), fc.integer({ min: 0, max: 511 })),
  table: fc.nat(3),
  next: nextLevel,
  to: fc.nat(3),
  onesLg2: fc.nat(39),
  isTable: fc.boolean(),
  rights: fc.constantFrom(RW, RW, RW, R, W, 0),
  present: fc.constantFrom(true, true, true, true, false),
  strayHi: fc.oneof(
    { weight: 12, arbitrary: fc.constant(0) },
    fc.constantFrom(1 << 20, 1 << 26, 1 << 27, 1 << 28, 1 << 31),
  ),
  strayLo: fc.constantFrom(0, 0, 0, 2, 0x20, 0x40, 0x100),
});
const probe = fc.record({
  parts: fc.array(fc.oneof(fc.constantFrom(0, 1, 511), fc.nat(511)), { minLength: 5, maxLength: 5 }),
  top: fc.nat(31),
  offset: fc.nat(4095),
  access: fc.constantFrom(R, W, RW),
});

test('the walk agrees with a naive one over random tables', () => {
  const outcomes = new Set<bigint>();
  let walked = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.array(entryArbitrary, { minLength: 8, maxLength: 60 }),
      fc.array(probe, { minLength: 10, maxLength: 30 }),
      (levels, entries, probes) => {
        const rig = new Rig({ npCache: true }).enable();
        const tables = [0, 1, 2, 3].map(() => rig.table());
        rig.dte(SID, { levels, top: tables[0] });
        for (const one of entries) {
          const at = (tables[one.table] ?? 0) + one.index * 8;
          const code = 2 ** one.onesLg2 * 4096 - 4096;
          const address = one.isTable ? (tables[one.to] ?? 0) : (code + one.to * 2 ** (one.onesLg2 + 13)) % 2 ** 52;
          rig.mem.store64(
            at,
            (address % 2 ** 32) | (one.next << 9) | (one.present ? 1 : 0) | one.strayLo,
            Math.floor(address / 2 ** 32) | (one.rights << 29) | one.strayHi,
          );
        }
        for (const { parts, top, offset, access } of probes) {
          // Mostly within the levels.
          let pageNumber = 0;
          for (let level = Math.min(levels, 4); level >= 1; level--)
            pageNumber = pageNumber * 512 + (parts[level - 1] ?? 0);
          if (levels >= 5 || top === 31) pageNumber += (top % 32) * 2 ** 36;
          const iova = pageNumber * 4096 + offset;
          const expected = naive(rig, SID, BigInt(iova), access);
          outcomes.add(expected < 0n ? expected : 1n);
          walked++;
          // Entries of a coded size stand alone here, while software must write all copies: what is cached of one would answer
          // for its neighbours.
          rig.submit(all());
          expect(observed(rig, SID, iova, access), `first, ${iova.toString(16)}`).toBe(expected);
          expect(observed(rig, SID, iova, access), `again, ${iova.toString(16)}`).toBe(expected);
        }
      },
    ),
    { numRuns: 300, seed: 48882 },
  );
  expect(walked).toBeGreaterThan(3000);
  // Each way out was taken: an address, not present, level, reserved, permission, unreadable.
  for (const outcome of [1n, -0x2000n, -0x2010n, -0x2090n, -0x2050n, -0x4200n]) expect(outcomes).toContain(outcome);
});
