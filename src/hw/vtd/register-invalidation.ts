/**
 * Register-based invalidation: the context command register and the IOTLB registers. VT-d rev. 4.1 sections 6.5.1, 11.4.6,
 * 11.4.8.1 and 11.4.8.2. Software sets a busy bit (ICC, IVT); hardware clears it together with the granularity performed.
 *
 * While queued invalidation is on, requests are not taken and their busy bit stays set: software that mixes both interfaces
 * hangs, which is what it has to expect (6.5.1: the interfaces exclude each other; QEMU does the same).
 */
import { vtd } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { IOTLB_OFFSET, IVA_OFFSET, type FullVtdConfig } from './config.ts';
import type { ListenerHolder } from './events.ts';
import type { Invalidator } from './invalidate.ts';
import { drainWriteBuffer } from './write-buffer.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  CCMD_CAIG_SHIFT_HI,
  CCMD_CIRG_SHIFT_HI,
  CCMD_DID_MASK_LO,
  CCMD_FM_SHIFT_HI,
  CCMD_ICC_HI,
  CCMD_REG,
  CCMD_SID_SHIFT_LO,
  IOTLB_DID_MASK_HI,
  IOTLB_IAIG_SHIFT_HI,
  IOTLB_IIRG_SHIFT_HI,
  IOTLB_IVT_HI,
} = vtd;

const CCMD = CCMD_REG >> 2;
const IVA = IVA_OFFSET >> 2;
const IOTLB = IOTLB_OFFSET >> 2;

export class RegisterInvalidation {
  readonly #words: Int32Array;
  readonly #mem: PhysMem;
  readonly #invalidator: Invalidator;
  readonly #holder: ListenerHolder;
  readonly #config: FullVtdConfig;

  constructor(
    words: Int32Array,
    mem: PhysMem,
    invalidator: Invalidator,
    holder: ListenerHolder,
    config: FullVtdConfig,
  ) {
    this.#words = words;
    this.#mem = mem;
    this.#invalidator = invalidator;
    this.#holder = holder;
    this.#config = config;
  }

  /** Executes the request in CCMD. */
  runContext(): void {
    const words = this.#words;
    const lo = words[CCMD];
    // Without the granularity that the last request was done with: what software asked for.
    const hi = words[CCMD + 1] & ~(3 << CCMD_CAIG_SHIFT_HI);
    if (this.#config.rwbf) drainWriteBuffer(this.#mem);
    const done = this.#invalidator.context(
      (hi >>> CCMD_CIRG_SHIFT_HI) & 3,
      lo & CCMD_DID_MASK_LO,
      lo >>> CCMD_SID_SHIFT_LO,
      (hi >>> CCMD_FM_SHIFT_HI) & 3,
    );
    words[CCMD + 1] = (hi & ~CCMD_ICC_HI) | (done << CCMD_CAIG_SHIFT_HI);
    this.#holder.listener?.registerInvalidation?.('context', lo, hi, 0, 0);
  }

  /** Executes the request in IOTLB, with the address in IVA. */
  runIotlb(): void {
    const words = this.#words;
    const hi = words[IOTLB + 1] & ~(3 << IOTLB_IAIG_SHIFT_HI);
    if (this.#config.rwbf) drainWriteBuffer(this.#mem);
    const done = this.#invalidator.iotlb(
      (hi >>> IOTLB_IIRG_SHIFT_HI) & 3,
      hi & IOTLB_DID_MASK_HI,
      words[IVA],
      words[IVA + 1],
    );
    // IAIG = 0 tells that the request was refused.
    words[IOTLB + 1] = (hi & ~IOTLB_IVT_HI) | (done << IOTLB_IAIG_SHIFT_HI);
    this.#holder.listener?.registerInvalidation?.('iotlb', words[IOTLB], hi, words[IVA], words[IVA + 1]);
  }
}
