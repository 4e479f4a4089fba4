import { describe, expect, test } from 'vitest';
import type { IntelDomain } from '../../src/drivers/index.ts';
import type { MmioDevice } from '../../src/mem/index.ts';
import type { LabOptions } from './lab.ts';
import { E1000, GiB, KiB4, Lab, MiB2, NVME, READ, RW } from './lab.ts';

const IOVA = 0x10000;
const GCMD = 0x18;
const WBF = 0x0800_0000;

/** Runs something with every clflush lost, as a driver that forgot them would. */
function withoutFlush<T>(lab: Lab, run: () => T): T {
  const flush = lab.mem.flush.bind(lab.mem);
  lab.mem.flush = (): void => {};
  const result = run();
  lab.mem.flush = flush;
  return result;
}

/** A lab that counts write-buffer flushes. Its unit snoops, so nobody flushes lines; its chipset holds stores back. */
function buffered(options: LabOptions, cachingMode: boolean): { lab: Lab; take: () => number } {
  let nr = 0;
  const lab = new Lab({
    ...options,
    coherent: false,
    units: [{ cachingMode, rwbf: true, coherent: true }],
    between: (unit): MmioDevice => ({
      read32: (offset) => unit.read32(offset),
      write64: (offset, lo, hi) => unit.write64(offset, lo, hi),
      write32: (offset, value) => {
        if (offset === GCMD && (value & WBF) !== 0) nr += 1;
        unit.write32(offset, value);
      },
    }),
  });
  const take = (): number => {
    const result = nr;
    nr = 0;
    return result;
  };
  return { lab, take };
}

/** Pages that a walk could still be sent to when they are freed: must stay empty (C-TABLE-LIVE). */
function freedTooEarly(lab: Lab): number[] {
  const early: number[] = [];
  const free = lab.pages.free.bind(lab.pages);
  lab.pages.free = (pfn): void => {
    for (const unit of lab.units) {
      if (unit.structureEntries().some(({ tablePfn }) => tablePfn === pfn)) early.push(pfn);
    }
    free(pfn);
  };
  return early;
}

describe('ECAP.C = 0: walks do not snoop, so every store needs its clflush (kernel.md 2.2)', () => {
  const sees = (lab: Lab, page = 0): number => lab.unit.translate(NVME.sid, IOVA + page * KiB4, READ);
  const bench = (): { lab: Lab; domain: IntelDomain } => {
    const lab = new Lab({ coherent: false, units: [{}] });
    expect(lab.unit.config.coherent).toBe(false);
    return { lab, domain: lab.driver.domainAlloc('paging') as IntelDomain };
  };

  test('attach, map, unmap, superpage: all visible', () => {
    const { lab, domain } = bench();
    lab.attach(domain, NVME);
    lab.core.map(domain, IOVA, MiB2, 16 * KiB4, RW);
    for (let page = 0; page < 16; page++) expect(sees(lab, page)).toBe(MiB2 + page * KiB4);
    lab.core.unmap(domain, IOVA, 16 * KiB4);
    for (let page = 0; page < 16; page++) expect(sees(lab, page)).toBeLessThan(0);
    lab.core.map(domain, GiB, GiB, GiB, RW);
    expect(lab.unit.translate(NVME.sid, GiB + 5, READ)).toBe(GiB + 5);
    lab.driver.detachDev(domain, NVME);
    expect(sees(lab)).toBeLessThan(0);
  });

  test('the model would catch a driver that forgets: no flush at attach, and the device finds no context', () => {
    const { lab, domain } = bench();
    withoutFlush(lab, () => lab.attach(domain, NVME));
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    expect(sees(lab)).toBeLessThan(0);
  });
  test('... no flush at map, and it finds no page', () => {
    const { lab, domain } = bench();
    lab.attach(domain, NVME);
    withoutFlush(lab, () => lab.core.map(domain, IOVA, MiB2, KiB4, RW));
    expect(sees(lab)).toBeLessThan(0);
  });
  test('... no flush at unmap, and it finds the old page again behind a completed invalidation', () => {
    const { lab, domain } = bench();
    lab.attach(domain, NVME);
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    withoutFlush(lab, () => lab.core.unmap(domain, IOVA, KiB4));
    expect(sees(lab)).toBe(MiB2);
  });

  test('between any two flushes the device finds the page or nothing, never a half-built path', () => {
    const { lab, domain } = bench();
    lab.attach(domain, NVME);
    // Freed pages are full of what looks like entries: reuse them for the tables.
    lab.core.map(domain, 2 * GiB, MiB2 + KiB4, 2 * MiB2, RW);
    lab.core.unmap(domain, 2 * GiB, 2 * MiB2);
    const flush = lab.mem.flush.bind(lab.mem);
    const found = new Set<number>();
    lab.mem.flush = (paddr, nrBytes): void => {
      flush(paddr, nrBytes);
      found.add(sees(lab));
    };
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    expect([...found]).toEqual([-6, MiB2]);
  });
});

