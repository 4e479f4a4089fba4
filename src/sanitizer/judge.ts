/** Whether promises hold, whatever caches do: all walks that stale values allow, against what was promised. */
import type { Device, IommuDomain } from '../iommu/index.ts';
import { Attached, attachFinding } from './attached.ts';
import type { ContractId, Finding } from './finding.ts';
import type { Promised } from './promises.ts';
import type { Due } from './reports.ts';
import { leftFinding, memoryFinding, staleFinding, unknownFinding } from './reports.ts';
import type { Tables } from './tables.ts';
import type { DeviceState, Unit } from './unit.ts';
import { sameEntry } from './unit.ts';
import { FROM_MEMORY, NOWHERE, Walks } from './walks.ts';

/** Whether no cache can say anything but what memory says. */
function isQuietFor({ stale, space, tlb }: DeviceState): boolean {
  if (stale.length > 0 || (tlb !== null && tlb.nrLive > 0)) return false;
  return space === null || (space.nrLive === 0 && space.oldRoots.length === 0);
}

export class Judge {
  /** Pages judged. */
  nrPages = 0;
  readonly #tables: Tables;
  readonly #units: readonly Unit[];
  readonly #lazyWindowNs: number;
  readonly #report: (finding: Finding) => void;
  readonly #walks: Walks;
  /** Which domain each device is attached to, by what attach calls returned. */
  readonly #domainOf = new Map<number, IommuDomain | null>();
  readonly #tablesOf = new Attached();
  /** Devices of the domain that was asked for last. */
  #attachedTo: IommuDomain | null = null;
  #attached: readonly number[] = [];

  constructor(tables: Tables, units: readonly Unit[], lazyWindowNs: number, report: (finding: Finding) => void) {
    this.#tables = tables;
    this.#units = units;
    this.#lazyWindowNs = lazyWindowNs;
    this.#report = report;
    this.#walks = new Walks(tables);
  }

  /** A device was attached to a domain, or detached. */
  moved(domain: IommuDomain | null, device: Device): void {
    this.#domainOf.set(device.sid, domain);
    this.#attachedTo = null;
  }

  /** A page was given back. */
  freed(pfn: number): void {
    this.#tablesOf.freed(pfn);
  }

