import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import type { VtdConfig } from '../../src/hw/index.ts';
import { contextDevice, iotlbDomain, iotlbPage, PS, R, Rig, RW, SID, W } from './rig.ts';

const SIDS = [SID, SID + 1, 0x1f8];
const DIDS = [5, 6, 0xffff];

/** Translation as the specification words it, in bigint over memory, with no cache at all. -reason or the address. */
function naive(rig: Rig, sid: number, iova: bigint, access: number): bigint {
  const load = (at: bigint): bigint | null => {
    if (rig.mem.slotOf(Number(at >> 12n)) < 0) return null;
    return BigInt(rig.mem.load32(Number(at)) >>> 0) | (BigInt(rig.mem.load32(Number(at) + 4) >>> 0) << 32n);
  };
  const beyondHost = 0xffff000000000000n;
  if (iova >> 20n === 0xfeen) return iova;
  const root = load(BigInt(rig.root) + BigInt(sid >> 8) * 16n) ?? 0n;
  if ((root & 1n) === 0n) return -1n;
  if ((root & (0xffen | beyondHost)) !== 0n) return -0xan;
  const at = (root & ~0xfffn) + BigInt(sid & 0xff) * 16n;
  const lo = load(at);
  const hi = load(at + 8n);
  if (lo === null || hi === null) return -9n;
  if ((lo & 1n) === 0n) return -2n;
  if ((lo & (0xff0n | beyondHost)) !== 0n || (hi & ~0xffff7fn) !== 0n) return -0xbn;
  const width = hi & 7n;
  const type = (lo >> 2n) & 3n;
  if ((width !== 1n && width !== 2n) || type === 3n) return -3n;
  if (type === 2n) return iova;
  if (iova >> (30n + 9n * width) !== 0n) return -4n;
  let table = lo & ~0xfffn;
  let rights = 3n;
  for (let level = width + 2n; ; level--) {
    const shift = 12n + 9n * (level - 1n);
    const entry = load(table + ((iova >> shift) & 511n) * 8n);
    if (entry === null) return -7n;
    const none = (access & W) !== 0 ? -5n : -6n;
    if ((entry & 3n) === 0n) return none;
    const isLeaf = level === 1n || (entry & 0x80n) !== 0n;
    // Bit 62 is TM in a leaf where device TLBs are supported (9.8).
    const reserved = isLeaf && rig.unit.config.dt ? 0xf000000000800n : 0x400f000000000800n;
    if ((entry & reserved) !== 0n) return -0xcn;
    if (isLeaf && level === 4n) return -0xcn;
    const address = entry & 0xffffffffff000n;
    if (isLeaf && address % (1n << shift) !== 0n) return -0xcn;
    rights &= entry;
    if (rights === 0n) return none;
    if (isLeaf) {
      const missing = BigInt(access) & ~rights;
      if (missing !== 0n) return (missing & 2n) !== 0n ? -5n : -6n;
      const output = address | (iova & ((1n << shift) - 1n));
      return output >> 20n === 0xfeen ? -0xen : output;
    }
    table = address;
  }
}

/** A random machine: few addresses that share tables in part, entries that are sometimes nonsense. */
class World {
  readonly rig: Rig;
  readonly rng: Rng;
  private readonly tables: number[] = [];
  private readonly tops: number[] = [];
  private readonly did: number[] = [...DIDS];

  constructor(seed: number, config: VtdConfig) {
    this.rng = new Rng(seed);
    this.rig = new Rig(config);
    for (const [index, sid] of SIDS.entries())
      this.tops[index] = this.rig.context(sid, { did: DIDS[index], levels: 3 + (index % 2) });
    // Reachable ones come from edits; these give nonsense entries something to hit.
    for (let count = 0; count < 4; count++) this.tables.push(this.rig.table());
    this.rig.enable();
  }

  iova(): number {
    const { rng } = this;
    const base = rng.pick([0, 2 ** 30, 2 ** 38, 0xfee00000, 2 ** 39, 2 ** 47, 2 ** 31]);
    return base + rng.pick([0, 0x1000, 0x3000, 0x1ff000, 0x200000, 0x40000000]) + rng.below(4096);
  }

