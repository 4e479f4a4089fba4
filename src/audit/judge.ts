/**
 * The second pass of an audit: each call against the contracts (DESIGN.md section 6), with what the whole trace told.
 *
 * - C-MAP-VISIBLE, where not-present entries are cached: every page of a map call is invalidated before the call ends, tables'
 *   entries included (VT-d 6.1; AMD-Vi 2.4.5: PDE).
 * - C-UNMAP-GONE: the same for unmaps, or their domain leaves its flushes to a queue.
 * - C-TABLE-LIVE: the flush of an unmap that frees page tables drops the entries that lead to them.
 * - C-LAZY-BOUND: what an unmap left to the queue is flushed before the same domain maps it again.
 * - C-ATTACH: an attachment invalidates the device's entry, and on VT-d with caching mode its domain.
 */
import type { Names } from '../trace/index.ts';
import type { RecordReader } from '../replay/index.ts';
import { Field, Flag, RECORD_DOUBLES, RecordKind } from './call-record.ts';
import type { CallReader } from './call-reader.ts';
import { DOMAINS_PER_UNIT } from './command.ts';
import { Ledger } from './ledger.ts';
import type { Suspect, Unattributed } from './ledger.ts';
import { inconclusiveReasons } from './reasons.ts';
import type { AuditContract, AuditEvidence, AuditFinding, AuditResult } from './result.ts';
import { MAX_FINDINGS } from './result.ts';

const PAGE = 4096;

export interface JudgeOptions {
  /** Whether the hardware caches not-present entries; null for what the trace shows. */
  readonly cachingMode: boolean | null;
  /** Whether the trace tells what ran in an interrupt: else calls that interrupt each other look broken. */
  readonly hasIrqContext: boolean;
}

/** Judges what a reader found, after its `finish`. */
export function judge(reader: CallReader, names: Names, options: JudgeOptions): AuditResult {
  return new Judge(reader, names, options).result();
}

/** Calls of a domain that no attachment of the trace flushed. */
interface Stranger {
  count: number;
  readonly line: number;
  readonly start: number;
  readonly isMap: boolean;
}

class Judge {
  readonly #reader: CallReader;
  readonly #names: Names;
  readonly #options: JudgeOptions;
  readonly #cachingMode: boolean | null;
  readonly #ledger = new Ledger();
  readonly #findings: AuditFinding[] = [];
  #nrFindings = 0;
  #nrDoubtful = 0;
  #covered = 0;
  #queued = 0;
  #needed = 0;
  #selected = 0;
  /** Unmaps of which the trace tells neither a command nor a domain that has a flush queue. */
  #unjudged = 0;
  readonly #calls = { map: 0, unmap: 0 };
  /** Number of the last flush of a whole domain. */
  readonly #lastFlush = new Map<number, number>();
  #lastGlobal = -1;
  /** Attachments whose flush named a domain, by it. */
  readonly #attached = new Map<number, { line: number; device: number; group: number }[]>();
  readonly #used = new Set<number>();
  readonly #strangers = new Map<number, Stranger>();
  /** True when attachments came before all calls, and each flushed its domain: the trace then shows every domain. */
  #showsDomains = false;
  #nrAttached = 0;

  // The record being judged.
  #data: Float64Array = new Float64Array(0);
  #at = 0;
  #number = -1;

  constructor(reader: CallReader, names: Names, options: JudgeOptions) {
    this.#reader = reader;
    this.#names = names;
    this.#options = options;
    this.#cachingMode = options.cachingMode ?? reader.found.cachingMode;
  }

