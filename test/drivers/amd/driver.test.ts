import { describe, expect, test } from 'vitest';
import { EINVAL, ENODEV, ENOMEM, ETIMEDOUT } from '../../../src/base/index.ts';
import { DmaCookie, DmaIommu } from '../../../src/dma/index.ts';
import { AMD_PRESETS, AmdIommu, amdPreset } from '../../../src/drivers/index.ts';
import type { AmdDomain } from '../../../src/drivers/index.ts';
import { IotlbGather } from '../../../src/iommu/index.ts';
import type { IommuDomain } from '../../../src/iommu/index.ts';
import { walkOneAmd } from '../../pt/walker.ts';
import {
  E1000,
  FEATURES,
  GiB,
  KiB4,
  Lab,
  MiB2,
  NATIVE,
  NP_CACHE,
  NVME,
  RW,
  UNIT_BASE,
  allPages,
  device,
  devtab,
  wait,
  words,
} from './lab.ts';

/** A page command of domain 1, PDE set. */
const page = (lo: number, hi = 0): string => words(0, 0x30000001, lo | 2, hi);
/** The same as kernels before 5.15 wrote it, for leaves only. */
const oldPage = (lo: number, hi = 0): string => words(0, 0x30000001, lo, hi);
const OLD_ALL = words(0, 0x30000001, 0xfffff001, 0x7fffffff);

/** Where the device table sends an address: entry, levels and root read from memory, then the tables. */
function through(lab: Lab, sid: number, iova: number): number {
  const [lo] = lab.entry(sid);
  const levels = Number((lo >> 9n) & 7n);
  return Number(walkOneAmd(lab.mem, Number((lo >> 12n) & 0xff_ffff_ffffn), levels, iova)?.paddr ?? -1n);
}

describe('bring-up', () => {
  test.each(AMD_PRESETS)('%s: with IASup told by firmware, one command and its wait', (preset) => {
    const lab = new Lab({ preset });
    expect(lab.take('waits')).toEqual([words(0, 0x80000000, 0, 0), wait(1)]);
  });

  test.each([
    ['linux-5.1', 65536],
    ['linux-6.1', 252],
    ['linux-6.12', 252],
  ])('%s without: %i ids, three times', (preset, nrIds) => {
    const lab = new Lab({ preset, ivhdFeatures: 0 });
    const commands = lab.take('waits');
    expect(commands).toHaveLength(3 * nrIds + 3);
    expect(commands[nrIds - 1]).toBe(devtab(nrIds - 1));
    expect(commands[2 * nrIds]).toBe(words(nrIds - 1, 0x50000000, 0, 0));
    expect(commands[3 * nrIds + 1]).toBe(allPages(nrIds - 1));
  });

  test('registers: table and its size, rings of 512, control bits; the command buffer before translation', () => {
    const lab = new Lab();
    const { registers } = lab.unit;
    // 252 entries of 32 bytes: two pages, coded as one less.
    expect(registers[0] & 0xfff).toBe(1);
    expect(registers[3] >>> 24).toBe(9);
    expect(registers[5] >>> 24).toBe(9);
    // IommuEn, EventLogEn, InvTimeOut 1 s (4), Coherent, CmdBufEn.
    expect(registers[6]).toBe(0x1485);
  });

  test.each([
    [0xfb, 2],
    [0x7f, 1],
    [0x80, 2],
    [0x100, 4],
    [0xffff, 512],
  ])('last device id 0x%x: a table of %i pages', (lastBdf, nrPages) => {
    expect(new Lab({ lastBdf }).driver.deviceTable.nrPages).toBe(nrPages);
  });

  test('entries nobody attached are open until completeInit closes them (init_device_table_dma)', () => {
    const lab = new Lab();
    lab.domain(NVME);
    const nvme = lab.entry(NVME.sid);
    expect(lab.entry(E1000.sid)).toEqual([0n, 0n, 0n, 0n]);
    lab.driver.completeInit();
    expect(lab.entry(E1000.sid)).toEqual([3n, 0n, 0n, 0n]);
    expect(lab.entry(0xfb)).toEqual([3n, 0n, 0n, 0n]);
    expect(lab.entry(NVME.sid)).toEqual(nvme);
  });

  test('misuse', () => {
    const lab = new Lab();
    expect(() => new AmdIommu(lab.platform, { preset: 'linux-6.12', units: [] })).toThrow(RangeError);
    expect(() => amdPreset('linux-6.0')).toThrow(/known: linux-5.1, linux-5.3, linux-6.1, .*linux-6.12.96/);
    expect(() => new Lab({ lastBdf: 0x10000 })).toThrow(/device id/);
    expect(lab.driver.probeDevice(device('00:1f.4'))).toBe(ENODEV);
  });
});