  /** One edit of a table, and the invalidations that the specification asks for after it. */
  edit(): number[][] {
    const { rng, rig } = this;
    const index = rng.below(SIDS.length);
    const sid = SIDS[index];
    if (rng.chance(0.1)) {
      const old = this.did[index];
      const levels = 3 + (index % 2);
      const garbage = rng.below(6);
      this.did[index] = DIDS[index] + 16 * rng.below(2) * (index < 2 ? 1 : 0);
      rig.context(sid, {
        did: this.did[index],
        levels,
        top: this.tops[index],
        tt: garbage === 0 ? 2 : 0,
        present: garbage !== 1,
      });
      if (garbage === 2) rig.store(rig.contextAt(sid) + 8, 7);
      // A faulting context is held under domain 0; a good one under its own, and its translations are the domain's.
      return [contextDevice(old, sid), contextDevice(0, sid), iotlbDomain(old), iotlbDomain(this.did[index])];
    }
    const levels = 3 + (index % 2);
    const iova = this.iova() % 2 ** (levels * 9 + 12);
    const level = rng.pick([1, 1, 1, 1, 2, 2, 3]);
    // Only below tables: where a leaf or nonsense stands in the way the edit is made there.
    let target = levels;
    let table = this.tops[index];
    const slot = (of: number): number => table + (Math.floor(iova / 4096 / 512 ** (of - 1)) % 512) * 8;
    while (target > level) {
      const at = slot(target);
      const lo = rig.mem.load32(at);
      if (lo === 0) rig.store(at, this.newTable() | RW);
      else if ((lo & PS) !== 0 || rig.mem.load32(at + 4) !== 0 || rig.mem.slotOf(lo >>> 12) < 0 || (lo & 0x800) !== 0)
        break;
      table = rig.mem.load32(at) & -4096;
      target -= 1;
    }
    const at = slot(target);
    const size = 4096 * 512 ** (target - 1);
    const choice = rng.below(10);
    if (choice < 2) rig.store(at, 0);
    else if (choice < 3 && target > 1) rig.store(at, this.newTable() | rng.pick([R, W, RW, RW]));
    else if (choice < 4)
      rig.store(at, (rng.next32() & -4096) | RW | rng.pick([0, PS, 0x800]), rng.pick([0, 0, 1 << 19, 1 << 30]));
    else if (choice < 5) rig.store(at, (0xfee00000 - (0xfee00000 % size)) | RW | (target > 1 ? PS : 0));
    else {
      const paddr = (1 + rng.below(60)) * size;
      rig.store(
        at,
        (paddr % 2 ** 32) | rng.pick([R, W, RW, RW]) | (target > 1 ? PS : 0),
        Math.floor(paddr / 2 ** 32) & 0xff,
      );
    }
    return [iotlbPage(this.did[index], iova - (iova % 4096), (target - 1) * 9 > 18 ? 18 : (target - 1) * 9)].concat(
      target > 3 ? [iotlbDomain(this.did[index])] : [],
    );
  }

  private newTable(): number {
    if (this.tables.length < 120) this.tables.push(this.rig.table());
    return this.rng.pick(this.tables);
  }

  /** Random requests; the number of those that the unit answers otherwise than the tables say. */
  disagreements(nr: number, seen: Set<string>): number {
    let found = 0;
    for (let count = 0; count < nr; count++) {
      const sid = this.rng.pick([...SIDS, SID + 3]);
      const iova = this.iova();
      const access = this.rng.pick([R, R, W, RW]);
      const expected = naive(this.rig, sid, BigInt(iova), access);
      const actual = this.rig.unit.translate(sid, iova, access);
      seen.add(expected < 0n ? String(-expected) : 'address');
      if (BigInt(actual) !== expected) found += 1;
    }
    return found;
  }
}

