import { describe, expect, test } from 'vitest';
import { Rng } from '../../../src/base/index.ts';
import type { AmdviConfig } from '../../../src/hw/index.ts';
import { allPages, device, naive, observed, pages, R, Rig, RW, SID, W } from './rig.ts';

/** Two devices of one domain on one set of tables, one of another. */
const SIDS = [SID, SID + 1, 0xf8];
const GROUPS = [0, 0, 1];
const DIDS = [5, 0xffff];
const MAX_TABLES = 150;

/** What a driver sends for a range: the smallest aligned power of two around it, coded into the address (2.4.3). */
function covering(did: number, first: bigint, last: bigint, pde: boolean): number[] {
  if (first >> 12n === last >> 12n) return pages(did, first & ~0xfffn, { pde });
  let bit = 12n;
  while (first >> (bit + 1n) !== last >> (bit + 1n)) bit++;
  const ones = (1n << bit) - 1n;
  return pages(did, ((first & ~(1n << bit)) | ones) & ~0xfffn, { s: true, pde });
}

/** A random machine: tables that come and go, pages of all sizes, levels skipped, entries that are nonsense. */
class World {
  readonly rig: Rig;
  readonly rng: Rng;
  private readonly levels: number[];
  private readonly tops: number[];
  private readonly spare: number[] = [];
  private nrTables = 0;

  constructor(seed: number, config: AmdviConfig) {
    this.rng = new Rng(seed);
    this.rig = new Rig(config).enable();
    this.levels = [this.rng.pick([2, 3, 4]), this.rng.pick([3, 5, 6])];
    this.tops = [this.rig.table(), this.rig.table()];
    for (const sid of SIDS) this.writeDte(sid, -1);
  }

  /** Few addresses, so that they meet; mostly with zeroes where levels are skipped. */
  iova(): bigint {
    const { rng } = this;
    let page = 0n;
    for (let level = 6; level >= 1; level--) {
      const index = rng.chance(0.5) ? 0 : rng.pick([0, 1, 2, 3, 8, 511]);
      page = page * 512n + BigInt(level >= 6 ? 0 : level === 5 ? index % 32 : index);
    }
    if (rng.chance(0.6)) page %= 512n ** BigInt(rng.pick([1, 2, 3]));
    if (rng.chance(0.02)) return 0xfee00000n;
    return page * 4096n + BigInt(rng.below(4096));
  }

  private writeDte(sid: number, garbage: number): void {
    const group = GROUPS[SIDS.indexOf(sid)];
    this.rig.dte(sid, {
      did: DIDS[group],
      top: this.tops[group],
      levels: garbage === 0 ? 7 : garbage === 1 ? 0 : this.levels[group],
      v: garbage !== 2,
      tv: garbage !== 3,
      rights: garbage === 4 ? R : garbage === 5 ? W : garbage === 6 ? 0 : RW,
      w0: garbage === 7 ? 0x10 : 0,
      w1: garbage === 8 ? 1 << 31 : 0,
    });
  }

  private newTable(): number {
    const table = this.spare.pop() ?? this.rig.table();
    this.rig.mem.fillFrame(table / 4096, 0);
    this.nrTables++;
    return table;
  }

  /** One edit, and the invalidations that the specification asks for after it. @param npCache whether new entries need some too */
  edit(npCache: boolean): number[][] {
    const { rng } = this;
    if (rng.chance(0.08)) {
      const sid = rng.pick(SIDS);
      this.writeDte(sid, rng.below(12));
      return [device(sid)];
    }
    const group = rng.below(2);
    if (rng.chance(0.02) && this.levels[group] < 6) return this.grow(group);
    const iova = this.iova() % 2n ** BigInt(12 + 9 * this.levels[group]);
    const wanted = rng.pick([1, 1, 1, 1, 2, 2, 3, 4]);
    let level = this.levels[group];
    let table = this.tops[group];
    const indexOf = (of: number): number => Number((iova >> BigInt(3 + 9 * of)) & 511n);
    while (level > wanted) {
      const at = table + indexOf(level) * 8;
      const lo = this.rig.mem.load32(at);
      const next = (lo >>> 9) & 7;
      const isNonsense = (this.rig.mem.load32(at + 4) & 0x1ff00000) !== 0;
      if ((lo & 1) === 0 || next === 0 || next >= level || isNonsense || this.rig.mem.slotOf(lo >>> 12) < 0) break;
      // Where levels are skipped, only addresses with zeroes there get further.
      const skipped = (iova >> BigInt(12 + 9 * next)) & ((1n << BigInt(9 * (level - 1 - next))) - 1n);
      if (skipped !== 0n) break;
      table = (lo & -4096) >>> 0;
      level = next;
    }
    return this.write(group, table, level, indexOf(level), iova, npCache);
  }

