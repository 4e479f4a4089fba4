/**
 * One lab machine under way: a stage of src/check with the sanitizer as its judge, callers' actions on it, and what came of each.
 */
import { EINVAL, errnoName, hex, hexRange } from '../base/index.ts';
import type { Judge, PagePromise, Space } from '../check/index.ts';
import { DEVICES, SanitizerJudge, Stage, deviceName, setupFor } from '../check/index.ts';
import type { Scenario } from '../check/index.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../hw/index.ts';
import type { Explorable } from '../hw/index.ts';
import { vtd } from '../spec/index.ts';
import type { Possible } from '../sanitizer/index.ts';
import type { LabAction } from './action.ts';
import { CommandLog } from './command-log.ts';
import type { LabConfig } from './config.ts';
import { stageSetup } from './config.ts';
import { FaultKeeper } from './fault-keeper.ts';
import { editEntry, invalidateByHand } from './hands.ts';
import { machineView, unitOf } from './machine-view.ts';
import type { LabSnapshot, MappingView, MayHold, PromiseView, Result, StepReport } from './snapshot.ts';
import type { Answer, CacheView, Focus } from './view.ts';
import { answerText } from './walk.ts';

const PAGE = 4096;
/** Memory of the n-th map begins n times this far from `MEMORY`: room for 512 pages apart from each other. */
const MEMORY = 0x1_0000_0000;
const MEMORY_STEP = 0x40_0000;
const BLOCKED: Answer = { paddr: -1, read: false, write: false };
const FIRST_INTERRUPT_PAGE: number = vtd.INTERRUPT_RANGE_FIRST / PAGE;
const LAST_INTERRUPT_PAGE: number = Math.floor(vtd.INTERRUPT_RANGE_LAST / PAGE);
/** Most runs of pages that a snapshot lists. */
const MOST_RUNS = 64;

interface Outcome {
  readonly result: Result;
  readonly text: string;
}

interface Buffer {
  readonly space: Space;
  readonly page: number;
  readonly nr: number;
}

const INTERRUPTS = 'addresses from 0xfee00000 to 0xfeefffff are interrupts and never translated';
/** How the outcome of a call begins that threw. */
export const STOPPED = 'the kernel stopped';
const isInterrupt = (page: number, nr: number): boolean =>
  page <= LAST_INTERRUPT_PAGE && page + nr > FIRST_INTERRUPT_PAGE;
const refused = (text: string): Outcome => ({ result: 'refused', text });

export class Lab {
  readonly stage: Stage;
  readonly judge: SanitizerJudge;
  readonly #unit: Explorable;
  readonly #log: CommandLog;
  readonly #faults: FaultKeeper;
  readonly #buffers: Buffer[] = [];
  /** What free actions map in; none while a scenario brings its own. */
  #space: Space | null = null;
  #nrMaps = 0;
  #nrFindings = 0;
  #step = 0;

