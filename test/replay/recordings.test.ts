/** Must hold: recorded kernels are predicted command for command from their map, unmap and dma events. */
import { describe, expect, test } from 'vitest';
import { PageLog, agrees, linearize } from '../../src/replay/index.ts';
import { compare, observedOf, planOf, play, recording, recordings, traceText } from './recordings.ts';

const strict = recordings.filter(({ name }) => name.includes('-strict-'));
const lazy = recordings.filter(({ name }) => name.includes('-lazy-'));

describe('strict recordings', () => {
  test.each(strict)('$name: page-selective invalidations identical, in order', (run) => {
    const observed = observedOf(run);
    const played = play(planOf(traceText(run)), run);
    const comparison = compare(played, observed);
    expect(comparison.firstDifference).toBeNull();
    expect(comparison).toMatchObject({ identical: true, matching: comparison.observed.page });
    expect(comparison.observed.page).toBeGreaterThan(1000);
    // Not only the pages: everything else the driver sent, the start and the attachments included.
    expect(comparison.predicted).toEqual(comparison.observed);
    expect(played.result).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
  });

  test.each(strict)('$name: the answer is not read (qi_submit and cache_tag lines deleted, same result)', (run) => {
    const text = traceText(run);
    const without = text
      .split('\n')
      .filter((line) => !/: (qi_submit|cache_tag_\w+): /.test(line))
      .join('\n');
    expect(without.length).toBeLessThan(text.length);
    const observed = observedOf(run);
    const whole = compare(play(planOf(text), run), observed);
    const blind = compare(play(planOf(without), run), observed);
    expect(blind).toEqual(whole);
  });

  test.each(strict)('$name: most logs in which two neighbours changed places are refused', (run) => {
    const played = play(planOf(traceText(run)), run);
    const { player } = played;
    const observed = observedOf(run).keys.view(compare(played, observedOf(run)).observed.page);
    let nrTried = 0;
    let nrRefused = 0;
    for (let at = 5; at + 1 < observed.length; at += 7) {
      if (observed[at] === observed[at + 1]) continue;
      const swapped = observed.slice();
      swapped.set([observed[at + 1], observed[at]], at);
      nrTried += 1;
      const { keys } = linearize(player.pages ?? new PageLog(), swapped.length, swapped);
      if (keys.some((key, i) => key !== swapped[i])) nrRefused += 1;
    }
    expect(nrTried).toBeGreaterThan(100);
    // Four threads on one disk, and nothing else, overlap most of the time: there the trace leaves the order open.
    expect(nrRefused / nrTried).toBeGreaterThan(run.name.includes('-nvmeonly-') ? 0.2 : 0.85);
  });

  test('with the wrong preset the prediction differs: the comparison can fail', () => {
    const run = recording('intel-cmon-strict-small-6.12');
    const comparison = compare(play(planOf(traceText(run)), { ...run, preset: 'linux-6.1' }), observedOf(run));
    // 6.1 never sets the IH hint, 6.12 sets it on each of the 1,250 unmaps.
    expect(comparison).toMatchObject({ identical: false, matching: 3023 - 1250 });
    expect(comparison.firstDifference).not.toBeNull();
  });

  test('one map event deleted from the trace is one command missing, not a shift of all others', () => {
    const run = recording('intel-cmon-strict-small-6.12');
    const lines = traceText(run).split('\n');
    const victim = lines.findIndex(
      (line, at) => at > 6000 && / map: /.test(line) && / dma_map_page: /.test(lines[at + 3] ?? ''),
    );
    lines.splice(victim, 1);
    const comparison = compare(play(planOf(lines.join('\n')), run), observedOf(run));
    expect(comparison.identical).toBe(false);
    expect(comparison.matching).toBe(3022);
  });
});

describe('lazy recordings', () => {
  test.each(lazy)('$name: no page-selective invalidation, domain-selective ones within 15 %', (run) => {
    const comparison = compare(play(planOf(traceText(run)), { ...run, unmapFlush: 'lazy' }), observedOf(run));
    expect(comparison).toMatchObject({ identical: true, observed: { page: 0 }, predicted: { page: 0 } });
    const ratio = comparison.predicted.domain / comparison.observed.domain;
    expect(ratio).toBeGreaterThan(0.85);
    expect(ratio).toBeLessThan(1.15);
  });
});

