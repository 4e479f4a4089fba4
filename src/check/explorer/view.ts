/**
 * Hardware states laid over one machine: puts a state into the unit and memory, takes the state after something happened.
 *
 * A state is the unit's words, then what hardware has written to memory since software last stored there (count, then pairs of
 * word index and value), then what memory still holds where a CPU's store has not arrived (the same form). Memory as the
 * driver sees it is the same for all states of a step, since a driver knows of the hardware only what it reads.
 */
import type { Explorable } from '../../hw/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { StateStore } from './states.ts';

/** What the two units have in common beyond `Explorable`. */
export interface ExplorableUnit extends Explorable {
  contextEntries(): readonly { readonly rootPfn: number }[];
  structureEntries(): readonly { readonly tablePfn: number }[];
}

/** Entries that a cache of an explored unit can hold: more than a small scenario fills. */
export const CACHE_ENTRIES = 16;

/** States with what was found out about them once; shared by all runs of a search. */
export class HardwareStates {
  readonly store: StateStore = new StateStore();
  /** Frames of the tables that a state's caches lead to. */
  readonly tables: (readonly number[])[] = [];
  /** All frames that any cache ever led to. */
  readonly allTables: Set<number> = new Set();
}

export class HardwareView {
  readonly #states: HardwareStates;
  readonly #unit: ExplorableUnit;
  readonly #mem: PhysMem;
  readonly #nrUnitWords: number;
  #record: Int32Array;
  /** Of the state that is loaded. */
  #isLoaded = false;
  readonly #written = new Map<number, number>();
  #late: number[] = [];