  /** Powers the machine up. @param scenario gives the machine properties that it needs */
  constructor(config: LabConfig, scenario: Scenario | null = null, judge: SanitizerJudge = new SanitizerJudge()) {
    const setup = stageSetup(config);
    this.judge = judge;
    this.stage = new Stage(scenario === null ? setup : setupFor(scenario, setup), judge satisfies Judge);
    const unit = unitOf(this.stage.machine);
    this.#unit = unit;
    this.#log = new CommandLog(this.stage.commands);
    unit.listener = this.#log;
    this.#faults = new FaultKeeper(unit);
    if (scenario === null) {
      this.#space = this.stage.space();
      this.stage.must(this.#space.attach(DEVICES[0]), 'attach');
    }
  }

  /** The report of step 0. */
  start(): StepReport {
    const text = this.#space === null ? 'no device is attached yet' : `${DEVICES[0].name} is attached`;
    return this.#report('the machine starts', { result: 'done', text });
  }

  /** Begins the next step: everything until `end` belongs to it. */
  begin(): void {
    this.#faults.take(this.#step);
    this.#step += 1;
    this.#log.begin();
  }

  end(label: string, outcome: Outcome): StepReport {
    return this.#report(label, outcome);
  }

  #report(label: string, { result, text }: Outcome): StepReport {
    const { findings } = this.judge;
    const nrFindings = findings.length - this.#nrFindings;
    this.#nrFindings = findings.length;
    return { step: this.#step, label, result, text, nrCommands: this.#log.nrInStep, nrFindings };
  }

  /** One step. */
  act(action: LabAction): StepReport {
    this.begin();
    let outcome: Outcome;
    try {
      outcome = this.#do(action);
    } catch (error) {
      // What is done behind a kernel's back makes it stop anywhere; its words are then the outcome.
      if (!(error instanceof Error)) throw error;
      outcome = refused(`${STOPPED}: ${error.message}`);
    }
    return this.#report(labelOf(action), outcome);
  }

  #do(action: LabAction): Outcome {
    switch (action.do) {
      case 'map':
        return this.#map(action.page, action.nr, action.scattered);
      case 'unmap':
        return this.#unmap(action.page);
      case 'attach':
        return this.#attach(action.device);
      case 'detach':
        return this.#detach(action.device);
      case 'read':
        return this.#dma(action.device, action.page, ACCESS_READ);
      case 'write':
        return this.#dma(action.device, action.page, ACCESS_WRITE);
      case 'prefetch': {
        const outcome = this.#unit.speculate(DEVICES[action.device].sid, action.page * PAGE, ACCESS_READ);
        return {
          result: 'done',
          text: `the walk ends ${outcome < 0 ? 'nowhere' : `at ${hex(outcome)}`}; caches keep what it met`,
        };
      }
      case 'evict': {
        const nr = this.#unit.nrCached(action.cache);
        if (!this.#unit.evict(action.cache, action.nth)) return refused(`that cache holds ${nr} entries`);
        return { result: 'done', text: 'the entry left its cache' };
      }
      case 'pass':
        this.stage.pass(action.ms * 1_000_000);
        return { result: 'done', text: 'timers that were due have run' };
      case 'invalidate': {
        const { sid } = DEVICES[action.device];
        const domain = this.stage.promises.devices.get(sid)?.domain ?? null;
        const errno = this.stage.call('invalidate by hand', () =>
          invalidateByHand(domain, action.scope, action.page, sid),
        );
        if (errno === EINVAL) return refused('the device is in no domain, so there is nothing to name');
        return errno === 0 ? { result: 'done', text: 'it completed' } : refused(errnoName(errno));
      }
      case 'edit': {
        const { walk } = machineView(this.stage.machine, { sid: DEVICES[0].sid, iova: action.page * PAGE });
        const text = editEntry(this.stage.machine, walk.entries.at(-1), action.change);
        return text === null
          ? refused('no page is mapped there')
          : { result: 'done', text: `${text}; nothing was invalidated` };
      }
      case 'call':
        return refused('the scenario is over');
      default:
        return action satisfies never;
    }
  }

  #map(page: number, nr: number, isScattered: boolean): Outcome {
    const space = this.#space;
    if (space === null) return refused('mappings belong to the scenario; choose the next call');
    if (isInterrupt(page, nr)) return refused(INTERRUPTS);
    const last = space.domain?.apertureLast ?? Infinity;
    if ((page + nr) * PAGE - 1 > last) return refused(`the address space ends at ${hex(last)}`);
    const pages = this.stage.promises.of(space);
    for (let i = 0; i < nr; i++) {
      if (pages.get(page + i)?.state === 'queued') {
        return refused(
          `${hex((page + i) * PAGE)} still waits for its flush, and is not handed out before: let time pass`,
        );
      }
    }
    const memory = MEMORY + this.#nrMaps * MEMORY_STEP;
    const chunks = isScattered
      ? Array.from({ length: nr }, (_, i): [number, number] => [memory + 2 * i * PAGE, PAGE])
      : [[memory, nr * PAGE] as const];
    const errno = space.map(page * PAGE, chunks);
    if (errno < 0) return refused(`the call returned ${errnoName(errno)}`);
    this.#nrMaps += 1;
    this.#buffers.push({ space, page, nr });
    return {
      result: 'done',
      text: `the call returned; ${hexRange(page * PAGE, nr * PAGE)} leads to ${hex(memory)}${isScattered ? ' and every second page from there' : ''}`,
    };
  }

