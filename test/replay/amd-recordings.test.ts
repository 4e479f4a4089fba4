/** Must hold: recorded kernels on AMD-Vi are predicted command word for command word, from their map, unmap and dma events. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { AmdObserved, PageLog, compareRun } from '../../src/replay/index.ts';
import { QemuLogReader } from '../../src/trace/index.ts';
import type { AmdRecording } from './recordings.ts';
import { amdRecordings, compare, planOf, play, traceText } from './recordings.ts';

function textOf(run: AmdRecording, file: string): string {
  return gunzipSync(readFileSync(join(run.folder, file))).toString('latin1');
}

/** The commands as the kernel queued them, four words each. */
function wordsOf(run: AmdRecording): [number, number, number, number][] {
  return textOf(run, 'amd-commands.txt.gz')
    .split('\n')
    .flatMap((line) => {
      const match = /d0=(\S+) d1=(\S+) d2=(\S+) d3=(\S+)/.exec(line);
      if (match === null) return [];
      const [d0 = 0, d1 = 0, d2 = 0, d3 = 0] = match.slice(1).map((word) => Number(word) | 0);
      return [[d0, d1, d2, d3]];
    });
}

function observedOf(run: AmdRecording): AmdObserved {
  const observed = new AmdObserved();
  for (const [line, words] of wordsOf(run).entries()) observed.command(...words, line + 1);
  return observed;
}

test('recordings of both kernels are here', () => {
  expect(amdRecordings.map(({ name }) => name)).toEqual(
    expect.arrayContaining([
      'amd-strict-boot-6.1',
      'amd-strict-nvmeonly-6.1',
      'amd-strict-small-6.1',
      'amd-lazy-small-6.12',
    ]),
  );
});

describe('AMD-Vi recordings', () => {
  test.each(amdRecordings)(
    "$name: QEMU's log, which has no addresses: the same commands for the same domains, in order",
    (run) => {
      const observed = new AmdObserved(false);
      const reader = new QemuLogReader({
        amdCommand: (operation, domain, _device, line) => observed.operation(operation, domain, line),
        mark: (name) => observed.mark(name),
        skipped: () => {},
      });
      reader.push(gunzipSync(readFileSync(join(run.folder, 'qemu-inval.log.gz'))));
      reader.end();
      const plan = planOf(traceText(run));
      const { player, result } = play(plan, run);
      const domainsTold = plan.rule === 'dma-events' && plan.inferredDomains === 0;
      const pages = player.pages ?? new PageLog();
      const comparison = compareRun({ pages, counts: result.commands, domainsTold, marks: player.marks }, observed);
      expect(comparison).toMatchObject({ by: run.name.endsWith('-6.12') ? 'domain' : 'count', identical: true });
      expect(comparison.predicted).toEqual(comparison.observed);
      // The guest stopped tracing at the end mark; what QEMU logged of the shutdown is behind it.
      expect(comparison.upTo).toMatch(/-end$/);
      expect(comparison.afterTrace).toBeGreaterThanOrEqual(0);
    },
  );

  test.each(amdRecordings)('$name: INVALIDATE_IOMMU_PAGES identical, in order, those of the boot included', (run) => {
    const observed = observedOf(run);
    const played = play(planOf(traceText(run)), run);
    const comparison = compare(played, observed);
    expect(comparison.firstDifference).toBeNull();
    expect(comparison).toMatchObject({ identical: true, matching: observed.counts.page });
    expect(observed.counts.page).toBeGreaterThan(1000);
    // Everything else too: device table entries, interrupt tables, completion waits, INVALIDATE_IOMMU_ALL.
    expect(comparison.predicted).toEqual(comparison.observed);
    expect(played.result.commands.total).toBe(observed.counts.total);
    expect(played.result).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
    // dma:* events tell every domain; without them the ids agree where the attach events alone decide.
    if (run.name.endsWith('-6.12')) expect(comparison.sameDomain).toBe(observed.counts.page);
  });
});

test('an Intel recording plays on AMD-Vi, and an AMD one on VT-d: what another machine would have cost', () => {
  const [run] = amdRecordings.filter(({ name }) => name === 'amd-lazy-small-6.12');
  if (run === undefined) throw new Error('no amd-lazy-small-6.12');
  const plan = planOf(traceText(run));
  const amd = play(plan, run).result;
  const intel = play(plan, { ...run, model: 'vtd' }).result;
  expect(intel).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
  // One page-selective invalidation per call against one command per aligned block of it, and the boot's 252.
  expect(intel.commands.page).toBeLessThan(amd.commands.page - 252);
});