describe('attach and detach', () => {
  test('the entry: V, TV, three levels, root, rights, domain id (48882 2.2.2)', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    const root = BigInt(domain.table!.rootPfn) << 12n;
    expect(lab.entry(NVME.sid)).toEqual([(3n << 61n) | root | (3n << 9n) | 3n, 1n, 0n, 0n]);
  });

  test.each<[string, number, string[], string[]]>([
    ['linux-5.1', NP_CACHE, [devtab(0x20), allPages(1), wait(1)], [devtab(0x20), allPages(1), wait(1)]],
    ['linux-6.1', NATIVE, [devtab(0x20), allPages(1), wait(2)], [devtab(0x20), allPages(1), wait(3)]],
    ['linux-6.12', NATIVE, [devtab(0x20), wait(2)], [devtab(0x20), wait(3), allPages(1), wait(4)]],
    ['linux-6.12.96', NP_CACHE, [devtab(0x20), wait(2)], [devtab(0x20), wait(3), allPages(1), wait(4)]],
  ])('%s, capabilities 0x%x', (preset, capHeader, atAttach, atDetach) => {
    const lab = new Lab({ preset, capHeader });
    const domain = lab.domain();
    lab.take();
    expect(lab.attach(domain, NVME)).toBe(0);
    expect(lab.take('waits')).toEqual(atAttach);
    lab.driver.detachDev(domain, NVME);
    expect(lab.take('waits')).toEqual(atDetach);
    expect(lab.entry(NVME.sid)).toEqual([3n, 0n, 0n, 0n]);
    expect(domain.units).toEqual([]);
  });

  test.each([
    ['linux-6.1', 65, 65],
    ['linux-6.12', 2, 66],
    ['linux-6.12.96', 2, 4],
  ])('%s with NpCache: %i commands at attach, %i at detach (bug 21)', (preset, atAttach, atDetach) => {
    const lab = new Lab({ preset });
    const domain = lab.domain();
    lab.take();
    lab.attach(domain, NVME);
    expect(lab.take('waits')).toHaveLength(atAttach);
    lab.driver.detachDev(domain, NVME);
    expect(lab.take('waits')).toHaveLength(atDetach);
  });

  test.each([
    ['linux-6.1', 63],
    ['linux-6.12', 63],
    ['linux-6.12.96', 1],
  ])('%s with NpCache: a round of the flush queue is %i commands', (preset, nrCommands) => {
    const lab = new Lab({ preset });
    const domain = lab.domain(NVME);
    lab.core.flushIotlbAll(domain);
    expect(lab.take()).toHaveLength(nrCommands);
  });

  test('from one domain to another; domain ids are the lowest free ones', () => {
    const lab = new Lab({ preset: 'linux-6.12.96' });
    const [first, second] = [lab.domain(NVME), lab.domain()];
    expect([first.did, second.did]).toEqual([1, 2]);
    expect(lab.driver.attachDev(second, NVME)).toBe(0);
    expect(lab.take()).toEqual([devtab(0x20), allPages(1), devtab(0x20)]);
    expect(lab.entry(NVME.sid)[1]).toBe(2n);
    lab.driver.domainFree(first);
    expect((lab.driver.domainAlloc('paging') as AmdDomain).did).toBe(1);
    expect(() => lab.driver.domainFree(second)).toThrow(RangeError);
  });

  test('identity: no table, all rights; blocked: nothing', () => {
    const lab = new Lab();
    const identity = lab.driver.domainAlloc('identity') as AmdDomain;
    expect(lab.attach(identity, NVME)).toBe(0);
    expect(lab.entry(NVME.sid)).toEqual([(3n << 61n) | 3n, 1n, 0n, 0n]);
    const blocked = lab.driver.domainAlloc('blocked')!;
    expect(lab.driver.attachDev(blocked, NVME)).toBe(0);
    expect(lab.entry(NVME.sid)).toEqual([3n, 0n, 0n, 0n]);
    expect(lab.core.map(identity, 0x1000, 0x1000, KiB4, RW)).toBe(EINVAL);
  });

  test('bits of an entry that firmware or a crashed kernel set: 105:96 stay, the old id goes and its pages with it', () => {
    const lab = new Lab();
    const at = lab.unit.deviceTable + NVME.sid * 32;
    // EX and SysMgt, a guest table's root in 127:107, and domain 0xfff2.
    lab.mem.store64(at + 8, 0xfff2, 0x00001b80);
    const domain = lab.driver.domainAlloc('paging') as AmdDomain;
    lab.take();
    expect(lab.attach(domain, NVME)).toBe(0);
    expect(lab.take()).toEqual([allPages(0xfff2), devtab(0x20)]);
    expect(lab.entry(NVME.sid)[1]).toBe(0x1b80_0000_0001n);
    lab.driver.detachDev(domain, NVME);
    expect(lab.entry(NVME.sid)).toEqual([3n, 0x380_0000_0000n, 0n, 0n]);
  });

  test('an attach that fails gives the device back to the domain it had', () => {
    const lab = new Lab({ preset: 'linux-6.12.96' });
    const [first, second] = [lab.domain(NVME), lab.domain()];
    lab.core.map(first, 0x10000, GiB, KiB4, RW);
    // The unit sleeps until the entry names the first domain again.
    lab.unit.perStep = 0;
    lab.unit.step = (): void => {
      if (lab.entry(NVME.sid)[1] === BigInt(first.did)) lab.unit.execute(Infinity);
    };
    expect(lab.driver.attachDev(second, NVME)).toBe(ETIMEDOUT);
    expect([first.devices.length, second.devices.length]).toEqual([1, 0]);
    expect(through(lab, NVME.sid, 0x10000)).toBe(GiB);
  });

  test('an alias has the same entry and its own invalidation', () => {
    const lab = new Lab({ aliasOf: (sid) => (sid === NVME.sid ? 0xf0 : sid) });
    lab.take();
    const domain = lab.driver.domainAlloc('paging') as AmdDomain;
    lab.attach(domain, NVME);
    expect(lab.take()).toEqual([devtab(0x20), devtab(0xf0)]);
    expect(lab.entry(0xf0)).toEqual(lab.entry(0x20));
    lab.driver.releaseDevice(NVME);
    expect(lab.entry(0xf0)).toEqual([3n, 0n, 0n, 0n]);
  });

  test('several units: a domain is flushed where it has devices, once each', () => {
    const lab = new Lab({ nrUnits: 2, lastBdf: 0x1ff });
    const domain = lab.domain(NVME, device('01:00.0'), device('01:01.0'));
    lab.core.map(domain, 0x1000, GiB, KiB4, RW);
    expect(lab.units.map((unit) => unit.tape.splice(0).length)).toEqual([2, 2]);
    lab.driver.detachDev(domain, NVME);
    lab.take();
    lab.core.unmap(domain, 0x1000, KiB4);
    expect(lab.units.map((unit) => unit.tape.splice(0).length)).toEqual([0, 2]);
  });
});

