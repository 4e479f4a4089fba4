/** Faults planted in our AMD-Vi unit. */
import type { AmdviConfig } from '../hw/index.ts';
import { AMDVI_QEMU } from '../hw/index.ts';
import { amdvi } from '../spec/index.ts';
import type { Meddler, PlantedFault } from './planted.ts';
import { meddle } from './planted.ts';
import { QemuAmdvi } from './qemu-amdvi.ts';

/** A unit that is configured otherwise. */
function configured(id: string, title: string, config: AmdviConfig): PlantedFault {
  return {
    id: `amd-${id}`,
    arch: 'amd',
    title,
    makeUnit: (mem, clock) => new QemuAmdvi(mem, clock, { ...AMDVI_QEMU, ...config }),
  };
}

function meddled(id: string, title: string, meddler: Meddler): PlantedFault {
  return {
    id: `amd-${id}`,
    arch: 'amd',
    title,
    makeUnit: (mem, clock) => meddle(new QemuAmdvi(mem, clock), meddler),
  };
}

export const AMDVI_FAULTS: readonly PlantedFault[] = [
  configured('not-present-cached', 'not-present entries are cached', { holdsNotPresent: true }),
  configured('tables-cached', 'pointers to tables are cached', { holdsStructure: true }),
  configured('devices-cached', 'device table entries are cached', { holdsDevices: true }),
  configured('denied-cached', 'translations that denied are cached', { holdsDenied: true }),
  configured('whole-pages', 'a large page is one entry', { holdsWholePages: true }),
  configured('by-domain', 'the IOTLB is tagged by domain', { tagBySid: false, iotlbBeforeDevice: false }),
  configured('exact-pages', 'INVALIDATE_IOMMU_PAGES drops the pages it names only', { pagesDropDomain: false }),
  configured('checks-walk', 'the walk checks what it reads', { checksWalk: true }),
  configured('tv-blocks', 'TV = 0 blocks', { passesWithoutTranslation: false }),
  configured('illegal-stops', 'an illegal command stops the buffer', { stopsAtIllegal: true }),
  configured('wait-clears', 'ComWaitInt is cleared by writing ones', { comWaitIntClears: true }),
  configured('invalid-unchecked', 'reserved bits do not count with V = 0', { checksInvalidDevices: false }),
  configured('pass-uncached', 'pages that pass through are not cached', { holdsPassThrough: false }),
  configured('rights-anded', 'a cached page has the rights of the whole walk', { leafRightsOnly: false }),
  configured('device-first', 'the device table is asked before the IOTLB', { iotlbBeforeDevice: false }),
  configured('five-levels', 'tables of six levels are refused', { levels: 5 }),
  configured('no-all', 'INVALIDATE_IOMMU_ALL is not supported', { ia: false, stopsAtIllegal: true }),
  meddled('offset-lost', 'the offset in the page is lost', {
    translate: (_sid, _iova, _access, outcome) => (outcome < 0 ? outcome : outcome - (outcome % 4096)),
  }),
  meddled('one-requester', 'all devices share one entry', { asks: (_sid, iova, access) => [0x20, iova, access] }),
  meddled('bit-39', 'addresses are taken for 39 bits', { asks: (sid, iova, access) => [sid, iova % 2 ** 39, access] }),
  meddled('reads-as-writes', 'reads need the right to write', { asks: (sid, iova) => [sid, iova, 2] }),
  meddled('late-head', 'the head of the command buffer lags by one', {
    read32: (offset, value) =>
      offset === amdvi.CMD_HEAD_REG ? (value - amdvi.RING_ENTRY_BYTES) & (4096 - amdvi.RING_ENTRY_BYTES) : value,
  }),
];
