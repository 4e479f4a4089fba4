/** Bugs 29, 30 and 31: addresses, segments, bounce buffers and links of the DMA API. No cache is involved: each has its test. */
import { ManualClock } from '../../base/index.ts';
import type { DmaDirection, SgLimits } from '../../dma/index.ts';
import {
  CpuSync,
  DmaDevice,
  DmaIovaState,
  DmaSpace,
  IovaDomain,
  Scatterlist,
  SgLayout,
  Swiotlb,
} from '../../dma/index.ts';
import type { PgCount } from '../../iommu/index.ts';
import { iommuPgsize } from '../../iommu/index.ts';
import { LocalPlatform } from '../../machine/index.ts';
import { Bus, PageAllocator, PhysMem } from '../../mem/index.ts';
import { intelDriver } from './drivers.ts';
import { KiB4, MEMORY } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { tested } from './mutant.ts';
import { intelRig, must } from './rig.ts';

const TWO_32: number = 2 ** 32;
const LAST_LOW_PFN: number = TWO_32 / KiB4 - 1;
const POOL = 0x1000_0000;
const POOL_BYTES: number = 2 ** 18;

/** What failed once below 4 GiB is tried again only after something above the last search was freed. */
class RemembersFailure extends IovaDomain {
  override free(pfn: number): number {
    const { below32 } = this.searchState;
    const { max32Pages } = this;
    const errno = super.free(pfn);
    if (pfn < below32) this.max32Pages = max32Pages;
    return errno;
  }
}

/** The end of the search less the size, unsigned: below zero it is a page near the top of all addresses. */
class Wraps extends IovaDomain {
  protected override place(nrPages: number, limitPfn: number, align: number): number {
    const pfn = super.place(nrPages, limitPfn, align);
    return pfn < 0 && nrPages > limitPfn + 1 ? 2 ** 52 - Math.max(align, nrPages) : pfn;
  }
}

/** `cur_len + s_length <= max_len` in 32 bits. */
class AddsLengths extends SgLayout {
  protected override fits(segmentBytes: number, nrBytes: number): boolean {
    return (segmentBytes + nrBytes) % TWO_32 <= this.limits.maxSegmentBytes;
  }
}

/** A part of a bounce buffer is copied to the start of the original. */
class CopiesToStart extends Swiotlb {
  protected override copyBack(address: number, original: number, _offset: number, nrBytes: number): void {
    super.copyBack(address, original, 0, nrBytes);
  }
}

/** The rest of the pages of a bounce buffer is what others left there. */
class KeepsPadding extends CpuSync {
  override bounce(paddr: number, nrBytes: number, _attrs: number, keepMask: number = this.minAlignMask): number {
    return this.swiotlb?.map(paddr, nrBytes, KiB4 - 1, keepMask) ?? -1;
  }
}

/** A link that failed is undone from the start of the range, not from its own. */
class UndoesFromStart extends DmaIovaState {
  protected override undoLink(_offset: number, nrBytes: number, direction: DmaDirection, attrs: number): void {
    super.undoLink(0, nrBytes, direction, attrs);
  }
}

/** iommu_pgsize() where addresses have 32 bits, and with them the sum of a boundary and the size behind it. */
function pgsizeWraps(bitmap: number, iova: number, paddr: number, nrBytes: number, out: PgCount): number {
  const pgsize = iommuPgsize(bitmap, iova, paddr, nrBytes, out);
  let next = pgsize * 2;
  while (next < TWO_32 && Math.floor(bitmap / next) % 2 === 0) next *= 2;
  if (next >= TWO_32 || (iova - paddr) % next !== 0) return pgsize;
  const toBoundary = next - (iova % next);
  if ((toBoundary + next) % TWO_32 <= nrBytes) out.count = toBoundary / pgsize;
  return pgsize;
}

function platformOf(mem: PhysMem): LocalPlatform {
  return new LocalPlatform(mem, new PageAllocator(mem), new Bus(mem), new ManualClock(), { step: () => {} });
}

