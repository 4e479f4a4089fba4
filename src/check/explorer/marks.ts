/**
 * What a broken promise rests on: the cached entries that gave the wrong answer, and the steps at which each was cached and made
 * stale. Found by asking the unit, not by knowing its architecture: an entry is to blame when without it (and the others to blame)
 * the answer is right, and it is stale from the step on after which walks of memory alone would not cache it again.
 */
import { PAGE_SIZE, hex, hexRange } from '../../base/index.ts';
import type { CacheName } from '../../hw/index.ts';
import type { Machine } from '../../machine/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import type { ContractId } from '../judge.ts';
import { shrink } from '../shrink.ts';
import { CACHES, deviceName } from './decision.ts';
import type { PlayedStep, Watcher, Wrong } from './player.ts';
import type { Target } from './target.ts';
import { unitOf } from './units.ts';
import type { Unit } from './units.ts';

/** Something that hardware holds and that is not what memory says: an entry of a cache, or a line of memory itself. */
export interface HeldEntry {
  /** `memory`: a line that a CPU has stored and not flushed, of which the unit sees the old words. */
  readonly cache: CacheName | 'memory';
  /** In words. */
  readonly text: string;
}

/**
 * - cached: the entry gets into its cache.
 * - made-stale: from here on the entry is not what memory says.
 * - returned-too-early: the call ends, and what it promised does not hold.
 * - freed-too-early: the driver gives a table back to which the entry leads.
 * - used-stale: a device is served by the entry.
 * - left-wrong: no cache is to blame; the tables say what they should not since this step.
 */
export type MarkKind = 'cached' | 'made-stale' | 'returned-too-early' | 'freed-too-early' | 'used-stale' | 'left-wrong';

export interface Mark {
  /** Index of the step. */
  readonly at: number;
  readonly mark: MarkKind;
  /** Index of the entry, -1 for none. */
  readonly entry: number;
}

/** How a played schedule breaks its promise. */
export interface Marks {
  /** The walk that shows it: device and page. */
  readonly sid: number;
  readonly iova: number;
  readonly held: readonly HeldEntry[];
  /** In the order of the steps. */
  readonly marks: readonly Mark[];
}

const LINE_BYTES = 64;
const LINE_WORDS = LINE_BYTES / 4;

/** What may be to blame. `key` tells entries of a cache apart by all that they say. */
type Suspect =
  { readonly cache: CacheName; readonly key: string } | { readonly cache: 'memory'; readonly paddr: number };

/** The first time that a promise of one contract is broken, and what is to blame. */
export class Blame implements Watcher {
  wrong: Wrong | null = null;
  /** Index of the judge's line. */
  at = -1;
  suspects: readonly Suspect[] = [];
  readonly #contract: ContractId;

  constructor(contract: ContractId) {
    this.#contract = contract;
  }

  seen(): void {}

  broken(machine: Machine, nrTold: number, wrong: Wrong): void {
    if (this.wrong !== null || wrong.contract !== this.#contract) return;
    this.wrong = wrong;
    this.at = nrTold;
    const unit = unitOf(machine);
    const { mem } = machine;
    if (wrong.probe === null) {
      this.suspects = cachedIn(unit).filter(({ frame }) => frame === wrong.pfn);
      return;
    }
    const all: Suspect[] = [...cachedIn(unit), ...lateLines(mem)];
    const isRightWithout = (part: readonly Suspect[]): boolean =>
      answerWithout(unit, mem, part, wrong) === wrong.probe?.expected;
    // Wrong without any of them: the tables themselves are.
    if (isRightWithout(all)) this.suspects = shrink(all, isRightWithout);
  }
}

/** Follows what is to blame through a second playing of the same schedule. */
export class History implements Watcher {
  readonly #target: Target;
  readonly #blame: Blame;
  /** Steps by suspect; -1 for none yet. */
  readonly #cachedAt: number[];
  readonly #staleAt: number[];
  readonly #wasHeld: boolean[];
  readonly #wasStale: boolean[];
  #isWrong = false;
  #wrongAt = -1;

  constructor(target: Target, blame: Blame) {
    this.#target = target;
    this.#blame = blame;
    this.#cachedAt = blame.suspects.map(() => -1);
    this.#staleAt = blame.suspects.map(() => -1);
    this.#wasHeld = blame.suspects.map(() => false);
    this.#wasStale = blame.suspects.map(() => false);
  }

