/**
 * Recordings with one invalidation deleted, narrowed, sent to another domain, or late. Which invalidations matter is worked out
 * by naive.ts; the audit must find each and name its call. What nothing in a trace shows is counted by its reason.
 */
import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { IrqContext } from '../../src/trace/index.ts';
import type { AuditResult } from '../../src/audit/index.ts';
import { BREAKAGES, Changes, breakOne, redirected } from './breaking.ts';
import type { Purpose } from './naive.ts';
import { contradicts, isCommand, purposes, queueFlushes, wireOf } from './naive.ts';
import type { Loaded } from './recorded.ts';
import { audit, load, recordings } from './recorded.ts';

/** Lines broken per recording and kind; more with IOMMUKIT_AUDIT_LINES. */
const LINES = Number(process.env['IOMMUKIT_AUDIT_LINES'] ?? 200);
/** Broken at once, in different contexts: one audit judges them all. */
const AT_ONCE = 20;
/** A domain id that no recording has. */
const STRANGE = 999;

function names({ verdict, findings }: AuditResult, { lines }: Purpose): boolean {
  return verdict === 'violated' && findings.some(({ line }) => lines.has(line));
}

/** Whether the evidence of the findings that name a broken command's call is what naive.ts worked out of it. */
function checkEvidence({ findings }: AuditResult, { events }: Loaded, purpose: Purpose, breakage: string): number {
  const { index, over, lines, call, pages } = purpose;
  let nrEnds = 0;
  for (const { line, evidence, contract } of findings.filter((finding) => lines.has(finding.line))) {
    const linesOf = (wanted: string): number[] =>
      evidence.filter(({ role }) => role === wanted).map((each) => each.line);
    if (contract === 'C-LAZY-BOUND') expect(linesOf('reuse')).toEqual([line]);
    else expect(linesOf('change')).toEqual([line]);
    if (evidence.some(({ role }) => role === 'rival')) continue;
    const commands = linesOf('command');
    const ends = linesOf('end');
    if (breakage === 'deleted') expect(commands).not.toContain(events[index].line);
    // Once its command is gone, a call whose address the next one continues looks like one call with that.
    if (over < 0 || call.has(events[over].iova / 4096 - 1)) continue;
    // Of a command that alone was for the call.
    if (breakage === 'narrowed' && pages.size === call.size) expect(commands).toEqual([events[index].line]);
    // naive.ts knows nothing of how an interrupt ends.
    if (isCommand(events[over]) || events[index].irqContext >= IrqContext.hardirq || breakage === 'late') continue;
    nrEnds += ends.length;
    if (ends.length > 0) expect(ends).toEqual([events[over].line]);
  }
  return nrEnds;
}

function domainsOf({ events }: Loaded): number[] {
  const seen = new Set<number>();
  for (const event of events) {
    if (!isCommand(event)) continue;
    const { type, domain } = wireOf(event);
    if (type === 'pages') seen.add(domain);
  }
  return [...seen];
}

