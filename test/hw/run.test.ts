import { expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { VTD_QEMU, type VtdConfig } from '../../src/hw/index.ts';
import { contextDevice, iotlbPage, R, Rig, RW, SID, W } from './rig.ts';

const configs: [string, VtdConfig][] = [
  ['default', {}],
  ['caching mode', { cachingMode: true }],
  ['one way', { cachingMode: true, iotlb: { sets: 64, ways: 1 }, pageCache: { sets: 1, ways: 1 } }],
  ['small', { cachingMode: true, iotlb: { sets: 8, ways: 4 }, contextCache: { sets: 1, ways: 1 } }],
  ['random victims', { cachingMode: true, iotlb: { sets: 4, ways: 2, replacement: 'random', seed: 3 } }],
  ['tagged by source id', { cachingMode: true, tagBySid: true, iotlb: { sets: 64, ways: 2 } }],
  ['superpages in pieces', { cachingMode: true, psiDropsWholeSuperpage: false, iotlb: { sets: 64, ways: 2 } }],
  ['nothing denied is held', { cachingMode: true, holdsDenied: false, holdsStructure: false, nfr: 4 }],
  ['QEMU', { ...VTD_QEMU, cachingMode: true, iotlb: { sets: 16, ways: 8 }, contextCache: { sets: 8, ways: 8 } }],
];

const isSame = (one: Int32Array, other: Int32Array): boolean => {
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false;
  return one.length === other.length;
};

/** Two machines that are told the same: one translates page by page, the other in runs. Nothing may tell them apart. */
test.each(configs)('a run is so many single requests, to the last word of state: %s', (_, config) => {
  const rng = new Rng(11);
  const rigs = [new Rig(config), new Rig(config)] as const;
  let top = 0;
  for (const rig of rigs) {
    top = rig.context(SID, { did: 5 });
    rig.context(SID + 1, { did: 5, top, levels: 4 });
    rig.context(SID + 2, { present: false });
    // The level 3 table of the same: another width, with the same tag.
    rig.context(SID + 3, { did: 5, top: rig.entryAt(top, 4, 0, 3), levels: 3, fpd: true });
    rig.context(SID + 4, { did: 9, top, tt: 1 });
    rig.context(SID + 5, { did: 7, tt: 2 });
    rig.enable();
  }
  const into = new Float64Array(2000);
  let nrAddresses = 0;
  let nrDenied = 0;
  for (let step = 0; step < 400; step++) {
    const area = rng.pick([0, 0x1f0000, 0xfee00000 - 0x8000, 0x7fff_0000, 2 ** 39 - 0x10000]);
    const iova = area + rng.below(24) * 4096;
    const choice = rng.below(12);
    const nrPages = 1 + rng.below(30);
    const paddr = rng.chance(0.1) ? 0xfee00000 : (1 + rng.below(1000)) * 4096 + rng.pick([0, 2 ** 33]);
    const rights = rng.pick([R, W, RW, RW, RW]);
    const isLarge = rng.chance(0.1);
    const isReserved = rng.chance(0.1);
    const sid = rng.pick([SID, SID, SID, SID + 1, SID + 2, SID + 3, SID + 4, SID + 5]);
    const access = rng.pick([R, R, R, W, RW, R | 4, R | 8]);
    const count = rng.pick([1, 2, 40, 600]);
    const offset = rng.pick([0, 0x123]);
    const target = iova % 2 ** 39;
    for (const [index, rig] of rigs.entries()) {
      if (choice < 3) {
        for (let at = 0; at < nrPages; at++) rig.map(top, target + at * 4096, paddr + at * 4096, rights);
        if (isReserved) rig.store(rig.entryAt(top, 4, target, 1), RW | 0x800);
        if (choice !== 0) rig.submit(...[5, 7, 9].map((did) => iotlbPage(did, target - (target % 2 ** 17), 5)));
        if (isLarge) rig.map(top, 2 ** 38 + (target % 2 ** 30) - (target % 2 ** 21), 2 ** 31, rights, 2);
      } else if (choice < 4) rig.unmap(top, target);
      else if (choice < 5) rig.submit(contextDevice(5, sid), iotlbPage(5, target, 0, nrPages % 2));
      else if (choice < 6) rig.clearFaults();
      else {
        const first = (isLarge ? 2 ** 38 + (target % 2 ** 30) : iova) + offset;
        if (index === 0) {
          rig.unit.translateRun(sid, first, count, access, into);
          continue;
        }
        for (let at = 0; at < count; at++) {
          const single = rig.unit.translate(sid, first + at * 4096, access);
          if (single >= 0) nrAddresses++;
          else nrDenied++;
          if (single !== into[at]) throw new Error(`step ${step}, page ${at}: ${into[at]} in the run, ${single} alone`);
        }
      }
    }
    if (!isSame(rigs[0].unit.snapshot(), rigs[1].unit.snapshot())) throw new Error(`step ${step}: the states differ`);
  }
  expect([nrAddresses > 2000, nrDenied > 2000]).toEqual([true, true]);
});
