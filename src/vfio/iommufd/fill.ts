/**
 * Areas into domains and out again: iopt_area_fill_domain(s)() and iopt_area_unfill_domain(s)() of Linux 6.12
 * drivers/iommu/iommufd/pages.c.
 *
 * Two rules keep this safe. A frame is unpinned only when no domain leads to it: unmap first. And an unmap ends only where the
 * frames stop being contiguous, since the map before it may have made one large leaf of them; a driver would take it whole.
 */
import { PAGE_SIZE, paddrOf } from '../../base/index.ts';
import type { Iommu, IommuDomain } from '../../iommu/index.ts';
import type { IoptArea } from './area.ts';
import { PfnReader } from './reader.ts';
import { PfnRuns } from './runs.ts';

/** iommu_unmap_nofail. @throws Error when the driver unmaps something else than what was mapped */
function unmapExactly(core: Iommu, domain: IommuDomain, iova: number, nrBytes: number): void {
  const unmapped = core.unmap(domain, iova, nrBytes);
  if (unmapped !== nrBytes) throw new Error(`${domain.ops.name} unmapped ${unmapped} bytes instead of ${nrBytes}`);
}

/** Takes an area's pages [first, last] out of a domain; they stay pinned. */
export function unmapPages(area: IoptArea, domain: IommuDomain, first: number, last: number): void {
  const start = area.iovaOf(first);
  unmapExactly(area.pages.environment.core, domain, start, area.lastIovaOf(last) - start + 1);
}

/** @returns 0, or the errno of a map with nothing of it left */
function mapOne(
  core: Iommu,
  domain: IommuDomain,
  iova: number,
  paddr: number,
  nrBytes: number,
  prot: number,
  small: boolean,
): number {
  if (!small) return core.map(domain, iova, paddr, nrBytes, prot);
  // For VFIO's version 1, which may unmap any page later: no large leaf may form.
  for (let done = 0; done < nrBytes; done += PAGE_SIZE) {
    const errno = core.map(domain, iova + done, paddr + done, PAGE_SIZE, prot);
    if (errno === 0) continue;
    if (done > 0) unmapExactly(core, domain, iova, done);
    return errno;
  }
  return 0;
}

/** Maps a batch, one iommu_map() per run (batch_to_domain). */
function mapBatch(runs: PfnRuns, domain: IommuDomain, area: IoptArea, firstIndex: number, small: boolean): number {
  const { core } = area.pages.environment;
  const start = area.iovaOf(firstIndex);
  let offset = firstIndex === area.firstIndex ? area.pageOffset : 0;
  let iova = start;
  let end = start;
  for (let run = 0; run < runs.pfns.length; run++) {
    end = Math.min(area.last + 1, end + runs.counts[run] * PAGE_SIZE - offset);
    const errno = mapOne(core, domain, iova, paddrOf(runs.pfns[run]) + offset, end - iova, area.prot, small);
    if (errno !== 0) {
      if (iova !== start) unmapExactly(core, domain, start, iova - start);
      return errno;
    }
    iova = end;
    offset = 0;
  }
  return 0;
}

/**
 * Maps a new area into all domains of its page table. @returns 0 or a negative errno with all domains and pins as before
 *
 * Order on failure differs from Linux 6.12, which unpins the failing batch while the domains before the failing one still
 * lead to it; here all of them are cleared first.
 */