  /** A new top table whose first entry is the old one, as drivers make their address space larger. */
  private grow(group: number): number[][] {
    const top = this.rig.table();
    this.rig.entry(top, this.levels[group], this.tops[group]);
    this.tops[group] = top;
    this.levels[group]++;
    const members = SIDS.filter((_, index) => GROUPS[index] === group);
    for (const sid of members) this.writeDte(sid, -1);
    return [...members.map((sid) => device(sid)), allPages(DIDS[group])];
  }

  /** Writes one thing at an entry, with all its copies; whatever it overlaps goes first. */
  private write(
    group: number,
    table: number,
    level: number,
    index: number,
    iova: bigint,
    npCache: boolean,
  ): number[][] {
    const { rng, rig } = this;
    const { mem } = rig;
    const ownLg2 = 3 + 9 * level;
    const choice = rng.below(20);
    const isCoded = choice < 4 && level <= 4;
    const copiesLg2 = isCoded ? 1 + rng.below(8) : 0;
    const start = index - (index % 2 ** copiesLg2);
    let first = start;
    let last = start + 2 ** copiesLg2 - 1;
    let wasPresent = false;
    for (let at = first; at <= last; at++) {
      const lo = mem.load32(table + at * 8);
      if ((lo & 1) === 0) continue;
      wasPresent = true;
      if (((lo >>> 9) & 7) !== 7) continue;
      // Copies of another coded page: all of them go, or the tables contradict themselves.
      const code = (BigInt(mem.load32(table + at * 8 + 4) & 0xfffff) << 32n) | BigInt(lo >>> 0) | 0xfffn;
      let zero = 12;
      while (((code >> BigInt(zero)) & 1n) === 1n) zero++;
      const nr = 2 ** Math.max(0, zero + 1 - ownLg2);
      if (nr > 256) continue;
      first = Math.min(first, at - (at % nr));
      last = Math.max(last, at - (at % nr) + nr - 1);
    }
    for (let at = first; at <= last; at++) mem.store64(table + at * 8, 0, 0);
    const rights = rng.pick([R, W, RW, RW, RW, 0]);
    const size = 2 ** ownLg2;
    if (isCoded) {
      const lg2 = ownLg2 + copiesLg2;
      const coded = ((1 + rng.below(50)) * 2 ** lg2 + 2 ** (lg2 - 1) - 4096) % 2 ** 52;
      for (let at = start; at < start + 2 ** copiesLg2; at++) rig.entry(table + at * 8, 7, coded, rights);
    } else if (choice < 9 && level > 1 && this.nrTables < MAX_TABLES) {
      rig.entry(table + index * 8, rng.chance(0.7) ? level - 1 : 1 + rng.below(level - 1), this.newTable(), rights);
    } else if (choice === 10) {
      // A level that is not below, or a size that is not the level's: 2^23 at level 1, 2^13 above.
      const next = rng.pick([level, 6, 7]);
      rig.entry(table + index * 8, next, next === 7 && level === 1 ? 0x003f_f000 : 0, rights);
    } else if (choice === 11) {
      mem.store64(table + index * 8, 0x5001, 0x60000000 | (1 << (20 + rng.below(11))));
    } else if (choice === 12 && level > 1) {
      rig.entry(table + index * 8, level - 1, 0x7_7777_7000, rights);
    } else if (choice < 18) {
      rig.entry(table + index * 8, 0, ((1 + rng.below(60)) * size) % 2 ** 52, rights);
    }
    if (!wasPresent && !npCache) return [];
    const base = (iova >> BigInt(ownLg2 + 9)) << BigInt(ownLg2 + 9);
    const from = base + BigInt(first) * BigInt(size);
    const to = base + BigInt(last + 1) * BigInt(size) - 1n;
    return [covering(DIDS[group], from, to, level > 1)];
  }

