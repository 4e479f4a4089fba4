/** The sanitizer as the judge of a stage: what caches may hold, from what the driver does alone. */
import type { IommuOps } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import type { Finding, SanitizerOptions } from '../sanitizer/index.ts';
import { Sanitizer } from '../sanitizer/index.ts';
import type { Judge, UnitPlace } from './judge.ts';

export class SanitizerJudge implements Judge {
  readonly sanitizer: Sanitizer;

  constructor(options: SanitizerOptions = {}) {
    this.sanitizer = new Sanitizer(options);
  }

  get findings(): readonly Finding[] {
    return this.sanitizer.findings;
  }

  platform(inner: Platform, units: readonly UnitPlace[]): Platform {
    const watched = this.sanitizer.platform(inner);
    for (const unit of units) {
      if (unit.arch === 'intel') this.sanitizer.watchVtd(unit.base);
      else this.sanitizer.watchAmdvi(unit.base, unit.capHeader, unit.serves);
    }
    return watched;
  }

  watch(ops: IommuOps): void {
    this.sanitizer.watch(ops);
  }

  started(): void {}

  call<T>(name: string, body: () => T): T {
    return this.sanitizer.call(name, body);
  }
}