describe.each(recordings.map((recording) => [recording.name, recording] as const))('%s', (name, recording) => {
  const loaded = load(recording);
  const all = purposes(loaded.events, recording);
  const domains = domainsOf(loaded);
  const report = (breakage: string, nrFound: number, nrBroken: number, reasons: readonly string[]): void => {
    const counts = [...new Set(reasons)].map(
      (reason) => `${reasons.filter((each) => each === reason).length} ${reason}`,
    );
    process.stdout.write(`${[`${name}: ${breakage}: ${nrFound} of ${nrBroken} found`, ...counts].join('; ')}\n`);
  };

  it('holds as it is', () => {
    const result = audit(loaded.names, loaded.events);
    expect(result.findings).toEqual([]);
    expect(result.verdict).toBe('held');
  });

  it.each(BREAKAGES.filter((breakage) => breakage !== 'other domain'))('finds what is %s', (breakage) => {
    const rng = new Rng(7);
    const misses: Purpose[] = [];
    let nrBroken = 0;
    let nrEnds = 0;
    for (let round = 0; round < LINES / 4 && nrBroken < LINES; round++) {
      const changes = new Changes();
      const broken: Purpose[] = [];
      for (let i = 0; i < AT_ONCE && all.length > 0; i++) {
        const purpose = all[rng.below(all.length)];
        // Two calls of one context that follow each other could look like one.
        const near = broken.some(
          ({ index, context }) => context === purpose.context || Math.abs(index - purpose.index) < 40,
        );
        if (!near && breakOne(changes, loaded.events, purpose, breakage, STRANGE)) broken.push(purpose);
      }
      if (broken.length === 0) continue;
      nrBroken += broken.length;
      const result = audit(loaded.names, changes.apply(loaded.events));
      misses.push(...broken.filter((purpose) => !names(result, purpose)));
      for (const purpose of broken) nrEnds += checkEvidence(result, loaded, purpose, breakage);
    }
    const reasons = misses.map((purpose) => {
      const isOpen = purpose.kind === 'unmap' && recording.name.includes('-fq-') && nrHolders(loaded, all, purpose) > 1;
      return isOpen ? 'may be an unmap of another domain, which has a flush queue' : `MISSED at ${purpose.index}`;
    });
    report(breakage, nrBroken - misses.length, nrBroken, reasons);
    expect(reasons.filter((reason) => reason.startsWith('MISSED'))).toEqual([]);
    if (breakage === 'deleted' && nrBroken > 0 && !recording.isAmd) expect(nrEnds).toBeGreaterThan(0);
  });

  /** Why nothing in the trace shows that a command is for another domain, null when something does. */
  const reasonOf = (purpose: Purpose, other: number): string | null => {
    if (!recording.cachingMode) return 'with caching mode off only unmaps name their domain';
    const { domain } = wireOf(loaded.events[purpose.index]);
    if (purpose.kind === 'attach')
      return domains.includes(domain) ? null : 'the domain of the attached device has no call';
    return contradicts(loaded.events, all, purpose.index, other, domains)
      ? null
      : 'contradicted by nothing in the trace';
  };

  it('finds what is sent to another domain', () => {
    const rng = new Rng(11);
    const reasons: string[] = [];
    let nrBroken = 0;
    let nrFound = 0;
    for (let round = 0; round < LINES / 4 && all.length > 0; round++) {
      const purpose = all[rng.below(all.length)];
      const other = [...domains, STRANGE][rng.below(domains.length + 1)];
      const changes = new Changes();
      if (!breakOne(changes, loaded.events, purpose, 'other domain', other)) continue;
      nrBroken += 1;
      const result = audit(loaded.names, changes.apply(loaded.events));
      if (names(result, purpose)) nrFound += 1;
      else reasons.push(reasonOf(purpose, other) ?? `MISSED at ${purpose.index} ${other}: ${result.verdict}`);
    }
    report('other domain', nrFound, nrBroken, reasons);
    expect(reasons.filter((reason) => reason.startsWith('MISSED'))).toEqual([]);
  });

  it('finds flushes of a queue that are deleted, sent to another domain, or late', () => {
    const lazy = queueFlushes(loaded.events, loaded.names);
    let nrFound = 0;
    for (const { index, reuse, lines } of lazy) {
      const event = loaded.events[index];
      const changed = [new Changes(), new Changes(), new Changes()];
      changed[0].replaced.set(index, null);
      changed[1].replaced.set(index, redirected(event, STRANGE));
      changed[2].replaced.set(index, null);
      changed[2].behind.set(reuse, [event]);
      for (const changes of changed) {
        const { verdict, findings } = audit(loaded.names, changes.apply(loaded.events));
        const isFound = verdict === 'violated' && findings.some(({ line }) => lines.has(line));
        expect.soft(isFound, `command ${index}`).toBe(true);
        nrFound += isFound ? 1 : 0;
      }
    }
    if (lazy.length > 0) report('queue flushes', nrFound, lazy.length * 3, []);
    if (recording.name.includes('-lazy-') && !recording.isAmd) expect(lazy.length).toBeGreaterThan(5);
  });
});

/** How many domains may have mapped what an unmap is for, by the commands of the maps before it. */
function nrHolders({ events }: Loaded, all: readonly Purpose[], { call, index }: Purpose): number {
  const [page] = call;
  return new Set(
    all
      .filter((other) => other.kind === 'map' && other.index < index && other.call.has(page))
      .map((other) => wireOf(events[other.index]).domain),
  ).size;
}
