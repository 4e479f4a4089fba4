/** One VT-d unit under the driver's control (struct intel_iommu): capabilities, tables, queue, domain ids. */
import type { Platform } from '../../mem/index.ts';
import { errnoName, hex, hi32 } from '../../base/index.ts';
import { PageTable } from '../../pt/index.ts';
import { vtd } from '../../spec/index.ts';
import type { VtdCaps } from './caps.ts';
import { readCaps } from './caps.ts';
import { ContextTables } from './context.ts';
import { Invalidator } from './invalidate.ts';
import type { IntelPreset } from './preset.ts';

/** The classes that a driver and its units are made of. A test puts a subclass with a bug in the place of one. */
export interface IntelParts {
  readonly PageTable: typeof PageTable;
  readonly ContextTables: typeof ContextTables;
  readonly Invalidator: typeof Invalidator;
}

export const INTEL_PARTS: IntelParts = { PageTable, ContextTables, Invalidator };

export class VtdUnitDriver {
  readonly caps: VtdCaps;
  readonly invalidate: Invalidator;
  readonly contexts: ContextTables;
  readonly #didUsed: Uint8Array;
  readonly #firstDid: number;

  /**
   * Brings a unit up: queue, root table, one global flush of each cache (the root pointer changed, and nobody knows what
   * firmware left), then translation. Order of intel_iommu_init / init_dmars.
   * @param base physical address of the register window
   * @throws RangeError when the unit does not answer: a driver that went on would find every later flush failing
   */
  constructor(platform: Platform, base: number, preset: IntelPreset, parts: IntelParts = INTEL_PARTS) {
    this.caps = readCaps(platform, base);
    this.#didUsed = new Uint8Array(this.caps.nrDomains);
    this.#firstDid = preset.firstDomainId;
    this.invalidate = new parts.Invalidator(platform, base, this.caps, preset);
    this.contexts = new parts.ContextTables(platform);
    this.invalidate.flushWriteBuffer();
    platform.writeq(base + vtd.RTADDR_REG, this.contexts.root | 0, hi32(this.contexts.root));
    const answers = [
      this.invalidate.command(vtd.GCMD_SRTP),
      this.invalidate.context(vtd.GRANULARITY_GLOBAL, 0, 0),
      this.invalidate.iotlbGlobal(),
      this.invalidate.enable(vtd.GCMD_TE),
    ];
    const failed = answers.find((answer) => answer !== 0);
    if (failed !== undefined) {
      throw new RangeError(`the VT-d unit at ${hex(base)} does not come up: ${errnoName(failed)}`);
    }
  }

  /** The lowest free domain id, or -1. Id 0 is never given: not-present context entries are cached under it. */
  allocDid(): number {
    for (let did = this.#firstDid; did < this.#didUsed.length; did++) {
      if (this.#didUsed[did] === 0) {
        this.#didUsed[did] = 1;
        return did;
      }
    }
    return -1;
  }

  freeDid(did: number): void {
    this.#didUsed[did] = 0;
  }

  /** Table levels the driver uses: the most the unit walks within its address width. */
  get levels(): number {
    const { levels, addressWidth } = this.caps;
    const fitting = levels.filter((count) => count * 9 + 12 <= addressWidth);
    return fitting.at(-1) ?? levels[0] ?? 0;
  }
}