export function fillDomains(area: IoptArea, domains: readonly IommuDomain[], small: boolean): number {
  const [storage] = domains;
  if (storage === undefined) return 0;
  const { pages } = area;
  const reader = new PfnReader(pages, area.firstIndex, area.lastIndex);
  /** Pages before it are mapped in the first `nrFilled` domains, and before `doneAll` in all. */
  let doneSome = area.firstIndex;
  let doneAll = area.firstIndex;
  let nrFilled = 0;
  let errno = reader.next();
  while (errno === 0 && !reader.done) {
    doneSome = reader.end;
    doneAll = reader.start;
    for (nrFilled = 0; nrFilled < domains.length; nrFilled++) {
      errno = mapBatch(reader.runs, domains[nrFilled], area, reader.start, small);
      if (errno !== 0) break;
    }
    if (errno !== 0) break;
    doneAll = doneSome;
    errno = reader.next();
  }
  if (errno === 0) errno = pages.settle();
  if (errno === 0) {
    area.storage = storage;
    pages.addDomainArea(area);
    return 0;
  }
  const final = domains.length - 1;
  domains.forEach((domain, index) => {
    const end = index < nrFilled ? doneSome : doneAll;
    if (index !== final && end !== area.firstIndex) unmapPages(area, domain, area.firstIndex, end - 1);
  });
  // The last one still knows all frames that were read before the failing batch.
  if (doneAll !== area.firstIndex) unfillDomain(area, domains[final], doneAll - 1);
  reader.releasePins();
  pages.settle();
  return errno;
}

/** Maps an area into one more domain. @returns 0 or a negative errno with the domain and pins as before */
export function fillDomain(area: IoptArea, domain: IommuDomain, small: boolean): number {
  const { pages } = area;
  const reader = new PfnReader(pages, area.firstIndex, area.lastIndex);
  let done = area.firstIndex;
  let errno = reader.next();
  while (errno === 0 && !reader.done) {
    errno = mapBatch(reader.runs, domain, area, reader.start, small);
    if (errno !== 0) break;
    done = reader.end;
    errno = reader.next();
  }
  if (errno === 0) errno = pages.settle();
  if (errno === 0) return 0;
  if (done !== area.firstIndex) unfillDomain(area, domain, done - 1);
  reader.releasePins();
  pages.settle();
  return errno;
}

/** The area's pages leave all domains; what no in-kernel user and no other area holds is unpinned. */
export function unfillDomains(area: IoptArea, domains: readonly IommuDomain[]): void {
  const { storage, pages } = area;
  if (storage === null) return;
  for (const domain of domains) {
    if (domain !== storage) unmapPages(area, domain, area.firstIndex, area.lastIndex);
  }
  pages.removeDomainArea(area);
  unfillDomain(area, storage, area.lastIndex);
  area.storage = null;
}

/**
 * Unmaps an area's pages up to `lastIndex` from the last domain that has them, and unpins those that nobody holds. The area is
 * not among the pages' domain areas any more. Unmaps are as long as they can be: up to the last page before one that
 * somebody holds, then on to where the frames stop being contiguous; what was read beyond is remembered for later (the
 * kernel's "carry").
 */
export function unfillDomain(area: IoptArea, domain: IommuDomain, lastIndex: number): void {
  const { pages } = area;
  const { core, memoryLimit } = pages.environment;
  const { firstIndex } = area;
  const frameAt = (index: number): number => Math.floor(core.iovaToPhys(domain, area.iovaOf(index)) / PAGE_SIZE);
  /** First page that is still mapped. */
  let mappedFrom = firstIndex;
  /** Frames of pages unmapped and not dealt with: [carryFrom, mappedFrom). */
  const runs = new PfnRuns(lastIndex - firstIndex + 1, memoryLimit);
  let carryFrom = firstIndex;
  for (const hole of pages.unheld(firstIndex, lastIndex)) {
    let index = hole.first;
    while (index <= hole.last) {
      if (index >= mappedFrom) {
        runs.clear();
        carryFrom = index;
        let end = index;
        while (end <= hole.last && runs.add(frameAt(end))) end += 1;
        const unpinEnd = end;
        // Stopped by the hole's end, not by a full batch: the run may go on behind it.
        if (end > hole.last)
          while (end <= lastIndex && runs.continues(frameAt(end)) && runs.add(frameAt(end))) end += 1;
        unmapPages(area, domain, mappedFrom, end - 1);
        mappedFrom = end;
        pages.unpinRuns(runs, 0, unpinEnd - index);
        index = unpinEnd;
      } else {
        const end = Math.min(hole.last + 1, mappedFrom);
        pages.unpinRuns(runs, index - carryFrom, end - index);
        index = end;
      }
    }
  }
  if (mappedFrom <= lastIndex) unmapPages(area, domain, mappedFrom, lastIndex);
  pages.settle();
}