  /** Random requests; what the unit answers otherwise than the tables say. */
  disagreement(nr: number, detail: 'code' | 'flags' | 'blocked', seen: Set<bigint>): string {
    for (let count = 0; count < nr; count++) {
      const sid = this.rng.pick([...SIDS, SID + 3]);
      const iova = this.iova();
      const access = this.rng.pick([R, R, W, RW]);
      const expected = naive(this.rig, sid, iova, access);
      seen.add(expected < 0n ? expected : 1n);
      const actual =
        detail === 'flags'
          ? observed(this.rig, sid, Number(iova), access)
          : BigInt(this.rig.unit.translate(sid, Number(iova), access));
      const wanted = detail === 'flags' || expected >= 0n ? expected : -(-expected >> 12n);
      if (actual !== wanted && (detail !== 'blocked' || actual >= 0n || wanted >= 0n)) {
        return `sid ${sid} iova ${iova.toString(16)} access ${access}: ${actual.toString(16)}, not ${wanted.toString(16)}`;
      }
    }
    return '';
  }
}

const tiny = { sets: 1, ways: 2 };
const configs: [string, AmdviConfig][] = [
  ['default', {}],
  ['NpCache', { npCache: true }],
  ['NpCache, pieces of large pages', { npCache: true, holdsWholePages: false }],
  ['tagged by source id', { npCache: true, tagBySid: true }],
  ['tagged by source id, small', { tagBySid: true, iotlb: { sets: 2, ways: 3 } }],
  ['no PDE cache', { npCache: true, holdsStructure: false }],
  ['no device table cache', { npCache: true, holdsDevices: false }],
  ['tiny caches', { npCache: true, iotlb: tiny, pdeCache: { sets: 1, ways: 1 }, deviceCache: { sets: 1, ways: 1 } }],
  ['fifo', { npCache: true, iotlb: { sets: 4, ways: 4, replacement: 'fifo' } }],
  ['random', { npCache: true, iotlb: { sets: 4, ways: 4, replacement: 'random', seed: 9 } }],
  ['nothing denied is held', { npCache: true, holdsDenied: false }],
  ['pages drop the domain', { npCache: true, pagesDropDomain: true }],
];

describe('with every change invalidated, no cache shows', () => {
  test.each(configs)('%s', (_name, config) => {
    const seen = new Set<bigint>();
    for (let seed = 1; seed <= 8; seed++) {
      const world = new World(seed, config);
      for (let step = 0; step < 300; step++) {
        world.rig.submit(...world.edit(config.npCache === true));
        // A walk that ends early does not tell what it would have met further down.
        const detail = config.holdsDenied === false ? 'blocked' : step % 2 === 0 ? 'flags' : 'code';
        const wrong = world.disagreement(12, detail, seen);
        // Not expect(): its cost per call would be most of this test.
        if (wrong !== '') throw new Error(`seed ${seed}, step ${step}: ${wrong}`);
      }
      expect(world.rig.unit.read32(0x2020) & 0x10, 'no command was illegal').toBe(0x10);
    }
    // The machine was not trivial: addresses and every fault of tables were met.
    const outcomes = [1n, -0x1000n, -0x1080n, -0x2000n, -0x2010n, -0x2050n, -0x2090n, -0x4200n, -0x8000n];
    expect([...seen].toSorted((a, b) => (a < b ? 1 : -1))).toEqual(outcomes);
  });

  test('and without invalidation they do show: the comparison can fail', () => {
    for (const npCache of [false, true]) {
      const world = new World(3, { npCache });
      let wrong = 0;
      for (let step = 0; step < 300; step++) {
        world.edit(npCache);
        for (let count = 0; count < 12; count++) if (world.disagreement(1, 'code', new Set()) !== '') wrong++;
      }
      expect(wrong).toBeGreaterThan(50);
    }
  });

  test('what is required is required: new entries only with NpCache, the PDE bit only for directories', () => {
    const wrongWith = (npCache: boolean, told: boolean, mend: (command: number[]) => number[]): number => {
      let wrong = 0;
      for (let seed = 1; seed <= 4; seed++) {
        const world = new World(seed, { npCache });
        for (let step = 0; step < 300; step++) {
          world.rig.submit(...world.edit(told).map((command) => mend(command)));
          if (world.disagreement(12, 'code', new Set()) !== '') wrong++;
        }
      }
      return wrong;
    };
    const same = (command: number[]): number[] => command;
    const withoutPde = ([w0, w1, w2, w3]: number[]): number[] =>
      w1 >>> 28 === 3 ? [w0, w1, w2 & ~2, w3] : [w0, w1, w2, w3];
    expect(wrongWith(true, true, same)).toBe(0);
    expect(wrongWith(true, false, same)).toBeGreaterThan(20);
    expect(wrongWith(false, false, same)).toBe(0);
    expect(wrongWith(false, true, withoutPde)).toBeGreaterThan(20);
  });
});