  constructor(states: HardwareStates, unit: ExplorableUnit, mem: PhysMem) {
    this.#states = states;
    this.#unit = unit;
    this.#mem = mem;
    this.#nrUnitWords = unit.snapshot().length;
    this.#record = new Int32Array(this.#nrUnitWords + 64);
    // What hardware writes belongs to the state under way, not to memory.
    const store = mem.deviceStore32.bind(mem);
    mem.deviceStore32 = (paddr, value): void => {
      if (this.#isLoaded) this.#written.set(mem.indexOf(paddr), value);
      else store(paddr, value);
    };
  }

  /** The state that the machine is in now. */
  first(): number {
    this.#unit.settle();
    this.#isLoaded = true;
    return this.save();
  }

  /** Makes unit and memory those of a state, until `save` or the next `load`. */
  load(state: number): void {
    if (this.#isLoaded) this.#unload();
    const words = this.#states.store.wordsOf(state);
    this.#unit.restore(words.subarray(0, this.#nrUnitWords));
    let at = this.#nrUnitWords;
    const nrWritten = words[at++];
    for (let i = 0; i < nrWritten; i++, at += 2) this.#written.set(words[at], words[at + 1]);
    const nrLate = words[at++];
    const { deviceWords } = this.#mem;
    for (let i = 0; i < nrLate; i++, at += 2) {
      this.#late.push(words[at]);
      deviceWords[words[at]] = words[at + 1];
    }
    this.#isLoaded = true;
  }

  /** The number of what was loaded and has changed since. The machine is then in no particular state. */
  save(): number {
    const { words, deviceWords } = this.#mem;
    this.#unit.settle();
    this.#unit.snapshot(this.#record.subarray(0, this.#nrUnitWords));
    const late: number[] = [];
    for (const index of this.#late) if (deviceWords[index] !== words[index]) late.push(index, deviceWords[index]);
    const written: number[] = [];
    for (const [index, value] of this.#written) written.push(index, value);
    // In the order of indexes; mostly there is one, or none.
    const state = this.#intern(written.length > 2 ? sortedPairs(written) : written, late);
    this.#states.tables[state] ??= this.#tablesNow();
    this.#unload();
    return state;
  }

  /** Forgets what was loaded. */
  drop(): void {
    if (this.#isLoaded) this.#unload();
  }

  #unload(): void {
    const { words, deviceWords } = this.#mem;
    for (const index of this.#late) deviceWords[index] = words[index];
    this.#late.length = 0;
    this.#written.clear();
    this.#isLoaded = false;
  }

  /**
   * A state after software stored words, which memory holds already.
   * @param before what memory held at these words until now, or null when stores reach it at once
   */
  afterStore(state: number, index: number, nr: number, before: Int32Array | null): number {
    const { written, late } = this.#lists(state);
    const isOutside = (word: number): boolean => word < index || word >= index + nr;
    const keptWritten = pairsWhere(written, isOutside);
    if (before === null && late.length === 0 && keptWritten.length === written.length) return state;
    const lateNow = new Map<number, number>();
    before?.forEach((value, i) => lateNow.set(index + i, value));
    // What was late before is later now.
    for (let i = 0; i < late.length; i += 2)
      if (before !== null || isOutside(late[i])) lateNow.set(late[i], late[i + 1]);
    const { words } = this.#mem;
    const pairs = [...lateNow].filter(([word, value]) => words[word] !== value).sort((a, b) => a[0] - b[0]);
    return this.#edited(state, keptWritten, pairs.flat());
  }

  /** A state after words in [first, end) reached memory. */
  afterFlush(state: number, first: number, end: number): number {
    const { written, late } = this.#lists(state);
    const kept = pairsWhere(late, (word) => word < first || word >= end);
    return kept.length === late.length ? state : this.#edited(state, written, kept);
  }

  /** What software loads from a word that hardware may write. */
  loaded(state: number, index: number): number {
    const words = this.#states.store.wordsOf(state);
    let at = this.#nrUnitWords;
    const nrWritten = words[at++];
    for (let i = 0; i < nrWritten; i++, at += 2) if (words[at] === index) return words[at + 1];
    return this.#mem.words[index];
  }

  /** Word indexes at which memory is behind, of a state. */
  lateWords(state: number): number[] {
    return this.#lists(state).late.filter((_, i) => i % 2 === 0);
  }

  #lists(state: number): { written: number[]; late: number[] } {
    const words = this.#states.store.wordsOf(state);
    const at = this.#nrUnitWords;
    const lateAt = at + 1 + words[at] * 2;
    const read = (from: number): number[] => Array.from(words.subarray(from + 1, from + 1 + words[from] * 2));
    return { written: read(at), late: read(lateAt) };
  }

  #edited(state: number, written: readonly number[], late: readonly number[]): number {
    const words = this.#states.store.wordsOf(state);
    this.#record.set(words.subarray(0, this.#nrUnitWords));
    const edited = this.#intern(written, late);
    this.#states.tables[edited] ??= this.#states.tables[state];
    return edited;
  }

  /** The state of what `#record` begins with and these. */
  #intern(written: readonly number[], late: readonly number[]): number {
    const start = this.#nrUnitWords;
    const nrWords = start + 2 + written.length + late.length;
    if (nrWords > this.#record.length) {
      const larger = new Int32Array(nrWords * 2);
      larger.set(this.#record);
      this.#record = larger;
    }
    const record = this.#record;
    let at = start;
    record[at++] = written.length / 2;
    for (const word of written) record[at++] = word;
    record[at++] = late.length / 2;
    for (const word of late) record[at++] = word;
    return this.#states.store.intern(record, nrWords);
  }

  #tablesNow(): readonly number[] {
    const found: number[] = [];
    for (const { rootPfn } of this.#unit.contextEntries()) if (rootPfn >= 0) found.push(rootPfn);
    for (const { tablePfn } of this.#unit.structureEntries()) if (tablePfn >= 0) found.push(tablePfn);
    for (const pfn of found) this.#states.allTables.add(pfn);
    return found;
  }
}

/** The pairs of a flat list whose first half passes. */
function pairsWhere(pairs: readonly number[], test: (word: number) => boolean): number[] {
  const kept: number[] = [];
  for (let i = 0; i < pairs.length; i += 2) if (test(pairs[i])) kept.push(pairs[i], pairs[i + 1]);
  return kept;
}

function sortedPairs(pairs: readonly number[]): number[] {
  const entries: [number, number][] = [];
  for (let i = 0; i < pairs.length; i += 2) entries.push([pairs[i], pairs[i + 1]]);
  return entries.sort((a, b) => a[0] - b[0]).flat();
}