describe('maps and unmaps', () => {
  test.each(['linux-6.1', 'linux-6.12'])('%s, NpCache: both flush exactly their pages', (preset) => {
    const lab = new Lab({ preset });
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0x3000, GiB + 0x3000, 5 * KiB4, RW);
    expect(lab.take('waits').slice(0, 2)).toEqual([page(0x3000), page(0x5001)]);
    lab.core.unmap(domain, 0x3000, 5 * KiB4);
    expect(lab.take()).toEqual([page(0x3000), page(0x5001)]);
    expect(through(lab, NVME.sid, 0x3000)).toBe(-1);
  });

  test.each(['linux-6.1', 'linux-6.12'])('%s, native: nothing for a map, one command around an unmap', (preset) => {
    const lab = new Lab({ preset, capHeader: NATIVE });
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0x1000, GiB + 0x1000, 64 * KiB4, RW);
    expect(lab.take('waits')).toEqual([]);
    lab.core.unmap(domain, 0x1000, 64 * KiB4);
    expect(lab.take()).toEqual([page(0x3f001)]);
  });

  test('a scatterlist is flushed once, and each disjoint unmap of a gather on its own under NpCache only', () => {
    for (const capHeader of [NP_CACHE, NATIVE]) {
      const lab = new Lab({ capHeader });
      const domain = lab.domain(NVME);
      const chunks = Float64Array.of(GiB, KiB4, 2 * GiB, KiB4, 3 * GiB, 2 * KiB4);
      expect(lab.core.mapSg(domain, 0x10000, chunks, 3, RW)).toBe(4 * KiB4);
      expect(lab.take()).toEqual(capHeader === NP_CACHE ? [page(0x11001)] : []);
      const gather = new IotlbGather();
      for (const [iova, nrBytes] of [
        [0x10000, KiB4],
        [0x12000, 2 * KiB4],
      ] as const) {
        expect(lab.core.unmapFast(domain, iova, nrBytes, gather)).toBe(nrBytes);
      }
      lab.core.iotlbSync(domain, gather);
      const commands = lab.take();
      expect(commands).toEqual(capHeader === NP_CACHE ? [page(0x10000), page(0x12001)] : [page(0x11001)]);
      expect(lab.core.unmap(domain, 0x11000, KiB4)).toBe(KiB4);
    }
  });

  test('a gather of a flush queue is left alone; the queue flushes the domain', () => {
    const lab = new Lab({ capHeader: NATIVE });
    const domain = lab.domain(NVME);
    const cookie = new DmaCookie(lab.core, domain, lab.clock, { lazy: true, freeTables: () => {} });
    cookie.mapAt(0x10000, Float64Array.of(GiB, KiB4), 1, RW);
    cookie.unmapAt(0x10000, KiB4, 0);
    expect(lab.take()).toEqual([]);
    cookie.drain();
    expect(lab.take()).toEqual([allPages(1)]);
  });

  test('part of a large leaf takes all of it, and its flush begins where the leaf did', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0x10000, GiB, 0x10000, RW);
    lab.take();
    expect(lab.core.unmap(domain, 0x18000, KiB4)).toBe(0x8000);
    expect(lab.take()).toEqual([page(0x17001)]);
    for (const at of [0x10000, 0x18000, 0x1f000]) expect(through(lab, NVME.sid, at)).toBe(-1);
  });

  test.each([
    ['linux-6.1', NATIVE, [allPages(1)]],
    ['linux-6.12', NATIVE, [page(0x2ff001)]],
    ['linux-6.12', NP_CACHE, [page(0x2ff001), page(0x2ff001)]],
  ])(
    '%s, 0x%x: a large leaf over tables that unmaps left behind flushes before they are freed',
    (preset, cap, expected) => {
      const lab = new Lab({ preset, capHeader: cap });
      const domain = lab.domain(NVME);
      lab.core.map(domain, MiB2, GiB + KiB4, MiB2, RW);
      lab.core.unmap(domain, MiB2, MiB2);
      lab.take();
      const before = lab.pages.nrLive;
      let liveAtFlush = 0;
      lab.unit.onCommand = (): void => {
        liveAtFlush ||= lab.pages.nrLive;
      };
      lab.core.map(domain, MiB2, 4 * GiB, MiB2, RW);
      expect(lab.take()).toEqual(expected);
      expect(liveAtFlush).toBe(before);
      expect(lab.pages.nrLive).toBe(before - 1);
      expect(through(lab, NVME.sid, MiB2)).toBe(4 * GiB);
    },
  );

  test('the recorded merge: 64 KiB of memory is one leaf of next level 7', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0xfffe0000, 0x9490000, 0x10000, RW);
    expect(domain.table!.leafBytes(0xfffe0000)).toBe(0x10000);
    lab.core.map(domain, 0xffff8000, 0x9454000, 0x4000, RW);
    expect(domain.table!.leafBytes(0xffff8000)).toBe(0x4000);
  });

  test('reserved ranges are those of groups.txt', () => {
    const regions = new Lab().driver.getResvRegions(NVME);
    expect(regions.map(({ start, nrBytes, type }) => [start, start + nrBytes - 1, type])).toEqual([
      [0xfee00000, 0xfeefffff, 'msi'],
      [0xfd00000000, 0xffffffffff, 'reserved'],
    ]);
  });

  test('no memory: nothing stays mapped, no page is lost', () => {
    const lab = new Lab({ nrPages: 12 });
    const domain = lab.domain(NVME);
    const live = lab.pages.nrLive;
    for (let at = 0; ; at += MiB2) {
      const errno = lab.core.map(domain, at, GiB, KiB4, RW);
      if (errno === 0) continue;
      expect(errno).toBe(ENOMEM);
      expect(lab.core.iovaToPhys(domain, at)).toBe(-1);
      break;
    }
    expect(lab.pages.nrLive).toBe(12);
    expect(live).toBeLessThan(12);
    lab.driver.releaseDevice(NVME);
    lab.driver.domainFree(domain);
    expect(lab.pages.nrLive).toBe(live - 1);
  });
});

