/**
 * The device table (AMD 48882, 2.2.2): set_dte_entry, clear_dte_entry and init_device_table_dma of drivers/iommu/amd. One
 * entry of 32 bytes per device id, shared by all units of a PCI segment.
 *
 * An entry of zeroes is not a closed door: with V = 0 a device's requests pass untranslated. Closed is V and TV set, no table
 * (mode 0), neither IR nor IW.
 */
import { hi32, log2Ceil, paddrOf } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { amdvi } from '../../spec/index.ts';

const CLOSED_W0: number = amdvi.DTE_V_W0 | amdvi.DTE_TV_W0;
/** Bits 105:96 are set by others and stay: logging, exclusion, system management (DTE_FLAG_MASK). */
const KEPT_W3 = 0x3ff;

export class DeviceTable {
  readonly #platform: Platform;
  readonly lastBdf: number;
  readonly paddr: number;
  readonly nrPages: number;

  /** A table up to the last device id that firmware names, in a power of two of pages. @throws RangeError without memory */
  constructor(platform: Platform, lastBdf: number) {
    if (!(Number.isInteger(lastBdf) && lastBdf >= 0 && lastBdf <= 0xffff)) {
      throw new RangeError(`lastBdf must be a device id, 0 to 0xffff, got ${lastBdf}`);
    }
    this.lastBdf = lastBdf;
    this.nrPages = 2 ** log2Ceil(Math.ceil(((lastBdf + 1) * amdvi.DTE_BYTES) / 4096));
    const pfn = platform.pages.allocRun(this.nrPages);
    if (pfn < 0) throw new RangeError('no memory for the device table');
    this.#platform = platform;
    this.paddr = paddrOf(pfn);
  }

  #entryOf(sid: number): number {
    return this.paddr + sid * amdvi.DTE_BYTES;
  }

  /** Domain id of an entry; 0 when it has none. */
  didOf(sid: number): number {
    return this.#platform.mem.load32(this.#entryOf(sid) + 8) & amdvi.DTE_DOMAIN_MASK_W2;
  }

  /**
   * Opens an entry: requests are walked from `root`, a table of `levels` levels (0: they pass as they are), as `did`. The
   * half with the domain id goes first, so that hardware never walks the new table under the old id. (A closed entry has no
   * table that it could walk under the new one; when a table grows, the id is the same.)
   */
  set(sid: number, root: number, levels: number, did: number): void {
    const { mem } = this.#platform;
    const entry = this.#entryOf(sid);
    const w2 = mem.load32(entry + 8) & ~amdvi.DTE_DOMAIN_MASK_W2;
    mem.store64(entry + 8, w2 | did, mem.load32(entry + 12));
    const w0 = root | (levels << amdvi.DTE_MODE_SHIFT_W0) | CLOSED_W0;
    mem.store64(entry, w0, hi32(root) | amdvi.DTE_IR_W1 | amdvi.DTE_IW_W1);
  }

  /** Closes an entry: the device reaches nothing. */
  clear(sid: number): void {
    const { mem } = this.#platform;
    const entry = this.#entryOf(sid);
    mem.store64(entry, CLOSED_W0, 0);
    mem.store64(entry + 8, 0, mem.load32(entry + 12) & KEPT_W3);
  }

  /** Closes every entry that nobody has opened. */
  closeUnused(): void {
    const { mem } = this.#platform;
    for (let sid = 0; sid <= this.lastBdf; sid++) {
      const entry = this.#entryOf(sid);
      mem.store64(entry, mem.load32(entry) | CLOSED_W0, mem.load32(entry + 4));
    }
  }

  /** What the device table base register holds: address and number of pages less one. */
  get baseLo(): number {
    return this.paddr | (this.nrPages - 1);
  }

  get baseHi(): number {
    return hi32(this.paddr);
  }
}
