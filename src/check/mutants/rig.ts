/** Machines for tests of mutants that count or read commands instead of asking a judge. */
import { hex } from '../../base/index.ts';
import type { AmdviConfig, AmdviListener, VtdConfig, VtdListener } from '../../hw/index.ts';
import type { CoreOptions, IommuDomain } from '../../iommu/index.ts';
import { Iommu } from '../../iommu/index.ts';
import type { Machine } from '../../machine/index.ts';
import { AmdMachine, IntelMachine } from '../../machine/index.ts';
import { amdvi, vtd } from '../../spec/index.ts';
import type { DriverFactory } from '../setup.ts';
import { DEVICES } from '../stage.ts';

export type Words = readonly [number, number, number, number];

/** Invalidations that a unit executed, waits left out. */
export class Tape implements VtdListener, AmdviListener {
  readonly #words: Words[] = [];

  descriptor(...words: Words): void {
    if ((words[0] & 0xf) !== vtd.DESC_WAIT) this.#words.push(words);
  }

  command(...words: Words): void {
    if (words[1] >>> amdvi.CMD_OP_SHIFT_W1 !== amdvi.CMD_COMPLETION_WAIT) this.#words.push(words);
  }

  doorbell(): void {}

  take(): Words[] {
    return this.#words.splice(0);
  }
}

export interface Rig {
  readonly machine: Machine;
  readonly domain: IommuDomain;
  /** Empty: starts behind the attach. */
  readonly tape: Tape;
}

/** A machine with one device in a paging domain. */
export function intelRig(makeDriver: DriverFactory, hardware: VtdConfig = {}, makeCore: MakeCore = linuxCore): Rig {
  const tape = new Tape();
  const machine = new IntelMachine({
    hardware,
    listener: tape,
    makeDriver: (platform, setup) => makeDriver(platform, { ...setup, arch: 'intel' }),
    makeCore,
  });
  return attached(machine, tape);
}

export function amdRig(makeDriver: DriverFactory, hardware: AmdviConfig = {}): Rig {
  const tape = new Tape();
  const machine = new AmdMachine({
    hardware,
    listener: tape,
    lastBdf: 0x1ff,
    makeDriver: (platform, setup) => makeDriver(platform, { ...setup, arch: 'amd' }),
  });
  return attached(machine, tape);
}

export type MakeCore = (options: Partial<CoreOptions>) => Iommu;
const linuxCore: MakeCore = (options) => new Iommu(options);

function attached(machine: Machine, tape: Tape): Rig {
  const { driver } = machine;
  const [device] = DEVICES;
  const domain = driver.domainAlloc('paging');
  if (domain === null) throw new RangeError('no domain');
  must(driver.probeDevice(device));
  must(driver.attachDev(domain, device));
  tape.take();
  return { machine, domain, tape };
}

/** @throws RangeError when a call failed that cannot fail */
export function must(errno: number): void {
  if (errno < 0) throw new RangeError(`a call that cannot fail returned ${errno}`);
}

/** '' when there are at most `most` commands, else what there is instead. */
export function atMost(most: number, commands: readonly Words[], what: string): string {
  if (commands.length <= most) return '';
  return `${what} took ${commands.length} commands, not ${most}; the first ones: ${commands
    .slice(0, 3)
    .map((words) => words.map((word) => hex(word >>> 0)).join(' '))
    .join('; ')}`;
}
