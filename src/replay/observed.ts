/**
 * What a recorded machine's hardware executed, filled from a log by its reader, and what the log shows of the machine:
 * whether its hardware caches not-present entries, and whether its unmaps waited for their flush.
 */
import { amdvi, vtd } from '../spec/index.ts';
import { AMD_COMMANDS } from './amd-commands.ts';
import type { CommandCounts, CommandSet } from './commands.ts';
import { Doubles, countCommand, noCommands } from './commands.ts';
import { VTD_COMMANDS } from './vtd-commands.ts';

/** State of a log where it has a mark. */
export interface ObservedMark {
  readonly name: string;
  readonly commands: CommandCounts;
  readonly nrPages: number;
}

export abstract class Observed {
  readonly commands: CommandSet;
  /** False when the log tells the domains of page-selective commands only. */
  readonly hasAddresses: boolean;
  /** The page-selective commands: key, domain id, and line in the log. */
  readonly keys: Doubles = new Doubles();
  readonly domains: Doubles = new Doubles();
  readonly lines: Doubles = new Doubles();
  readonly counts: CommandCounts = noCommands();
  readonly marks: ObservedMark[] = [];

  constructor(commands: CommandSet, hasAddresses = true) {
    this.commands = commands;
    this.hasAddresses = hasAddresses;
  }

  /** One command, in the order of execution. */
  command(w0: number, w1: number, w2: number, w3: number, line: number): void {
    const { commands } = this;
    if (!countCommand(this.counts, commands.kindOf(w0, w1))) return;
    this.keys.push(commands.pageKey(w2, w3));
    this.domains.push(commands.pageDomain(w0, w1));
    this.lines.push(line);
  }

  mark(name: string): void {
    this.marks.push({ name, commands: { ...this.counts }, nrPages: this.keys.length });
  }

  /** Whether not-present entries are flushed. @param nrUnmaps unmap events of the trace */
  abstract showsCachingMode(nrUnmaps: number): boolean;

  /** Whether unmaps leave their flush to a queue. */
  abstract readonly showsLazyUnmaps: boolean;
}

/** Type and granularity of a device-selective context descriptor. */
const DEVICE_CONTEXT: number = vtd.DESC_CONTEXT | (vtd.GRANULARITY_DEVICE << vtd.DESC_GRANULARITY_SHIFT);

export class VtdObserved extends Observed {
  /** Context invalidations of single devices. One domain-selective IOTLB invalidation belongs to each. */
  #deviceContexts = 0;
  /** Those under domain id 0: flushes of cached not-present entries, which only caching-mode hardware needs. */
  #notPresentContexts = 0;

  constructor() {
    super(VTD_COMMANDS);
  }

  override command(w0: number, w1: number, w2: number, w3: number, line: number): void {
    if ((w0 & 0x3f) === DEVICE_CONTEXT) {
      this.#deviceContexts += 1;
      if (w0 >>> vtd.DESC_DID_SHIFT === 0) this.#notPresentContexts += 1;
    }
    super.command(w0, w1, w2, w3, line);
  }

  override showsCachingMode(): boolean {
    return this.#notPresentContexts > 0;
  }

  /** More domain-selective invalidations than attachments need, and not just a few too wide ranges. */
  override get showsLazyUnmaps(): boolean {
    return (this.counts.domain - this.#deviceContexts) * 100 > this.counts.page;
  }
}

/** The all-pages address, and the bit without which an address is one page. Local copies, as for every hot constant. */
const { INV_ALL_PAGES_HI, INV_ALL_PAGES_LO, INV_SIZE_W2 } = amdvi;
/** All-pages commands of one whole-domain flush of Linux 5.15 and later with NpCache: ten of its 63 are that wide. */
const WIDE_PER_FLUSH = 10;

export class AmdObserved extends Observed {
  /** Commands of single ranges that devices can reach, and those of all pages behind the first of them. */
  #ranges = 0;
  #wholeDomain = 0;
  #attachments = 0;

  /** @param hasAddresses false for QEMU's log, which names operation and domain: see `operation` */
  constructor(hasAddresses = true) {
    super(AMD_COMMANDS, hasAddresses);
  }

  /** One command of a log without addresses. @param domain -1 when the command names none */
  operation(operation: number, domain: number, line: number): void {
    super.command(0, (operation << amdvi.CMD_OP_SHIFT_W1) | (domain & amdvi.CMD_DOMAIN_MASK_W1), 0, 0, line);
  }

  override command(w0: number, w1: number, w2: number, w3: number, line: number): void {
    super.command(w0, w1, w2, w3, line);
    const operation = w1 >>> amdvi.CMD_OP_SHIFT_W1;
    if (operation === amdvi.CMD_INVALIDATE_IOMMU_PAGES) {
      const all = w3 === INV_ALL_PAGES_HI && (w2 & INV_ALL_PAGES_LO) === INV_ALL_PAGES_LO && (w2 & INV_SIZE_W2) !== 0;
      if (all) this.#wholeDomain += this.#ranges > 0 ? 1 : 0;
      else if (w3 >>> 0 < 1 << 20) this.#ranges += 1;
    } else if (operation === amdvi.CMD_INVALIDATE_DEVTAB_ENTRY && this.#ranges > 0) {
      this.#attachments += 1;
    }
  }

  /** Strict unmaps flush once each at least; more range flushes than that are those of maps. QEMU's unit has NpCache. */
  override showsCachingMode(nrUnmaps: number): boolean {
    return !this.hasAddresses || this.#ranges > 1.05 * nrUnmaps;
  }

  override get showsLazyUnmaps(): boolean {
    return (this.#wholeDomain - WIDE_PER_FLUSH * this.#attachments) * 100 > this.#ranges;
  }
}
