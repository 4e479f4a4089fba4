import { expect, test } from 'vitest';
import { Rng } from '../../../src/base/index.ts';
import { AMDVI_QEMU, type AmdviConfig } from '../../../src/hw/index.ts';
import { device, DID, page, R, Rig, RW, SID, W } from './rig.ts';

const configs: [string, AmdviConfig][] = [
  ['default', {}],
  ['NpCache', { npCache: true }],
  ['one way', { npCache: true, iotlb: { sets: 64, ways: 1 }, pdeCache: { sets: 1, ways: 1 } }],
  ['small', { npCache: true, iotlb: { sets: 8, ways: 4 }, deviceCache: { sets: 1, ways: 1 } }],
  ['tagged by source id', { npCache: true, tagBySid: true }],
  ['no structure, no devices', { holdsStructure: false, holdsDevices: false }],
  ['QEMU', AMDVI_QEMU],
];

/** Two machines that are told the same: one translates page by page, the other in runs. */
test.each(configs)('a run is so many single requests, to the last word of state: %s', (_, config) => {
  const rng = new Rng(7);
  const rigs = [new Rig(config).enable(), new Rig(config).enable()] as const;
  const top = rigs.map((rig) => rig.dte(SID, { levels: 3 }));
  for (const rig of rigs) {
    rig.dte(SID + 1, { top: top[0], levels: 3, rights: R });
    rig.dte(SID + 2, { v: false });
    rig.dte(SID + 3, { levels: 1, top: rig.entryAt(top[0], 3, 0, 1), did: 9 });
    // Some of it open to SID 4 untranslated.
    rig.dte(SID + 4, { top: top[0], levels: 3, w3: 0x80, did: 11 });
    rig.unit.write32(0x28, 0x205000);
    rig.unit.write32(0x20, 0x1fd001);
  }
  const into = new Float64Array(2000);
  let nrAddresses = 0;
  let nrDenied = 0;
  for (let step = 0; step < 250; step++) {
    const iova = rng.pick([0, 0x1f0000, 0xfee00000 - 0x8000, 0x7fff_0000, 2 ** 39 - 0x10000]) + rng.below(24) * 4096;
    const choice = rng.below(10);
    const nrPages = 1 + rng.below(30);
    const paddr = (1 + rng.below(1000)) * 4096;
    const rights = rng.pick([R, W, RW, RW, RW]);
    const isLarge = rng.chance(0.2);
    const sid = rng.pick([SID, SID, SID, SID + 1, SID + 2, SID + 3, SID + 4, 0x100]);
    const access = rng.pick([R, R, W, RW, R | 4, R | 8]);
    const count = rng.pick([1, 2, 40, 600]);
    for (const [index, rig] of rigs.entries()) {
      if (choice < 3) {
        for (let at = 0; at < nrPages; at++) {
          const target = (iova + at * 4096) % 2 ** 39;
          if (isLarge && at < 4) rig.map(top[0], target - (target % 8192), paddr - (paddr % 8192), rights, 13, 3);
          else rig.map(top[0], target, paddr + at * 4096, rights, 12, 3);
          if (choice !== 0) rig.submit(page(DID, target), page(9, target), page(11, target));
        }
      } else if (choice < 4) rig.unmap(top[0], iova % 2 ** 39, 1, 3);
      else if (choice < 5) rig.submit(device(sid), page(DID, iova));
      else if (index === 0) rig.unit.translateRun(sid, iova, count, access, into);
      else {
        for (let at = 0; at < count; at++) {
          const single = rig.unit.translate(sid, iova + at * 4096, access);
          if (single >= 0) nrAddresses++;
          else nrDenied++;
          if (single !== into[at]) throw new Error(`step ${step}, page ${at}: ${into[at]} in the run, ${single} alone`);
        }
      }
      rig.takeEvents();
    }
    // As memory: toEqual() takes a second for each of these arrays.
    const [one, other] = rigs.map(({ unit }) => Buffer.from(unit.snapshot().buffer));
    if (!one.equals(other)) throw new Error(`step ${step}: the states differ`);
  }
  expect([nrAddresses > 2000, nrDenied > 2000]).toEqual([true, true]);
});