describe('growth of the table', () => {
  const HIGH = 2 ** 40;

  /** What the device table said and where the address led, at each command. */
  function watched(lab: Lab, iova: number): { levels: number[]; to: number[] } {
    const seen = { levels: [] as number[], to: [] as number[] };
    lab.unit.onCommand = (): void => {
      seen.levels.push(Number((lab.entry(NVME.sid)[0] >> 9n) & 7n));
      seen.to.push(through(lab, NVME.sid, iova));
    };
    return seen;
  }

  test.each(['linux-6.1', 'linux-6.12'])(
    '%s: entries of all devices and a wait, before the mapping is written',
    (preset) => {
      const lab = new Lab({ preset });
      const domain = lab.domain(NVME, E1000);
      const seen = watched(lab, HIGH);
      expect(lab.core.map(domain, HIGH, GiB, KiB4, RW)).toBe(0);
      const commands = lab.take('waits');
      // The old id of each entry first (it is the same one), then the entries, then the page.
      const [a, b, c, d, e, f] = commands;
      expect([a, c, e, f]).toEqual([allPages(1), allPages(1), devtab(0x20), devtab(0x28)]);
      for (const command of [b, d, commands[6]]) expect(command.startsWith('0x1 0x10000000')).toBe(true);
      expect(commands.slice(7, 8)).toEqual([page(0, HIGH / 2 ** 32)]);
      expect(seen.levels).toEqual(Array.from({ length: 9 }, () => 4));
      // Not before the entries were flushed and waited for.
      expect(seen.to.slice(0, 7)).toEqual(Array.from({ length: 7 }, () => -1));
      expect(seen.to[7]).toBe(GiB);
      expect(lab.entry(E1000.sid)).toEqual(lab.entry(NVME.sid));
    },
  );

  test('linux-5.3 wrote the mapping first (bug 17)', () => {
    const lab = new Lab({ preset: 'linux-5.3' });
    const domain = lab.domain(NVME);
    const seen = watched(lab, HIGH);
    expect(lab.core.map(domain, HIGH, GiB, KiB4, RW)).toBe(0);
    expect(lab.take('waits')).toEqual([devtab(0x20), allPages(1), oldPage(0, HIGH / 2 ** 32), wait(1)]);
    expect(seen.to[0]).toBe(GiB);
  });

  test('by two levels at once, and for a leaf of 256 TiB that only a fifth level holds', () => {
    const lab = new Lab({ capHeader: NATIVE });
    const domain = lab.domain(NVME);
    expect(lab.core.map(domain, 2 ** 51, 0, KiB4, RW)).toBe(0);
    expect(domain.table!.levels).toBe(5);
    expect(through(lab, NVME.sid, 2 ** 51)).toBe(0);
    const other = lab.domain(E1000);
    lab.core.map(other, 2 ** 40, 0, KiB4, RW);
    expect(other.table!.levels).toBe(4);
    expect(lab.core.unmap(other, 2 ** 40, KiB4)).toBe(KiB4);
    expect(lab.core.map(other, 0, 0, 2 ** 48, RW)).toBe(0);
    expect(other.table!.levels).toBe(5);
    expect(through(lab, E1000.sid, 2 ** 48 - 1)).toBe(2 ** 48 - 1);
  });

  test('of a domain without devices tells nobody; they find the grown table when attached', () => {
    const lab = new Lab();
    const domain = lab.domain();
    lab.core.map(domain, HIGH, GiB, KiB4, RW);
    expect(lab.take('waits')).toEqual([]);
    lab.attach(domain, NVME);
    expect(through(lab, NVME.sid, HIGH)).toBe(GiB);
  });
});

