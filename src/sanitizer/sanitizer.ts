/**
 * The sanitizer: tells whether a driver keeps its promises whatever the caches of the hardware do, from what the driver does
 * alone: stores, register writes, what it waits for, and where its calls begin and end. No hardware model is asked.
 *
 * For every entry that hardware can reach it keeps the values that a cache may still hold (tables.ts, unit.ts). They are born at
 * stores and die by invalidations that cover them, were sent after the store was visible, and were seen to complete. At the end
 * of a call (calls.ts) every walk that these values allow must give what the call promised (judge.ts, walks.ts). DESIGN.md
 * section 6 has the promises, docs/contracts.md what cannot be seen.
 */
import type { IommuOps } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import { AmdviUnit } from './amdvi-unit.ts';
import { Calls } from './calls.ts';
import type { Finding } from './finding.ts';
import { Judge } from './judge.ts';
import type { Possible } from './possible.ts';
import { possibleOf } from './possible.ts';
import { freedFinding } from './reports.ts';
import { Tables } from './tables.ts';
import type { Unit } from './unit.ts';
import { VtdUnit } from './vtd-unit.ts';
import { Walks } from './walks.ts';
import { watchOps } from './watched-ops.ts';
import { WatchedPlatform } from './watched-platform.ts';

const PAGE = 4096;

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

/** What there is once a platform is watched. */
interface Parts {
  readonly platform: Platform;
  readonly tables: Tables;
  readonly judge: Judge;
  readonly calls: Calls;
}

export class Sanitizer {
  readonly findings: Finding[] = [];
  /** Findings beyond `maxFindings`. */
  nrMore = 0;
  readonly #options: Required<SanitizerOptions>;
  readonly #units: Unit[] = [];
  #parts: Parts | null = null;

  constructor(options: SanitizerOptions = {}) {
    this.#options = { maxFindings: 100, lazyWindowNs: 20e6, ...options };
  }

  get counts(): SanitizerCounts {
    const { tables, judge, calls } = this.#parts ?? {};
    return {
      steps: tables?.step ?? 0,
      invalidations: this.#units.reduce((sum, unit) => sum + unit.nrInvalidations, 0),
      calls: calls?.nr ?? 0,
      pages: judge?.nrPages ?? 0,
      staleNow: tables?.values.nrLive ?? 0,
      staleMost: tables?.values.nrMost ?? 0,
      tables: tables?.tree.size ?? 0,
    };
  }

  /** Where walks of a page may end for a device, whatever its unit holds; empty for a device that no unit has an entry of. */
  possible(sid: number, iova: number): Possible[] {
    const { tables } = this.#ready();
    const walks = new Walks(tables);
    return this.#units.flatMap((unit) => {
      const state = unit.devices.get(sid);
      return state === undefined ? [] : possibleOf(tables, walks, unit, state, Math.floor(iova / PAGE));
    });
  }

  /**
   * The platform that the driver is to be given. Watches the memory and the allocator of the inner one from now on.
   * @throws RangeError when called twice, or when somebody else observes the memory
   */
  platform(inner: Platform): Platform {
    if (this.#parts !== null) throw new RangeError('a sanitizer watches one platform');
    if (inner.mem.observer !== null) throw new RangeError('somebody else observes the memory already');
    const units = this.#units;
    const tables = new Tables(inner.mem);
    const judge = new Judge(tables, units, this.#options.lazyWindowNs, (finding) => this.#report(finding));
    const calls = new Calls(inner, tables, judge);
    this.#parts = { platform: inner, tables, judge, calls };
    inner.mem.observer = {
      stored: (wordIndex, nrWords) => {
        if (!tables.stored(wordIndex, nrWords)) return;
        const paddr = inner.mem.paddrOfIndex(wordIndex);
        for (let i = 0; i < units.length; i++) units[i].stored(paddr, nrWords * 4);
      },
    };
    inner.pages.observer = {
      freed: (pfn) => {
        judge.freed(pfn);
        const finding = freedFinding(calls.current ?? 'free', tables, pfn);
        if (finding !== null) this.#report(finding);
      },
    };
    return new WatchedPlatform(inner, tables, units);
  }

  /** Announces a VT-d unit, before the driver touches it. @param base physical address of its registers */
  watchVtd(base: number): void {
    const { platform, tables } = this.#ready();
    this.#units.push(new VtdUnit(platform, tables, base, this.#units.length));
  }

  /** Announces an AMD-Vi unit. @param capHeader first word of its capability block @param serves which requesters it translates */
  watchAmdvi(base: number, capHeader: number, serves: (sid: number) => boolean = () => true): void {
    const { platform, tables } = this.#ready();
    this.#units.push(new AmdviUnit(platform, tables, base, this.#units.length, capHeader, serves));
  }

  /**
   * Watches the calls of a driver. Its methods are replaced on the object itself: domains name the driver that serves them, so a
   * wrapper would be bypassed. @returns the same object
   */
  watch<T extends IommuOps>(ops: T): T {
    watchOps(ops, this.#ready().calls);
    return ops;
  }

  /**
   * One call of a caller. What drivers promised in it is judged when the outermost one returns.
   * @param name as findings show it
   */
  call<T>(name: string, body: () => T): T {
    return this.#ready().calls.run(name, body);
  }

  #ready(): Parts {
    if (this.#parts === null) throw new RangeError('Sanitizer.platform comes first: there is nothing to watch yet');
    return this.#parts;
  }

  #report(finding: Finding): void {
    if (this.findings.length < this.#options.maxFindings) this.findings.push(finding);
    else this.nrMore += 1;
  }
}