const configs: [string, VtdConfig][] = [
  ['default', {}],
  ['caching mode', { cachingMode: true }],
  ['caching mode, pieces of superpages', { cachingMode: true, psiDropsWholeSuperpage: false }],
  ['tagged by source id', { cachingMode: true, tagBySid: true }],
  ['tagged by source id, small', { tagBySid: true, iotlb: { sets: 2, ways: 3 } }],
  ['no paging-structure cache', { cachingMode: true, holdsStructure: false }],
  [
    'tiny caches',
    {
      cachingMode: true,
      iotlb: { sets: 1, ways: 2 },
      pageCache: { sets: 1, ways: 1 },
      contextCache: { sets: 1, ways: 1 },
    },
  ],
  ['fifo', { cachingMode: true, iotlb: { sets: 4, ways: 4, replacement: 'fifo' } }],
  ['random', { cachingMode: true, iotlb: { sets: 4, ways: 4, replacement: 'random', seed: 9 } }],
  ['no page-selective requests', { cachingMode: true, psi: false }],
];

describe('with every change invalidated, no cache shows', () => {
  test.each(configs)('%s', (_name, config) => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 6; seed++) {
      const world = new World(seed, config);
      for (let step = 0; step < 250; step++) {
        const descriptors = world.edit();
        // A table shared by two places changes translations of both: the domains of all devices are told.
        world.rig.submit(
          ...descriptors,
          ...DIDS.flatMap((did) => [iotlbDomain(did), iotlbDomain((did + 16) & 0xffff)]),
        );
        world.rig.clearFaults();
        // Not expect(): its cost per call would be most of this test.
        if (world.disagreements(12, seen) !== 0) throw new Error(`seed ${seed}, step ${step}: a translation is stale`);
      }
    }
    // The machine was not trivial: addresses and every fault of tables were met.
    expect([...seen].sort((a, b) => (a < b ? -1 : 1))).toEqual(['12', '14', '2', '3', '4', '5', '6', '7', 'address']);
  });

  test.each(configs.filter(([, config]) => config.psi !== false))(
    'page-selective requests alone, tables not shared: %s',
    (_name, config) => {
      for (let seed = 1; seed <= 4; seed++) {
        const rng = new Rng(seed);
        const rig = new Rig(config);
        const top = rig.context(SID, { did: 5 });
        rig.enable();
        for (let step = 0; step < 400; step++) {
          const level = rng.pick([1, 1, 1, 2]);
          const size = 4096 * 512 ** (level - 1);
          const nr = level === 1 ? 1 + rng.below(4) : 1;
          const first = 2 ** 31 + rng.below(8) * 2 ** 21;
          const start = level === 1 ? first + rng.below(509) * 4096 : first;
          // A leaf table is only entered where no superpage stands.
          const isSuperpage = (rig.mem.load32(rig.entryAt(top, 4, first, 2)) & PS) !== 0;
          if (level === 1 && isSuperpage) continue;
          const table = rig.entryAt(top, 4, first, 2);
          const isTable = rig.mem.load32(table) !== 0 && !isSuperpage;
          if (level === 2 && isTable) continue;
          const unmap = rng.chance(0.4);
          for (let index = 0; index < nr; index++) {
            if (unmap) rig.unmap(top, start + index * size, level);
            else rig.map(top, start + index * size, (1 + rng.below(500)) * size, rng.pick([R, RW, W]), level);
          }
          const last = start + nr * size - 1;
          let am = 0;
          while (Math.floor(start / 4096 / 2 ** am) !== Math.floor(last / 4096 / 2 ** am)) am += 1;
          rig.submit(iotlbPage(5, start, am));
          for (let count = 0; count < 10; count++) {
            const iova = rng.chance(0.5) ? start + rng.below(nr * size) : 2 ** 31 + rng.below(8 * 2 ** 21);
            const access = rng.pick([R, W, RW]);
            const wanted = naive(rig, SID, BigInt(iova), access);
            const actual = rig.unit.translate(SID, iova, access);
            if (BigInt(actual) !== wanted)
              throw new Error(`seed ${seed}, step ${step}: ${actual} instead of ${wanted}`);
          }
        }
      }
    },
  );

  test('and without invalidation they do show: the comparison can fail', () => {
    for (const cachingMode of [false, true]) {
      const world = new World(3, { cachingMode });
      let wrong = 0;
      for (let step = 0; step < 250; step++) {
        world.edit();
        wrong += world.disagreements(12, new Set());
      }
      expect(wrong).toBeGreaterThan(50);
    }
  });
});
