import { describe, expect, test } from 'vitest';
import { EBUSY, EINVAL, ENODEV, ENOMEM } from '../../src/base/index.ts';
import type { IntelDomain } from '../../src/drivers/index.ts';
import { vtd } from '../../src/spec/index.ts';
import { device, E1000, GiB, KiB4, Lab, MiB2, NVME, READ, RW } from './lab.ts';

const IOVA = 0x10000;
const CM = { cachingMode: true };
const NOT_PRESENT_CONTEXT = [-vtd.FR_ROOT_NOT_PRESENT, -vtd.FR_CONTEXT_NOT_PRESENT];

/** A paging domain with one page at IOVA. */
function paging(lab: Lab, paddr: number): IntelDomain {
  const domain = lab.driver.domainAlloc('paging') as IntelDomain;
  expect(lab.core.map(domain, IOVA, paddr, KiB4, RW)).toBe(0);
  return domain;
}

/** What a device sees at IOVA, on the unit that serves its bus. */
const sees = (lab: Lab, { sid }: { sid: number } = NVME): number =>
  lab.units[lab.units.length === 1 ? 0 : sid >> 8].translate(sid, IOVA, READ);

const didsOf = (domain: IntelDomain): number[] => domain.attachments.map(({ did }) => did);

/** Words of a device's context entry, through the root pointer that the unit was given. */
function contextWords(lab: Lab, sid: number): number[] {
  const root = lab.mem.load32(lab.unit.read32(vtd.RTADDR_REG) + (sid >> 8) * 16);
  return root === 0 ? [0, 0, 0, 0] : [0, 4, 8, 12].map((at) => lab.mem.load32((root & -4096) + (sid & 0xff) * 16 + at));
}

describe.each([CM, {}])('C-ATTACH, unit %o', (hardware) => {
  test('a device that looked before sees the domain, and nothing after it was detached', () => {
    const lab = new Lab({ units: [hardware] });
    expect(NOT_PRESENT_CONTEXT).toContain(sees(lab));
    const domain = paging(lab, MiB2);
    expect(lab.attach(domain, NVME)).toBe(0);
    expect(sees(lab)).toBe(MiB2);
    lab.driver.detachDev(domain, NVME);
    expect(NOT_PRESENT_CONTEXT).toContain(sees(lab));
    expect(lab.unit.iotlbEntries().filter(({ reason }) => reason === 0)).toEqual([]);
  });

  test('replacing one domain by another: each look gives the current one', () => {
    const lab = new Lab({ units: [hardware] });
    const [a, b] = [paging(lab, MiB2), paging(lab, 2 * MiB2)];
    for (const [domain, expected] of [
      [a, MiB2],
      [b, 2 * MiB2],
      [b, 2 * MiB2],
      [a, MiB2],
    ] as const) {
      expect(lab.attach(domain, NVME)).toBe(0);
      expect(sees(lab)).toBe(expected);
      expect(sees(lab)).toBe(expected);
    }
    // The id went back and forth with it; its entries must not have.
    expect(didsOf(b)).toEqual([]);
  });

  test('identity: addresses pass; blocked: nothing does', () => {
    const lab = new Lab({ units: [hardware] });
    const identity = lab.driver.domainAlloc('identity') as IntelDomain;
    const blocked = lab.driver.domainAlloc('blocked') as IntelDomain;
    const domain = paging(lab, MiB2);
    for (const [next, expected] of [
      [identity, IOVA],
      [domain, MiB2],
      [identity, IOVA],
      [blocked, undefined],
      [domain, MiB2],
      [blocked, undefined],
      [identity, IOVA],
    ] as const) {
      expect(lab.attach(next, NVME)).toBe(0);
      if (expected === undefined) expect(sees(lab)).toBeLessThan(0);
      else expect(sees(lab)).toBe(expected);
    }
    expect(lab.core.map(identity, IOVA, MiB2, KiB4, RW)).toBe(EINVAL);
    expect(lab.core.map(blocked, IOVA, MiB2, KiB4, RW)).toBe(EINVAL);
    expect(lab.core.unmap(blocked, IOVA, KiB4)).toBe(0);
    expect([lab.core.iovaToPhys(identity, IOVA), lab.core.iovaToPhys(blocked, IOVA)]).toEqual([IOVA, -1]);
  });

  test('releasing a device detaches it; all pages come back', () => {
    const lab = new Lab({ units: [hardware] });
    lab.attach(paging(lab, MiB2), E1000);
    const before = lab.pages.nrLive;
    const domain = paging(lab, MiB2);
    lab.attach(domain, NVME);
    expect(() => lab.driver.domainFree(domain)).toThrow(RangeError);
    lab.driver.releaseDevice(NVME);
    expect(sees(lab)).toBeLessThan(0);
    lab.driver.domainFree(domain);
    expect(lab.pages.nrLive).toBe(before);
    expect(lab.driver.attachDev(paging(lab, MiB2), NVME)).toBe(ENODEV);
  });
});

