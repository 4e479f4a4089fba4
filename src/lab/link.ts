/**
 * A state of the walk view as the parameters of a link: `m` the machine, `s` the scenario, `a` the actions, `step`, `iova` and
 * `dev`, the chosen walk. What is absent has a default, so that a link can be short.
 */
import { hex } from '../base/index.ts';
import { DEVICES } from '../check/index.ts';
import { LAST_PAGE, formatActions, parseActions } from './action.ts';
import { DEFAULT_CONFIG, cut, formatConfig, parseConfig } from './config.ts';
import { scenarioOf } from './play.ts';
import type { LabProgram } from './snapshot.ts';
import { LabTextError } from './text-error.ts';

export interface LabState {
  readonly program: LabProgram;
  /** 0 to the number of actions. */
  readonly step: number;
  /** First byte of the chosen page. */
  readonly iova: number;
  /** Index into DEVICES. */
  readonly device: number;
}

/** Where pages lie unless somebody asks for another place; a multiple of 1 GiB, so that the tables are its own. */
export const DEFAULT_IOVA = 0x4000_0000;
const PAGE = 4096;

export const DEFAULT_STATE: LabState = {
  program: { config: DEFAULT_CONFIG, scenario: '', actions: [] },
  step: 0,
  iova: DEFAULT_IOVA,
  device: 0,
};

/** Pairs of parameter and value; those that are as by default are left out. */
export function formatState({ program, step, iova, device }: LabState): [key: string, value: string][] {
  const { config, scenario, actions } = program;
  const pairs: [string, string][] = [['m', formatConfig(config)]];
  if (scenario !== '') pairs.push(['s', scenario]);
  if (actions.length > 0) pairs.push(['a', formatActions(actions)]);
  if (step !== actions.length) pairs.push(['step', String(step)]);
  if (iova !== DEFAULT_IOVA) pairs.push(['iova', hex(iova)]);
  if (device !== 0) pairs.push(['dev', String(device)]);
  return pairs;
}

/**
 * Reads what a link says. Nothing is played. @param get the value of a parameter, null when the link does not have it
 * @throws LabTextError with what is wrong, for people
 */
export function parseState(get: (key: string) => string | null): LabState {
  const machine = get('m');
  const config = machine === null ? DEFAULT_CONFIG : parseConfig(machine);
  const scenario = get('s') ?? '';
  scenarioOf(scenario, config);
  const actions = parseActions(get('a') ?? '');
  const step = count(get('step'), actions.length, 'step', actions.length);
  const device = count(get('dev'), 0, 'device', DEVICES.length - 1);
  const text = get('iova');
  return { program: { config, scenario, actions }, step, device, iova: text === null ? DEFAULT_IOVA : parseIova(text) };
}

/** The page of an address in hexadecimal, with or without 0x. @throws LabTextError */
export function parseIova(text: string): number {
  const [, digits] = /^(?:0x)?([0-9a-f]{1,13})$/i.exec(text.trim()) ?? [];
  const value = digits === undefined ? NaN : Number.parseInt(digits, 16);
  if (!(value < (LAST_PAGE + 1) * PAGE)) {
    throw new LabTextError(`'${cut(text)}' is no address; it needs hexadecimal digits, as in 0x40000000, below 2^48.`);
  }
  return value - (value % PAGE);
}

function count(text: string | null, absent: number, what: string, last: number): number {
  if (text === null) return absent;
  const value = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (!(value <= last)) throw new LabTextError(`'${cut(text)}' is no ${what} of this link; it has 0 to ${last}.`);
  return value;
}
