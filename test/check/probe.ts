/**
 * A judge that has a device: it looks at every page that scenarios use, before and after each call, on the concrete model with
 * its most punishing caches. It finds less than a judge that tries everything, and it needs nothing that it judges.
 */
import type { Breach, Judge, PagePromise } from '../../src/check/index.ts';
import { DEVICES, Promises } from '../../src/check/index.ts';
import type { Machine } from '../../src/machine/index.ts';
import type { Platform } from '../../src/mem/index.ts';
import { READ, RW, WRITE } from '../drivers/lab.ts';

export class ProbeJudge implements Judge {
  readonly findings: Breach[] = [];
  nrLooks = 0;
  readonly #pages: readonly number[];
  #machine: Machine | null = null;
  #promises: Promises = new Promises();
  #depth = 0;

  /** @param pages that it looks at, also before they are mapped: only who looks too early has "not present" cached */
  constructor(pages: readonly number[]) {
    this.#pages = pages;
  }

  platform(inner: Platform): Platform {
    return inner;
  }
  watch(): void {}
  started(machine: Machine, promises: Promises): void {
    this.#machine = machine;
    this.#promises = promises;
  }

  call<T>(name: string, body: () => T): T {
    if (this.#depth === 0) this.#look(name, false);
    this.#depth += 1;
    const result = body();
    this.#depth -= 1;
    if (this.#depth === 0) this.#look(name, true);
    return result;
  }

  #look(call: string, judges: boolean): void {
    const machine = this.#machine;
    if (machine === null) return;
    for (const { sid } of DEVICES) {
      const space = this.#promises.devices.get(sid) ?? null;
      const promised: ReadonlyMap<number, PagePromise> = space === null ? new Map() : this.#promises.of(space);
      for (const page of this.#pages) {
        const promise = promised.get(page) ?? { state: 'gone', pfn: 0, prot: 0 };
        for (const access of [READ, WRITE, RW]) {
          const seen = machine.unit.translate(sid, page * 4096, access);
          this.nrLooks += 1;
          if (promise.state === 'queued' || !judges) continue;
          const due = promise.state === 'mapped' && (access & promise.prot) === access ? promise.pfn * 4096 : -1;
          if ((seen < 0 ? -1 : seen) === due) continue;
          const contract = space === null ? 'C-ATTACH' : promise.state === 'mapped' ? 'C-MAP-VISIBLE' : 'C-UNMAP-GONE';
          this.findings.push({ contract, call, sid, iova: page * 4096, nrBytes: 4096 });
        }
      }
    }
  }
}
