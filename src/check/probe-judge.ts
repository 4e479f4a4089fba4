/**
 * A judge with devices of its own. They look at every page right before the driver changes it, so that the caches of the
 * concrete model, which punish soonest by default, hold what was there before; and at the end of each call they look again.
 * It finds what one unlucky device would find, not all that caches may do; it knows nothing of drivers or invalidations.
 */
import { PAGE_SIZE } from '../base/index.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../hw/index.ts';
import type { IommuDomain, IommuOps } from '../iommu/index.ts';
import type { Machine } from '../machine/index.ts';
import type { Platform } from '../mem/index.ts';
import type { Breach, ContractId, Judge } from './judge.ts';
import type { PagePromise, Promises } from './promises.ts';
import { DEVICES } from './stage.ts';

/** What a device saw. */
export interface Sighting extends Breach {
  readonly access: 'read' | 'write';
  /** Physical address that it reached, -1 when it was blocked. */
  readonly seen: number;
  /** The address that it must reach, -1 when it must be blocked. */
  readonly due: number;
}

/** Pages looked at from each end of a range; of a table's worth the middle tells nothing new. */
const ENDS = 4;
/** Most pages that are looked at when a device came or went. */
const MOST_PAGES = 64;
const GONE: PagePromise = { state: 'gone', pfn: 0, prot: 0 };

export class ProbeJudge implements Judge {
  readonly findings: Sighting[] = [];
  /** Accesses made. A run without any has judged nothing. */
  nrLooks = 0;
  #machine: Machine | null = null;
  #promises: Promises | null = null;
  /** Pages that the running call changes. */
  readonly #touched = new Set<number>();
  #attachmentsChange = false;
  #depth = 0;

  platform(inner: Platform): Platform {
    return inner;
  }

  started(machine: Machine, promises: Promises): void {
    this.#machine = machine;
    this.#promises = promises;
  }

  /** Puts a look before the callbacks that change something. */
  watch(ops: IommuOps): void {
    const mapPages = ops.mapPages.bind(ops);
    ops.mapPages = (domain, iova, paddr, pgsize, pgcount, prot, mapped): number => {
      this.#touch(iova, pgsize * pgcount);
      return mapPages(domain, iova, paddr, pgsize, pgcount, prot, mapped);
    };
    const unmapPages = ops.unmapPages.bind(ops);
    ops.unmapPages = (domain, iova, pgsize, pgcount, gather): number => {
      this.#touch(iova, pgsize * pgcount);
      return unmapPages(domain, iova, pgsize, pgcount, gather);
    };
    const attachDev = ops.attachDev.bind(ops);
    ops.attachDev = (domain: IommuDomain, device): number => {
      this.#touchAll();
      return attachDev(domain, device);
    };
    const detachDev = ops.detachDev.bind(ops);
    ops.detachDev = (domain, device): void => {
      this.#touchAll();
      detachDev(domain, device);
    };
    const mapSgDirect = ops.mapSgDirect?.bind(ops);
    if (mapSgDirect === undefined) return;
    ops.mapSgDirect = (domain, iova, chunks, nr, prot): number => {
      let nrBytes = 0;
      for (let i = 0; i < nr; i++) nrBytes += chunks[2 * i + 1];
      this.#touch(iova, nrBytes);
      return mapSgDirect(domain, iova, chunks, nr, prot);
    };
  }

  call<T>(name: string, body: () => T): T {
    this.#depth += 1;
    const result = body();
    this.#depth -= 1;
    if (this.#depth === 0) this.#judge(name);
    return result;
  }

  /** The devices look at a range that is about to change. */
  #touch(iova: number, nrBytes: number): void {
    const first = iova / PAGE_SIZE;
    const nr = nrBytes / PAGE_SIZE;
    for (let page = 0; page < nr; page++) {
      if (page >= ENDS && page < nr - ENDS) page = nr - ENDS;
      this.#touched.add(first + page);
      this.#look(first + page);
    }
  }

  /** The devices look at what any of them may reach. */
  #touchAll(): void {
    this.#attachmentsChange = true;
    if (this.#promises === null) return;
    for (const pages of this.#promises.pages.values()) {
      let nr = 0;
      for (const page of pages.keys()) {
        if (nr === MOST_PAGES) break;
        this.#touched.add(page);
        this.#look(page);
        nr += 1;
      }
    }
  }

  #look(page: number): void {
    if (this.#machine === null) return;
    for (const { sid } of DEVICES) {
      this.nrLooks += 1;
      this.#machine.unit.translate(sid, page * PAGE_SIZE, ACCESS_READ);
    }
  }

  #judge(call: string): void {
    if (this.#promises !== null) {
      for (const { sid } of DEVICES) {
        const space = this.#promises.devices.get(sid) ?? null;
        const promised = space === null ? null : this.#promises.of(space);
        for (const page of this.#touched) {
          const promise = promised?.get(page) ?? GONE;
          if (promise.state === 'queued') continue;
          this.#judgePage(call, sid, page, promise, ACCESS_READ);
          this.#judgePage(call, sid, page, promise, ACCESS_WRITE);
        }
      }
    }
    this.#touched.clear();
    this.#attachmentsChange = false;
  }

  #judgePage(call: string, sid: number, page: number, promise: PagePromise, access: number): void {
    if (this.#machine === null) return;
    this.nrLooks += 1;
    const iova = page * PAGE_SIZE;
    const reached = this.#machine.unit.translate(sid, iova, access);
    const seen = reached < 0 ? -1 : reached;
    const due = promise.state === 'mapped' && (promise.prot & access) !== 0 ? promise.pfn * PAGE_SIZE : -1;
    if (seen === due) return;
    this.findings.push({
      contract: this.#contractOf(call, promise, seen),
      call,
      sid,
      iova,
      nrBytes: PAGE_SIZE,
      access: access === ACCESS_READ ? 'read' : 'write',
      seen,
      due,
    });
  }

  /** What was promised and is not so. */
  #contractOf(call: string, promise: PagePromise, seen: number): ContractId {
    if (this.#attachmentsChange) return 'C-ATTACH';
    if (promise.state === 'mapped') return 'C-MAP-VISIBLE';
    if (call.startsWith('flush queue')) return 'C-LAZY-BOUND';
    return /map_|map 0x|MAP /.test(call) && seen >= 0 && !/unmap|UNMAP/.test(call) ? 'C-ROLLBACK' : 'C-UNMAP-GONE';
  }
}
