/** The AMD machine as a whole: recorded commands through the hardware model, and what its device sees around growth. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../src/base/index.ts';
import { DmaCookie } from '../../src/dma/index.ts';
import type { AmdDomain, MapFlush } from '../../src/drivers/index.ts';
import { AMD_PRESETS, AmdIommu } from '../../src/drivers/index.ts';
import type { AmdviConfig, AmdviListener } from '../../src/hw/index.ts';
import { AMDVI_QEMU, AmdviUnit } from '../../src/hw/index.ts';
import { Iommu, IommuGroup } from '../../src/iommu/index.ts';
import { AmdMachine, LocalPlatform } from '../../src/machine/index.ts';
import { Bus, PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { device, GiB, KiB4, MiB2, NVME, READ, RW } from '../drivers/lab.ts';

const TRACES = join(dirname(fileURLToPath(import.meta.url)), '../../traces');

/** Commands as the recordings' kprobe lines have them; the store address of waits is masked. */
class Tape implements AmdviListener {
  readonly commands: string[] = [];
  command(w0: number, w1: number, w2: number, w3: number): void {
    const first = w1 >>> 28 === 1 ? w0 & 7 : w0;
    this.commands.push([first, w1, w2, w3].map((word) => `0x${(word >>> 0).toString(16)}`).join(' '));
  }
  doorbell(): void {}
  take(): string[] {
    return this.commands.splice(0);
  }
  /** Range commands only. */
  pages(): string[] {
    return this.take().filter((command) => command.startsWith('0x0 0x3'));
  }
}

function recorded(run: string): string[] {
  const text = gunzipSync(readFileSync(join(TRACES, run, 'amd-commands.txt.gz'))).toString('latin1');
  return [...text.matchAll(/d0=(\w+) d1=(\w+) d2=(\w+) d3=(\w+)/g)].map(([, d0, d1, d2, d3]) =>
    Number(d1) >>> 28 === 1 ? `0x1 ${d1} ${d2} ${d3}` : `${d0} ${d1} ${d2} ${d3}`,
  );
}

const GROUPS = [
  ['00:00.0'],
  ['00:04.0'],
  ['00:05.0'],
  ['00:06.0'],
  ['00:07.0'],
  ['00:08.0'],
  ['00:1f.0', '00:1f.2', '00:1f.3'],
];

test.each([
  ['amd-strict-boot-6.1', 'linux-6.1', 1346],
  ['amd-lazy-small-6.12', 'linux-6.12', 779],
])('%s: what the unit executed at boot is what was recorded', (run, preset, nr) => {
  const tape = new Tape();
  const options = { preset, hardware: AMDVI_QEMU, lastBdf: 0xfb, ivhdFeatures: 0, completesInit: false };
  const machine = new AmdMachine({ ...options, listener: tape });
  expect(machine.unit.readCapability(0)).toBe(0x1f03000f);
  for (const [id, members] of GROUPS.entries()) {
    const group = new IommuGroup(machine.core, machine.driver, id);
    for (const address of members) expect(group.addDevice(device(address))).toBe(0);
    expect(group.setupDefaultDomain('paging')).toBe(0);
  }
  machine.driver.completeInit();
  const own = tape.take();
  expect(own).toHaveLength(nr);
  expect(own).toEqual(recorded(run).slice(0, nr));
});

interface Bench {
  machine: AmdMachine;
  domain: AmdDomain;
  tape: Tape;
  sees: (iova: number) => number;
}

function bench(preset: string, mapFlush?: MapFlush, hardware: AmdviConfig = { npCache: true }): Bench {
  const tape = new Tape();
  const machine = new AmdMachine({ preset, hardware, listener: tape, ...(mapFlush === undefined ? {} : { mapFlush }) });
  const domain = machine.driver.domainAlloc('paging') as AmdDomain;
  machine.driver.probeDevice(NVME);
  expect(machine.driver.attachDev(domain, NVME)).toBe(0);
  tape.take();
  return { machine, domain, tape, sees: (iova) => machine.unit.translate(NVME.sid, iova, READ) };
}

