/**
 * Schedules as files, `iommukit.schedule/1`: which scenario on which machine, and what its hardware decided when. A file says
 * nothing of what happens; that comes out when it is played. Whatever is wrong with one is a ScheduleError that names the
 * place.
 */
import { hex } from '../../base/index.ts';
import type { ContractId } from '../judge.ts';
import type { Scenario } from '../scenario.ts';
import type { StageSetup } from '../setup.ts';
import { ARCHES, CALLERS } from '../setup.ts';
import { CACHES } from './decision.ts';
import type { Decision } from './decision.ts';
import type { Target } from './target.ts';
import { exploredSetup, play } from './play.ts';
import { Blame, History } from './marks.ts';
import type { Marks } from './marks.ts';
import { Player } from './player.ts';
import type { PlayedStep, Watcher } from './player.ts';
import type { Step } from './search.ts';
import { CACHE_ENTRIES } from './view.ts';

export const SCHEDULE_SCHEMA = 'iommukit.schedule/1';

/** What of a setup is data. Another driver is named by whoever saves, and found by whoever plays. */
export type ScheduledSetup = Omit<StageSetup, 'makeDriver' | 'makeCore'>;

export interface Schedule {
  readonly schema: typeof SCHEDULE_SCHEMA;
  readonly scenario: string;
  readonly setup: ScheduledSetup;
  /** Another driver than the preset's; null for that one. */
  readonly driver: string | null;
  /** The promise that it breaks. */
  readonly contract: ContractId;
  readonly target: Target;
  readonly choices: readonly number[];
  readonly tape: readonly Step[];
  /** The story, for people; not read. */
  readonly steps: readonly string[];
}

/** What happened when a schedule was played. */
export interface PlayedSchedule {
  /** The promise was broken as the file says. */
  readonly isShown: boolean;
  readonly findings: readonly { readonly contract: ContractId; readonly call: string }[];
  readonly steps: readonly PlayedStep[];
  /** How the promise is broken, step by step; null when it is not. */
  readonly broken: Marks | null;
  /** What the scenario itself complained of; empty for nothing. */
  readonly failure: string;
}

export class ScheduleError extends Error {
  override readonly name = 'ScheduleError';
}

const MOST_STEPS = 10_000;
const MOST_TEXT = 4 << 20;
const MOST_EVENTS = 2 ** 31 - 1;
const MOST_ADDRESS = 2 ** 52;