describe('CAP.RWBF: a write-buffer flush where no invalidation is issued (VT-d 6.8, kernel.md 2.2)', () => {
  test('caching mode off: at boot, attach and map, each visible by it; not at unmap, which invalidates', () => {
    const { lab, take } = buffered({}, false);
    expect(take()).toBe(1);
    const domain = lab.domain(NVME);
    expect(take()).toBe(1);
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    expect(take()).toBe(1);
    expect(lab.unit.translate(NVME.sid, IOVA, READ)).toBe(MiB2);
    lab.core.unmap(domain, IOVA, KiB4);
    expect(take()).toBe(0);
    expect(lab.unit.translate(NVME.sid, IOVA, READ)).toBeLessThan(0);
    expect(lab.tape.words).toEqual(['0x200f2 0x10040']);
  });

  test('caching mode on: never after boot, since every change is followed by an invalidation', () => {
    const { lab, take } = buffered({}, true);
    take();
    const domain = lab.domain(NVME);
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    expect(lab.unit.translate(NVME.sid, IOVA, READ)).toBe(MiB2);
    lab.core.unmap(domain, IOVA, KiB4);
    expect(take()).toBe(0);
  });

  test('policy none: nobody flushes the buffer, and the device does not see the page', () => {
    const { lab, take } = buffered({ mapFlush: 'none' }, false);
    const domain = lab.domain(NVME);
    take();
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    expect(take()).toBe(0);
    expect(lab.unit.translate(NVME.sid, IOVA, READ)).toBeLessThan(0);
  });

  test('without RWBF there is none', () => {
    const lab = new Lab({
      units: [{}],
      between: (unit) => ({
        read32: (offset) => unit.read32(offset),
        write64: (offset, lo, hi) => unit.write64(offset, lo, hi),
        write32: (offset, value) => {
          if (offset === GCMD) expect(value & WBF).toBe(0);
          unit.write32(offset, value);
        },
      }),
    });
    lab.core.map(lab.domain(NVME), IOVA, MiB2, KiB4, RW);
  });
});

describe('bug 10: a superpage over a table that became empty (list mail 4ccc2f63b4, April 2021)', () => {
  test.each(['linux-5.11', 'linux-6.1', 'linux-6.12'])(
    "the mail's sequence on %s: map 0xa0000 bytes, unmap, map 3 GiB; flushed between clear and install",
    (preset) => {
      const lab = new Lab({ preset, units: [{}, {}] });
      const domain = lab.domain(NVME);
      const early = freedTooEarly(lab);
      lab.core.map(domain, 0, GiB + KiB4, 0xa0000, RW);
      // Caches the path to the table.
      expect(lab.unit.translate(NVME.sid, 0x5000, READ)).toBe(GiB + 0x6000);
      lab.core.unmap(domain, 0, 0xa0000);
      lab.tape.take();
      const mappedAtFlush: number[] = [];
      const freedAtFlush: number[] = [];
      const before = lab.pages.nrLive;
      lab.tape.onDescriptor = (): void => {
        mappedAtFlush.push(domain.table!.iovaToPhys(0));
        freedAtFlush.push(before - lab.pages.nrLive);
      };
      expect(lab.core.map(domain, 0, 4 * GiB, 3 * GiB, RW)).toBe(0);
      lab.tape.onDescriptor = null;
      // One flush (and its wait): the entry is clear, the two tables below it still there, IH not set. Its mask is that of 1 GiB.
      expect(mappedAtFlush).toEqual([-1, -1]);
      expect(freedAtFlush).toEqual([0, 0]);
      expect(lab.tape.take()).toEqual([preset === 'linux-5.11' ? '0x100f2 0x12' : '0x200f2 0x12']);
      expect(lab.pages.nrLive).toBe(before - 2);
      expect(early).toEqual([]);
      expect(lab.unit.translate(NVME.sid, 0x5000, READ)).toBe(4 * GiB + 0x5000);
    },
  );
});