  #unmap(page: number): Outcome {
    const index = this.#buffers.findIndex((buffer) => page >= buffer.page && page < buffer.page + buffer.nr);
    if (index < 0) return refused('no mapping of this program has that page');
    const [{ space, page: first, nr }] = this.#buffers.splice(index, 1);
    const errno = space.unmap(first * PAGE, nr * PAGE);
    if (errno < 0) return refused(`the call returned ${errnoName(errno)}`);
    const isQueued = this.stage.promises.of(space).get(first)?.state === 'queued';
    return { result: 'done', text: isQueued ? 'the call returned; the flush waits in a queue' : 'the call returned' };
  }

  #attach(index: number): Outcome {
    const device = DEVICES[index];
    const space = this.#space;
    if (space === null) return refused('devices belong to the scenario; choose the next call');
    if (this.stage.promises.devices.get(device.sid) !== null) return refused('it is attached');
    const errno = space.attach(device);
    return errno < 0 ? refused(errnoName(errno)) : { result: 'done', text: 'the call returned' };
  }

  #detach(index: number): Outcome {
    const device = DEVICES[index];
    const space = this.#space;
    if (space === null) return refused('devices belong to the scenario; choose the next call');
    if (this.stage.promises.devices.get(device.sid) === null) return refused('it is not attached');
    space.detach(device);
    // VFIO: with the last device the mappings go.
    const pages = this.stage.promises.of(space);
    const left = this.#buffers.filter(({ page }) => pages.get(page)?.state === 'mapped');
    this.#buffers.splice(0, this.#buffers.length, ...left);
    return { result: 'done', text: 'the call returned' };
  }

  #dma(index: number, page: number, access: number): Outcome {
    const { sid } = DEVICES[index];
    const { machine } = this.stage;
    const { mem } = machine;
    const { state, answer } = this.#promised({ sid, iova: page * PAGE });
    if (isInterrupt(page, 1)) return refused(INTERRUPTS);
    const mayPass = state === 'mapped' && (access === ACCESS_READ ? answer.read : answer.write);
    const paddr = machine.unit.translate(sid, page * PAGE, access);
    if (paddr < 0) {
      return mayPass
        ? { result: 'fault', text: `a fault, although the page was promised at ${hex(answer.paddr)}` }
        : { result: 'blocked', text: 'a fault: nothing was promised there' };
    }
    // Memory that nobody has written shows whose page it is.
    if (mem.slotOf(Math.floor(paddr / PAGE)) < 0) mem.store32(paddr, 0xda7a0000 + (Math.floor(paddr / PAGE) % 0x10000));
    if (access === ACCESS_WRITE) mem.deviceStore32(paddr, this.#step);
    const did =
      access === ACCESS_WRITE
        ? `wrote ${hex(this.#step)} to ${hex(paddr)}`
        : `read ${hex(mem.deviceLoad32(paddr) >>> 0)} from ${hex(paddr)}`;
    if (state === 'queued' && paddr === answer.paddr)
      return { result: 'open', text: `${did}: unmapped, and the flush still waits in the queue` };
    if (mayPass && paddr === answer.paddr) return { result: 'reached', text: `${did}, as promised` };
    return {
      result: 'leak',
      text: `${did}, where ${answer.paddr < 0 ? 'nothing was promised' : `${hex(answer.paddr)} was promised`}`,
    };
  }

  #promised({ sid, iova }: Focus): PromiseView {
    const { promises } = this.stage;
    const space = promises.devices.get(sid) ?? null;
    if (space === null) return { state: 'detached', answer: BLOCKED, text: 'the device has no address space: blocked' };
    const page = promises.of(space).get(Math.floor(iova / PAGE));
    if (page === undefined) return { state: 'never', answer: BLOCKED, text: 'never mapped: blocked' };
    const answer = { paddr: page.pfn * PAGE, read: (page.prot & 1) !== 0, write: (page.prot & 2) !== 0 };
    if (page.state === 'mapped') return { state: 'mapped', answer, text: `mapped: leads to ${answerText(answer)}` };
    if (page.state === 'gone') return { state: 'gone', answer: BLOCKED, text: 'unmapped: blocked' };
    return {
      state: 'queued',
      answer,
      text: `unmapped, its flush waits in a queue: may still lead to ${hex(answer.paddr)}`,
    };
  }

  /** The machine now. @param report of the last step */
  snapshot(report: StepReport, focus: Focus): LabSnapshot {
    const machine = machineView(this.stage.machine, focus);
    const promise = this.#promised(machine.focus);
    return {
      report,
      machine,
      promise,
      mayHold: this.#mayHold(machine.caches, machine.focus, promise),
      faults: this.#faults.all(this.#step),
      findings: [...this.judge.findings],
      commands: this.#log.inStep,
      nrCommands: this.#log.nrInvalidations,
      mappings: this.#mappings(focus.sid),
      nowNs: this.stage.machine.clock.nowNs(),
    };
  }

  #mayHold(caches: readonly CacheView[], focus: Focus, promise: PromiseView): MayHold[] {
    const { answer, state } = promise;
    const rights = (answer.read ? 1 : 0) | (answer.write ? 2 : 0);
    return this.judge.sanitizer.possible(focus.sid, focus.iova).map((possible): MayHold => {
      const isHeld = isHeldBy(caches, possible, focus.iova);
      const isRight =
        state === 'queued' ||
        (answer.paddr < 0 ? possible.paddr < 0 : possible.paddr === answer.paddr && possible.rights === rights);
      return { ...possible, isHeld, isWrong: !isRight };
    });
  }

  /** Runs of pages that are mapped, or wait for their flush. */
  #mappings(sid: number): MappingView[] {
    const space = this.stage.promises.devices.get(sid) ?? this.#space;
    if (space === null) return [];
    const runs: { page: number; nr: number; state: 'mapped' | 'queued' }[] = [];
    const pages = [...this.stage.promises.of(space)]
      .filter(([, { state }]) => state !== 'gone')
      .sort((a, b) => a[0] - b[0]);
    for (const [page, { state }] of pages) {
      const last = runs.at(-1);
      if (last !== undefined && last.page + last.nr === page && last.state === state) last.nr += 1;
      else if (runs.length === MOST_RUNS) break;
      else runs.push({ page, nr: 1, state: runState(state) });
    }
    return runs;
  }
}

