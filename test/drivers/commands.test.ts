import { describe, expect, test } from 'vitest';
import { hexWords } from '../../src/base/index.ts';
import type { VtdConfig } from '../../src/hw/index.ts';
import type { IommuDomain } from '../../src/iommu/index.ts';
import { IntelMachine } from '../../src/machine/index.ts';
import { device, GiB, isPsi, KiB4, MiB2, NVME, READ, RW, Tape } from './lab.ts';

const CM: VtdConfig = { cachingMode: true };

/** A machine with a tape from power-on. */
function boot(hardware: VtdConfig, preset = 'linux-6.12'): { machine: IntelMachine; tape: Tape } {
  const tape = new Tape();
  return { machine: new IntelMachine({ hardware, preset, listener: tape }), tape };
}

/** The same after a paging domain got the device; the tape is empty. */
function running(hardware: VtdConfig, preset?: string): { machine: IntelMachine; tape: Tape; domain: IommuDomain } {
  const { machine, tape } = boot(hardware, preset);
  const domain = attach(machine, '00:04.0');
  tape.take();
  return { machine, tape, domain };
}

function attach(machine: IntelMachine, address: string): IommuDomain {
  const domain = machine.driver.domainAlloc('paging')!;
  expect(machine.driver.probeDevice(device(address))).toBe(0);
  expect(machine.driver.attachDev(domain, device(address))).toBe(0);
  return domain;
}

const KERNELS = ['linux-6.1', 'linux-6.12'];

describe.each(KERNELS)('traces/intel-*-small, kernel %s', (preset) => {
  test('boot: cc_inv 0x11, then iotlb_inv 0xd2 (first qi_submit lines of every recording)', () => {
    for (const hardware of [CM, {}]) expect(boot(hardware, preset).tape.take()).toEqual(['0x11 0x0', '0xd2 0x0']);
  });

  test('caching mode: each device gets a context flush under domain 0, then its domain (lines 3 to 8)', () => {
    const { machine, tape } = boot(CM, preset);
    tape.take();
    attach(machine, '00:00.0');
    expect(tape.take()).toEqual(['0x31 0x0', '0x200e2 0x0']);
    attach(machine, '00:04.0');
    expect(tape.take()).toEqual(['0x2000000031 0x0', '0x300e2 0x0']);
    attach(machine, '00:05.0');
    expect(tape.take()).toEqual(['0x2800000031 0x0', '0x400e2 0x0']);
  });

  test('three functions of one group share domain 8 (cc_inv 0xf8, 0xfa, 0xfb, iotlb_inv 0x800e2 each)', () => {
    const { machine, tape } = boot(CM, preset);
    for (const slot of [0, 4, 5, 6, 7, 8]) attach(machine, `00:0${slot}.0`);
    tape.take();
    const domain = attach(machine, '00:1f.0');
    for (const address of ['00:1f.2', '00:1f.3']) {
      machine.driver.probeDevice(device(address));
      machine.driver.attachDev(domain, device(address));
    }
    const dsi = '0x800e2 0x0';
    expect(tape.take()).toEqual(['0xf800000031 0x0', dsi, '0xfa00000031 0x0', dsi, '0xfb00000031 0x0', dsi]);
  });

  test('no caching mode: nothing at attach (finding 7), nothing at map (finding 4), one PSI per unmap', () => {
    const { machine, tape } = boot({}, preset);
    tape.take();
    attach(machine, '00:00.0');
    const domain = attach(machine, '00:04.0');
    expect(tape.take()).toEqual([]);
    machine.core.map(domain, 0xffffd000, MiB2, KiB4, RW);
    expect(tape.take()).toEqual([]);
    machine.core.unmap(domain, 0xffffd000, KiB4);
    // intel-cmoff-strict-small-6.1, line 3; 6.12 adds the hint (finding 8).
    expect(tape.take()).toEqual([preset === 'linux-6.1' ? '0x300f2 0xffffd000' : '0x300f2 0xffffd040']);
  });

  test('one PSI per map and one per unmap: iotlb_inv 0x300f2 0xfffff000 (finding 2)', () => {
    const { machine, tape } = boot(CM, preset);
    attach(machine, '00:00.0');
    const domain = attach(machine, '00:04.0');
    tape.take();
    machine.core.map(domain, 0xfffff000, MiB2, KiB4, RW);
    expect(tape.take()).toEqual(['0x300f2 0xfffff000']);
    machine.core.map(domain, 0xffffd000, MiB2, KiB4, RW);
    machine.core.unmap(domain, 0xffffd000, KiB4);
    expect(tape.take()).toEqual([
      '0x300f2 0xffffd000',
      preset === 'linux-6.1' ? '0x300f2 0xffffd000' : '0x300f2 0xffffd040',
    ]);
  });

  test('every command has its own wait and doorbell (finding 6)', () => {
    const { machine, tape, domain } = running(CM, preset);
    machine.core.map(domain, 0x10000, MiB2, KiB4, RW);
    machine.core.unmap(domain, 0x10000, KiB4);
    expect(tape.words).toHaveLength(2);
    expect(tape.waits).toHaveLength(2);
    expect(tape.doorbells).toHaveLength(2);
  });
});

