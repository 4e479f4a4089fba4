/**
 * Recordings with one invalidation deleted, narrowed, sent to another domain, or late. Which invalidations matter is worked out
 * by naive.ts; the audit must find each and name its call. What it cannot find is counted by its reason.
 */
import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import type { AuditResult } from '../../src/audit/index.ts';
import type { Breakage } from './breaking.ts';
import { BREAKAGES, Changes, breakOne } from './breaking.ts';
import type { Purpose } from './naive.ts';
import { isCommand, purposes, wireOf } from './naive.ts';
import type { Loaded } from './recorded.ts';
import { audit, load, recordings } from './recorded.ts';

/** Lines broken per recording and kind; more with IOMMUKIT_AUDIT_LINES. */
const LINES = Number(process.env['IOMMUKIT_AUDIT_LINES'] ?? 200);
/** Broken at once, far enough apart not to touch the same call: one audit judges them all. */
const AT_ONCE = 20;

function names({ findings }: AuditResult, { lines }: Purpose): boolean {
  return findings.some(({ line }) => lines.has(line));
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

  it('holds as it is', () => {
    const result = audit(loaded.names, loaded.events);
    expect(result.findings).toEqual([]);
    expect(result.verdict).toBe('held');
  });

  it.each(BREAKAGES)('finds what is %s', (breakage: Breakage) => {
    const rng = new Rng(7);
    const misses: Purpose[] = [];
    let nrBroken = 0;
    const atOnce = breakage === 'other domain' ? 1 : AT_ONCE;
    for (let round = 0; round < 3 * Math.ceil(LINES / atOnce) && nrBroken < LINES; round++) {
      const changes = new Changes();
      const broken: Purpose[] = [];
      for (let i = 0; i < atOnce && all.length > 0; i++) {
        const purpose = all[rng.below(all.length)];
        // Two calls of one context that follow each other could look like one.
        const near = broken.some(
          ({ index, context }) => context === purpose.context || Math.abs(index - purpose.index) < 40,
        );
        const other = [...domains, 999][rng.below(domains.length + 1)];
        if (!near && breakOne(changes, loaded.events, purpose, breakage, other)) broken.push(purpose);
      }
      if (broken.length === 0) continue;
      nrBroken += broken.length;
      const result = audit(loaded.names, changes.apply(loaded.events));
      misses.push(...broken.filter((purpose) => result.verdict !== 'violated' || !names(result, purpose)));
    }
    process.stderr.write(`${name}: ${breakage}: ${nrBroken - misses.length} of ${nrBroken}\n`);
    for (const { index, kind } of misses.slice(0, 4))
      process.stderr.write(`   missed ${kind} ${loaded.events[index].line}\n`);
    expect.soft(misses.length).toBe(0);
  });
});