describe('kernels of 2019 (kernel.md section 0)', () => {
  test('linux-5.1: amd_iommu_map, which VFIO calls, flushes nothing', () => {
    const lab = new Lab({ preset: 'linux-5.1' });
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0x10000, GiB, KiB4, RW);
    expect(lab.take('waits')).toEqual([]);
  });

  test('linux-5.3: it flushes, once per page size', () => {
    const lab = new Lab({ preset: 'linux-5.3' });
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0x10000, GiB, KiB4, RW);
    lab.core.map(domain, 0x21000, GiB + 0x1000, 3 * KiB4, RW);
    // More than one page: everything of the domain. Without the PDE bit.
    expect(lab.take()).toEqual([oldPage(0x10000), oldPage(0x21000), OLD_ALL]);
  });

  test('an unmap drops the whole domain (until 5.15)', () => {
    const lab = new Lab({ preset: 'linux-5.3', capHeader: NATIVE });
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0x10000, GiB, KiB4, RW);
    expect(lab.take()).toEqual([]);
    lab.core.unmap(domain, 0x10000, KiB4);
    expect(lab.take('waits')).toEqual([allPages(1), wait(1)]);
  });

  /** The commands of one mapping and of one scatterlist of two by the DMA API. */
  function dmaApi(preset: string, mapFlush?: 'none' | 'caller' | 'map' | 'sync-map'): [string[], string[]] {
    const lab = new Lab({ preset, ...(mapFlush === undefined ? {} : { mapFlush }) });
    const domain: IommuDomain = lab.domain(NVME);
    const cookie = new DmaCookie(lab.core, domain, lab.clock, { flushAfterMap: lab.driver.mapFlush === 'caller' });
    expect(cookie.mapAt(0x10000, Float64Array.of(GiB, KiB4), 1, RW)).toBe(0);
    const single = lab.take();
    expect(cookie.mapAt(0x20000, Float64Array.of(GiB, KiB4, 2 * GiB, KiB4), 2, RW)).toBe(0);
    return [single, lab.take()];
  }

  test.each(['linux-5.1', 'linux-5.3'])(
    '%s: the DMA API flushes a single mapping, not a scatterlist (bugs 2 and 3)',
    (preset) => {
      expect(dmaApi(preset)).toEqual([[oldPage(0x10000)], []]);
    },
  );

  test('other policies on the same kernels do what they say', () => {
    expect(dmaApi('linux-5.1', 'none')).toEqual([[], []]);
    expect(dmaApi('linux-5.3', 'caller')).toEqual([[oldPage(0x10000)], [OLD_ALL]]);
    expect(dmaApi('linux-5.1', 'sync-map')).toEqual([[oldPage(0x10000)], [OLD_ALL]]);
    expect(dmaApi('linux-6.12')).toEqual([[page(0x10000)], [page(0x20001)]]);
  });

  test('the DMA API of 2019 wrote 4 KiB leaves only', () => {
    const lab = new Lab({ preset: 'linux-5.1' });
    const domain = lab.domain(NVME);
    const dma = new DmaIommu(lab.core, domain, lab.clock, []);
    const address = dma.mapPage(GiB, 16 * KiB4, 'bidirectional');
    expect(domain.table!.leafBytes(address)).toBe(KiB4);
    const modern = new Lab().domain(NVME);
    expect(modern.pgsizeBitmap).toBe(domain.pgsizeBitmap);
  });
});