describe('kernel.md 2.5, worked words', () => {
  test('the device-selective flush of 00:14.0 under domain 0 is 0xa000000031', () => {
    const { machine, tape } = boot(CM);
    tape.take();
    attach(machine, '00:14.0');
    expect(tape.words[0]).toBe('0xa000000031 0x0');
  });

  test.each([
    [true, true, '0x500f2'],
    [false, false, '0x50032'],
    [true, false, '0x50072'],
    [false, true, '0x500b2'],
  ])('PSI of domain 5, pages 0x100 to 0x1ff; drains writes %s, reads %s: %s, 0x100008', (dwd, drd, qw0) => {
    const { machine, tape } = boot({ ...CM, dwd, drd });
    for (const slot of [0, 1, 2]) attach(machine, `00:0${slot}.0`);
    const domain = attach(machine, '00:03.0');
    tape.take();
    machine.core.map(domain, 0x100000, 0x40001000, 256 * KiB4, RW);
    expect(tape.take()).toEqual([`${qw0} 0x100008`]);
  });

  test('a wait writes QI_DONE: 0x200000025, to an aligned cell that then holds 2', () => {
    const { machine, tape, domain } = running(CM);
    machine.core.map(domain, 0x10000, MiB2, KiB4, RW);
    const [qw0, qw1] = tape.waits[0].split(' ');
    expect(qw0).toBe('0x200000025');
    expect(Number(qw1) % 4).toBe(0);
    expect(machine.mem.load32(Number(qw1))).toBe(2);
  });

  test('addresses above 4 GiB keep their high word', () => {
    const { machine, tape, domain } = running(CM);
    machine.core.map(domain, 0x7fff_ffff_f000, 0xabc_d000_1000, KiB4, RW);
    expect(tape.take()).toEqual(['0x200f2 0x7ffffffff000']);
    expect(machine.unit.translate(NVME.sid, 0x7fff_ffff_f123, READ)).toBe(0xabc_d000_1123);
  });
});

describe('the IH hint (kernel.md 2.4; bug 9)', () => {
  /** The hint of each PSI of an unmap that frees no table, and of one that does. */
  function hints(preset: string, freesTable: boolean): boolean[] {
    const { machine, tape, domain } = running(CM, preset);
    const nrBytes = freesTable ? MiB2 : KiB4;
    // Physical memory off by a page: 512 leaves of 4 KiB and so a table that goes with them.
    machine.core.map(domain, MiB2, GiB + KiB4, nrBytes, RW);
    expect(tape.words.filter((word) => (BigInt(word.split(' ')[1]) & 0x40n) !== 0n)).toEqual([]);
    tape.take();
    const before = machine.pages.nrLive;
    machine.core.unmap(domain, MiB2, nrBytes);
    expect(machine.pages.nrLive).toBe(before - (freesTable ? 1 : 0));
    const psis = tape.take().filter((word) => isPsi(word));
    return psis.map((word) => (BigInt(word.split(' ')[1]) & 0x40n) !== 0n);
  }

  test.each(['linux-5.1', 'linux-5.11', 'linux-5.12', 'linux-6.1'])('%s never sets it', (preset) => {
    expect(hints(preset, false)).toEqual([false]);
    expect(hints(preset, true)).toEqual([false]);
  });
  test('linux-6.12 sets it on an unmap that freed no table, and on no other, and never on a map', () => {
    expect(hints('linux-6.12', false)).toEqual([true]);
    expect(hints('linux-6.12', true)).toEqual([false]);
  });
});

describe('flush of whole domains', () => {
  test.each([
    ['linux-5.12', '0x100e2 0x0'],
    ['linux-6.12', '0x200e2 0x0'],
  ])('%s: flushIotlbAll is one DSI, %s', (preset, expected) => {
    const { machine, tape, domain } = running(CM, preset);
    machine.core.flushIotlbAll(domain);
    expect(tape.take()).toEqual([expected]);
  });

  test('of a domain without devices is nothing, as is everything else on it', () => {
    const { machine, tape } = boot(CM);
    tape.take();
    const domain = machine.driver.domainAlloc('paging')!;
    machine.core.map(domain, 0x10000, MiB2, KiB4, RW);
    machine.core.unmap(domain, 0x10000, KiB4);
    machine.core.flushIotlbAll(domain);
    expect(tape.take()).toEqual([]);
  });
});

test('hexWords writes what the recordings write', () => {
  expect(hexWords(0x31, 0x20)).toBe('0x2000000031');
});
