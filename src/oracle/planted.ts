/** Faults put into our side, to show that a difference would be found: one wrong thing each. */
import type { ManualClock } from '../base/index.ts';
import type { VtdConfig } from '../hw/index.ts';
import { VtdUnit } from '../hw/index.ts';
import type { PhysMem } from '../mem/index.ts';
import { vtd } from '../spec/index.ts';
import type { OracleUnit } from './local-rig.ts';
import { QEMU_BOARD_VTD, QemuVtd } from './qemu-vtd.ts';

export interface PlantedFault {
  readonly id: string;
  /** What is wrong, in words. */
  readonly title: string;
  readonly makeUnit: (mem: PhysMem, clock: ManualClock, sids: readonly number[]) => OracleUnit;
}

/** A unit that is configured otherwise. */
function configured(id: string, title: string, config: VtdConfig): PlantedFault {
  return { id, title, makeUnit: (mem, clock, sids) => new QemuVtd(mem, clock, sids, { ...QEMU_BOARD_VTD, ...config }) };
}

/** What a fault may do to the accesses of a unit: by default nothing. */
interface Meddler {
  write32?: (offset: number, value: number) => number;
  write64?: (offset: number, lo: number, hi: number) => readonly [number, number];
  read32?: (offset: number, value: number) => number;
  translate?: (sid: number, iova: number, access: number, outcome: number) => number;
  /** Before translating: another requester, address or access. */
  asks?: (sid: number, iova: number, access: number) => readonly [number, number, number];
}

function meddled(id: string, title: string, meddler: Meddler): PlantedFault {
  const makeUnit = (mem: PhysMem, clock: ManualClock, sids: readonly number[]): OracleUnit => {
    const unit = new QemuVtd(mem, clock, sids);
    return {
      read32: (offset) => meddler.read32?.(offset, unit.read32(offset)) ?? unit.read32(offset),
      write32: (offset, value) => unit.write32(offset, meddler.write32?.(offset, value) ?? value),
      write64: (offset, lo, hi) => unit.write64(offset, ...(meddler.write64?.(offset, lo, hi) ?? ([lo, hi] as const))),
      translate: (sid, iova, access) => {
        const [s, i, a] = meddler.asks?.(sid, iova, access) ?? [sid, iova, access];
        const outcome = unit.translate(s, i, a);
        return meddler.translate?.(sid, iova, access, outcome) ?? outcome;
      },
    };
  };
  return { id, title, makeUnit };
}

const FRCD_WORD3 = 0x22c;

export const PLANTED_FAULTS: readonly PlantedFault[] = [
  configured('not-present-cached', 'not-present entries are cached', { holdsNotPresent: true }),
  configured('tables-cached', 'pointers to tables are cached', { holdsStructure: true }),
  configured('context-first', 'the context is asked before the IOTLB', { iotlbBeforeContext: false }),
  configured('by-domain', 'the IOTLB is tagged by domain', {
    tagBySid: false,
    iotlbBeforeContext: false,
    psiPageBits: 52,
  }),
  configured('psi-exact', 'page-selective requests compare all bits', { psiPageBits: 52 }),
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
  configured('record-withdraws', 'clearing a record withdraws the event', { recordClearWithdraws: true }),
  configured('no-superpages', '2 MiB and 1 GiB pages are refused', { sllps2m: false, sllps1g: false }),
  configured('no-1g', '1 GiB pages are refused', { sllps1g: false }),
  configured('snoop-control', 'the snoop bit is not reserved', { sc: true }),
  {
    id: 'pass-through-live',
    title: 'pass-through is decided by the context at each access',
    makeUnit: (mem, clock) => new VtdUnit(mem, clock, QEMU_BOARD_VTD),
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