/** A neighbour is mapped, so that the table exists; then the device looks, and the page is mapped. @returns what it sees */
function afterLook(at: Bench, how: 'vfio' | 'dma'): number {
  const { machine, domain, tape, sees } = at;
  const cookie = new DmaCookie(machine.core, domain, machine.clock, {
    flushAfterMap: machine.driver.mapFlush === 'caller',
  });
  machine.core.map(domain, 0x10000, MiB2, KiB4, RW);
  machine.driver.flushIotlbAll(domain);
  tape.take();
  expect(sees(0x11000)).toBeLessThan(0);
  if (how === 'vfio') expect(machine.core.map(domain, 0x11000, GiB, KiB4, RW)).toBe(0);
  else expect(cookie.mapAt(0x11000, Float64Array.of(GiB, KiB4), 1, RW)).toBe(0);
  return sees(0x11000);
}

describe('C-MAP-VISIBLE under NpCache, per kernel', () => {
  test.each<[string, boolean, boolean]>([
    // The question of April 2019: VFIO was broken on AMD, the DMA API was not.
    ['linux-5.1', false, true],
    ['linux-5.3', true, true],
    ['linux-6.1', true, true],
    ['linux-6.12', true, true],
  ])('%s: VFIO %s, DMA API %s', (preset, vfio, dma) => {
    expect(afterLook(bench(preset), 'vfio') === GiB).toBe(vfio);
    expect(afterLook(bench(preset), 'dma') === GiB).toBe(dma);
  });

  test.each<[MapFlush, boolean, boolean]>([
    ['none', false, false],
    ['caller', false, true],
    ['map', true, true],
    ['sync-map', true, true],
  ])('linux-6.12 under %s: VFIO %s, DMA API %s', (policy, vfio, dma) => {
    expect(afterLook(bench('linux-6.12', policy), 'vfio') === GiB).toBe(vfio);
    expect(afterLook(bench('linux-6.12', policy), 'dma') === GiB).toBe(dma);
  });

  test('linux-5.3 flushes without the PDE bit: an absent table that was cached stays absent', () => {
    for (const [holdsStructure, expected] of [
      [false, GiB],
      [true, -2],
    ] as const) {
      const { machine, domain, sees } = bench('linux-5.3', undefined, { npCache: true, holdsStructure });
      expect(sees(0x11000)).toBe(-2);
      machine.core.map(domain, 0x11000, GiB, KiB4, RW);
      expect(sees(0x11000)).toBe(expected);
    }
  });

  test('commands per call: 4 separate pages in one list, 3 runs of leaf sizes', () => {
    const chunks = Float64Array.of(GiB, KiB4, GiB + 2 * KiB4, KiB4, GiB + 4 * KiB4, KiB4, GiB + 6 * KiB4, KiB4);
    for (const [policy, sg, plain] of [
      ['none', 0, 0],
      ['map', 4, 3],
      ['sync-map', 1, 3],
    ] as const) {
      const { machine, domain, tape } = bench('linux-6.12', policy);
      expect(machine.core.mapSg(domain, 0x40000, chunks, 4, RW)).toBe(4 * KiB4);
      expect(tape.pages()).toHaveLength(sg);
      // 4 KiB, 2 MiB, 4 KiB: the range rule and the leaf sizes cut it alike.
      expect(machine.core.map(domain, MiB2 - KiB4, GiB + MiB2 - KiB4, MiB2 + 2 * KiB4, RW)).toBe(0);
      expect(tape.pages()).toHaveLength(plain);
    }
  });
});

describe('a table that grows', () => {
  test.each(AMD_PRESETS)('%s: the device sees the mapping at return, and what was there before', (preset) => {
    const { machine, domain, sees } = bench(preset, 'sync-map');
    machine.core.map(domain, 0x10000, MiB2, KiB4, RW);
    for (const high of [2 ** 39, 2 ** 40 + KiB4, 2 ** 49]) {
      expect(sees(high)).toBeLessThan(0);
      expect(machine.core.map(domain, high, GiB, KiB4, RW)).toBe(0);
      if (preset.startsWith('linux-6')) expect(sees(high)).toBe(GiB);
      expect(sees(0x10000)).toBe(MiB2);
    }
    expect(domain.table?.levels).toBe(5);
  });

  test('a unit that takes its time: the new range only works since the driver waits for the entry', () => {
    const { machine, domain, sees } = bench('linux-6.12', undefined, { completionDelayNs: 5000 });
    sees(0x10000);
    expect(machine.core.map(domain, 2 ** 40, GiB, KiB4, RW)).toBe(0);
    expect(sees(2 ** 40)).toBe(GiB);
    // Without NpCache the map itself waits for nothing: 5.3 left the entry's flush on its way (bug 17).
    const old = bench('linux-5.3', undefined, { completionDelayNs: 5000 });
    old.sees(0x10000);
    expect(old.machine.core.map(old.domain, 2 ** 40, GiB, KiB4, RW)).toBe(0);
    expect(old.sees(2 ** 40)).toBeLessThan(0);
  });
});

