/** The machine of a stage, with the judge between its driver and its hardware. */
import type { IntelIommuOptions } from '../drivers/index.ts';
import { IntelIommu } from '../drivers/index.ts';
import type { IommuOps } from '../iommu/index.ts';
import type { AmdDriver, Machine } from '../machine/index.ts';
import { AmdMachine, IntelMachine } from '../machine/index.ts';
import type { Platform } from '../mem/index.ts';
import { vtd } from '../spec/index.ts';
import type { CommandCounter } from './command-counter.ts';
import type { Judge } from './judge.ts';
import type { StageSetup } from './setup.ts';

/** Last device id of a stage: two buses. */
const LAST_BDF = 0x1ff;

export interface Started {
  readonly machine: Machine;
  /** Turns translation off and brings a second driver up on the same machine. */
  readonly bringUpAgain: () => IommuOps;
}

/** @throws RangeError for a preset that the architecture does not have, or hardware that cannot be */
export function makeMachine(setup: StageSetup, judge: Judge, listener: CommandCounter): Started {
  const started = setup.arch === 'intel' ? makeIntel(setup, judge, listener) : makeAmd(setup, judge, listener);
  judge.watch(started.machine.driver);
  return started;
}

function makeIntel(setup: StageSetup, judge: Judge, listener: CommandCounter): Started {
  const { preset, mapFlush, npCache, coherent, vtd: properties, nrPages, makeDriver, makeCore } = setup;
  let given: IntelIommuOptions | null = null;
  const bringUp = (platform: Platform, options: IntelIommuOptions): IommuOps => {
    given = options;
    return makeDriver === undefined
      ? new IntelIommu(platform, options)
      : makeDriver(platform, { ...options, arch: 'intel' });
  };
  const machine = new IntelMachine<IommuOps>({
    hardware: { cachingMode: npCache, ...properties },
    listener,
    wrapPlatform: (inner, units) =>
      judge.platform(
        inner,
        units.map((unit) => ({ ...unit, arch: 'intel' })),
      ),
    makeDriver: bringUp,
    ...(preset === undefined ? {} : { preset }),
    ...(mapFlush === undefined ? {} : { mapFlush }),
    ...(coherent === undefined ? {} : { coherent }),
    ...(nrPages === undefined ? {} : { nrPages }),
    ...(makeCore === undefined ? {} : { makeCore }),
  });
  const bringUpAgain = (): IommuOps => {
    const { platform } = machine;
    if (given === null) throw new RangeError('the first driver never came up');
    for (const { base } of given.units) platform.writel(base + vtd.GCMD_REG, 0);
    const ops = bringUp(platform, given);
    judge.watch(ops);
    return ops;
  };
  return { machine, bringUpAgain };
}

function makeAmd(setup: StageSetup, judge: Judge, listener: CommandCounter): Started {
  const { preset, mapFlush, npCache, amdvi, nrPages, makeDriver, makeCore } = setup;
  if (setup.coherent === false) throw new RangeError('AMD-Vi units snoop: only Intel machines can be non-coherent');
  const machine = new AmdMachine<AmdDriver>({
    hardware: { npCache, ...amdvi },
    listener,
    lastBdf: LAST_BDF,
    wrapPlatform: (inner, units) =>
      judge.platform(
        inner,
        units.map((unit) => ({ ...unit, arch: 'amd' })),
      ),
    ...(preset === undefined ? {} : { preset }),
    ...(mapFlush === undefined ? {} : { mapFlush }),
    ...(nrPages === undefined ? {} : { nrPages }),
    ...(makeCore === undefined ? {} : { makeCore }),
    ...(makeDriver === undefined
      ? {}
      : { makeDriver: (platform, given) => makeDriver(platform, { ...given, arch: 'amd' }) }),
  });
  const bringUpAgain = (): never => {
    throw new RangeError('a second driver is brought up on Intel machines only');
  };
  return { machine, bringUpAgain };
}
