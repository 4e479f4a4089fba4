/**
 * Plays a schedule on a plain machine: the decisions at their steps, everything else as it comes. It shares nothing with the
 * search but the count of steps, so what it sees, that schedule does.
 */
import { hex, hexWords } from '../../base/index.ts';
import type { Machine } from '../../machine/index.ts';
import type { Platform } from '../../mem/index.ts';
import { AmdviUnit } from '../../hw/index.ts';
import type { Breach, ContractId, Judge } from '../judge.ts';
import type { Promises } from '../promises.ts';
import { amdCommand, vtdCommand, vtdRegisterCommand } from './commands.ts';
import { decide, describeDecision, deviceName } from './decision.ts';
import { CALL, CHOICE, FLUSH, FREE, Position, RETURN, STORE, WRITE } from './position.ts';
import type { Probe } from './promised.ts';
import { askFor, Promised } from './promised.ts';
import type { Step } from './search.ts';
import type { Target } from './target.ts';
import { FRAME_WORDS, STUCK_NS, Tap } from './tap.ts';
import { firstFrames, isRing, unitOf, workAll } from './units.ts';
import type { Unit } from './units.ts';

/** One line of the story. */
export interface PlayedStep {
  /** Events of the driver so far. */
  readonly step: number;
  /** Who: a caller, the driver, the hardware, nobody (time passes), or the judge at the end. */
  readonly by: 'call' | 'driver' | 'hardware' | 'time' | 'judge';
  readonly text: string;
}

/** Sees a schedule being played, moment by moment. It may ask the unit, and leaves it as it was. */
export interface Watcher {
  /** Something may have happened. @param nrTold lines of the story so far: it belongs to the last of them */
  seen(machine: Machine, nrTold: number): void;
  /** A promise is broken; the line that says so comes next. */
  broken(machine: Machine, nrTold: number, wrong: Wrong): void;
}

/** What is wrong: what a device gets, or (`probe` null) that a cache leads to a table which is being freed. */
export interface Wrong {
  readonly contract: ContractId;
  readonly probe: Probe | null;
  /** Frame of the freed table, else -1. */
  readonly pfn: number;
}

/** The schedule does not fit what the scenario does: it was made for another version, setup or driver. */
export class ScheduleMismatch extends Error {
  override readonly name = 'ScheduleMismatch';
}

const ENTRY_WORDS = 2;
/** Less time than this is not worth a line. */
const TOLD_NS = 1_000_000;

export class Player extends Tap implements Judge {
  readonly findings: Breach[] = [];
  readonly log: PlayedStep[] = [];
  readonly #target: Target;
  readonly #steps: readonly Step[];
  readonly #choices: readonly number[];
  readonly #position: Position = new Position();
  #machine!: Machine;
  #unit!: Unit;
  #promised!: Promised;
  #next = 0;
  #nextChoice = 0;
  #step = 0;
  #call = 'start';
  #isAsking = false;
  /** Time that the story has come to. */
  #toldNs = 0;
  readonly #watcher: Watcher | null;

  constructor(target: Target, steps: readonly Step[], choices: readonly number[], watcher: Watcher | null = null) {
    super();
    this.#watcher = watcher;
    this.#target = target;
    this.#steps = steps;
    this.#choices = choices;
  }

  /** Events so far. */
  get nrSteps(): number {
    return this.#step;
  }

  /** Decisions that were not reached. */
  get nrLeft(): number {
    return this.#steps.length - this.#next;
  }

  platform(inner: Platform): Platform {
    return this.attach(inner);
  }

  watch(): void {}

  started(machine: Machine, promises: Promises): void {
    this.#machine = machine;
    this.#unit = unitOf(machine);
    this.#promised = new Promised(promises);
    const { mem } = machine;
    if (!mem.coherent) mem.deviceWords.set(mem.words);
    this.#unit.settle();
    this.#listen(this.#unit);
    this.active = true;
    this.#toldNs = machine.clock.nowNs();
    this.#seen();
    this.#decide();
  }

