/**
 * The sanitizer: tells whether a driver keeps its promises whatever the caches of the hardware do, from what the driver does
 * alone: stores, register writes, what it waits for, and where its calls begin and end. No hardware model is asked.
 *
 * For every entry that hardware can reach it keeps the values that a cache may still hold (tables.ts, unit.ts). They are born at
 * stores and die by invalidations that cover them, were sent after the store was visible, and were seen to complete. At the end
 * of a call every walk that these values allow must give what the call promised (walks.ts). DESIGN.md section 6 has the
 * promises, docs/contracts.md what cannot be seen.
 */
import type { Device, IommuDomain, IommuOps, IotlbGather } from '../iommu/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import { AmdviUnit } from './amdvi-unit.ts';
import type { ContractId, Finding } from './finding.ts';
import type { Promised } from './promises.ts';
import type { Due } from './reports.ts';
import { freedFinding, leftFinding, memoryFinding, staleFinding, unknownFinding } from './reports.ts';
import type { Possible } from './possible.ts';
import { possibleOf } from './possible.ts';
import { Tables } from './tables.ts';
import type { DeviceState, Unit } from './unit.ts';
import { FROM_MEMORY, NOWHERE, Walks } from './walks.ts';
import { VtdUnit } from './vtd-unit.ts';
import { watchOps } from './watched-ops.ts';
import { WatchedPlatform } from './watched-platform.ts';
import type { PlatformWatcher } from './watched-platform.ts';

const PAGE = 4096;
/** Unit register windows lie this far apart at least; a window is found by this much of its address. */
const WINDOW = 0x4000;

export interface SanitizerOptions {
  /** Most findings that are kept; the others are counted. Default 100. */
  readonly maxFindings?: number;
  /** Longest time from a queued unmap to its flush, in ns. Default 20 ms: the queue's 10 ms, and as much for the timer to be late. */
  readonly lazyWindowNs?: number;
}

/** What the sanitizer has done. */
export interface SanitizerCounts {
  /** Stores, commands and flushes seen. */
  readonly steps: number;
  readonly invalidations: number;
  readonly calls: number;
  readonly pages: number;
  /** Stale values now, and the most at any time. */
  readonly staleNow: number;
  readonly staleMost: number;
  readonly tables: number;
}

/** A call under way. */
interface Call {
  name: string;
  step: number;
  readonly promised: Promised[];
  readonly moved: { readonly domain: IommuDomain | null; readonly device: Device }[];
  readonly flushed: IommuDomain[];
}

export class Sanitizer implements PlatformWatcher {
  readonly findings: Finding[] = [];
  /** Findings beyond `maxFindings`. */
  nrMore = 0;
  readonly #options: Required<SanitizerOptions>;
  #parts: { readonly platform: Platform; readonly tables: Tables; readonly walks: Walks } | null = null;
  readonly #units: { readonly base: number; readonly unit: Unit }[] = [];
  /** Which domain each device is attached to, by what attach calls returned. */
  readonly #domainOf = new Map<number, IommuDomain | null>();
  /** The same the other way round, as far as it was asked for. */
  readonly #attached = new Map<IommuDomain, readonly number[]>();
  #call: Call | null = null;
  /** One is under way at a time. */
  readonly #onlyCall: Call = { name: '', step: 0, promised: [], moved: [], flushed: [] };
  /** Unmaps whose gather has not been synced yet. */
  readonly #gathered = new Map<IotlbGather, Promised[]>();
  #nrCalls = 0;
  #nrPages = 0;
  #inDriver = 0;

  constructor(options: SanitizerOptions = {}) {
    this.#options = { maxFindings: 100, lazyWindowNs: 20e6, ...options };
  }

  get counts(): SanitizerCounts {
    const tables = this.#parts?.tables;
    return {
      steps: tables?.step ?? 0,
      invalidations: this.#units.reduce((sum, { unit }) => sum + unit.nrInvalidations, 0),
      calls: this.#nrCalls,
      pages: this.#nrPages,
      staleNow: tables?.values.nrLive ?? 0,
      staleMost: tables?.values.nrMost ?? 0,
      tables: tables?.tree.size ?? 0,
    };
  }