describe('the context entry (VT-d 9.3)', () => {
  test('is never present with half of its fields: upper half first at attach, present bit first at detach', () => {
    const lab = new Lab();
    const wide = device('00:1e.7');
    lab.attach(paging(lab, MiB2), E1000);
    const domain = paging(lab, MiB2);
    const states: string[] = [];
    lab.mem.observer = {
      stored: (): void => {
        const [lo, , third] = contextWords(lab, wide.sid);
        states.push((lo & 1) === 0 ? 'absent' : `did ${third >>> 8} width ${third & 7} root ${(lo & -4096) >>> 0}`);
      },
    };
    lab.attach(domain, wide);
    lab.driver.detachDev(domain, wide);
    // Second domain: 3 (kernel.md 2.2); four levels: width 2; its root.
    const present = `did 3 width 2 root ${domain.table!.rootPfn * KiB4}`;
    expect([...new Set(states)]).toEqual(['absent', present]);
    expect(contextWords(lab, wide.sid)).toEqual([0, 0, 0, 0]);
  });

  test.each([
    [{ sagaw: [3] }, 3, 1],
    [{ sagaw: [4] }, 4, 2],
    [{ sagaw: [3, 4] }, 4, 2],
    [{ sagaw: [3, 4], mgaw: 39 }, 3, 1],
  ])(
    '%o: %i levels, width %i; the top of the aperture works, what lies above is refused',
    (hardware, levels, width) => {
      const lab = new Lab({ units: [hardware] });
      const domain = lab.domain(NVME);
      expect(contextWords(lab, NVME.sid)[2] & 7).toBe(width);
      expect(domain.table!.levels).toBe(levels);
      const top = 2 ** (levels * 9 + 12);
      expect(domain.apertureLast).toBe(top - 1);
      expect(lab.core.map(domain, top - KiB4, MiB2, KiB4, RW)).toBe(0);
      expect(lab.unit.translate(NVME.sid, top - 1, READ)).toBe(MiB2 + KiB4 - 1);
      expect(lab.core.map(domain, top, MiB2, KiB4, RW)).toBe(EINVAL);
    },
  );

  test('pass-through gets the widest address width that the unit has', () => {
    const lab = new Lab({ units: [{ sagaw: [3] }] });
    lab.attach(lab.driver.domainAlloc('identity') as IntelDomain, NVME);
    const [lo, , third] = contextWords(lab, NVME.sid);
    expect([lo & 15, third & 7]).toEqual([(vtd.TT_PASS_THROUGH << 2) | 1, 1]);
  });
});

describe('leaf sizes follow CAP.SLLPS', () => {
  test.each([
    [{ sllps2m: false, sllps1g: false }, KiB4],
    [{ sllps2m: true, sllps1g: false }, MiB2],
    [{ sllps2m: true, sllps1g: true }, GiB],
  ])('%o: 1 GiB is mapped with leaves of %i bytes', (hardware, leaf) => {
    for (const preset of ['linux-5.11', 'linux-6.12']) {
      const lab = new Lab({ preset, units: [hardware] });
      const domain = lab.domain(NVME);
      expect(lab.core.map(domain, GiB, 4 * GiB, GiB, RW)).toBe(0);
      expect(domain.table!.leafBytes(GiB)).toBe(leaf);
      expect(lab.unit.translate(NVME.sid, GiB + 0x12345678, READ)).toBe(4 * GiB + 0x12345678);
    }
  });
});