  call<T>(name: string, body: () => T): T {
    this.#call = name;
    this.#say('call', `${name} begins`);
    this.#position.named(CALL, name, 0);
    this.#event();
    const result = body();
    const value = typeof result === 'number' ? result : 0;
    this.#position.named(RETURN, name, value);
    this.#say('call', `${name} returns${typeof result === 'number' ? ` ${value}` : ''}`);
    this.#seen();
    this.#promised.callEnds(this.#target.pages);
    this.#probe();
    this.#event();
    return result;
  }

  choose(nr: number): number {
    const choice = this.#nextChoice < this.#choices.length ? this.#choices[this.#nextChoice++] : 0;
    if (choice >= nr) throw new ScheduleMismatch(`choice ${choice} of ${nr}`);
    this.#position.did(CHOICE, choice, nr);
    this.#event();
    return choice;
  }

  protected override onStore(wordIndex: number, nrWords: number): void {
    const { mem } = this;
    this.#position.did(STORE, wordIndex, nrWords);
    const slot = wordIndex >>> 10;
    if (nrWords === FRAME_WORDS) this.flushLines(mem.paddrOfIndex(wordIndex), FRAME_WORDS * 4);
    else if (nrWords === ENTRY_WORDS || this.#isFirstTable(slot)) {
      const value = hexWords(mem.words[wordIndex], mem.words[wordIndex + 1]);
      this.#say('driver', `writes ${value} at ${hex(mem.paddrOfIndex(wordIndex))}`);
    } else if (nrWords > ENTRY_WORDS && !isRing(this.#unit, mem.frameOfSlot(slot))) {
      const first = hexWords(mem.words[wordIndex], mem.words[wordIndex + 1]);
      const nr = nrWords / ENTRY_WORDS;
      this.#say('driver', `writes ${nr} entries from ${hex(mem.paddrOfIndex(wordIndex))} on, the first ${first}`);
    }
    this.#event();
  }

  protected override onFlush(paddr: number, nrBytes: number): void {
    this.#position.did(FLUSH, paddr, nrBytes);
    this.flushLines(paddr, nrBytes);
    this.#event();
  }

  protected override onRead(paddr: number): number {
    this.#turn(paddr);
    const answer = this.inner.readl(paddr);
    this.#position.read(paddr, answer);
    this.#event();
    return answer;
  }

  protected override onWrite(paddr: number, lo: number, hi: number, isWide: boolean): void {
    this.#position.did(WRITE, paddr, lo);
    this.write(paddr, lo, hi, isWide);
    this.#unit.settle();
    if (this.#unit.waitingWork() !== 0) this.#say('driver', 'asks the unit for an invalidation');
    this.#event();
  }

  protected override onLoad(paddr: number): number {
    this.#turn(paddr);
    const answer = this.inner.loadShared32(paddr);
    this.#position.read(paddr, answer);
    this.#event();
    return answer;
  }

  protected override onRelax(): void {
    const worked = workAll(this.#unit, () => this.#seen());
    this.#unit.settle();
    this.#position.waited(worked);
    if (worked === 0) this.#machine.clock.advanceBy(STUCK_NS);
    this.#event();
  }

  protected override onFree(pfn: number): void {
    this.#position.did(FREE, pfn, 0);
    const unit = this.#unit;
    const leads =
      unit.structureEntries().some(({ tablePfn }) => tablePfn === pfn) ||
      unit.contextEntries().some(({ rootPfn }) => rootPfn === pfn);
    if (leads) {
      this.#watcher?.broken(this.#machine, this.log.length, { contract: 'C-TABLE-LIVE', probe: null, pfn });
      this.findings.push({ contract: 'C-TABLE-LIVE', call: this.#call, sid: -1, iova: 0, nrBytes: 0 });
      this.#say('judge', `C-TABLE-LIVE: the driver frees the table at ${hex(pfn * 4096)}, which a cache leads to`);
    }
    this.#event();
  }

  #turn(paddr: number): void {
    if (this.#position.hasRead(paddr)) this.onRelax();
  }

  #event(): void {
    this.#seen();
    this.#step += 1;
    this.#decide();
  }

  #decide(): void {
    for (; this.#next < this.#steps.length && this.#steps[this.#next].after === this.#step; this.#next++) {
      const { decision } = this.#steps[this.#next];
      if (decision.do !== 'execute') this.#say('hardware', this.#describe(decision));
      if (!decide(this.#unit, this.mem, this.flushLines, decision)) {
        throw new ScheduleMismatch(`${describeDecision(decision)}: impossible after step ${this.#step}`);
      }
      this.#seen();
    }
  }

  #describe(decision: Step['decision']): string {
    if (decision.do === 'evict') {
      const entries = {
        context: () => this.#unit.contextEntries(),
        iotlb: () => this.#unit.iotlbEntries(),
        structure: () => this.#unit.structureEntries(),
      }[decision.cache]();
      return `${describeDecision(decision)}: ${JSON.stringify(entries[decision.nth] ?? null)}`;
    }
    if (decision.do !== 'walk') return describeDecision(decision);
    const outcome = this.#ask(decision.sid, decision.iova);
    return `${describeDecision(decision)}: ${outcome < 0 ? 'finds nothing' : `finds ${hex(outcome)}`}; what it read may be cached`;
  }

  /** What a device would get, with no trace left. */
  #ask(sid: number, iova: number): number {
    this.#isAsking = true;
    const before = this.#unit.snapshot();
    const outcome = this.#unit.speculate(sid, iova, 1);
    this.#unit.restore(before);
    this.#isAsking = false;
    return outcome;
  }

  #probe(): void {
    const before = this.#unit.snapshot();
    for (const iova of this.#target.pages) {
      for (const sid of this.#target.sids) {
        const expected = this.#promised.of(sid, iova);
        if (expected === null) continue;
        const wrong = askFor(this.#unit, sid, iova, expected);
        this.#unit.restore(before);
        if (wrong === null) continue;
        const { contract } = expected;
        this.#watcher?.broken(this.#machine, this.log.length, { contract, probe: wrong, pfn: -1 });
        this.findings.push({ contract, call: this.#call, sid, iova, nrBytes: 4096 });
        this.#say('judge', `${contract}: ${describeProbe(wrong)}`);
        this.#seen();
      }
    }
  }

  #isFirstTable(slot: number): boolean {
    const pfn = this.mem.frameOfSlot(slot);
    return this.#target.sids.some((sid) => firstFrames(this.#unit, this.mem, sid).includes(pfn));
  }

  #listen(unit: Unit): void {
    const { listener } = unit;
    const say = (text: string): void => {
      if (!this.#isAsking) this.#say('hardware', `does: ${text}`);
    };
    if (unit instanceof AmdviUnit) {
      unit.listener = {
        doorbell: (tail) => listener?.doorbell(tail),
        command: (w0, w1, w2, w3) => say(amdCommand(w0, w1, w2, w3)),
      };
    } else {
      unit.listener = {
        doorbell: (tail) => listener?.doorbell(tail),
        descriptor: (w0, w1, w2, w3) => say(vtdCommand(w0, w1, w2, w3)),
        registerInvalidation: (kind, lo, hi, ivaLo, ivaHi) => say(vtdRegisterCommand(kind, lo, hi, ivaLo, ivaHi)),
      };
    }
  }

  #seen(): void {
    this.#watcher?.seen(this.#machine, this.log.length);
  }

  #say(by: PlayedStep['by'], text: string): void {
    const passedNs = this.#machine.clock.nowNs() - this.#toldNs;
    if (passedNs >= TOLD_NS) {
      this.#toldNs += passedNs;
      this.log.push({ step: this.#step, by: 'time', text: `${passedNs / 1e6} ms pass` });
      this.#seen();
    }
    this.log.push({ step: this.#step, by, text });
  }
}

/** What a device got and should have got. */
export function describeProbe(wrong: Probe): string {
  const name = (paddr: number): string => (paddr < 0 ? 'nothing' : hex(paddr));
  const access = wrong.access === 1 ? 'read' : 'write';
  return `a ${access} of ${deviceName(wrong.sid)} at ${hex(wrong.iova)} reaches ${name(wrong.got)}, promised is ${name(wrong.expected)}`;
}