  broken(): void {}

  seen(machine: Machine, nrTold: number): void {
    const { suspects, wrong, at } = this.#blame;
    if (nrTold > at || wrong === null) return;
    const unit = unitOf(machine);
    const { mem } = machine;
    if (suspects.length === 0 && wrong.probe !== null) {
      const isWrong = answerWithout(unit, mem, [...cachedIn(unit), ...lateLines(mem)], wrong) === wrong.probe.got;
      if (isWrong && !this.#isWrong) this.#wrongAt = nrTold - 1;
      this.#isWrong = isWrong;
      return;
    }
    const held = new Set(cachedIn(unit).map(keyOf));
    const fresh = this.#walked(unit);
    suspects.forEach((suspect, i) => {
      const isHeld = held.has(keyOf(suspect));
      const isStale = suspect.cache === 'memory' ? isLate(mem, suspect.paddr) : !fresh.has(keyOf(suspect));
      if (isHeld && !this.#wasHeld[i]) this.#cachedAt[i] = nrTold - 1;
      if (isStale && !this.#wasStale[i]) this.#staleAt[i] = nrTold - 1;
      this.#wasHeld[i] = isHeld;
      this.#wasStale[i] = isStale;
    });
  }

  /** @param steps of the schedule */
  marks(steps: readonly PlayedStep[]): Marks | null {
    const { wrong, at, suspects } = this.#blame;
    if (wrong === null) return null;
    const marks: Mark[] = [];
    const add = (step: number, mark: MarkKind, entry: number): void => {
      if (step >= 0) marks.push({ at: step, mark, entry });
    };
    suspects.forEach((_, entry) => {
      add(this.#cachedAt[entry], 'cached', entry);
      // What is as memory says to the end was not made stale by anybody.
      if (this.#wasStale[entry]) add(this.#staleAt[entry], 'made-stale', entry);
    });
    if (this.#isWrong) add(this.#wrongAt, 'left-wrong', -1);
    const [first] = this.#target.sids;
    const [page] = this.#target.pages;
    const { probe } = wrong;
    const entry = suspects.length > 0 ? 0 : -1;
    if (probe === null) add(at, 'freed-too-early', entry);
    else {
      const end = steps.findLastIndex(({ by }, i) => i < at && by === 'call');
      add(end, 'returned-too-early', -1);
      if (suspects.length > 0) add(at, 'used-stale', entry);
    }
    return {
      sid: probe?.sid ?? first,
      iova: probe?.iova ?? page,
      held: suspects.map(heldEntry),
      marks: marks.toSorted((a, b) => a.at - b.at),
    };
  }

  /** Keys of all that walks of memory alone would cache now. */
  #walked(unit: Unit): Set<string> {
    const before = unit.snapshot();
    empty(unit);
    for (const sid of this.#target.sids) {
      for (const iova of [...this.#target.pages, ...this.#target.beside]) unit.speculate(sid, iova, 1);
    }
    const keys = new Set(cachedIn(unit).map(keyOf));
    unit.restore(before);
    return keys;
  }
}

interface Cached {
  readonly cache: CacheName;
  readonly key: string;
  /** Of the table that it leads to, -1 for none. */
  readonly frame: number;
}

function entriesOf(unit: Unit, cache: CacheName): readonly object[] {
  if (cache === 'context') return unit.contextEntries();
  return cache === 'iotlb' ? unit.iotlbEntries() : unit.structureEntries();
}

function cachedIn(unit: Unit): Cached[] {
  return CACHES.flatMap((cache) =>
    entriesOf(unit, cache).map((entry) => {
      const { rootPfn, tablePfn }: { rootPfn?: number; tablePfn?: number } = entry;
      return { cache, key: JSON.stringify(entry), frame: rootPfn ?? tablePfn ?? -1 };
    }),
  );
}

function keyOf(suspect: Suspect): string {
  return suspect.cache === 'memory' ? hex(suspect.paddr) : `${suspect.cache} ${suspect.key}`;
}

/** Lines whose words hardware sees are not those that a CPU stored. */
function lateLines(mem: PhysMem): Suspect[] {
  if (mem.coherent) return [];
  const lines: Suspect[] = [];
  const { words, deviceWords } = mem;
  for (let index = 0; index < words.length; index++) {
    if (words[index] === deviceWords[index]) continue;
    const first = index - (index % LINE_WORDS);
    lines.push({ cache: 'memory', paddr: mem.paddrOfIndex(first) });
    index = first + LINE_WORDS - 1;
  }
  return lines;
}

function isLate(mem: PhysMem, paddr: number): boolean {
  const index = mem.indexOf(paddr);
  for (let i = index; i < index + LINE_WORDS; i++) if (mem.words[i] !== mem.deviceWords[i]) return true;
  return false;
}

function empty(unit: Unit): void {
  for (const cache of CACHES) for (let nth = unit.nrCached(cache) - 1; nth >= 0; nth--) unit.evict(cache, nth);
}

/** What the device would get if these entries were gone and these lines had arrived, with no trace left. */
function answerWithout(unit: Unit, mem: PhysMem, gone: readonly Suspect[], { probe }: Wrong): number {
  if (probe === null) return -1;
  const before = unit.snapshot();
  const keys = new Set(gone.map(keyOf));
  for (const cache of CACHES) {
    const entries = entriesOf(unit, cache);
    for (let nth = entries.length - 1; nth >= 0; nth--) {
      if (keys.has(keyOf({ cache, key: JSON.stringify(entries[nth]) }))) unit.evict(cache, nth);
    }
  }
  const old = gone.flatMap((each) => {
    if (each.cache !== 'memory') return [];
    const index = mem.indexOf(each.paddr);
    const words = mem.deviceWords.slice(index, index + LINE_WORDS);
    mem.deviceWords.set(mem.words.subarray(index, index + LINE_WORDS), index);
    return [{ index, words }];
  });
  const outcome = unit.speculate(probe.sid, probe.iova, probe.access);
  for (const { index, words } of old) mem.deviceWords.set(words, index);
  unit.restore(before);
  return outcome < 0 ? -1 : outcome - (outcome % PAGE_SIZE);
}

const NAMES: Readonly<Record<CacheName, string>> = {
  context: 'cached entry of a device',
  iotlb: 'cached translation',
  structure: 'cached pointer to a table',
};

/** All members that an entry of a cache of either architecture may have. */
interface AnyEntry {
  readonly sid?: number;
  readonly domain?: number;
  readonly iova?: number;
  readonly level?: number;
  readonly sizeLg2?: number;
  readonly paddr?: number;
  readonly rights?: number;
  readonly tablePfn?: number;
  readonly rootPfn?: number;
  readonly reason?: number;
  readonly fault?: number;
}

function heldEntry(suspect: Suspect): HeldEntry {
  if (suspect.cache === 'memory') {
    return { cache: 'memory', text: `memory as the unit sees it: the line at ${hex(suspect.paddr)} has not arrived` };
  }
  return { cache: suspect.cache, text: entryText(suspect.cache, JSON.parse(suspect.key)) };
}

/** An entry of a cache in words: `cached translation, domain 1, 0x40000000+0x1000: nothing is mapped`. */
export function entryText(cache: CacheName, entry: AnyEntry): string {
  const { sid, domain, iova, level = 1, sizeLg2, paddr = -1, rights = 0, tablePfn, rootPfn } = entry;
  const fault = entry.reason ?? entry.fault ?? 0;
  const frame = tablePfn ?? rootPfn ?? -1;
  const nrBytes = sizeLg2 === undefined ? PAGE_SIZE * 512 ** (level - 1) : 2 ** sizeLg2;
  const parts = [
    NAMES[cache],
    ...(sid === undefined ? [] : [deviceName(sid)]),
    ...(domain === undefined ? [] : [`domain ${domain}`]),
    ...(iova === undefined ? [] : [hexRange(iova, nrBytes)]),
  ];
  const says =
    fault !== 0
      ? 'nothing is mapped'
      : frame >= 0
        ? `table at ${hex(frame * PAGE_SIZE)}`
        : cache === 'iotlb' && rights !== 0
          ? hex(paddr)
          : 'nothing';
  return `${parts.join(', ')}: ${says}`;
}