/** Whether the unit holds a value that it may hold. Null for what is in no cache of the unit. */
function isHeldBy(caches: readonly CacheView[], possible: Possible, iova: number): boolean | null {
  const held = caches.find(({ cache }) => cache === possible.from)?.entries.filter(({ isUsed }) => isUsed);
  if (held === undefined) return null;
  if (possible.from === 'context') return held.some(({ state }) => state === 'stale');
  if (possible.from === 'structure') {
    return held.some(({ level, target }) => level === possible.level && target === possible.table);
  }
  return held.some((entry) =>
    entry.isNothing ? possible.paddr < 0 : possible.paddr === entry.target + (iova - entry.iova),
  );
}

function runState(state: PagePromise['state']): MappingView['state'] {
  return state === 'queued' ? 'queued' : 'mapped';
}

/** An action in words. */
export function labelOf(action: LabAction): string {
  const at = (page: number): string => hex(page * PAGE);
  const who = (device: number): string => deviceName(DEVICES[device].sid);
  switch (action.do) {
    case 'map':
      return `map ${action.nr} ${action.scattered ? 'scattered ' : ''}${action.nr === 1 ? 'page' : 'pages'} at ${at(action.page)}`;
    case 'unmap':
      return `unmap what is mapped at ${at(action.page)}`;
    case 'attach':
      return `attach ${who(action.device)}`;
    case 'detach':
      return `detach ${who(action.device)}`;
    case 'read':
      return `${who(action.device)} reads ${at(action.page)}`;
    case 'write':
      return `${who(action.device)} writes ${at(action.page)}`;
    case 'prefetch':
      return `the unit walks ${at(action.page)} for ${who(action.device)} ahead of time`;
    case 'evict':
      return `entry ${action.nth} leaves the ${action.cache === 'iotlb' ? 'IOTLB' : `${action.cache} cache`}`;
    case 'pass':
      return `${action.ms} ms pass`;
    case 'invalidate':
      return {
        page: `invalidate page ${at(action.page)} by hand`,
        domain: `invalidate the domain of ${who(action.device)} by hand`,
        global: 'invalidate all translations by hand',
        device: `invalidate the cached entry of ${who(action.device)} by hand`,
      }[action.scope];
    case 'edit':
      return `${action.change === 'clear' ? 'clear the entry' : 'take the right to write from the entry'} of ${at(action.page)} behind the driver's back`;
    case 'call':
      return 'next call of the scenario';
    default:
      return action satisfies never;
  }
}