describe('domain ids', () => {
  // Id 0 tags not-present context entries; 1 is FLPT_DEFAULT_DID in later kernels (kernel.md 2.2). ND = 0: 16 ids.
  test.each([
    ['linux-5.1', 1],
    ['linux-5.12', 1],
    ['linux-6.1', 2],
    ['linux-6.12', 2],
  ])('%s: from %i up, the lowest free one, EBUSY when all 16 are in use', (preset, first) => {
    const lab = new Lab({ preset, units: [{ cachingMode: true, nd: 0 }] });
    const domains: IntelDomain[] = [];
    for (let did = first; did < 16; did++) {
      const domain = paging(lab, MiB2 + did * KiB4);
      expect(lab.attach(domain, device(`00:${did.toString(16)}.0`))).toBe(0);
      expect(didsOf(domain)).toEqual([did]);
      domains.push(domain);
    }
    const late = device('00:1e.0');
    const another = paging(lab, MiB2);
    expect(lab.attach(another, late)).toBe(EBUSY);
    expect(didsOf(another)).toEqual([]);
    expect(lab.unit.translate(late.sid, IOVA, READ)).toBeLessThan(0);
    // Two go, the later one first; the lowest comes back first.
    lab.driver.detachDev(domains[7 - first], device('00:7.0'));
    lab.driver.detachDev(domains[4 - first], device('00:4.0'));
    expect(lab.attach(another, late)).toBe(0);
    expect(didsOf(another)).toEqual([4]);
    // And nothing of the former domain 4 is left under it.
    expect(lab.unit.translate(late.sid, IOVA, READ)).toBe(MiB2);
  });

  test('a domain keeps its id while any of its devices is there', () => {
    const lab = new Lab();
    const domain = paging(lab, MiB2);
    lab.attach(domain, NVME);
    lab.attach(domain, E1000);
    lab.driver.detachDev(domain, NVME);
    expect(didsOf(domain)).toEqual([2]);
    expect(sees(lab, E1000)).toBe(MiB2);
    lab.driver.detachDev(domain, E1000);
    expect(didsOf(domain)).toEqual([]);
  });
});

describe('a refused attach leaves the old one in force (IommuOps.attachDev)', () => {
  const only = (lab: Lab, next: IntelDomain, errno: number): void => {
    const old = paging(lab, MiB2);
    expect(lab.attach(old, NVME)).toBe(0);
    expect(lab.attach(next, NVME)).toBe(errno);
    expect(sees(lab)).toBe(MiB2);
    lab.core.unmap(old, IOVA, KiB4);
    expect(sees(lab)).toBeLessThan(0);
  };

  test('EBUSY: no id, since another device keeps the old domain alive', () => {
    const lab = new Lab({ units: [{ cachingMode: true, nd: 0 }] });
    for (let did = 2; did < 15; did++) lab.attach(paging(lab, MiB2), device(`00:${did.toString(16)}.1`));
    const old = paging(lab, MiB2);
    lab.attach(old, E1000);
    expect(lab.attach(old, NVME)).toBe(0);
    expect(lab.attach(paging(lab, 2 * MiB2), NVME)).toBe(EBUSY);
    expect(sees(lab)).toBe(MiB2);
    expect(didsOf(old)).toEqual([15]);
  });
  test('EINVAL: pass-through on a unit without ECAP.PT', () => {
    const lab = new Lab({ units: [{ cachingMode: true, pt: false }] });
    only(lab, lab.driver.domainAlloc('identity') as IntelDomain, EINVAL);
  });
  test('EINVAL: a domain of another driver', () => {
    only(new Lab(), new Lab().driver.domainAlloc('paging') as IntelDomain, EINVAL);
  });
  test('ENOMEM: no page for the context table; a blocked device stays blocked', () => {
    const lab = new Lab({ nrPages: 8 });
    const domain = lab.driver.domainAlloc('paging') as IntelDomain;
    const blocked = lab.driver.domainAlloc('blocked') as IntelDomain;
    expect(lab.attach(blocked, NVME)).toBe(0);
    while (lab.pages.alloc() >= 0);
    expect(lab.attach(domain, NVME)).toBe(ENOMEM);
    expect([sees(lab) < 0, didsOf(domain)]).toEqual([true, []]);
    expect(lab.driver.domainAlloc('paging')).toBeNull();
  });
  test('EINVAL: a table depth that the unit does not walk', () => {
    const lab = new Lab({ units: [{ sagaw: [3] }, { sagaw: [4] }] });
    const domain = paging(lab, MiB2);
    expect(lab.attach(domain, NVME)).toBe(0);
    expect(lab.attach(domain, device('01:00.0'))).toBe(EINVAL);
  });
  test('ENODEV: nobody probed it, or no unit serves it', () => {
    const lab = new Lab({ units: [CM, CM] });
    expect(lab.driver.attachDev(paging(lab, MiB2), NVME)).toBe(ENODEV);
    expect(lab.driver.probeDevice(device('05:00.0'))).toBe(ENODEV);
  });
});

