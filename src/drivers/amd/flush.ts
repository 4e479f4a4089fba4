/**
 * What a domain's flush becomes on its units: amd_iommu_domain_flush_pages and amd_iommu_domain_flush_all of
 * drivers/iommu/amd/iommu.c, under the rules of a preset.
 *
 * Always with the PDE bit since 5.15: walk caches may hold the path to what changed, and without it would keep that. Until
 * then ranges left it out, which is wrong under NpCache, where the absence of a table may be cached as well.
 */
import type { CommandQueue } from './command-queue.ts';
import { invalidateAllPages, invalidateCovering, invalidateExactly, invalidateFullRangeSplit } from './commands.ts';
import type { AmdDomain } from './domain.ts';
import type { AmdPreset } from './preset.ts';

export class DomainFlusher {
  readonly #preset: AmdPreset;
  readonly #npCache: boolean;

  /** @param npCache some unit may cache what is not present: one global switch, as in Linux */
  constructor(preset: AmdPreset, npCache: boolean) {
    this.#preset = preset;
    this.#npCache = npCache;
  }

  /** Drops a range of a domain on all its units and waits. @returns 0 or the errno of a unit that did not answer */
  pages(domain: AmdDomain, iova: number, nrBytes: number): number {
    const { units, did } = domain;
    let errno = 0;
    for (let i = 0; i < units.length; i++) {
      const result = this.queuePages(units[i].queue, did, iova, nrBytes);
      if (result !== 0) errno = result;
    }
    const waited = this.complete(domain);
    return errno === 0 ? waited : errno;
  }

  /** The commands for a range, without their wait. */
  protected queuePages(queue: CommandQueue, did: number, iova: number, nrBytes: number): number {
    const { ranges, flushesTables } = this.#preset;
    if (ranges === 'all-pages') {
      return nrBytes > 4096
        ? invalidateAllPages(queue, did, flushesTables)
        : invalidateCovering(queue, did, iova, nrBytes, flushesTables);
    }
    // One page is the commonest flush of all, and both rules give the same command for it.
    return this.#npCache && nrBytes > 4096
      ? invalidateExactly(queue, did, iova, nrBytes, flushesTables)
      : invalidateCovering(queue, did, iova, nrBytes, flushesTables);
  }

  /** Drops everything of a domain on all its units and waits. @returns as `pages` */
  all(domain: AmdDomain): number {
    const { units, did } = domain;
    let errno = 0;
    for (let i = 0; i < units.length; i++) {
      const { queue } = units[i];
      const split = this.#npCache && this.#preset.splitsFullFlush;
      const result = split ? invalidateFullRangeSplit(queue, did, true) : invalidateAllPages(queue, did, true);
      if (result !== 0) errno = result;
    }
    const waited = this.complete(domain);
    return errno === 0 ? waited : errno;
  }

  /** Waits until all units of a domain have executed what was queued (domain_flush_complete). */
  complete(domain: AmdDomain): number {
    const { units } = domain;
    let errno = 0;
    for (let i = 0; i < units.length; i++) {
      const result = units[i].queue.wait();
      if (result !== 0) errno = result;
    }
    return errno;
  }
}
