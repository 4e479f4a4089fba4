/** Software and devices that do anything: whatever is written and asked for, the unit answers, ends, and makes no memory. */
import { expect, test } from 'vitest';
import { ManualClock, Rng } from '../../../src/base/index.ts';
import { AMDVI_QEMU, AmdviUnit, type AmdviConfig } from '../../../src/hw/index.ts';
import { PhysMem } from '../../../src/mem/index.ts';

const BASE = 0x1000000;
const NR_PAGES = 16;
const TWO_32 = 2 ** 32;
const REGISTERS = [
  0, 8, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x2000, 0x2008, 0x2010, 0x2018, 0x2020, 0x2030, 0x2038, 0x1230,
];

const configs: [string, AmdviConfig][] = [
  ['default', {}],
  ['NpCache, slow, page requests', { npCache: true, completionDelayNs: 50, ppr: true }],
  ['NpCache, tags by source id, small', { npCache: true, tagBySid: true, iotlb: { sets: 2, ways: 2 } }],
  ['nothing cached but pages', { holdsStructure: false, holdsDevices: false, holdsDenied: false }],
  ['QEMU', AMDVI_QEMU],
];

function word(rng: Rng): number {
  return (rng.below(65536) * 65536 + rng.below(65536)) | 0;
}

/** Mostly where memory is, else anywhere, or at the end of all addresses. */
function address(rng: Rng): number {
  if (rng.chance(0.8)) return BASE + rng.below(NR_PAGES) * 4096;
  return rng.chance(0.5) ? rng.below(2 ** 31) * 4096 : 2 ** 52 - 4096 * (1 + rng.below(4));
}

function step(rng: Rng, mem: PhysMem, unit: AmdviUnit): number[] {
  const choice = rng.below(12);
  const offset = rng.pick(REGISTERS);
  const to = address(rng);
  if (choice === 0) unit.write32(offset + rng.pick([0, 0, 4]), word(rng));
  else if (choice === 1) {
    unit.write64(rng.pick([0, 8, 0x10]), to | rng.below(512), Math.floor(to / TWO_32) | (rng.below(16) << 24));
  } else if (choice === 2) {
    // A stopped ring goes on when its enable bit comes anew.
    if (rng.chance(0.7)) unit.write64(0x18, 0, 0);
    unit.write64(0x18, rng.chance(0.8) ? 0x1005 | (rng.below(4) << 3) : word(rng), 0);
  } else if (choice === 3) unit.write32(0x2008, unit.read32(0x2008) + rng.below(40) * 16);
  else if (choice === 4) unit.write32(0x2020, 7);
  else if (choice === 5) {
    // A page of commands, most of them legal.
    const at = BASE + rng.below(NR_PAGES) * 4096;
    for (let index = 0; index < 256; index++) {
      const operation = rng.pick([1, 3, 3, 3, 8]);
      const data = operation === 8 ? [0, operation << 28, 0, 0] : [0, operation << 28, word(rng) & -4093, word(rng)];
      if (rng.chance(0.1)) data[rng.below(4)] = word(rng);
      mem.store64(at + index * 16, data[0], data[1]);
      mem.store64(at + index * 16 + 8, data[2], data[3]);
    }
  } else if (choice < 8) {
    // Device table entries and page table entries alike.
    for (let count = 0; count < 32; count++) {
      const entry = address(rng);
      const lo = entry | (rng.below(8) << 9) | rng.below(4);
      const hi = Math.floor(entry / TWO_32) | (rng.below(4) << 29) | (rng.chance(0.1) ? word(rng) : 0);
      mem.store64(BASE + rng.below(NR_PAGES * 512) * 8, lo, hi);
    }
  } else {
    const sid = rng.below(rng.pick([8, 256, 65536]));
    const page = rng.chance(0.5) ? rng.below(2 ** 20) : rng.below(2 ** 20) * 2 ** 20 + rng.below(2 ** 20);
    const access = rng.pick([1, 2, 3, 5, 9, 13]);
    if (choice === 11) {
      const into = new Float64Array(600);
      unit.translateRun(sid, page * 4096, 600, access, into);
      return [...into];
    }
    unit.requestPage(sid, page * 4096);
    return [unit.translate(sid, page * 4096 + rng.below(4096), access)];
  }
  return [];
}

test.each(configs)('%s', (_, config) => {
  let nrAddresses = 0;
  let nrEvents = 0;
  let nrCommands = 0;
  for (let seed = 1; seed <= 30; seed++) {
    const rng = new Rng(seed);
    const mem = new PhysMem();
    const clock = new ManualClock();
    const unit = new AmdviUnit(mem, clock, config);
    unit.listener = {
      command: () => (nrCommands += 1),
      doorbell: () => {},
    };
    for (let page = 0; page < NR_PAGES; page++) mem.ensure(BASE / 4096 + page);
    for (let count = 0; count < 300; count++) {
      clock.advanceBy(rng.below(60));
      for (const answer of step(rng, mem, unit)) {
        if (!Number.isInteger(answer) || answer < -9 || answer >= 2 ** 53) throw new Error(`seed ${seed}: ${answer}`);
        if (answer >= 0) nrAddresses += 1;
      }
    }
    nrEvents += unit.pendingFaults().length;
    const held = [...unit.iotlbEntries(), ...unit.structureEntries(), ...unit.contextEntries()];
    expect(
      held.every((entry) => Object.values(entry).every((value) => value === true || value === false || value >= -1)),
    ).toBe(true);
    expect(mem.nrFrames, 'memory that nobody made').toBe(NR_PAGES);
    expect(unit.snapshot().length).toBe(new AmdviUnit(mem, clock, config).snapshot().length);
  }
  // It was not all refused at the door.
  expect(nrAddresses).toBeGreaterThan(1000);
  expect(nrCommands).toBeGreaterThan(100);
  if (config.logsEvents !== false) expect(nrEvents).toBeGreaterThan(100);
});