describe('a recording with lazy and strict groups at once', () => {
  // An administrator made all groups lazy after boot but the disk controller's, which has two more functions (groups.txt).
  const run = recording('intel-cmon-fq-small-6.1');
  const text = traceText(run);
  const recorded = play(planOf(text, { attributed: true }), { ...run, unmapFlush: 'recorded' });

  test('intel-cmon-fq-small-6.1: identical, in order, when each domain unmaps as its addresses show', () => {
    const comparison = compare(recorded, observedOf(run));
    // Counted by the recorder (counts.json): 1,923 flushes by maps, 139 by unmaps before the switch and of the strict group.
    expect(comparison).toMatchObject({ identical: true, matching: 1923 + 139, observed: { domain: 94 } });
    expect(agrees(comparison)).toBe(true);
    expect(recorded.result).toMatchObject({ failed: 0, violations: { notPresent: 0 } });
  });

  test('one domain was never lazy, all others became so after boot', () => {
    const { lazyFrom } = planOf(text, { attributed: true });
    expect(lazyFrom?.filter((from) => from === Infinity)).toHaveLength(1);
    // The answer is not read.
    const blind = text.replaceAll(/^.*: qi_submit: .*\n/gm, '');
    expect(planOf(blind, { attributed: true }).lazyFrom).toEqual(lazyFrom);
  });

  test('played as lazy throughout, the strict unmaps are missing: the mode is what makes it identical', () => {
    const comparison = compare(play(planOf(text), { ...run, unmapFlush: 'lazy' }), observedOf(run));
    expect(comparison).toMatchObject({ observed: { page: 1923 + 139 }, predicted: { page: 1923 }, matching: 1923 });
  });
});

describe('recordings of one mode', () => {
  test.each(strict.filter(({ name }) => name.includes('-small-')))('$name shows no lazy domain', (run) => {
    const plan = planOf(traceText(run), { attributed: true });
    expect(plan.lazyFrom?.every((from) => from === Infinity)).toBe(true);
    expect(compare(play(plan, { ...run, unmapFlush: 'recorded' }), observedOf(run)).identical).toBe(true);
  });

  test.each(lazy)('$name shows no strict domain', (run) => {
    expect(planOf(traceText(run), { attributed: true }).lazyFrom?.every((from) => from === 0)).toBe(true);
  });
});

describe('policies on a caching-mode trace', () => {
  const run = recording('intel-cmon-strict-small-6.12');
  const plan = planOf(traceText(run));
  /** Map calls and driver callbacks, counted in the trace: dma_map_* and dma_alloc events, map events. */
  const text = traceText(run);
  const nrCalls = text.match(/: (dma_map_page|dma_map_sg|dma_alloc): /g)?.length ?? 0;
  const nrMaps = text.match(/ map: IOMMU/g)?.length ?? 0;
  const nrUnmaps = text.match(/ unmap: IOMMU/g)?.length ?? 0;

  test.each([
    // The one map event without a flush is the direct mapping, made before its domain is attached.
    { mapFlush: 'none', page: 0 },
    { mapFlush: 'caller', page: nrCalls },
    { mapFlush: 'map', page: nrMaps - 1 },
    { mapFlush: 'sync-map', page: nrCalls },
  ] as const)('$mapFlush makes $page flushes for maps', ({ mapFlush, page }) => {
    const { result } = play(plan, { ...run, mapFlush });
    expect(result.commands.page - nrUnmaps).toBe(page);
    if (mapFlush === 'none') expect(result.violations.notPresent).toBeGreaterThan(nrMaps);
    else expect(result.violations.notPresent).toBe(0);
    expect(result.violations.stale).toBe(0);
  });

  test('with caching mode off nothing is cached as not present, so no policy is needed and none flushes', () => {
    for (const mapFlush of ['none', 'map', 'sync-map'] as const) {
      const { result } = play(plan, { ...run, cachingMode: false, mapFlush });
      expect(result).toMatchObject({ commands: { page: nrUnmaps }, violations: { notPresent: 0, stale: 0 } });
    }
  });

  test('lazy unmapping leaves stale translations for at most the timer, 10 ms on ticks of 4 ms', () => {
    const { result } = play(plan, { ...run, unmapFlush: 'lazy' });
    expect(result.violations.stale).toBeGreaterThan(0);
    expect(result.staleWindowMs.max).toBeGreaterThan(12);
    expect(result.staleWindowMs.max).toBeLessThanOrEqual(16);
  });

  test('two runs give the same bytes', () => {
    expect(JSON.stringify(play(plan, run).result)).toBe(JSON.stringify(play(plan, run).result));
  });
});
