/** Bugs 1, 4, 5 and 21: ranges and AMD-Vi commands. */
import { highestBit, xor53 } from '../../base/index.ts';
import type { CommandQueue } from '../../drivers/index.ts';
import { AmdIommu, DomainFlusher } from '../../drivers/index.ts';
import type { IommuDomain } from '../../iommu/index.ts';
import { IotlbGather } from '../../iommu/index.ts';
import { amdvi } from '../../spec/index.ts';
import type { DriverFactory, StageSetup } from '../setup.ts';
import { DEVICES } from '../stage.ts';
import { amdDriver } from './drivers.ts';
import { IOVA, KiB4, MEMORY, run, scattered } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { story, tested } from './mutant.ts';
import { amdRig, atMost, must } from './rig.ts';

const RW = 3;
const AMD: StageSetup = { arch: 'amd', caller: 'core', npCache: false };

/** A driver whose domains sync at every gap never tells the gather what it unmapped (IOMMU_PAGES FLUSH_RANGE_NO_GAPS). */
class EmptyGather extends AmdIommu {
  override unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const nobodys = new IotlbGather();
    nobodys.queued = gather.queued;
    return super.unmapPages(domain, iova, pgsize, pgcount, nobodys);
  }
}

/** `1 << (bit - 1)` where `(1 << bit) - 1` belongs: one bit of the run of ones that codes the size. */
class WrongParenthesis extends DomainFlusher {
  protected override queuePages(queue: CommandQueue, did: number, iova: number, nrBytes: number): number {
    if (nrBytes <= KiB4) return super.queuePages(queue, did, iova, nrBytes);
    const bit = highestBit(xor53(iova, iova + nrBytes - 1));
    if (bit > 31) return super.queuePages(queue, did, iova, nrBytes);
    const lo = ((iova | (1 << (bit - 1))) & -KiB4) | amdvi.INV_SIZE_W2 | amdvi.INV_PDE_W2;
    const w1 = did | (amdvi.CMD_INVALIDATE_IOMMU_PAGES << amdvi.CMD_OP_SHIFT_W1);
    return queue.queue(0, w1, lo, (iova / 2 ** 32) | 0);
  }
}

/** The size of a gather as last - start, which is one byte short. */
class ShortSize extends AmdIommu {
  override iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    if (!gather.isEmpty) gather.last -= 1;
    super.iotlbSync(domain, gather);
  }
}

const unmapsRun =
  (nr: number) =>
  (makeDriver: DriverFactory): string => {
    const { machine, domain, tape } = amdRig(makeDriver, { npCache: true });
    must(machine.core.map(domain, IOVA, MEMORY, nr * KiB4, RW));
    tape.take();
    must(machine.core.unmap(domain, IOVA, nr * KiB4) - nr * KiB4);
    return atMost(1, tape.take(), `an unmap of ${nr} pages`);
  };

export const AMD_RANGE_MUTANTS: readonly Mutant[] = [
  {
    id: '1',
    title: 'the gather stays empty under NpCache, and the sync flushes nothing',
    source: 'b48ca9206138',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('1', 'a page is unmapped', (stage) => {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    }),
    mutant: { ...AMD, npCache: true, makeDriver: amdDriver({ driver: EmptyGather }) },
    twin: { ...AMD, npCache: true },
  },
  {
    id: '4',
    title: 'a wrong parenthesis in the size: a part of the range stays cached',
    source: 'list mail 1a81c4a100',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('4', '16 pages are unmapped in one call', (stage) => {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, scattered(16)), 'map');
      stage.must(space.unmap(IOVA, 16 * KiB4), 'unmap');
    }),
    mutant: { ...AMD, makeDriver: amdDriver({ parts: { DomainFlusher: WrongParenthesis } }) },
    twin: AMD,
  },
  tested(
    { id: '5a', title: 'an unmap drops the whole domain: its range went nowhere', source: 'list mail 163a19ff4d' },
    'an unmap of one page leaves the rest of the domain cached',
    amdDriver({ preset: { unmapByRange: false } }),
    amdDriver(),
    (makeDriver) => {
      const { machine, domain, tape } = amdRig(makeDriver);
      must(machine.core.map(domain, IOVA, MEMORY, KiB4, RW));
      tape.take();
      must(machine.core.unmap(domain, IOVA, KiB4) - KiB4);
      const wide = tape.take().filter(([, , lo]) => (lo & amdvi.INV_SIZE_W2) !== 0);
      return atMost(0, wide, 'what lies beyond the page');
    },
  ),
  tested(
    {
      id: '5b',
      title: 'the size of a gather without its last byte',
      source: '"iommu/amd: Fix domain flush size when syncing iotlb", 2023',
    },
    'under NpCache an unmap of two pages, aligned, is one command',
    amdDriver({ driver: ShortSize }),
    amdDriver(),
    unmapsRun(2),
  ),
  tested(
    { id: '21', title: 'the flush of a domain is split into 63 commands', source: 'Josef Bacik, March 2026' },
    'under NpCache the flush of a whole domain is one command',
    amdDriver({ preset: { splitsFullFlush: true } }),
    amdDriver({ preset: { splitsFullFlush: false } }),
    (makeDriver) => {
      const { machine, domain, tape } = amdRig(makeDriver, { npCache: true });
      machine.core.flushIotlbAll(domain);
      return atMost(1, tape.take(), 'a flush of the domain');
    },
  ),
];
