/** What an exploration must know of each architecture: which hardware to build, and where walks begin. */
import type { Machine } from '../../machine/index.ts';
import { AmdviUnit, VtdUnit } from '../../hw/index.ts';
import type { AmdviConfig, CacheGeometry, VtdConfig } from '../../hw/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { amdvi, vtd } from '../../spec/index.ts';
import { CACHE_ENTRIES } from './view.ts';

/** One set: which entries leave is a decision of its own, so the shape must force none. */
const CACHE: CacheGeometry = { sets: 1, ways: CACHE_ENTRIES };

/** The hardware that the specification allows and that forgives least, in caches of a size that can be enumerated. */
export const EXPLORED_VTD: VtdConfig = {
  iotlb: CACHE,
  pageCache: CACHE,
  contextCache: CACHE,
  psiDropsWholeSuperpage: false,
  completionDelayNs: 1,
};
export const EXPLORED_AMDVI: AmdviConfig = {
  iotlb: CACHE,
  pdeCache: CACHE,
  deviceCache: CACHE,
  holdsWholePages: false,
  completionDelayNs: 1,
};

export type Unit = VtdUnit | AmdviUnit;

/** The unit of a machine. @throws RangeError for another model than the two of this package */
export function unitOf(machine: Machine): Unit {
  const { unit } = machine;
  if (unit instanceof VtdUnit || unit instanceof AmdviUnit) return unit;
  throw new RangeError('the explorer needs a VtdUnit or an AmdviUnit: it restores their states');
}

/** Frames in which walks of a device begin: root and context table, or its page of the device table. */
export function firstFrames(unit: Unit, mem: PhysMem, sid: number): number[] {
  if (unit instanceof AmdviUnit) {
    const base = (unit.read32(amdvi.DEV_TABLE_REG + 4) & amdvi.ADDR_MASK_HI) * 2 ** 20;
    return [base + (unit.read32(amdvi.DEV_TABLE_REG) >>> 12) + Math.floor((sid * amdvi.DTE_BYTES) / 4096)];
  }
  const root = unit.read32(vtd.RTADDR_REG + 4) * 2 ** 20 + (unit.read32(vtd.RTADDR_REG) >>> 12);
  const entry = root * 4096 + (sid >>> 8) * 16;
  const lo = mem.load32(entry);
  return (lo & vtd.ROOT_PRESENT) === 0 ? [root] : [root, mem.load32(entry + 4) * 2 ** 20 + (lo >>> 12)];
}

/** Whether a frame belongs to the ring through which a unit takes commands. */
export function isRing(unit: Unit, pfn: number): boolean {
  const isAmd = unit instanceof AmdviUnit;
  const register = isAmd ? amdvi.CMD_BASE_REG : vtd.IQA_REG;
  const lo = unit.read32(register);
  const hi = unit.read32(register + 4);
  const nrEntries = isAmd
    ? 1 << ((hi >>> amdvi.RING_LEN_SHIFT_HI) & amdvi.RING_LEN_MASK)
    : 256 << (lo & vtd.IQA_QS_MASK);
  const first = (hi & 0xfffff) * 2 ** 20 + (lo >>> 12);
  return pfn >= first && pfn < first + Math.ceil((nrEntries * 16) / 4096);
}

/** Pieces of work after which a queue that is never done must be broken. */
const MOST_WORK = 10_000;

/** Does all work that waits. @param did is called after each piece @returns 1 when there was any, else 0 */
export function workAll(unit: Unit, did: () => void = (): void => {}): number {
  let nr = 0;
  for (let work = unit.waitingWork(); work !== 0 && nr < MOST_WORK; work = unit.waitingWork(), nr++) {
    unit.executeNext(31 - Math.clz32(work));
    did();
  }
  return nr === 0 ? 0 : 1;
}
