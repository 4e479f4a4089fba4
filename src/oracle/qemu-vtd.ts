/**
 * Our VT-d unit as QEMU's behaves: the preset, and one deviation that is not the unit's but its machine's.
 *
 * QEMU decides early which devices pass through untranslated: when translation goes on, when a root pointer is set, when
 * contexts are invalidated, and when a translation meets a pass-through context. It then takes the IOMMU out of the device's
 * way altogether, until the next of these moments, whatever tables and caches say meanwhile.
 */
import type { ManualClock } from '../base/index.ts';
import type { VtdConfig } from '../hw/index.ts';
import { VTD_QEMU, VTD_QEMU_10, VtdUnit } from '../hw/index.ts';
import type { PhysMem } from '../mem/index.ts';
import { vtd } from '../spec/index.ts';
import type { OracleUnit } from './local-rig.ts';

/**
 * What the board of ../qemu has: caching mode, device TLBs advertised, and so few devices that a small context cache holds all.
 * @param major QEMU's version; 7 and 10 were compared
 */
export function boardVtd(major: number): VtdConfig {
  const unit = major >= 10 ? VTD_QEMU_10 : VTD_QEMU;
  return { ...unit, coherent: true, cachingMode: true, dt: true, contextCache: { sets: 4, ways: 4 } };
}

export class QemuVtd implements OracleUnit {
  readonly unit: VtdUnit;
  readonly #mem: PhysMem;
  readonly #sids: readonly number[];
  readonly #passing = new Set<number>();
  #root = 0;

  constructor(mem: PhysMem, clock: ManualClock, sids: readonly number[], config: VtdConfig) {
    this.#mem = mem;
    this.#sids = sids;
    this.unit = new VtdUnit(mem, clock, config);
    this.unit.listener = {
      descriptor: (w0, w1) => {
        if ((w0 & 15) === vtd.DESC_CONTEXT)
          this.#contextsDropped((w0 >>> vtd.DESC_GRANULARITY_SHIFT) & 3, w1 & 0xffff, (w1 >>> 16) & 3);
      },
      doorbell: () => {},
      registerInvalidation: (kind, lo, hi) => {
        if (kind === 'context')
          this.#contextsDropped((hi >>> vtd.CCMD_CIRG_SHIFT_HI) & 3, lo >>> vtd.CCMD_SID_SHIFT_LO, hi & 3);
      },
    };
  }

  /** Contexts were invalidated: the devices concerned are looked at anew. */
  #contextsDropped(granularity: number, sid: number, functionMask: number): void {
    // The reserved granularity does nothing.
    if (granularity === 0) return;
    const ignored = [0, 4, 6, 7][functionMask];
    for (const own of this.#sids) {
      if (granularity !== vtd.GRANULARITY_DEVICE || (own & ~ignored) === (sid & ~ignored)) this.#decide(own);
    }
  }

  /** Takes the IOMMU out of a device's way, or puts it there. */
  #decide(sid: number): void {
    if (this.#passesThrough(sid)) this.#passing.add(sid);
    else this.#passing.delete(sid);
  }

  /** What memory says, caches aside. Entries with reserved bits or an unsupported width count as absent. */
  #passesThrough(sid: number): boolean {
    const root = this.#words(this.#root + (sid >>> 8) * 16);
    if ((root[0] & 0xfff) !== vtd.ROOT_PRESENT || root[2] !== 0 || root[3] !== 0) return false;
    const [lo, , w2, w3] = this.#words((root[0] & -4096) + (sid & 0xff) * 16);
    const width = w2 & vtd.CONTEXT_AW_MASK_W2;
    if ((lo & 0xff0) !== 0 || (w2 & 0xff000080) !== 0 || w3 !== 0 || (width !== 1 && width !== 2)) return false;
    const type = (lo >>> vtd.CONTEXT_TT_SHIFT) & vtd.CONTEXT_TT_MASK;
    return (lo & vtd.CONTEXT_PRESENT) !== 0 && type === vtd.TT_PASS_THROUGH;
  }

  #words(paddr: number): number[] {
    return [0, 4, 8, 12].map((at) => this.#mem.load32(paddr + at));
  }

  translate(sid: number, iova: number, access: number): number {
    const isOn = (this.unit.read32(vtd.GSTS_REG) & vtd.GCMD_TE) !== 0;
    if (isOn && this.#passing.has(sid)) return iova;
    const paddr = this.unit.translate(sid, iova, access);
    if (isOn && paddr === iova && this.#isPassThroughCached(sid)) this.#passing.add(sid);
    return paddr;
  }

  /** Whether the context that was just used, and so is cached, passes through. */
  #isPassThroughCached(sid: number): boolean {
    return this.unit
      .contextEntries()
      .some((entry) => entry.sid === sid && entry.translationType === vtd.TT_PASS_THROUGH);
  }

  read32(offset: number): number {
    return this.unit.read32(offset);
  }

  write32(offset: number, value: number): void {
    const before = this.unit.read32(vtd.GSTS_REG);
    this.unit.write32(offset, value);
    if (offset !== vtd.GCMD_REG) return;
    if ((value & vtd.GCMD_SRTP) !== 0) this.#root = this.unit.read32(vtd.RTADDR_REG) & -4096;
    if ((value & vtd.GCMD_SRTP) !== 0 || ((before ^ value) & vtd.GCMD_TE) !== 0)
      for (const sid of this.#sids) this.#decide(sid);
  }

  write64(offset: number, lo: number, hi: number): void {
    this.unit.write64(offset, lo, hi);
  }
}