export const DMA_MUTANTS: readonly Mutant[] = [
  tested(
    {
      id: '29a',
      title: 'a failure below 4 GiB is remembered although ranges were freed',
      source: 'list mails c557fb7ec4, 3131aafe8d',
    },
    'a request that failed succeeds once its room is free',
    RemembersFailure,
    IovaDomain,
    (Domain) => {
      const iovas = new Domain();
      must(iovas.reserve(1, LAST_LOW_PFN - 8));
      const pages = Array.from({ length: 8 }, () => iovas.alloc(1, LAST_LOW_PFN));
      pages.forEach(must);
      // The search begins at the top again, and remembers that there is no room for two.
      must(iovas.free(LAST_LOW_PFN));
      must(iovas.alloc(1, LAST_LOW_PFN));
      if (iovas.alloc(2, LAST_LOW_PFN) >= 0) return 'there was room from the beginning';
      must(iovas.free(LAST_LOW_PFN - 4));
      must(iovas.free(LAST_LOW_PFN - 5));
      return iovas.alloc(2, LAST_LOW_PFN) >= 0 ? '' : 'there is room for two pages, and they are refused';
    },
  ),
  tested(
    { id: '29b', title: 'a search wraps below page 0', source: '"Fix alloc iova overflows"' },
    'a request larger than everything below its limit is refused',
    Wraps,
    IovaDomain,
    (Domain) => {
      const pfn = new Domain().alloc(64, 31);
      return pfn < 0 ? '' : `it was given page 0x${pfn.toString(16)}`;
    },
  ),
  tested<new (limits: SgLimits) => SgLayout>(
    { id: '30a', title: 'the length of a segment overflows 32 bits', source: 'list mail 5adf8d9dc7' },
    'two elements of 2 GiB are two segments, since one would be longer than 32 bits tell',
    AddsLengths,
    SgLayout,
    (Layout) => {
      const layout = new Layout({ granule: KiB4, boundaryMask: 2 ** 48 - 1, maxSegmentBytes: TWO_32 - 1 });
      const list = Scatterlist.of([
        [MEMORY, TWO_32 / 2],
        [2 * MEMORY, TWO_32 / 2],
      ]);
      must(layout.layOut(list, 2, () => 'unsupported'));
      const count = layout.finalise(list, 2, MEMORY, () => false);
      return count === 2 ? '' : `they are ${count}, of ${list.dmaBytes[0]} bytes`;
    },
  ),
  tested(
    {
      id: '30b',
      title: 'a synchronised part of a bounce buffer lands at the start of the original',
      source: 'list mail 59cd201b45',
    },
    'the CPU finds what the device wrote where the device wrote it',
    CopiesToStart,
    Swiotlb,
    (Pool) => {
      const mem = new PhysMem();
      const swiotlb = new Pool(mem, POOL, POOL_BYTES);
      const at = swiotlb.map(MEMORY, 2 * KiB4, KiB4 - 1, 0);
      must(at);
      mem.deviceStore32(at + KiB4, 0x600d);
      swiotlb.syncForCpu(at + KiB4, 64, 'fromDevice');
      return mem.load32(MEMORY + KiB4) === 0x600d ? '' : 'it is not there';
    },
  ),
  tested(
    {
      id: '30c',
      title: 'the padding of a bounce buffer shows what others bounced',
      source: 'swiotlb padding of untrusted devices',
    },
    'a device sees zeroes around a bounced buffer',
    KeepsPadding,
    CpuSync,
    (Sync) => {
      const mem = new PhysMem();
      for (let at = POOL; at < POOL + POOL_BYTES; at += 4) mem.store32(at, 0x5ec2e7);
      const platform = platformOf(mem);
      const sync = new Sync(KiB4, { untrusted: true, swiotlb: new Swiotlb(mem, POOL, POOL_BYTES), platform });
      const start = sync.bounce(MEMORY, 64, 0);
      must(start);
      const page = start - (start % KiB4);
      for (let at = page; at < page + KiB4; at += 4) {
        if ((at < start || at >= start + 64) && mem.deviceLoad32(at) !== 0) return `byte ${at - page} is not zero`;
      }
      return '';
    },
  ),
  tested(
    { id: '31a', title: 'the boundary of the next page size overflows', source: 'iommu_pgsize, 2023 and later' },
    'leaves never reach beyond what was asked for',
    pgsizeWraps,
    iommuPgsize,
    (pgsizeOf) => {
      const out = { count: 0 };
      const pgsize = pgsizeOf(KiB4 + TWO_32 / 2, 0, 0, 16 * KiB4, out);
      const bytes = pgsize * out.count;
      return bytes <= 16 * KiB4 ? '' : `${bytes} bytes for 65536`;
    },
  ),
  tested(
    {
      id: '31b',
      title: 'a link that fails half way takes the pages at the start of its range away',
      source: 'dma_iova_link, 2026',
    },
    'a link that fails leaves the links before it',
    UndoesFromStart,
    DmaIovaState,
    (State) => {
      const { machine, domain } = intelRig(intelDriver());
      const { core, clock, mem, platform } = machine;
      const swiotlb = new Swiotlb(mem, POOL, POOL_BYTES);
      const options = { untrusted: true, swiotlb, platform };
      const space = new DmaSpace(core, domain, clock);
      const taken = new DmaDevice(space, options).iovaTryAlloc(MEMORY, 4 * KiB4);
      if (taken === null) return 'no addresses';
      const state = new State(space, new CpuSync(KiB4, options), taken.dmaAddress, taken.nrBytes);
      must(state.link(MEMORY, 0, KiB4, 'toDevice'));
      // A whole page and a tail that has to be bounced, when the pool is full.
      must(swiotlb.map(2 * MEMORY, POOL_BYTES, KiB4 - 1, 0));
      if (state.link(MEMORY + 2 * KiB4, KiB4, KiB4 + 64, 'toDevice') >= 0) return 'the second link did not fail';
      return core.iovaToPhys(domain, state.dmaAddress) === MEMORY ? '' : 'the first page is gone';
    },
  ),
];