describe('C-TABLE-LIVE: tables go back after the invalidation that covers them', () => {
  test('an unmap that begins with small pages and goes on with a whole table', () => {
    // The page-size change makes the gather sync half-way, with the freelist that it has then.
    const lab = new Lab();
    const domain = lab.domain(NVME);
    const early = freedTooEarly(lab);
    const start = MiB2 - KiB4;
    const nrBytes = MiB2 + 2 * KiB4;
    const before = lab.pages.nrLive;
    lab.core.map(domain, start, GiB + 5 * KiB4, nrBytes, RW);
    for (let page = 0; page < nrBytes; page += KiB4) lab.unit.translate(NVME.sid, start + page, READ);
    lab.tape.take();
    expect(lab.core.unmap(domain, start, nrBytes)).toBe(nrBytes);
    expect(early).toEqual([]);
    for (let page = 0; page < nrBytes; page += KiB4) {
      expect(lab.unit.translate(NVME.sid, start + page, READ)).toBeLessThan(0);
    }
    // Three level-1 tables, one on each of the upper levels; the middle one went.
    expect(lab.pages.nrLive).toBe(before + 4);
    // Page 0x1ff alone keeps the hint; the table's range loses it.
    expect(lab.tape.take()).toEqual(['0x200f2 0x1ff040', '0x200f2 0x200009', '0x200f2 0x400040']);
  });

  test.each([[{}], [{ psi: false }], [{ mamv: 3 }], [{ qi: false }], [{ completionDelayNs: 3000 }]])(
    'whole tables of several levels, unit %o',
    (hardware) => {
      const lab = new Lab({ units: [{ ...hardware, cachingMode: true }] });
      const domain = lab.domain(NVME, E1000);
      const early = freedTooEarly(lab);
      const before = lab.pages.nrLive;
      // 4 KiB leaves throughout: 512 tables below one, which goes with them.
      lab.core.map(domain, GiB, KiB4, GiB, RW);
      for (let at = 0; at < GiB; at += 8 * MiB2 + KiB4) lab.unit.translate(NVME.sid, GiB + at, READ);
      expect(lab.core.unmap(domain, GiB, GiB)).toBe(GiB);
      expect(early).toEqual([]);
      expect(lab.pages.nrLive).toBe(before + 1);
      lab.driver.detachDev(domain, NVME);
      lab.driver.detachDev(domain, E1000);
      lab.driver.domainFree(domain);
      expect(lab.pages.nrLive).toBe(before - 1);
    },
  );
});

describe('bug 13: an unmap of part of a large leaf takes it whole (ee6e69d03255)', () => {
  test.each(['linux-6.1', 'linux-6.12'])('%s: and the whole is invalidated', (preset) => {
    // A unit that holds superpages in pieces of 4 KiB, so that a PSI of the asked-for part only would show.
    const lab = new Lab({ preset, units: [{ psiDropsWholeSuperpage: false }] });
    const domain = lab.domain(NVME);
    lab.core.map(domain, MiB2, MiB2, MiB2, RW);
    for (let page = 0; page < MiB2; page += KiB4) lab.unit.translate(NVME.sid, MiB2 + page, READ);
    expect(lab.core.unmap(domain, MiB2, 4 * KiB4)).toBe(MiB2);
    expect(lab.unit.iotlbEntries()).toEqual([]);
  });
});