  /** Where walks of a page may end for a device, whatever its unit holds; empty for a device that no unit has an entry of. */
  possible(sid: number, iova: number): Possible[] {
    const { tables, walks } = this.#ready();
    return this.#units.flatMap(({ unit }) => {
      const state = unit.devices.get(sid);
      return state === undefined ? [] : possibleOf(tables, walks, unit, state, Math.floor(iova / PAGE));
    });
  }

  // Set-up.

  /**
   * The platform that the driver is to be given. Watches the memory and the allocator of the inner one from now on.
   * @throws RangeError when called twice, or when somebody else observes the memory
   */
  platform(inner: Platform): Platform {
    if (this.#parts !== null) throw new RangeError('a sanitizer watches one platform');
    if (inner.mem.observer !== null) throw new RangeError('somebody else observes the memory already');
    const tables = new Tables(inner.mem);
    this.#parts = { platform: inner, tables, walks: new Walks(tables) };
    const units = this.#units;
    inner.mem.observer = {
      stored: (wordIndex, nrWords) => {
        if (!tables.stored(wordIndex, nrWords)) return;
        const paddr = inner.mem.paddrOfIndex(wordIndex);
        for (let i = 0; i < units.length; i++) units[i].unit.stored(paddr, nrWords * 4);
      },
    };
    inner.pages.observer = { freed: (pfn) => this.#freed(pfn) };
    return new WatchedPlatform(inner, this);
  }

  /** Announces a VT-d unit, before the driver touches it. @param base physical address of its registers */
  watchVtd(base: number): void {
    const { platform, tables } = this.#ready();
    this.#units.push({ base, unit: new VtdUnit(platform, tables, base, this.#units.length) });
  }

  /** Announces an AMD-Vi unit. @param capHeader first word of its capability block @param serves which requesters it translates */
  watchAmdvi(base: number, capHeader: number, serves: (sid: number) => boolean = () => true): void {
    const { platform, tables } = this.#ready();
    this.#units.push({ base, unit: new AmdviUnit(platform, tables, base, this.#units.length, capHeader, serves) });
  }

  #ready(): { readonly platform: Platform; readonly tables: Tables; readonly walks: Walks } {
    if (this.#parts === null) throw new RangeError('Sanitizer.platform comes first: there is nothing to watch yet');
    return this.#parts;
  }

  /**
   * Watches the calls of a driver. Its methods are replaced on the object itself: domains name the driver that serves them, so a
   * wrapper would be bypassed. @returns the same object
   */
  watch<T extends IommuOps>(ops: T): T {
    watchOps(ops, {
      enter: (queued) => this.#enter(queued),
      leave: () => this.#leave(),
      begin: (name) => this.#begin(name),
      end: () => this.#close(),
      mapped: (domain, iova, paddr, nrBytes, prot) => this.#mapped(domain, iova, paddr, nrBytes, prot),
      mapFailed: (domain) => this.#mapFailed(domain),
      unmapped: (domain, iova, nrBytes, gather) => this.#unmapped(domain, iova, nrBytes, gather),
      synced: (gather) => this.#synced(gather),
      flushed: (domain) => this.#call?.flushed.push(domain),
      moved: (domain, device) => this.#moved(domain, device),
    });
    return ops;
  }

  // Calls.

  /**
   * One call of a caller. What drivers promised in it is judged when the outermost one returns.
   * @param name as findings show it
   */
  call<T>(name: string, body: () => T): T {
    if (this.#call !== null) return body();
    this.#open(name);
    try {
      return body();
    } finally {
      this.#close();
    }
  }

  #open(name: string): void {
    const { tables, platform } = this.#ready();
    tables.nowNs = platform.nowNs();
    const call = this.#onlyCall;
    call.name = name;
    call.step = tables.step;
    this.#call = call;
  }

  #close(): void {
    const call = this.#onlyCall;
    try {
      this.#judge(call);
    } finally {
      call.promised.length = 0;
      if (call.moved.length > 0) call.moved.length = 0;
      if (call.flushed.length > 0) call.flushed.length = 0;
      this.#call = null;
    }
  }

  /** A driver's callback that is a call of its own, unless it is made inside one. */
  #begin(name: string): boolean {
    if (this.#inDriver > 0 || this.#call !== null) return false;
    this.#open(name);
    // What was mapped before, outside of any call, is due now.
    const loose = this.#loose;
    if (loose.length > 0) {
      for (let i = 0; i < loose.length; i++) this.#onlyCall.promised.push(loose[i]);
      loose.length = 0;
    }
    return true;
  }

  readonly #loose: Promised[] = [];

  /** @param queued what is unmapped in it is left to a flush queue */
  #enter(queued: boolean): void {
    this.#inDriver += 1;
    const { tables, platform } = this.#ready();
    if (this.#call === null) tables.nowNs = platform.nowNs();
    tables.lazy = queued;
  }

  #leave(): void {
    this.#inDriver -= 1;
    this.#ready().tables.lazy = false;
  }

  /** A map failed: whatever the call has mapped in the domain is to be gone at its end (unless it maps it once more). */
  #mapFailed(domain: IommuDomain): void {
    const promised = this.#call?.promised;
    if (promised === undefined) return;
    for (const promise of promised.filter((each) => each.kind === 'mapped' && each.domain === domain)) {
      promised.push({ ...promise, kind: 'gone', gather: null });
    }
  }

  #mapped(domain: IommuDomain, iova: number, paddr: number, nrBytes: number, prot: number): void {
    const rights = ((prot & IOMMU_READ) !== 0 ? 1 : 0) | ((prot & IOMMU_WRITE) !== 0 ? 2 : 0);
    const list = this.#call === null ? this.#loose : this.#call.promised;
    const last = list.length > 0 ? list[list.length - 1] : undefined;
    const page = iova / PAGE;
    const pfn = paddr / PAGE;
    const goesOn =
      last !== undefined &&
      last.kind === 'mapped' &&
      last.domain === domain &&
      last.page + last.pages === page &&
      last.pfn + last.pages === pfn &&
      last.rights === rights;
    if (goesOn) last.pages += nrBytes / PAGE;
    else list.push({ kind: 'mapped', domain, page, pages: nrBytes / PAGE, pfn, rights, gather: null, isSynced: true });
  }

  #unmapped(domain: IommuDomain, iova: number, nrBytes: number, gather: IotlbGather): void {
    const promise: Promised = {
      kind: 'gone',
      domain,
      page: iova / PAGE,
      pages: nrBytes / PAGE,
      pfn: 0,
      rights: 0,
      gather,
      isSynced: false,
    };
    if (this.#call === null) this.#defer(promise);
    else this.#call.promised.push(promise);
  }

  #defer(promise: Promised): void {
    const { gather } = promise;
    if (gather === null) return;
    const list = this.#gathered.get(gather);
    if (list === undefined) this.#gathered.set(gather, [promise]);
    else list.push(promise);
  }

  #synced(gather: IotlbGather): void {
    const call = this.#call;
    if (call === null) return;
    for (let i = 0; i < call.promised.length; i++) {
      if (call.promised[i].gather === gather) call.promised[i].isSynced = true;
    }
    if (this.#gathered.size === 0) return;
    const list = this.#gathered.get(gather);
    if (list === undefined) return;
    this.#gathered.delete(gather);
    for (let i = 0; i < list.length; i++) list[i].isSynced = true;
    if (call.promised.length > 0) call.promised.unshift(...list);
    else for (let i = 0; i < list.length; i++) call.promised.push(list[i]);
  }

  #moved(domain: IommuDomain | null, device: Device): void {
    this.#domainOf.set(device.sid, domain);
    this.#attached.clear();
    this.#call?.moved.push({ domain, device });
  }

  // What the platform tells.

  #unitAt(paddr: number): { readonly base: number; readonly unit: Unit } | undefined {
    const units = this.#units;
    for (let i = 0; i < units.length; i++) {
      const offset = paddr - units[i].base;
      if (offset >= 0 && offset < WINDOW) return units[i];
    }
    return undefined;
  }

  written(paddr: number, lo: number, hi: number | null): void {
    const found = this.#unitAt(paddr);
    if (found === undefined) return;
    this.#ready().tables.step += 1;
    found.unit.written(paddr - found.base, lo, hi);
  }

  read(paddr: number, value: number): void {
    const found = this.#unitAt(paddr);
    found?.unit.read(paddr - found.base, value | 0);
  }

  loaded(paddr: number, value: number): void {
    const units = this.#units;
    for (let i = 0; i < units.length; i++) units[i].unit.loaded(paddr, value);
  }

  flushed(paddr: number, nrBytes: number): void {
    const units = this.#units;
    if (!units.some(({ unit }) => unit.storesLag)) return;
    this.#ready().tables.flushed(paddr, nrBytes);
    for (let i = 0; i < units.length; i++) units[i].unit.flushed(paddr, nrBytes);
  }

  #freed(pfn: number): void {
    this.#report(freedFinding(this.#call?.name ?? 'free', this.#ready().tables, pfn));
  }

  // Judging.

  #judge(call: Call): void {
    this.#nrCalls += 1;
    const { tables, platform } = this.#ready();
    tables.nowNs = platform.nowNs();
    for (let i = 0; i < call.moved.length; i++) this.#judgeDevice(call, call.moved[i].domain, call.moved[i].device);
    const { promised } = call;
    // One kind of promise: nothing can have been taken back within the call.
    let isPlain = true;
    for (let i = 1; i < promised.length; i++) if (promised[i].kind !== promised[0].kind) isPlain = false;
    if (!isPlain) this.#judgeLast(call);
    else for (let i = 0; i < promised.length; i++) this.#judgeOrDefer(call, promised[i]);
    for (let i = 0; i < call.flushed.length; i++) this.#judgeFlushed(call, call.flushed[i]);
    this.#judgeWindow(call);
  }

  /** An unmap whose gather still holds something, or that is called fast, is due at the sync that ends it. */
  #judgeOrDefer(call: Call, promise: Promised): void {
    const { gather, isSynced } = promise;
    const isOpen = gather !== null && !isSynced;
    const waits = isOpen && (!gather.isEmpty || gather.freelist.length > 0 || call.name.includes('fast'));
    if (waits) this.#defer(promise);
    else this.#judgePages(call, promise, promise.kind === 'mapped' ? 'C-MAP-VISIBLE' : 'C-UNMAP-GONE');
  }

  /** Promises that replace each other: only the last one of each page is due. */
  #judgeLast(call: Call): void {
    const last = new Map<IommuDomain, Map<number, { promise: Promised; wasMapped: boolean }>>();
    for (const promise of call.promised) {
      let pages = last.get(promise.domain);
      if (pages === undefined) last.set(promise.domain, (pages = new Map()));
      for (let i = 0; i < promise.pages; i++) {
        const page = promise.page + i;
        const before = pages.get(page);
        const wasMapped = (before?.wasMapped ?? false) || before?.promise.kind === 'mapped';
        pages.set(page, { promise, wasMapped });
      }
    }
    for (const pages of last.values()) {
      for (const [page, { promise, wasMapped }] of pages) {
        const one: Promised = { ...promise, page, pages: 1, pfn: promise.pfn + (page - promise.page) };
        if (promise.kind === 'mapped') this.#judgePages(call, one, 'C-MAP-VISIBLE');
        else this.#judgePages(call, one, wasMapped ? 'C-ROLLBACK' : 'C-UNMAP-GONE');
      }
    }
  }

  #judgePages(call: Call, promise: Promised, contract: ContractId): void {
    this.#nrPages += promise.pages;
    const units = this.#units;
    const sids = this.#sidsOf(promise.domain);
    for (let s = 0; s < sids.length; s++) {
      for (let u = 0; u < units.length; u++) {
        const { unit } = units[u];
        const state = unit.isOn ? unit.devices.get(sids[s]) : undefined;
        if (state !== undefined && !this.#judgeFor(unit, state, call, promise, contract)) return;
      }
    }
  }

  /** Devices that are attached to a domain. */
  #sidsOf(domain: IommuDomain): readonly number[] {
    let sids = this.#attached.get(domain);
    if (sids === undefined) {
      sids = [...this.#domainOf].filter(([, attached]) => attached === domain).map(([sid]) => sid);
      this.#attached.set(domain, sids);
    }
    return sids;
  }

  /** Judges a promise for one device. @returns false after a finding */
  #judgeFor(unit: Unit, state: DeviceState, call: Call, promise: Promised, contract: ContractId): boolean {
    const { walks, tables } = this.#ready();
    const isGone = promise.kind === 'gone';
    const isQuiet = this.#isQuiet(unit, state);
    for (let i = 0; i < promise.pages;) {
      const page = promise.page + i;
      const expected = isGone ? NOWHERE : (promise.pfn + i) * 4 + promise.rights;
      let found = walks.inMemory(state.current, page);
      const { sawPieces } = walks;
      const sameFor = isQuiet ? walks.sameForUpTo(promise.pages - i) : 1;
      if (isGone && found === NOWHERE && sawPieces) found = walks.replicaOf(state.current, page);
      if (found !== expected) {
        this.#report(memoryFinding({ contract, call: call.name }, unit, state, page, expected, found));
        return false;
      }
      if (isQuiet) {
        // The rest of the leaf, or of the hole, is the same.
        i += sameFor;
        continue;
      }
      walks.all(unit, state, page);
      for (let o = 0; o < walks.outcomes.length; o++) {
        if (walks.outcomes[o] === expected) continue;
        this.#report(staleFinding({ contract, call: call.name }, tables, unit, state, page, walks.sources[o]));
        return false;
      }
      i += 1;
    }
    return true;
  }

  /** Whether no cache can say anything but what memory says. */
  #isQuiet(unit: Unit, state: DeviceState): boolean {
    if (state.stale.length > 0 || (state.tlb !== null && state.tlb.nrLive > 0)) return false;
    if (state.current.kind !== 'table') return true;
    const space = unit.spaceOf(state.current.domainId);
    return space === undefined || (space.nrLive === 0 && space.oldRoots.length === 0);
  }

  #judgeDevice(call: Call, domain: IommuDomain | null, device: Device): void {
    if (this.#domainOf.get(device.sid) !== domain) return;
    const { walks, tables } = this.#ready();
    const due: Due = { contract: 'C-ATTACH', call: call.name };
    for (const { unit } of this.#units) {
      if (!unit.isOn) continue;
      if (unit.unknown !== null) {
        this.#report(unknownFinding(due, unit, device.sid));
        unit.unknown = null;
      }
      const state = unit.devices.get(device.sid);
      if (state === undefined) continue;
      if (state.stale.length > 0) {
        const [stale] = state.stale;
        this.#report(staleFinding(due, tables, unit, state, 0, { ...FROM_MEMORY, entry: stale }));
        continue;
      }
      if (state.left !== null) {
        this.#report(leftFinding(due, unit, state, state.left));
        continue;
      }
      if (state.current.kind !== 'table') continue;
      const space = unit.space(state.current.domainId);
      for (const old of space.oldRoots) {
        const node = tables.tree.node(old.pfn);
        if (node === undefined) continue;
        let differs = -1;
        tables.tree.eachLeaf(node, (page) => {
          if (differs < 0 && walks.leafOf(old.pfn, old.levels, page, 3) !== walks.inMemory(state.current, page))
            differs = page;
        });
        if (differs < 0) continue;
        this.#report(staleFinding(due, tables, unit, state, differs, { ...FROM_MEMORY, space, isOldRoot: true }));
        break;
      }
    }
  }

  /** After a flush of a whole domain nothing of what was unmapped before may be left. */
  #judgeFlushed(call: Call, domain: IommuDomain): void {
    const { tables } = this.#ready();
    const { values } = tables;
    for (const [sid, attached] of this.#domainOf) {
      if (attached !== domain) continue;
      for (const { unit } of this.#units) {
        const state = unit.devices.get(sid);
        const space = state?.current.kind === 'table' ? unit.spaceOf(state.current.domainId) : undefined;
        if (state === undefined || space === undefined) continue;
        for (const tag of state.tlb === null ? [space] : [space, state.tlb]) {
          for (let at = tag.oldest; at >= 0; at = values.newer[at]) {
            // What a device kept is dated by the invalidation that took it from the unit, which this flush has sent.
            if (values.lazy[at] === 0 || (tag === space && values.step[at] > call.step)) continue;
            const due: Due = { contract: 'C-LAZY-BOUND', call: call.name };
            const source = { ...FROM_MEMORY, value: at, space: tag };
            this.#report(staleFinding(due, tables, unit, state, values.page[at], source));
            return;
          }
        }
      }
    }
  }

  /** Nothing may wait in a flush queue for longer than its period. */
  #judgeWindow(call: Call): void {
    const { tables } = this.#ready();
    const { values } = tables;
    const { spaces } = tables;
    for (let i = 0; i < spaces.length; i++) {
      const space = spaces[i];
      const at = space.oldest;
      if (at < 0 || values.lazy[at] === 0 || tables.nowNs - values.timeNs[at] <= this.#options.lazyWindowNs) continue;
      const state = [...space.unit.devices.values()].find(
        ({ current, tlb }) => tlb === space || (current.kind === 'table' && current.domainId === space.domainId),
      );
      if (state === undefined) continue;
      const due: Due = { contract: 'C-LAZY-BOUND', call: call.name };
      this.#report(staleFinding(due, tables, space.unit, state, values.page[at], { ...FROM_MEMORY, value: at, space }));
      values.lazy[at] = 0;
    }
  }

  #report(finding: Finding | null): void {
    if (finding === null) return;
    if (this.findings.length < this.#options.maxFindings) this.findings.push(finding);
    else this.nrMore += 1;
  }
}
