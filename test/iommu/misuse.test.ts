/**
 * Wrong use of the core and of groups, over the tables of both drivers: every number that must not be, in every argument. Linux
 * says EINVAL (map) or 0 bytes (unmap), and nothing changes.
 */
import { describe, expect, test } from 'vitest';
import { EBUSY, EINVAL, ENODEV } from '../../src/base/index.ts';
import {
  IOMMU_CACHE,
  IOMMU_MMIO,
  IOMMU_NOEXEC,
  IOMMU_READ,
  IOMMU_WRITE,
  IommuGroup,
  IotlbGather,
} from '../../src/iommu/index.ts';
import type { Iommu, IommuDomain } from '../../src/iommu/index.ts';
import { AmdMachine, IntelMachine } from '../../src/machine/index.ts';
import { E1000, NVME } from '../drivers/lab.ts';
import { Recorder } from './recorder.ts';

const K4 = 4096;
const RW = IOMMU_READ | IOMMU_WRITE;
const LIVE = 0x4000_0000;
const BAD = [
  -1,
  -K4,
  0.5,
  K4 + 0.25,
  K4 - 1,
  K4 + 1,
  NaN,
  Infinity,
  -Infinity,
  2 ** 52,
  2 ** 53,
  2 ** 53 + K4,
  2 ** 63,
  2 ** 64,
];

describe.each(['intel', 'amd'] as const)('%s', (vendor) => {
  const machine = vendor === 'intel' ? new IntelMachine() : new AmdMachine();
  const { core, driver } = machine;
  const domain = driver.domainAlloc('paging')!;
  driver.probeDevice(NVME);
  driver.attachDev(domain, NVME);
  expect(core.map(domain, LIVE, LIVE, 16 * K4, RW)).toBe(0);
  const end = domain.apertureLast + 1;
  // Not the number of tables: a table that a refused map added stays, empty, as in Linux.
  const now = (): unknown => [
    core.iovaToPhys(domain, 0x10000),
    Array.from({ length: 18 }, (_, page) => core.iovaToPhys(domain, LIVE + (page - 1) * K4)),
    machine.unit.translate(NVME.sid, LIVE + K4, 2),
  ];

  const CALLS: [string, readonly number[], (bad: number) => number, number][] = [
    ['map: iova', [...BAD, end, end - 0.5], (bad) => core.map(domain, bad, 0x10000, K4, RW), EINVAL],
    ['map: paddr', BAD, (bad) => core.map(domain, 0x10000, bad, K4, RW), EINVAL],
    ['map: size', [0, ...BAD], (bad) => core.map(domain, 0x10000, 0x10000, bad, RW), EINVAL],
    ['map: over the end', [2 * K4, 2 ** 30, 2 ** 47], (bad) => core.map(domain, end - K4, 0, bad, RW), EINVAL],
    [
      'map: rights',
      [0, IOMMU_CACHE, IOMMU_NOEXEC | IOMMU_MMIO],
      (bad) => core.map(domain, 0x10000, 0, K4, bad),
      EINVAL,
    ],
    ['mapNosync: iova', BAD, (bad) => core.mapNosync(domain, bad, 0x10000, K4, RW), EINVAL],
    ['mapNosync: size', [0, ...BAD], (bad) => core.mapNosync(domain, 0x10000, 0x10000, bad, RW), EINVAL],
    ['mapSg: iova', BAD, (bad) => core.mapSg(domain, bad, Float64Array.of(0x10000, K4), 1, RW), EINVAL],
    ['mapSg: second paddr', BAD, (bad) => core.mapSg(domain, 0x10000, Float64Array.of(0, K4, bad, K4), 2, RW), EINVAL],
    [
      'mapSg: second size',
      [0, ...BAD],
      (bad) => core.mapSg(domain, 0x10000, Float64Array.of(0, K4, 0x9000, bad), 2, RW),
      EINVAL,
    ],
    [
      'mapSg: chunks',
      [0, -1, NaN, -Infinity],
      (bad) => core.mapSg(domain, 0x10000, Float64Array.of(0, K4), bad, RW),
      EINVAL,
    ],
    ['unmap: iova', BAD, (bad) => core.unmap(domain, bad, K4), 0],
    ['unmap: near', [0.5, 1, 2048], (bad) => core.unmap(domain, LIVE + bad, K4), 0],
    ['unmap: size', [0, ...BAD], (bad) => core.unmap(domain, LIVE, bad), 0],
    ['unmap: over the end', [2 * K4, 2 ** 47], (bad) => core.unmap(domain, end - K4, bad), 0],
    ['unmapFast: size', [0, ...BAD], (bad) => core.unmapFast(domain, LIVE, bad, new IotlbGather()), 0],
    [
      'iovaToPhys',
      [-1, -K4, NaN, Infinity, -Infinity, end, 2 ** 52, 2 ** 53, 2 ** 64],
      (bad) => core.iovaToPhys(domain, bad),
      -1,
    ],
  ];
  test.each(CALLS)('%s', (_call, bads, call, expected) => {
    const before = now();
    for (const bad of bads) {
      expect(call(bad), String(bad)).toBe(expected);
      expect(now(), String(bad)).toEqual(before);
    }
  });

  test('what is mapped is not mapped again, at any place of the range, and nothing of the new one stays', () => {
    const before = now();
    for (const [iova, nr] of [
      [LIVE - K4, 2],
      [LIVE, 1],
      [LIVE + 15 * K4, 2],
      [LIVE - 2 ** 21, 1024],
    ] as const) {
      expect(core.map(domain, iova, 0x8000_0000, nr * K4, RW)).toBe(-98);
      expect(now()).toEqual(before);
    }
  });

  test('unmapping twice gives 0 bytes the second time', () => {
    expect(core.map(domain, 0x10000, 0x10000, 3 * K4, RW)).toBe(0);
    expect([core.unmap(domain, 0x10000, 3 * K4), core.unmap(domain, 0x10000, 3 * K4)]).toEqual([3 * K4, 0]);
  });
});

describe('groups', () => {
  function setup(): { core: Iommu; ops: Recorder; group: IommuGroup; now: () => unknown } {
    const { core } = new IntelMachine();
    const ops = new Recorder();
    const group = new IommuGroup(core, ops, 7);
    group.addDevice(NVME);
    group.setupDefaultDomain('paging');
    const now = (): unknown => [group.devices.length, group.domain, group.isClaimed, [...ops.attached], ops.nrDomains];
    return { core, ops, group, now };
  }

  test('wrong use changes nothing', () => {
    const { ops, group, now } = setup();
    const other = new Recorder();
    const mine: IommuDomain = ops.domain();
    const before = now();
    ops.fail.set('probe 0000:00:05.0', ENODEV);
    expect([
      group.addDevice(NVME),
      group.addDevice(E1000),
      group.removeDevice(E1000),
      group.setupDefaultDomain('paging'),
      group.attach(other.domain()),
      group.detach(mine),
      group.detach(group.defaultDomain!),
    ]).toEqual([EBUSY, ENODEV, EINVAL, EBUSY, EINVAL, EINVAL, EINVAL]);
    expect(() => group.releaseDma({})).toThrow(/does not own/);
    expect(() => group.destroy()).toThrow(/still has 1/);
    expect(now()).toEqual(before);
  });
});