  result(): AuditResult {
    const { found } = this.#reader;
    const records: RecordReader = this.#reader.log.reader();
    const canJudge = found.nrCommands > 0;
    while (!records.atEnd) {
      this.#at = records.take(RECORD_DOUBLES);
      this.#data = records.data;
      this.#number += 1;
      this.#record(canJudge);
    }
    for (const domain of this.#ledger.domains) this.#overdue(domain, found.endNs, -1);
    this.#judgeStrangers();
    const inconclusive = inconclusiveReasons({
      found,
      cachingMode: this.#cachingMode,
      hasIrqContext: this.#options.hasIrqContext,
      unjudged: this.#unjudged,
      doubtful: this.#nrDoubtful,
    });
    return {
      verdict: this.#nrFindings > 0 ? 'violated' : inconclusive.length > 0 ? 'inconclusive' : 'held',
      calls: this.#calls,
      covered: this.#covered,
      queued: this.#queued,
      findings: this.#findings.toSorted((a, b) => a.line - b.line),
      nrFindings: this.#nrFindings,
      overInvalidation: this.#needed === 0 ? 0 : (this.#selected - this.#needed) / this.#needed,
      commands: {
        total: found.nrCommands,
        page: found.nrPageCommands,
        domain: found.nrDomainCommands,
        useless: found.nrUseless,
      },
      cachingMode: this.#cachingMode,
      inconclusive,
    };
  }

  #get(field: number): number {
    return this.#data[this.#at + field];
  }

  #has(flag: number): boolean {
    return (this.#get(Field.flags) & flag) !== 0;
  }

  #record(canJudge: boolean): void {
    const kind = this.#get(Field.kind);
    if (kind === RecordKind.map) {
      this.#calls.map += 1;
      if (canJudge) this.#map();
    } else if (kind === RecordKind.unmap) {
      this.#calls.unmap += 1;
      if (canJudge) this.#unmap();
    } else if (kind === RecordKind.attach) {
      if (canJudge) this.#attach();
    } else if (kind === RecordKind.pageFlush) {
      this.#ledger.flushPages(this.#get(Field.domain), this.#get(Field.start), this.#get(Field.nrPages));
    } else if (kind === RecordKind.domainFlush) {
      this.#overdue(this.#get(Field.domain), this.#get(Field.timeNs), this.#get(Field.line));
      this.#ledger.flushDomain(this.#get(Field.domain));
      this.#lastFlush.set(this.#get(Field.domain), this.#number);
    } else if (kind === RecordKind.globalFlush) {
      for (const domain of this.#ledger.domains) this.#overdue(domain, this.#get(Field.timeNs), this.#get(Field.line));
      this.#ledger.flushAll();
      this.#lastGlobal = this.#number;
    }
  }