/** The file's text. */
export function saveSchedule(schedule: Schedule): string {
  const { target, tape } = schedule;
  const sids = target.sids.map(hex);
  const file = {
    ...schedule,
    target: { sids, pages: target.pages.map(hex), beside: target.beside.map(hex) },
    tape: tape.map(({ after, decision }) => ({ after, ...textual(decision) })),
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

function textual(decision: Decision): object {
  if (decision.do === 'walk') return { ...decision, sid: hex(decision.sid), iova: hex(decision.iova) };
  if (decision.do === 'write-back') return { ...decision, paddr: hex(decision.paddr) };
  return decision;
}

/** Reads a file. @throws ScheduleError for anything that is no schedule */
export function loadSchedule(text: string): Schedule {
  if (text.length > MOST_TEXT) throw new ScheduleError(`the file is longer than ${MOST_TEXT} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ScheduleError('the file is not JSON');
  }
  const file = new Fields(json, 'the file');
  const schema = file.text('schema');
  if (schema !== SCHEDULE_SCHEMA) throw new ScheduleError(`schema is '${cut(schema)}', expected '${SCHEDULE_SCHEMA}'`);
  const target = file.object('target');
  const driver = file.value('driver');
  if (driver !== null && typeof driver !== 'string') throw new ScheduleError('driver must be a string or null');
  return {
    schema: SCHEDULE_SCHEMA,
    scenario: file.text('scenario'),
    setup: loadSetup(file.object('setup')),
    driver,
    contract: file.oneOf('contract', CONTRACTS),
    target: {
      sids: target.list('sids').map((sid) => target.address(sid, 'sids', 0xffff)),
      pages: target.list('pages').map((iova) => target.page(iova, 'pages')),
      beside: target.list('beside').map((iova) => target.page(iova, 'beside')),
    },
    choices: file.list('choices').map((choice) => file.integer(choice, 'choices', 1000)),
    tape: loadTape(file.list('tape')),
    steps: file.list('steps').map(String),
  };
}

const CONTRACTS: readonly ContractId[] = [
  'C-MAP-VISIBLE',
  'C-UNMAP-GONE',
  'C-TABLE-LIVE',
  'C-LAZY-BOUND',
  'C-ROLLBACK',
  'C-ATTACH',
];

/** @throws ScheduleError for anything that is no setup */
export function readSetup(json: unknown, name: string): ScheduledSetup {
  return loadSetup(new Fields(json, name));
}

function loadSetup(setup: Fields): ScheduledSetup {
  const npCache = setup.value('npCache');
  if (typeof npCache !== 'boolean') throw new ScheduleError('setup.npCache must be true or false');
  const preset = setup.value('preset');
  if (preset !== undefined && typeof preset !== 'string') throw new ScheduleError('setup.preset must be a string');
  const coherent = setup.value('coherent');
  if (coherent !== undefined && typeof coherent !== 'boolean')
    throw new ScheduleError('setup.coherent must be true or false');
  const nrPages = setup.value('nrPages');
  return {
    arch: setup.oneOf('arch', ARCHES),
    caller: setup.oneOf('caller', CALLERS),
    npCache,
    ...(preset === undefined ? {} : { preset }),
    ...(setup.value('mapFlush') === undefined
      ? {}
      : { mapFlush: setup.oneOf('mapFlush', ['none', 'caller', 'map', 'sync-map']) }),
    ...(setup.value('unmapFlush') === undefined ? {} : { unmapFlush: setup.oneOf('unmapFlush', ['strict', 'lazy']) }),
    ...(coherent === undefined ? {} : { coherent }),
    ...(nrPages === undefined ? {} : { nrPages: setup.integer(nrPages, 'nrPages', 2 ** 20) }),
    ...(setup.value('vtd') === undefined ? {} : { vtd: setup.plain('vtd') }),
    ...(setup.value('amdvi') === undefined ? {} : { amdvi: setup.plain('amdvi') }),
  };
}

function loadTape(list: readonly unknown[]): Step[] {
  if (list.length > MOST_STEPS)
    throw new ScheduleError(`tape has ${list.length} steps, at most ${MOST_STEPS} are played`);
  let last = 0;
  return list.map((item, i) => {
    const step = new Fields(item, `tape[${i}]`);
    const after = step.integer(step.value('after'), 'after', MOST_EVENTS);
    if (after < last) throw new ScheduleError(`tape[${i}].after is ${after}, before the step above it`);
    last = after;
    return { after, decision: loadDecision(step) };
  });
}

function loadDecision(step: Fields): Decision {
  const what = step.oneOf('do', ['walk', 'evict', 'execute', 'write-back']);
  if (what === 'walk') {
    const sid = step.address(step.value('sid'), 'sid', 0xffff);
    return { do: what, sid, iova: step.page(step.value('iova'), 'iova'), kept: step.value('kept') === true };
  }
  if (what === 'evict') {
    const nth = step.integer(step.value('nth'), 'nth', CACHE_ENTRIES - 1);
    return { do: what, cache: step.oneOf('cache', CACHES), nth };
  }
  if (what === 'execute') return { do: what, slot: step.integer(step.value('slot'), 'slot', 2) };
  return { do: what, paddr: step.address(step.value('paddr'), 'paddr', MOST_ADDRESS) };
}

/** Members of a JSON object, each read as what it must be. */
class Fields {
  readonly #json: Readonly<Record<string, unknown>>;
  readonly #name: string;

  constructor(json: unknown, name: string) {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      throw new ScheduleError(`${name} must be an object`);
    }
    this.#json = Object.fromEntries(Object.entries(json));
    this.#name = name;
  }

  value(key: string): unknown {
    return this.#json[key];
  }

  text(key: string): string {
    const value = this.#json[key];
    if (typeof value !== 'string') throw new ScheduleError(`${this.#name}: ${key} must be a string`);
    return value;
  }

  oneOf<T extends string>(key: string, values: readonly T[]): T {
    const value = this.text(key);
    const found = values.find((candidate) => candidate === value);
    if (found === undefined) {
      throw new ScheduleError(`${this.#name}: ${key} is '${cut(value)}', expected one of ${values.join(', ')}`);
    }
    return found;
  }

  object(key: string): Fields {
    return new Fields(this.#json[key], `${this.#name}: ${key}`);
  }

  /** An object whose members somebody else checks. */
  plain(key: string): object {
    const value = this.#json[key];
    if (typeof value !== 'object' || value === null) throw new ScheduleError(`${this.#name}: ${key} must be an object`);
    return value;
  }

  list(key: string): readonly unknown[] {
    const value = this.#json[key];
    if (!Array.isArray(value)) throw new ScheduleError(`${this.#name}: ${key} must be a list`);
    if (value.length > MOST_STEPS) throw new ScheduleError(`${this.#name}: ${key} has more than ${MOST_STEPS} items`);
    return value;
  }

  integer(value: unknown, key: string, last: number): number {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > last) {
      throw new ScheduleError(`${this.#name}: ${key} must be an integer in 0..${last}`);
    }
    return value;
  }

  /** A number as `0x` digits. */
  address(value: unknown, key: string, last: number): number {
    const number = typeof value === 'string' && /^0x[0-9a-f]{1,14}$/.test(value) ? Number(value) : -1;
    if (number < 0 || number > last) {
      throw new ScheduleError(`${this.#name}: ${key} must be a hex string in 0x0..${hex(last)}`);
    }
    return number;
  }

  page(value: unknown, key: string): number {
    const iova = this.address(value, key, MOST_ADDRESS);
    if (iova % 4096 !== 0) throw new ScheduleError(`${this.#name}: ${key} must be a page's address`);
    return iova;
  }
}

/** Text of a stranger, short enough for a message. */
function cut(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}...` : text;
}

/** Where a schedule's names lead. */
export interface ScheduleWorld {
  readonly scenarios: readonly Scenario[];
  /** The driver that a schedule names. */
  readonly driverOf?: (name: string) => StageSetup['makeDriver'];
}

/**
 * Plays a schedule from its start on a machine of its own, and once more to tell where it went wrong.
 * @throws ScheduleError for an unknown scenario or driver, or hardware that cannot be
 */
export function playSchedule(schedule: Schedule, world: ScheduleWorld): PlayedSchedule {
  const { contract, target } = schedule;
  const blame = new Blame(contract);
  const { player, failure } = watchSchedule(schedule, world, blame);
  const { findings, log } = player;
  const isShown = findings.some((finding) => finding.contract === contract);
  let broken: Marks | null = null;
  if (isShown) {
    const history = new History(target, blame);
    watchSchedule(schedule, world, history);
    broken = history.marks(log);
  }
  return { isShown, findings, steps: log, broken, failure };
}

/** Plays a schedule before a watcher. @throws ScheduleError as `playSchedule` */
export function watchSchedule(
  schedule: Schedule,
  world: ScheduleWorld,
  watcher: Watcher,
): { readonly player: Player; readonly failure: string } {
  const scenario = world.scenarios.find(({ name }) => name === schedule.scenario);
  if (scenario === undefined) throw new ScheduleError(`there is no scenario '${cut(schedule.scenario)}'`);
  const { driver } = schedule;
  const makeDriver = driver === null ? undefined : world.driverOf?.(driver);
  if (driver !== null && makeDriver === undefined) throw new ScheduleError(`there is no driver '${cut(driver)}'`);
  const setup = { ...schedule.setup, ...(makeDriver === undefined ? {} : { makeDriver }) };
  const player = new Player(schedule.target, schedule.tape, schedule.choices, watcher);
  const failure = play(scenario, exploredSetup(scenario, setup), player);
  if (failure !== '' && player.log.length === 0) {
    throw new ScheduleError(`the machine of the schedule cannot be: ${failure}`);
  }
  return { player, failure };
}
