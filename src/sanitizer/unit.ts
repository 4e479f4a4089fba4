/**
 * One IOMMU as software programs it: which entries of devices it reads, which invalidations were sent, which of them software
 * has seen complete. What is common to both architectures; the registers and command words are in vtd-unit.ts and amdvi-unit.ts.
 */
import type { Platform } from '../mem/index.ts';
import { Commands } from './command.ts';
import type { Command } from './command.ts';
import type { EntryFormat } from './entry-format.ts';
import type { Space } from './space.ts';
import type { Tables } from './tables.ts';

/** What a context or device table entry tells hardware to do with a device. */
export interface DeviceEntry {
  /** `blocked`: every access faults. `pass`: addresses are physical. `table`: walk. */
  readonly kind: 'blocked' | 'pass' | 'table';
  readonly domainId: number;
  readonly rootPfn: number;
  readonly levels: number;
  /** Read 1, write 2. */
  readonly rights: number;
  /** The device may ask for translations and keep them in a TLB of its own (VT-d TT=01, AMD DTE.I). */
  readonly hasAts: boolean;
}

export const BLOCKED: DeviceEntry = { kind: 'blocked', domainId: 0, rootPfn: 0, levels: 0, rights: 0, hasAts: false };

/** A value that the cache of device entries may still hold. */
export interface StaleEntry {
  readonly entry: DeviceEntry;
  readonly step: number;
  settled: number;
  readonly cached: boolean;
  readonly paddr: number;
}

/** What a unit does for one device. */
export interface DeviceState {
  readonly sid: number;
  current: DeviceEntry;
  stale: StaleEntry[];
  /** Of its current entry, when that leads to tables. */
  space: Space | null;
  /** Its own TLB, when an entry ever let it have one. */
  tlb: Space | null;
  /** An entry that it had ATS by. The TLB may hold anything of that until it is emptied; `step`: until when it could ask. */
  left: StaleEntry | null;
}

/** Whether hardware can tell two entries apart. */
export const sameEntry = (a: DeviceEntry, b: DeviceEntry): boolean =>
  a.kind === b.kind &&
  a.domainId === b.domainId &&
  a.rootPfn === b.rootPfn &&
  a.levels === b.levels &&
  a.rights === b.rights &&
  a.hasAts === b.hasAts;

export abstract class Unit {
  readonly index: number;
  abstract readonly format: EntryFormat;
  /** Most levels of its tables. */
  abstract readonly levels: number;
  /** What is not present may be cached. */
  abstract readonly cachesNotPresent: boolean;
  /** Stores reach the walker only when they are flushed. */
  abstract readonly storesLag: boolean;
  /** Why caches may hold anything at all: nobody has emptied them since the unit got its tables. Null when somebody has. */
  unknown: string | null = null;
  isOn = false;
  readonly devices: Map<number, DeviceState> = new Map();
  readonly commands: Commands = new Commands();
  protected readonly platform: Platform;
  protected readonly tables: Tables;
  /** Physical address of its registers. */
  readonly base: number;
  readonly #spaces = new Map<number, Space>();
  /** Submitted and not seen to complete, the first `#nrPending` of the array. */
  readonly #pending: Command[] = [];
  #nrPending = 0;
  nrInvalidations = 0;

  constructor(platform: Platform, tables: Tables, base: number, index: number) {
    this.platform = platform;
    this.tables = tables;
    this.base = base;
    this.index = index;
  }

  /** A register was written, 32 bits or, with `hi`, 64. */
  abstract written(offset: number, lo: number, hi: number | null): void;
  /** A register was read. */
  abstract read(offset: number, value: number): void;
  /** Software stored words that may be entries of devices. */
  abstract stored(paddr: number, nrBytes: number): void;
  /** Whether software's look at a cell shows that a wait is over. */
  protected abstract proves(wait: Command, value: number): boolean;

  space(domainId: number): Space {
    let space = this.#spaces.get(domainId);
    if (space === undefined) {
      space = this.tables.makeSpace(this, domainId, -1);
      this.#spaces.set(domainId, space);
    }
    return space;
  }

  device(sid: number): DeviceState {
    let state = this.devices.get(sid);
    if (state === undefined) {
      state = { sid, current: BLOCKED, stale: [], space: null, tlb: null, left: null };
      this.devices.set(sid, state);
    }
    return state;
  }