  /** The domain of a call's device, else of its commands; -1 unknown. */
  #domain(): number {
    const own = this.#reader.devices.domain(this.#get(Field.device));
    return own >= 0 ? own : this.#get(Field.domain);
  }

  #map(): void {
    const domain = this.#domain();
    const isCertain = this.#get(Field.device) >= 0;
    const start = this.#get(Field.start);
    const nrPages = this.#get(Field.nrPages);
    const line = this.#get(Field.line);
    if (this.#cachingMode === true && !this.#has(Flag.direct) && !this.#has(Flag.openEnd)) {
      const problem = this.#problem() ?? (this.#has(Flag.keepsTables) ? KEEPS_TABLES : null);
      if (problem === null) this.#count();
      else this.#findBad('C-MAP-VISIBLE', problem);
    }
    if (domain < 0) return;
    this.#use(domain, true);
    const settled = isCertain ? null : this.#ledger.settle(domain, start);
    if (settled !== null) this.#settle(domain, settled);
    if (this.#ledger.isPending(domain, start, nrPages)) {
      const unmapLine = this.#ledger.pendingLine(domain, start, nrPages);
      this.#find('C-LAZY-BOUND', line, start, domain, REUSED, [...at('change', unmapLine), ...at('reuse', line)]);
    }
    this.#suspect(this.#ledger.map(domain, start, nrPages, line, this.#has(Flag.hasTables), isCertain));
  }

  #unmap(): void {
    const isCertain = this.#get(Field.device) >= 0;
    const start = this.#get(Field.start);
    const nrPages = this.#get(Field.nrPages);
    const line = this.#get(Field.line);
    const domain = this.#domain();
    if (this.#has(Flag.openEnd)) return;
    if (!this.#has(Flag.flushed)) {
      this.#unflushed(domain);
      return;
    }
    const told = isCertain ? this.#reader.devices.domain(this.#get(Field.device)) : -1;
    if (this.#isWideOnly() && told !== this.#get(Field.domain)) {
      this.#unflushed(told);
      return;
    }
    const tables = this.#has(Flag.keepsTables) && this.#ledger.mapping(domain, start, nrPages)?.hasTables === true;
    const problem = this.#problem();
    if (problem !== null) this.#findBad('C-UNMAP-GONE', problem);
    else if (tables) this.#find('C-TABLE-LIVE', line, start, domain, KEEPS_TABLES, this.#evidence(line));
    else this.#count();
    if (domain < 0) return;
    this.#use(domain, false);
    this.#suspect(this.#ledger.unmap(domain, start, nrPages, line, isCertain));
  }

  /**
   * Whether whole domains were flushed, and no pages. In the context of an unmap this may be a flush queue's doing, its timer's or
   * that of a call that filled it, and so need not be for the domain of the unmap.
   */
  #isWideOnly(): boolean {
    return this.#has(Flag.wide) && this.#get(Field.selected) === 0;
  }

  /** An unmap without a command of its own: of a domain with a flush queue, or a broken one. @param told its domain, -1 unknown */
  #unflushed(told: number): void {
    const start = this.#get(Field.start);
    const nrPages = this.#get(Field.nrPages);
    const line = this.#get(Field.line);
    const { found } = this.#reader;
    const holders = told >= 0 ? [told] : this.#ledger.holders(start, nrPages);
    const lazy = holders.filter((domain) => this.#isLazy(domain, this.#number));
    const nothingIsLazy = found.nrLazyFlushes === 0 && found.nrFlushedUnmaps > 0;
    if (
      nothingIsLazy ||
      (holders.length > 0 && lazy.length === 0 && holders.every((domain) => this.#isStrict(domain)))
    ) {
      const domain = holders.length === 1 ? holders[0] : -1;
      const detail = `${this.#nothing()}, and ${this.#strictness(domain)}`;
      this.#find('C-UNMAP-GONE', line, start, domain, detail, this.#evidence(line));
      if (domain >= 0) this.#ledger.unmap(domain, start, nrPages, line, true);
      return;
    }
    if (lazy.length === 0) {
      if (this.#isWideOnly()) this.#covered += 1;
      else this.#unjudged += 1;
      return;
    }
    this.#queued += 1;
    if (holders.length === 1) {
      this.#ledger.unmap(lazy[0], start, nrPages, line, true);
      this.#ledger.leave(lazy[0], { line, start, nrPages, timeNs: this.#get(Field.timeNs) });
    } else {
      this.#ledger.unmapSomewhere({ line, start, nrPages, record: this.#number, domains: holders, isVague: false });
    }
  }

  /**
   * Unmaps that waited so long that no flush queue can have had them: its timer runs for 10 ms. @param line of the flush, -1 for
   * the end of the trace
   */
  #overdue(domain: number, nowNs: number, line: number): void {
    for (const unmap of this.#ledger.waiting(domain)) {
      const waited = nowNs - unmap.timeNs;
      if (waited < OVERDUE_NS) continue;
      const until = line < 0 ? 'the trace ends' : `the next flush of ${domainText(domain)} is at line ${line}`;
      const text = `no invalidation before the call ended, and no flush queue had it: ${until}, ${(waited / 1e9).toFixed(1)} s later`;
      const evidence = [...at('change', unmap.line), ...at('command', line)];
      this.#find('C-UNMAP-GONE', unmap.line, unmap.start, domain, text, evidence);
    }
  }

  /** Whether a domain had a flush queue at some place: it flushed whole domains, and unmapped nothing by pages later on. */
  #isLazy(domain: number, record: number): boolean {
    const { found } = this.#reader;
    return found.lazyFlushes(domain) > 0 && found.lastStrict(domain) < record;
  }

  /** Whether a domain flushes its unmaps at once. */
  #isStrict(domain: number): boolean {
    return this.#reader.found.strictUnmaps(domain) > 0;
  }

  #strictness(domain: number): string {
    return domain >= 0 && this.#isStrict(domain)
      ? `${domainText(domain)} has no flush queue here`
      : 'no domain has a flush queue here';
  }

  /** An unmap of unknown domain turned out to be of this one. */
  #settle(domain: number, unmap: Unattributed): void {
    const { line, start, record } = unmap;
    const evidence = [...at('change', line), ...at('reuse', this.#get(Field.line))];
    if (!this.#isLazy(domain, record)) {
      this.#find(
        'C-UNMAP-GONE',
        line,
        start,
        domain,
        `no invalidation before the call ended, and ${this.#strictness(domain)}; the domain is known since line ${this.#get(Field.line)} maps the address again`,
        evidence,
      );
    } else if (Math.max(this.#lastFlush.get(domain) ?? -1, this.#lastGlobal) < record) {
      const detail = `${REUSED} (unmapped at line ${line})`;
      this.#find('C-LAZY-BOUND', this.#get(Field.line), start, domain, detail, evidence);
    }
  }

  /** What is wrong with the commands of a call, null for nothing. */
  #problem(): string | null {
    const device = this.#get(Field.device);
    const own = this.#reader.devices.domain(device);
    const domain = this.#get(Field.domain);
    const flushLine = this.#get(Field.flushLine);
    if (!this.#has(Flag.flushed)) return this.#nothing();
    if (own >= 0 && domain >= 0 && own !== domain) {
      return `the command at line ${flushLine} is for ${domainText(domain)}; ${this.#deviceName(device)} uses ${domainText(own)}`;
    }
    if (this.#has(Flag.late)) {
      return `its command (line ${flushLine}) came only after the context had gone on with the next call`;
    }
    if (this.#has(Flag.covered)) return null;
    const page = hexPage(this.#get(Field.badPage));
    if (this.#has(Flag.unwaited)) return `the commands from line ${flushLine} on were not waited for`;
    const other = this.#get(Field.otherDomain);
    const rest = other < 0 ? '' : `; other commands of the call are for ${domainText(other)}`;
    return `no command reached ${page} before the call ended${this.#endText()} (the first one is at line ${flushLine})${rest}`;
  }

  #nothing(): string {
    return `no invalidation before the call ended${this.#endText()}`;
  }

  #endText(): string {
    const line = this.#get(Field.endLine);
    return line < 0 ? '' : ` (line ${line})`;
  }

  /** The lines of a call that was not flushed as it had to be. @param line whose pages were missed */
  #evidence(line: number): AuditEvidence[] {
    const commands = at('command', this.#get(Field.flushLine));
    const end = at('end', this.#get(Field.endLine));
    return [...at('change', line), ...(this.#has(Flag.late) ? [...end, ...commands] : [...commands, ...end])];
  }

  /** A call that was flushed as it had to be. */
  #count(): void {
    this.#covered += 1;
    if (this.#has(Flag.wide)) return;
    this.#needed += this.#get(Field.nrPages);
    this.#selected += this.#get(Field.selected);
  }

  #attach(): void {
    const { found, devices } = this.#reader;
    const line = this.#get(Field.line);
    const device = this.#get(Field.device);
    const domain = this.#get(Field.domain);
    const name = this.#deviceName(device);
    if (this.#calls.map + this.#calls.unmap === 0 && this.#nrAttached === 0) this.#showsDomains = true;
    this.#nrAttached += 1;
    if (domain < 0) this.#showsDomains = false;
    if (domain >= 0) {
      this.#ledger.attach(domain, this.#get(Field.start));
      const list = this.#attached.get(domain) ?? [];
      list.push({ line, device, group: this.#get(Field.start) });
      this.#attached.set(domain, list);
    }
    if (this.#has(Flag.noAddress) || (!found.isAmd && this.#cachingMode !== true)) return;
    if (!this.#has(Flag.context)) {
      const what = found.isAmd ? 'device table entry' : 'context entry';
      this.#find('C-ATTACH', line, -1, domain, `the ${what} of ${name} was not invalidated`);
    } else if (!this.#has(Flag.notPresent)) {
      const why = 'not-present entries are cached under domain id 0, and the invalidation names another one';
      this.#find('C-ATTACH', line, -1, domain, `${name}: ${why}`);
    } else if (!found.isAmd && domain < 0) {
      this.#find('C-ATTACH', line, -1, domain, `the domain that ${name} got was not invalidated`);
    } else if (!found.isAmd && devices.domain(device) !== domain) {
      const own = domainText(devices.domain(device));
      this.#find('C-ATTACH', line, -1, domain, `${domainText(domain)} was invalidated; ${name} uses ${own}`);
    }
  }

  /** A call was made in a domain. */
  #use(domain: number, isMap: boolean): void {
    this.#used.add(domain);
    if (!this.#showsDomains) return;
    if (this.#ledger.isWhole(domain) || this.#get(Field.device) >= 0) return;
    const stranger = this.#strangers.get(domain);
    if (stranger !== undefined) stranger.count += 1;
    else {
      const line = this.#get(Field.line);
      this.#strangers.set(domain, { count: 1, line, start: this.#get(Field.start), isMap });
    }
  }

  /**
   * Domains that calls used and no attachment flushed, though the trace shows all attachments: the one call has a wrong domain,
   * or an attachment whose domain no call uses.
   */
  #judgeStrangers(): void {
    for (const [domain, { count, line, start, isMap }] of this.#strangers) {
      if (count === 1) {
        const contract = isMap ? 'C-MAP-VISIBLE' : 'C-UNMAP-GONE';
        this.#find(contract, line, start, domain, `${domainText(domain)} has no device: no attachment invalidated it`);
        continue;
      }
      for (const [other, attachments] of this.#attached) {
        // Its own device may be one of a domain without a call, or of one that another group has.
        const nrGroups = new Set(attachments.map(({ group }) => group)).size;
        if (this.#used.has(other) && nrGroups < 2) continue;
        for (const { line: attachLine, device } of attachments) {
          const what = `${domainText(domain)} has ${count} calls and no attachment invalidated it`;
          const who = `${this.#deviceName(device)} may be its device`;
          this.#find('C-ATTACH', attachLine, -1, other, `${what}; ${who}`);
        }
      }
    }
  }

  #suspect(suspects: readonly Suspect[]): void {
    const others =
      suspects.length === 1 ? '' : `; one of lines ${suspects.map(({ line }) => line).join(', ')} is wrong`;
    for (const { isMap, line, start, domain } of suspects) {
      const text = `flushed under ${domainText(domain)}, which does not fit the other maps and unmaps of this address${others}`;
      const evidence = suspects
        .flatMap((each) => at(each.line === line ? 'change' : 'rival', each.line))
        .toSorted((a, b) => a.line - b.line);
      this.#find(isMap ? 'C-MAP-VISIBLE' : 'C-UNMAP-GONE', line, start, domain, text, evidence);
    }
  }

  #findBad(contract: AuditContract, detail: string): void {
    const badPage = this.#get(Field.badPage);
    const isWhole = badPage < 0;
    const page = isWhole ? this.#get(Field.start) : badPage;
    const line = this.#get(isWhole ? Field.line : Field.badLine);
    this.#find(contract, line, page, this.#domain(), detail, this.#evidence(line));
  }

  /** @param page -1 for none @param domain -1 for none */
  #find(
    contract: AuditContract,
    line: number,
    page: number,
    domain: number,
    detail: string,
    evidence: readonly AuditEvidence[] = at('change', line),
  ): void {
    if (this.#has(Flag.doubtful) || !this.#options.hasIrqContext) {
      this.#nrDoubtful += 1;
      return;
    }
    this.#nrFindings += 1;
    if (this.#findings.length === MAX_FINDINGS) return;
    this.#findings.push({
      contract,
      line,
      iova: page < 0 ? null : hexPage(page),
      domain: domain < 0 ? null : domain % DOMAINS_PER_UNIT,
      detail,
      evidence,
    });
  }

  #deviceName(attachment: number): string {
    const device = this.#reader.devices.device(attachment);
    return device < 0 ? 'the device' : this.#names.nameOf(device);
  }
}

/** A hundred times the timer of a flush queue: recordings of emulated machines have flushes 16 ms late, not seconds. */
const OVERDUE_NS = 1e9;
const KEEPS_TABLES = 'its command keeps page-directory entries cached (IH set, or PDE clear)';
const REUSED = 'mapped again before the flush of its last unmap in this domain';

function domainText(domain: number): string {
  const id = domain % DOMAINS_PER_UNIT;
  const unit = (domain - id) / DOMAINS_PER_UNIT;
  return domain < 0 ? 'an unknown domain' : unit === 0 ? `domain ${id}` : `domain ${id} of dmar${unit}`;
}

/** A line as evidence; none for -1. */
function at(role: AuditEvidence['role'], line: number): AuditEvidence[] {
  return line < 0 ? [] : [{ role, line }];
}

function hexPage(page: number): string {
  return `0x${(page * PAGE).toString(16)}`;
}
