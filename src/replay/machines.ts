/** The machine that a plan is played on. */
import type { MapFlush } from '../drivers/index.ts';
import type { Machine } from '../machine/index.ts';
import { AmdMachine, IntelMachine } from '../machine/index.ts';
import { AMD_COMMANDS } from './amd-commands.ts';
import type { CommandSet } from './commands.ts';
import type { Plan } from './plan.ts';
import type { CommandRecorder } from './recorder.ts';
import { VTD_COMMANDS } from './vtd-commands.ts';

/** Architectures that a trace can be played on, whichever it was recorded on. */
export type HardwareModel = CommandSet['model'];

export const HARDWARE_MODELS: readonly HardwareModel[] = ['vtd', 'amdvi'];

/** Their makers' names for them. */
export const MODEL_NAMES: Readonly<Record<HardwareModel, string>> = { vtd: 'VT-d', amdvi: 'AMD-Vi' };

/** Table pages of a run, 1 GiB: enough for 512 GiB in 4 KiB pages, and a damaged trace cannot take the machine's memory. */
const MAX_TABLES: number = 1 << 18;

export function commandSet(model: HardwareModel): CommandSet {
  return model === 'amdvi' ? AMD_COMMANDS : VTD_COMMANDS;
}

export interface MachineChoice {
  readonly model: HardwareModel;
  readonly preset: string;
  readonly mapFlush: MapFlush;
  /** CAP.CM or NpCache. */
  readonly cachingMode: boolean;
}

/** Powers a machine up. @throws RangeError for a preset that the architecture does not have */
export function makeMachine(choice: MachineChoice, plan: Plan, listener: CommandRecorder): Machine {
  const { preset, mapFlush, cachingMode } = choice;
  if (choice.model === 'vtd') {
    return new IntelMachine({ preset, mapFlush, hardware: { cachingMode }, listener, nrPages: MAX_TABLES });
  }
  return new AmdMachine({
    preset,
    mapFlush,
    hardware: { npCache: cachingMode },
    listener,
    nrPages: MAX_TABLES,
    lastBdf: lastBdf(plan),
    // As firmware with an IVHD block of type 10h, QEMU's for one: the first flush of all caches then goes id by id.
    ivhdFeatures: 0,
    completesInit: false,
  });
}

/** The last device id of firmware's IVRS table, which no trace shows: that of the last device it names or needs. */
function lastBdf(plan: Plan): number {
  let last = 0;
  for (const { devices } of plan.domains) for (const { sid } of devices) last = Math.max(last, sid);
  return last;
}
