/** Faults planted in our VT-d unit. */
import type { VtdConfig } from '../hw/index.ts';
import { VtdUnit } from '../hw/index.ts';
import { vtd } from '../spec/index.ts';
import type { Meddler, PlantedFault } from './planted.ts';
import { meddle } from './planted.ts';
import { QemuVtd, boardVtd } from './qemu-vtd.ts';

/** A unit that is configured otherwise. */
function configured(id: string, title: string, config: VtdConfig | ((right: VtdConfig) => VtdConfig)): PlantedFault {
  return {
    id,
    arch: 'intel',
    title,
    makeUnit: (mem, clock, sids, major) => {
      const right = boardVtd(major);
      const wrong = typeof config === 'function' ? config(right) : config;
      return new QemuVtd(mem, clock, sids, { ...right, ...wrong });
    },
  };
}

function meddled(id: string, title: string, meddler: Meddler): PlantedFault {
  return {
    id,
    arch: 'intel',
    title,
    makeUnit: (mem, clock, sids, major) => meddle(new QemuVtd(mem, clock, sids, boardVtd(major)), meddler),
  };
}

const FRCD_WORD3 = 0x22c;

export const VTD_FAULTS: readonly PlantedFault[] = [
  configured('not-present-cached', 'not-present entries are cached', { holdsNotPresent: true }),
  configured('tables-cached', 'pointers to tables are cached', { holdsStructure: true }),
  configured('context-first', 'the context is asked before the IOTLB', { iotlbBeforeContext: false }),
  configured('by-domain', 'the IOTLB is tagged by domain', {
    tagBySid: false,
    iotlbBeforeContext: false,
    psiPageBits: 52,
  }),
  configured(
    'psi-bits',
    'page-selective requests compare all bits, or 8 where QEMU compares all',
    ({ psiPageBits }) => ({
      psiPageBits: psiPageBits === 52 ? 8 : 52,
    }),
  ),
  configured('tm', 'the TM bit of leaves is reserved, or not where it is', ({ tm }) => ({ tm: tm === false })),
  configured('permission-fault', 'a cached entry without the right faults', { faultOnCachedPermission: true }),
  configured('denied-cached', 'translations that denied are cached', { holdsDenied: true }),
  configured('domain-contexts', 'a domain-selective context request is no global one', {
    contextDomainIsGlobal: false,
  }),
  configured('device-contexts', 'a device-selective context request compares the domain', {
    contextDeviceIgnoresDomain: false,
  }),
  configured('srtp-keeps', 'a new root pointer leaves caches alone', { srtpFlushes: false }),
  configured('te-keeps', 'switching translation leaves caches alone', { teFlushes: false }),
  configured('fpd-covers-reserved', 'FPD silences a context entry with reserved bits', {
    fpdCoversReservedContext: true,
  }),
  configured('record-withdraws', 'clearing a record withdraws the event', { recordClearWithdraws: true }),
  configured('no-superpages', '2 MiB and 1 GiB pages are refused', { sllps2m: false, sllps1g: false }),
  configured('no-1g', '1 GiB pages are refused', { sllps1g: false }),
  configured('snoop-control', 'the snoop bit is not reserved', { sc: true }),
  {
    id: 'pass-through-live',
    arch: 'intel',
    title: 'pass-through is decided by the context at each access',
    makeUnit: (mem, clock, _sids, major) => new VtdUnit(mem, clock, boardVtd(major)),
  },
  configured('small-mamv', 'the largest address mask is 9', { mamv: 9 }),
  configured('no-device-tlb', 'device TLBs are not supported', { dt: false }),
  configured('narrow', 'only three levels are supported', { sagaw: [3] }),
  meddled('reads-as-writes', 'reads need the right to write', { asks: (sid, iova) => [sid, iova, 2] }),
  meddled('offset-lost', 'the offset in the page is lost', {
    translate: (_sid, _iova, _access, outcome) => (outcome < 0 ? outcome : outcome - (outcome % 4096)),
  }),
  meddled('one-requester', 'all devices share one entry', { asks: (_sid, iova, access) => [0x20, iova, access] }),
  meddled('bit-31', 'addresses are taken for 31 bits', { asks: (sid, iova, access) => [sid, iova % 2 ** 31, access] }),
  meddled('frozen-record', 'a fault record cannot be cleared', {
    write32: (offset, value) => (offset === FRCD_WORD3 ? 0 : value),
  }),
  meddled('no-overflow', 'overflow is never shown', {
    read32: (offset, value) => (offset === vtd.FSTS_REG ? value & ~vtd.FSTS_PFO : value),
  }),
  meddled('no-queue-error', 'an error of the queue is never shown', {
    read32: (offset, value) => (offset === vtd.FSTS_REG ? value & ~vtd.FSTS_IQE : value),
  }),
];
