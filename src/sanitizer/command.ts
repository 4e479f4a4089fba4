/** Invalidations, and the waits behind them. */

export type CommandKind =
  'pages' | 'domain' | 'all' | 'device' | 'devices-of-domain' | 'all-devices' | 'device-tlb' | 'wait' | 'other';

/** Address bits that a sized range can leave open; a range that leaves them all open is everything. */
const ADDRESS_BITS = 52;
/** Invalidations remembered to explain a finding. */
const NR_REMEMBERED = 8;

/**
 * Pages that an address with a size bit stands for: 2^(n + 1), for the n ones from bit 12 up (PCI Express Base 10.3.1; AMD 48882 2.4.3 and 2.4.4).
 * @returns Infinity for everything
 */
export function sizedRange(lo: number, hi: number): number {
  let pages = 2;
  let bit = 12;
  for (; bit < ADDRESS_BITS && ((bit < 32 ? lo >>> bit : hi >>> (bit - 32)) & 1) === 1; bit++) pages *= 2;
  return bit === ADDRESS_BITS ? Infinity : pages;
}

/** First page of the range of a power of two pages that an address lies in. */
export function rangeStart(lo: number, hi: number, pages: number): number {
  const named = (hi >>> 0) * 2 ** 20 + (lo >>> 12);
  return pages === Infinity ? 0 : Math.floor(named / pages) * pages;
}

/** An invalidation on its way, or the wait behind some. */
export class Command {
  kind: CommandKind = 'other';
  /** Step of its submission. */
  step = 0;
  domainId = 0;
  sid = 0;
  /** Bits of the requester id that do not count. */
  ignored = 0;
  page = 0;
  pages = 0;
  leavesOnly = false;
  /** Of a wait: where it stores, and what. */
  paddr = -1;
  data = 0;
  /** A wait whose cell held the awaited value before: seeing it proves nothing. */
  isBlind = false;
  /** Software has seen it complete. */
  isDone = false;
  /** Who needs it: whoever waits for it, and the memory of the last ones. */
  holders = 0;
}

/**
 * Makes commands, and remembers the last invalidations. An object that nobody needs any more is used again: there are some for
 * every call of a driver, and their numbers are too large for V8 to keep without an allocation each.
 */
export class Commands {
  readonly #free: Command[] = [];
  readonly #last: Command[] = [];
  #nrRemembered = 0;

  /** A new command, which its caller holds. */
  take(kind: CommandKind, step: number): Command {
    const command = this.#free.length > 0 ? (this.#free.pop() ?? new Command()) : new Command();
    command.kind = kind;
    command.step = step;
    command.domainId = 0;
    command.leavesOnly = false;
    command.isDone = false;
    command.holders = 1;
    return command;
  }

  /** A wait that stores `data` at `paddr`. */
  wait(step: number, paddr: number, data: number, isBlind: boolean): Command {
    const command = this.take('wait', step);
    command.paddr = paddr;
    command.data = data;
    command.isBlind = isBlind;
    return command;
  }

  pages(step: number, domainId: number, page: number, pages: number, leavesOnly: boolean): Command {
    const command = this.take('pages', step);
    command.domainId = domainId;
    command.page = page;
    command.pages = pages;
    command.leavesOnly = leavesOnly;
    return command;
  }

  /** All translations of a domain, or all entries of devices in it. */
  domain(kind: 'domain' | 'devices-of-domain', step: number, domainId: number, leavesOnly: boolean): Command {
    const command = this.take(kind, step);
    command.domainId = domainId;
    command.leavesOnly = leavesOnly;
    return command;
  }

  /** What a device's own TLB holds of a range. @param isSized the address tells the size */
  deviceTlb(step: number, sid: number, lo: number, hi: number, isSized: boolean): Command {
    const command = this.take('device-tlb', step);
    command.sid = sid;
    command.pages = isSized ? sizedRange(lo, hi) : 1;
    command.page = rangeStart(lo, hi, command.pages);
    return command;
  }

  /** The entry of a device, or of those that differ from it in ignored bits only. */
  device(step: number, domainId: number, sid: number, ignored: number): Command {
    const command = this.take('device', step);
    command.domainId = domainId;
    command.sid = sid;
    command.ignored = ignored;
    return command;
  }

  /** Whoever took a command needs it no more. */
  release(command: Command): void {
    command.holders -= 1;
    if (command.holders === 0) this.#free.push(command);
  }

  remember(command: Command): void {
    const at = this.#nrRemembered % NR_REMEMBERED;
    this.#nrRemembered += 1;
    command.holders += 1;
    if (at < this.#last.length) {
      this.release(this.#last[at]);
      this.#last[at] = command;
    } else this.#last.push(command);
  }

  /** The last invalidations, newest first. */
  recent(nr: number): Command[] {
    const found: Command[] = [];
    for (let i = 1; i <= Math.min(nr, this.#last.length); i++) {
      found.push(this.#last[(this.#nrRemembered - i) % NR_REMEMBERED]);
    }
    return found;
  }
}