describe('two units', () => {
  const SECOND = device('01:00.0');

  test('a domain behind both is flushed on both, under its id of each', () => {
    const lab = new Lab({ units: [CM, CM] });
    // Moves the first unit's ids up by one.
    lab.attach(paging(lab, MiB2), E1000);
    const domain = lab.domain(NVME, SECOND);
    expect(didsOf(domain)).toEqual([3, 2]);
    for (const one of [NVME, SECOND]) sees(lab, one);
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    expect([sees(lab, NVME), sees(lab, SECOND)]).toEqual([MiB2, MiB2]);
    lab.core.unmap(domain, IOVA, KiB4);
    expect(sees(lab, NVME)).toBeLessThan(0);
    expect(sees(lab, SECOND)).toBeLessThan(0);
    lab.core.flushIotlbAll(domain);
    expect(lab.tapes.map((tape) => tape.take())).toEqual([
      ['0x300f2 0x10000', '0x300f2 0x10040', '0x300e2 0x0'],
      ['0x200f2 0x10000', '0x200f2 0x10040', '0x200e2 0x0'],
    ]);
  });

  test('bug 23: a caching-mode unit that joins late; each unit gets what its own CAP.CM asks for', () => {
    const lab = new Lab({ units: [{}, CM] });
    const domain = lab.domain(NVME);
    expect(NOT_PRESENT_CONTEXT).toContain(sees(lab, SECOND));
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    expect(lab.attach(domain, SECOND)).toBe(0);
    expect(sees(lab, SECOND)).toBe(MiB2);
    lab.units[1].translate(SECOND.sid, IOVA + KiB4, READ);
    for (const tape of lab.tapes) tape.take();
    lab.core.map(domain, IOVA + KiB4, MiB2 + KiB4, KiB4, RW);
    expect(lab.tapes.map((tape) => tape.take())).toEqual([[], ['0x200f2 0x11000']]);
    expect(lab.units[1].translate(SECOND.sid, IOVA + KiB4, READ)).toBe(MiB2 + KiB4);
  });

  test('the domain fits the weaker unit: levels, leaf sizes, address width', () => {
    const lab = new Lab({ units: [{ sagaw: [3] }, { sllps1g: false }] });
    const domain = lab.domain(NVME, SECOND);
    expect([domain.table!.levels, domain.pgsizeBitmap, domain.apertureLast]).toEqual([3, KiB4 + MiB2, 2 ** 39 - 1]);
  });

  test('detached from one, it stays on the other', () => {
    const lab = new Lab({ units: [CM, CM] });
    const domain = lab.domain(NVME, SECOND);
    lab.core.map(domain, IOVA, MiB2, KiB4, RW);
    lab.driver.detachDev(domain, NVME);
    expect([sees(lab, NVME) < 0, sees(lab, SECOND)]).toEqual([true, MiB2]);
    for (const tape of lab.tapes) tape.take();
    lab.core.unmap(domain, IOVA, KiB4);
    expect(lab.tapes.map((tape) => tape.take())).toEqual([[], ['0x200f2 0x10040']]);
  });
});

test('reserved regions: the interrupt range besides what firmware named', () => {
  expect(new Lab().driver.getResvRegions(NVME)).toEqual([
    { start: 0xfee00000, nrBytes: 0x100000, type: 'msi', prot: 0 },
  ]);
});
