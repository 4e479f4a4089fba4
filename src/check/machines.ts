/** The machine of a stage, with the judge between its driver and its hardware. */
import type { Machine } from '../machine/index.ts';
import { AmdMachine, IntelMachine } from '../machine/index.ts';
import type { CommandCounter } from './command-counter.ts';
import type { Judge } from './judge.ts';
import type { StageSetup } from './setup.ts';

/** Last device id of a stage: two buses. */
const LAST_BDF = 0x1ff;

/** @throws RangeError for a preset that the architecture does not have, or hardware that cannot be */
export function makeMachine(setup: StageSetup, judge: Judge, listener: CommandCounter): Machine {
  const machine = setup.arch === 'intel' ? makeIntel(setup, judge, listener) : makeAmd(setup, judge, listener);
  judge.watch(machine.driver);
  return machine;
}

function makeIntel(setup: StageSetup, judge: Judge, listener: CommandCounter): Machine {
  const { preset, mapFlush, npCache, coherent, vtd, nrPages, makeDriver, makeCore } = setup;
  return new IntelMachine({
    hardware: { cachingMode: npCache, ...vtd },
    listener,
    wrapPlatform: (inner, units) =>
      judge.platform(
        inner,
        units.map((unit) => ({ ...unit, arch: 'intel' })),
      ),
    ...(preset === undefined ? {} : { preset }),
    ...(mapFlush === undefined ? {} : { mapFlush }),
    ...(coherent === undefined ? {} : { coherent }),
    ...(nrPages === undefined ? {} : { nrPages }),
    ...(makeCore === undefined ? {} : { makeCore }),
    ...(makeDriver === undefined
      ? {}
      : { makeDriver: (platform, given) => makeDriver(platform, { ...given, arch: 'intel' }) }),
  });
}

function makeAmd(setup: StageSetup, judge: Judge, listener: CommandCounter): Machine {
  const { preset, mapFlush, npCache, amdvi, nrPages, makeDriver, makeCore } = setup;
  if (setup.coherent === false) throw new RangeError('AMD-Vi units snoop: only Intel machines can be non-coherent');
  return new AmdMachine({
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
}