  // Entries of devices.

  /** A device's entry now says something else. @param cached hardware may hold what it said before */
  protected entryChanged(sid: number, entry: DeviceEntry, paddr: number, cached: boolean): void {
    const state = this.device(sid);
    const before = state.current;
    if (sameEntry(before, entry)) return;
    const lags = this.storesLag;
    if (entry.kind === 'table') this.#link(entry);
    state.current = entry;
    state.space = entry.kind === 'table' ? this.space(entry.domainId) : null;
    if (cached || lags) {
      const same = state.stale.findIndex((stale) => sameEntry(stale.entry, before));
      const stale: StaleEntry = {
        entry: before,
        step: this.tables.step,
        settled: lags ? Infinity : this.tables.step,
        cached,
        paddr,
      };
      if (same >= 0) state.stale[same] = stale;
      else {
        state.stale.push(stale);
        if (before.kind === 'table') this.#link(before);
      }
    }
    if (before.kind === 'table') this.#unlink(before, this.tables.step);
    if (entry.hasAts) state.tlb ??= this.tables.makeSpace(this, -1, sid);
    this.#serveTlb(state);
  }

  /** Enters a device's TLB with the domains that the unit may answer it from. */
  #serveTlb(state: DeviceState): void {
    const { tlb } = state;
    if (tlb === null) return;
    const entries = [state.current, ...state.stale.map(({ entry }) => entry)];
    for (const space of this.#spaces.values()) {
      const serves = entries.some(
        ({ hasAts, kind, domainId }) => hasAts && kind === 'table' && domainId === space.domainId,
      );
      const at = space.deviceTlbs.indexOf(tlb);
      if (serves && at < 0) space.deviceTlbs.push(tlb);
      else if (!serves && at >= 0) space.deviceTlbs.splice(at, 1);
    }
  }

  #link(entry: DeviceEntry): void {
    const space = this.space(entry.domainId);
    const nr = space.roots.get(entry.rootPfn) ?? 0;
    space.roots.set(entry.rootPfn, nr + 1);
    if (nr > 0) return;
    const old = space.oldRoots.findIndex((root) => root.pfn === entry.rootPfn && root.levels === entry.levels);
    // What was noted about the root while nobody used it goes on being true.
    if (old >= 0) space.oldRoots.splice(old, 1);
    else this.tables.tree.reach(space, entry.rootPfn, entry.levels, 0, entry.rights);
  }

  #unlink(entry: DeviceEntry, step: number): void {
    const space = this.space(entry.domainId);
    const nr = (space.roots.get(entry.rootPfn) ?? 0) - 1;
    if (nr > 0) {
      space.roots.set(entry.rootPfn, nr);
      return;
    }
    space.roots.delete(entry.rootPfn);
    space.oldRoots.push({ pfn: entry.rootPfn, levels: entry.levels, step });
  }

  /** Stores of a range reached memory. */
  flushed(paddr: number, nrBytes: number): void {
    if (!this.storesLag) return;
    const from = paddr - (paddr % 64);
    this.#settleDevices((stale) => stale.paddr >= from && stale.paddr < paddr + nrBytes);
  }

  /** The write buffer was emptied. */
  protected drained(step: number): void {
    if (!this.storesLag) return;
    this.tables.drained(this, step);
    this.#settleDevices((stale) => stale.step < step);
  }

  #settleDevices(reached: (stale: StaleEntry) => boolean): void {
    for (const state of this.devices.values()) {
      for (const stale of state.stale)
        if (stale.settled === Infinity && reached(stale)) stale.settled = this.tables.step;
      this.#dropStale(state, (stale) => !stale.cached && stale.settled < Infinity, this.tables.step);
    }
  }

  #dropStale(state: DeviceState, goes: (stale: StaleEntry) => boolean, step: number): void {
    if (state.stale.length === 0) return;
    const gone = state.stale.filter(goes);
    if (gone.length === 0) return;
    state.stale = state.stale.filter((stale) => !goes(stale));
    for (const { entry } of gone) if (entry.kind === 'table') this.#unlink(entry, step);
    if (state.tlb === null) return;
    // Until now the unit could answer the device by these, whatever was sent to the device before.
    const left = gone.findLast(({ entry }) => entry.hasAts && !sameEntry(entry, state.current));
    if (left !== undefined) state.left = { ...left, step };
    this.#serveTlb(state);
  }

  // Commands.

  protected submit(command: Command): void {
    const at = this.#nrPending++;
    if (at < this.#pending.length) this.#pending[at] = command;
    else this.#pending.push(command);
    if (command.kind !== 'wait' && command.kind !== 'other') this.note(command);
  }

  /** An invalidation was asked for. */
  protected note(command: Command): void {
    this.nrInvalidations += 1;
    this.commands.remember(command);
  }

  /** Software looked at a cell of memory. */
  loaded(paddr: number, value: number): void {
    const pending = this.#pending;
    const nr = this.#nrPending;
    for (let last = nr - 1; last >= 0; last--) {
      const wait = pending[last];
      if (wait.kind !== 'wait' || wait.paddr !== paddr || wait.isBlind || !this.proves(wait, value)) continue;
      // Mostly everything that was sent.
      for (let i = 0; i <= last; i++) this.finish(pending[i]);
      for (let i = last + 1; i < nr; i++) pending[i - last - 1] = pending[i];
      this.#nrPending = nr - last - 1;
      return;
    }
  }

  /** What was sent and not seen to complete counts for nothing: the unit dropped it. */
  protected abandon(): void {
    for (let i = 0; i < this.#nrPending; i++) this.commands.release(this.#pending[i]);
    this.#nrPending = 0;
  }

  /** Software saw a command complete. */
  protected finish(command: Command): void {
    if (command.kind !== 'wait') this.#completed(command);
    command.isDone = true;
    this.commands.release(command);
  }

  #completed(command: Command): void {
    const { tables } = this;
    const { step } = command;
    if (command.kind !== 'other' && this.drainsWithInvalidation) this.drained(step);
    switch (command.kind) {
      case 'pages': {
        const space = this.#spaces.get(command.domainId);
        if (space !== undefined) tables.dropPages(space, command.page, command.pages, command.leavesOnly, step);
        break;
      }
      case 'domain': {
        const space = this.#spaces.get(command.domainId);
        if (space !== undefined) tables.dropSpace(space, command.leavesOnly, step);
        break;
      }
      case 'all':
        for (const space of this.#spaces.values()) tables.dropSpace(space, false, step);
        this.emptied('translations', step);
        break;
      case 'device':
        for (let bits = command.ignored; ; bits = (bits - 1) & command.ignored) {
          this.#dropEntries((command.sid & ~command.ignored) | bits, command);
          if (bits === 0) break;
        }
        break;
      case 'devices-of-domain':
        for (const sid of this.devices.keys()) this.#dropEntries(sid, command);
        break;
      case 'all-devices':
        for (const state of this.devices.values())
          this.#dropStale(state, (stale) => this.#isCovered(stale, command), step);
        this.emptied('devices', step);
        break;
      case 'device-tlb': {
        const state = this.devices.get(command.sid);
        if (state === undefined || state.tlb === null) break;
        tables.dropPages(state.tlb, command.page, command.pages, true, step);
        if (command.pages === Infinity && state.left !== null && state.left.step < step) state.left = null;
        break;
      }
      case 'wait':
      case 'other':
        break;
    }
  }

  #dropEntries(sid: number, command: Command): void {
    const state = this.devices.get(sid);
    if (state === undefined) return;
    const covered = (stale: StaleEntry): boolean =>
      this.#isCovered(stale, command) && this.matchesDomain(stale, command.domainId);
    this.#dropStale(state, covered, command.step);
  }

  #isCovered(stale: StaleEntry, command: Command): boolean {
    return stale.cached && stale.settled < command.step;
  }

  /** Whether an invalidation of device entries that names a domain reaches a cached one. */
  protected abstract matchesDomain(stale: StaleEntry, domainId: number): boolean;

  /** What an invalidation of a cached device entry must name besides the device, for people. */
  abstract tagOf(stale: StaleEntry): string;

  /** A cache was emptied as a whole. */
  protected abstract emptied(what: 'translations' | 'devices', step: number): void;

  /** Whether invalidations empty the write buffer. */
  protected get drainsWithInvalidation(): boolean {
    return false;
  }
}