test('faults travel from the log to the handler of the domain', () => {
  const { machine, domain, sees } = bench('linux-6.12');
  const faults: [number, number][] = [];
  domain.faultHandler = (_domain, _device, iova, flags): number => {
    faults.push([iova, flags]);
    return 0;
  };
  sees(0x12345);
  machine.unit.translate(NVME.sid, 2 ** 39 + 0x678, 2);
  expect(machine.driver.pollEvents()).toBe(2);
  expect(faults).toEqual([
    [0x12345, 0],
    [2 ** 39 + 0x678, 1],
  ]);
  for (let nr = 0; nr < 600; nr++) sees(nr * KiB4 + 0x100000);
  const before = machine.driver.pollEvents();
  expect(before).toBe(511);
  sees(0x77000);
  expect(machine.driver.pollEvents()).toBe(1);
});

test('two units, each with caches: a domain with devices behind both is flushed on both, until its last device there goes', () => {
  const clock = new ManualClock();
  const mem = new PhysMem();
  const pages = new PageAllocator(mem);
  const bus = new Bus(mem);
  const units = [0, 1].map(() => new AmdviUnit(mem, clock, { npCache: true, completionDelayNs: 700 }));
  for (const [index, unit] of units.entries()) bus.attach(0xfe000000 + index * 0x4000, 0x4000, unit);
  const step = (): void => units.forEach((unit) => unit.step());
  const driver = new AmdIommu(new LocalPlatform(mem, pages, bus, clock, { step }), {
    preset: 'linux-6.12',
    units: units.map((unit, index) => ({
      base: 0xfe000000 + index * 0x4000,
      capHeader: unit.readCapability(),
      ivhdFeatures: unit.read32(0x30),
      serves: (sid): boolean => sid >> 8 === index,
    })),
  });
  const core = new Iommu();
  const there = device('01:00.0');
  const domain = driver.domainAlloc('paging') as AmdDomain;
  for (const one of [NVME, there]) {
    driver.probeDevice(one);
    expect(driver.attachDev(domain, one)).toBe(0);
  }
  const see = (iova: number): number[] =>
    [NVME, there].map(({ sid }, index) => units[index].translate(sid, iova, READ));
  // Not present first, so that both remember it; the second address needs another level.
  for (const iova of [0x10000, 2 ** 40]) {
    expect(Math.max(...see(iova))).toBeLessThan(0);
    expect(core.map(domain, iova, GiB, KiB4, RW)).toBe(0);
    expect(see(iova)).toEqual([GiB, GiB]);
  }
  expect(core.unmap(domain, 0x10000, KiB4)).toBe(KiB4);
  expect(Math.max(...see(0x10000))).toBeLessThan(0);
  driver.detachDev(domain, there);
  expect(units[1].iotlbEntries()).toEqual([]);
  expect(see(2 ** 40)[0]).toBe(GiB);
  expect(see(2 ** 40)[1]).toBeLessThan(0);
  // The id goes to another domain, which meets nothing of the old one on either unit.
  driver.detachDev(domain, NVME);
  driver.domainFree(domain);
  const next = driver.domainAlloc('paging') as AmdDomain;
  expect(next.did).toBe(domain.did);
  for (const one of [NVME, there]) expect(driver.attachDev(next, one)).toBe(0);
  expect(Math.max(...see(2 ** 40))).toBeLessThan(0);
});

test('unattached devices reach nothing once the constructor has returned, and everything before completeInit', () => {
  const closed = new AmdMachine();
  expect(closed.unit.translate(NVME.sid, GiB, READ)).toBeLessThan(0);
  const open = new AmdMachine({ completesInit: false });
  expect(open.unit.translate(NVME.sid, GiB, READ)).toBe(GiB);
  open.driver.completeInit();
  expect(open.unit.translate(NVME.sid, GiB, READ)).toBeLessThan(0);
});