  /** Devices that are attached to a domain. */
  #sidsOf(domain: IommuDomain): readonly number[] {
    if (this.#attachedTo !== domain) {
      this.#attachedTo = domain;
      this.#attached = [...this.#domainOf].filter(([, attached]) => attached === domain).map(([sid]) => sid);
    }
    return this.#attached;
  }

  /** Judges what was promised of a range. */
  pages(call: string, promise: Promised, contract: ContractId): void {
    this.nrPages += promise.pages;
    const units = this.#units;
    const sids = this.#sidsOf(promise.domain);
    for (let s = 0; s < sids.length; s++) {
      for (let u = 0; u < units.length; u++) {
        const unit = units[u];
        const state = unit.isOn ? unit.devices.get(sids[s]) : undefined;
        if (state !== undefined && !this.#pagesFor(unit, state, call, promise, contract)) return;
      }
    }
  }

  /** The same for one device. @returns false after a finding */
  #pagesFor(unit: Unit, state: DeviceState, call: string, promise: Promised, contract: ContractId): boolean {
    const walks = this.#walks;
    const isGone = promise.kind === 'gone';
    const isQuiet = isQuietFor(state);
    for (let i = 0; i < promise.pages;) {
      const page = promise.page + i;
      const expected = isGone ? NOWHERE : (promise.pfn + i) * 4 + promise.rights;
      let found = walks.inMemory(state.current, page);
      const { sawPieces } = walks;
      const sameFor = isQuiet ? walks.sameForUpTo(promise.pages - i) : 1;
      if (isGone && found === NOWHERE && sawPieces) found = walks.replicaOf(state.current, page);
      if (found !== expected) {
        this.#report(memoryFinding({ contract, call }, unit, state, page, expected, found));
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
        this.#report(staleFinding({ contract, call }, this.#tables, unit, state, page, walks.sources[o]));
        return false;
      }
      i += 1;
    }
    return true;
  }

  /** C-ATTACH: a device uses what it was attached to and nothing else. */
  device(call: string, domain: IommuDomain | null, device: Device): void {
    if (this.#domainOf.get(device.sid) !== domain) return;
    const walks = this.#walks;
    const tables = this.#tables;
    const due: Due = { contract: 'C-ATTACH', call };
    let nrServing = 0;
    for (const unit of this.#units) {
      if (!unit.isOn) continue;
      if (unit.unknown !== null) {
        this.#report(unknownFinding(due, unit, device.sid));
        unit.unknown = null;
      }
      const state = unit.devices.get(device.sid);
      if (state === undefined) continue;
      nrServing += 1;
      const wrong = this.#tablesOf.wrong(domain, state.current);
      if (wrong !== null) {
        this.#report(attachFinding(call, unit, device.sid, state.current.domainId, wrong));
        continue;
      }
      // One that says the same again may stay.
      const stale = state.stale.find(({ entry }) => !sameEntry(entry, state.current));
      if (stale !== undefined) {
        this.#report(staleFinding(due, tables, unit, state, 0, { ...FROM_MEMORY, entry: stale }));
        continue;
      }
      if (state.left !== null) {
        this.#report(leftFinding(due, unit, state, state.left));
        continue;
      }
      const { space } = state;
      if (space === null) continue;
      for (const old of space.oldRoots) {
        const differs = walks.differsFrom(old, state.current, unit.cachesNotPresent);
        if (differs < 0) continue;
        this.#report(staleFinding(due, tables, unit, state, differs, { ...FROM_MEMORY, space, isOldRoot: true }));
        break;
      }
    }
    if (nrServing === 0 && domain !== null) {
      const nobody = 'no unit that translates has an entry for the device';
      this.#report(attachFinding(call, null, device.sid, 0, nobody));
    }
  }

  /** After a flush of a whole domain nothing of what was unmapped before may be left. @param step at which the call began */
  flushed(call: string, step: number, domain: IommuDomain): void {
    const tables = this.#tables;
    const { values } = tables;
    for (const sid of this.#sidsOf(domain)) {
      for (const unit of this.#units) {
        const state = unit.devices.get(sid);
        if (state === undefined || state.space === null) continue;
        const { space } = state;
        for (const tag of state.tlb === null ? [space] : [space, state.tlb]) {
          for (let at = tag.oldest; at >= 0; at = values.newer[at]) {
            // What a device kept is dated by the invalidation that took it from the unit, which this flush has sent.
            if (values.lazy[at] === 0 || (tag === space && values.step[at] > step)) continue;
            const due: Due = { contract: 'C-LAZY-BOUND', call };
            const source = { ...FROM_MEMORY, value: at, space: tag };
            this.#report(staleFinding(due, tables, unit, state, values.page[at], source));
            return;
          }
        }
      }
    }
  }

  /** Nothing may wait in a flush queue for longer than its period. */
  window(call: string): void {
    const tables = this.#tables;
    const { values, spaces } = tables;
    const bound = tables.nowNs - this.#lazyWindowNs;
    for (let i = 0; i < spaces.length; i++) {
      const space = spaces[i];
      if (space.lazySinceNs >= bound) continue;
      const at = space.overdue(values, bound);
      if (at < 0) continue;
      const state = [...space.unit.devices.values()].find(
        ({ current, tlb }) => tlb === space || (current.kind === 'table' && current.domainId === space.domainId),
      );
      if (state === undefined) continue;
      const due: Due = { contract: 'C-LAZY-BOUND', call };
      this.#report(staleFinding(due, tables, space.unit, state, values.page[at], { ...FROM_MEMORY, value: at, space }));
      values.lazy[at] = 0;
    }
  }
}