describe('the event log', () => {
  /** Puts an event where hardware would: IO_PAGE_FAULT of a write of domain 1. */
  function log(lab: Lab, sid: number, address: number, w1 = 0x20200001): void {
    const base = lab.unit.registers[4] & ~0xfff;
    const tail = lab.unit.registers[0x2018 / 4];
    for (const [at, word] of [sid, w1, address | 0, Math.floor(address / 2 ** 32)].entries()) {
      lab.mem.deviceStore32(base + tail + at * 4, word);
    }
    lab.unit.registers[0x2018 / 4] = (tail + 16) % 8192;
  }

  test('a page fault reaches the handler of the domain, and the entry is cleared (erratum 732)', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    const seen: unknown[] = [];
    domain.faultHandler = (of, one, iova, flags): number => {
      seen.push([of === domain, one.name, iova, flags]);
      return 0;
    };
    log(lab, NVME.sid, 0x12_3456_7000);
    expect(lab.driver.pollEvents()).toBe(1);
    expect(seen).toEqual([[true, '0000:00:04.0', 0x12_3456_7000, 1]]);
    expect(lab.driver.pollEvents()).toBe(0);
    expect(lab.mem.load32((lab.unit.registers[4] & ~0xfff) + 4)).toBe(0);
  });

  test('wraps; interrupts, unknown devices and other events are counted only', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    let faults = 0;
    domain.faultHandler = (): number => (faults += 1) - faults;
    const codes: number[] = [];
    for (let nr = 0; nr < 700; nr++) {
      log(lab, NVME.sid, nr * KiB4);
      lab.driver.pollEvents(null, ({ code }) => codes.push(code));
    }
    log(lab, NVME.sid, 0, 0x20080001);
    log(lab, 0xf0, 0);
    log(lab, NVME.sid, 0, 0x50000000);
    expect(lab.driver.pollEvents(null, ({ code }) => codes.push(code))).toBe(3);
    expect(faults).toBe(700);
    expect(codes.slice(-3)).toEqual([2, 2, 5]);
  });

  test('an overflow is ended by switching the log off, clearing the bit, and switching it on', () => {
    const lab = new Lab();
    const writes: string[] = [];
    const write32 = lab.unit.write32.bind(lab.unit);
    const write64 = lab.unit.write64.bind(lab.unit);
    lab.unit.write32 = (offset, value): void => {
      if (offset === 0x2020) writes.push(`status ${value}`);
      write32(offset, value);
    };
    lab.unit.write64 = (offset, lo, hi): void => {
      if (offset === 0x18) writes.push(`enable ${lo & 4}`);
      write64(offset, lo, hi);
    };
    lab.driver.pollEvents();
    expect(writes.splice(0)).toEqual(['status 3']);
    lab.unit.registers[0x2020 / 4] = 3;
    lab.driver.pollEvents();
    expect(writes).toEqual(['status 3', 'enable 0', 'status 1', 'enable 4']);
    expect(lab.unit.registers[0x2020 / 4]).toBe(0);
  });

  test('an event that the tail announces and memory never shows is passed over, those behind it are not', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    const seen: number[] = [];
    domain.faultHandler = (_domain, _device, iova): number => seen.push(iova) - seen.length;
    lab.unit.registers[0x2018 / 4] = 16;
    log(lab, NVME.sid, 0x5000);
    expect(lab.driver.pollEvents()).toBe(1);
    expect(seen).toEqual([0x5000]);
    expect(lab.unit.registers[0x2010 / 4]).toBe(32);
    expect(lab.driver.pollEvents()).toBe(0);
  });

  test('a tail outside of the log, as of a unit that has gone: nothing outside is read or cleared, and it ends', () => {
    const lab = new Lab();
    const behind = (lab.unit.registers[4] & ~0xfff) + 8192;
    lab.mem.store64(behind, 1, 0x20000000);
    lab.unit.registers[0x2010 / 4] = 8192;
    lab.unit.registers[0x2018 / 4] = 3 * 8192 + 16;
    expect(lab.driver.pollEvents()).toBe(0);
    expect([lab.mem.load32(behind), lab.mem.load32(behind + 4)]).toEqual([1, 0x20000000]);
  });

  test('an address above 2^52, which no table maps, is told as it is', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    let seen = 0;
    domain.faultHandler = (_domain, _device, iova): number => (seen = iova) - seen;
    log(lab, NVME.sid, 2 ** 52 + 0x3000);
    lab.driver.pollEvents();
    expect(seen).toBe(2 ** 52 + 0x3000);
  });
});

test('the register window the lab uses is the one the driver was told', () => {
  expect(new Lab().platform.readl(UNIT_BASE + 0x30)).toBe(FEATURES);
});
