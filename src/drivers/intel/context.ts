/**
 * Root and context tables of one VT-d unit (specification 9.1, 9.3; Linux: domain_context_mapping_one,
 * domain_context_clear_one). One root entry per bus, one context entry per device and function.
 */
import { ENOMEM, hi32, paddrOf, pfnOf, fromWords } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';

const ENTRY_BYTES = 16;

export class ContextTables {
  readonly #platform: Platform;
  readonly root: number;

  /** @throws RangeError when no page is left for the root table */
  constructor(platform: Platform) {
    const pfn = platform.pages.alloc();
    if (pfn < 0) throw new RangeError('no memory for the root table');
    this.#platform = platform;
    this.root = paddrOf(pfn);
  }

  /** Physical address of the context entry of a device, -1 when its bus has no table (or, with `create`, no memory). */
  entryOf(sid: number, create: boolean): number {
    const { mem, pages } = this.#platform;
    const rootEntry = this.root + (sid >>> 8) * ENTRY_BYTES;
    const lo = mem.load32(rootEntry);
    let table: number;
    if ((lo & vtd.ROOT_PRESENT) === 0) {
      if (!create) return -1;
      const pfn = pages.alloc();
      if (pfn < 0) return -1;
      table = paddrOf(pfn);
      this.#store(rootEntry, table | vtd.ROOT_PRESENT, hi32(table));
    } else {
      table = paddrOf(pfnOf(fromWords(lo, mem.load32(rootEntry + 4))));
    }
    return table + (sid & 0xff) * ENTRY_BYTES;
  }

  /** The domain id a device's entry names, or -1 when the entry is not present. */
  didOf(sid: number): number {
    const entry = this.entryOf(sid, false);
    if (entry < 0 || (this.#platform.mem.load32(entry) & vtd.CONTEXT_PRESENT) === 0) return -1;
    return (this.#platform.mem.load32(entry + 8) >>> vtd.CONTEXT_DID_SHIFT_W2) & 0xffff;
  }

  /**
   * Writes a present entry. The upper half goes first: hardware may read the entry between the two stores, and must not
   * find it present with another domain's id. @returns 0 or ENOMEM
   */
  set(sid: number, translationType: number, tableRoot: number, levels: number, did: number): number {
    const entry = this.entryOf(sid, true);
    if (entry < 0) return ENOMEM;
    this.#store(entry + 8, (levels - 2) | (did << vtd.CONTEXT_DID_SHIFT_W2), 0);
    const lo = tableRoot | (translationType << vtd.CONTEXT_TT_SHIFT) | vtd.CONTEXT_PRESENT;
    this.#store(entry, lo, hi32(tableRoot));
    return 0;
  }

  /** Clears an entry, present bit first: the mirror image of `set`, for the same reason. */
  clear(sid: number): void {
    const entry = this.entryOf(sid, false);
    if (entry < 0) return;
    this.#store(entry, 0, 0);
    this.#store(entry + 8, 0, 0);
  }

  #store(paddr: number, lo: number, hi: number): void {
    this.#platform.mem.store64(paddr, lo, hi);
    this.#platform.clflush(paddr, 8);
  }
}
