/** The player on small traces: what a first reader of the project found wrong, each as a case. */
import { describe, expect, test } from 'vitest';
import { agrees } from '../../src/replay/compare.ts';
import type { Comparison } from '../../src/replay/compare.ts';
import { Topology } from '../../src/replay/topology.ts';
import { planOf, play } from './recordings.ts';

const hex = (value: number): string => `0x${value.toString(16).padStart(16, '0')}`;
/** Lines at millisecond `ms`: pages of 4 KiB from page number `page` on. */
const line = (ms: number, text: string): string =>
  `     fio-7     [000] .....   10.${String(ms).padStart(3, '0')}000: ${text}`;
const map = (ms: number, page: number, count = 1): string =>
  line(
    ms,
    `map: IOMMU: iova=${hex(page * 4096)} - ${hex((page + count) * 4096)} paddr=${hex((page + 512) * 4096)} size=${count * 4096}`,
  );
const unmap = (ms: number, page: number, count = 1): string =>
  line(
    ms,
    `unmap: IOMMU: iova=${hex(page * 4096)} - ${hex((page + count) * 4096)} size=${count * 4096} unmapped_size=${count * 4096}`,
  );
const options = { preset: 'linux-6.12', cachingMode: true } as const;

describe('topology', () => {
  test('devices of two PCI segments with one address, and devices that are no PCI functions, have ids of their own', () => {
    const topology = new Topology();
    const names = ['0000:01:00.0', '0001:01:00.0', '10000:e1:00.0', 'platform.dma', '0000:ff:1f.7'];
    const sids = [...names, ...Array.from({ length: 1000 }, (_, i) => `plat${i}.dma`)].map(
      (name) => topology.device(name).sid,
    );
    expect(new Set(sids).size).toBe(sids.length);
    expect(sids[0]).toBe(0x100);
    expect(Math.max(...sids)).toBeLessThan(0x10000);
    expect(topology.device('0001:01:00.0').sid).toBe(sids[1]);
  });
});

describe('player', () => {
  test('lazy: windows that are open at the end of the trace close when the timer fires', () => {
    const trace = [map(1, 100), unmap(2, 100), ''].join('\n');
    const { result } = play(planOf(trace), { ...options, unmapFlush: 'lazy' });
    // One domain flush at the attachment, one by the timer: 12 to 16 ms after the unmap.
    expect(result.commands.domain).toBe(2);
    expect(result.perUnmap).toBe(1);
    expect(result.staleWindowMs.max).toBeGreaterThanOrEqual(12);
    expect(result.staleWindowMs.max).toBeLessThanOrEqual(16);
  });

  // Found by the timelines: only the first timer fired, the windows of other domains never closed.
  test('lazy: at the end of the trace the timer of each domain fires', () => {
    // One address mapped twice makes two domains. Their timers, of ticks of 4 ms, are due 8 ms apart.
    const trace = [map(1, 100), map(2, 100), unmap(3, 100), unmap(12, 100), ''].join('\n');
    const plan = planOf(trace);
    expect(plan.domains.length).toBe(2);
    const closed: number[] = [];
    const observer = {
      map: () => {},
      unmap: () => {},
      command: () => {},
      violation: () => {},
      windowClosed: (domain: number) => void closed.push(domain),
    };
    const { result } = play(plan, { ...options, unmapFlush: 'lazy', observer });
    expect(new Set(closed)).toEqual(new Set([0, 1]));
    // Each domain was flushed at its attachment and by its timer.
    expect(result.commands.domain).toBe(4);
  });

  // Found when the change was read again: the invented device had id 0xffff, beyond AMD-Vi's device table. It was never
  // attached, and `none` looked safe.
  test.each(['vtd', 'amdvi'] as const)(
    '%s: a trace that names no device is played on one that is attached',
    (model) => {
      const plan = planOf([map(1, 100), unmap(2, 100), map(3, 200), unmap(4, 200), ''].join('\n'));
      expect(plan.inferredDomains).toBe(1);
      const unflushed = play(plan, { ...options, model, mapFlush: 'none' }).result;
      expect(unflushed).toMatchObject({ failed: 0, violations: { notPresent: 2, stale: 0 } });
      const flushed = play(plan, { ...options, model, mapFlush: 'sync-map' }).result;
      expect(flushed).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
      expect(flushed.commands.page - unflushed.commands.page).toBe(2);
    },
  );

  test('VFIO: several maps ended by one unmap, and partial unmaps, invent no domain and miss nothing', () => {
    const lines: string[] = [];
    // Two rounds over the same addresses, as when a guest restarts: batches of physically contiguous pages, unmapped at once.
    for (const round of [0, 100]) {
      for (let i = 0; i < 8; i++) lines.push(map(round + i, 1000 + 16 * i, 16));
      lines.push(unmap(round + 10, 1000, 64), unmap(round + 11, 1064, 64));
      lines.push(map(round + 20, 1000, 16), unmap(round + 21, 1004, 4), unmap(round + 22, 1000, 4));
      lines.push(unmap(round + 23, 1008, 8));
    }
    const plan = planOf([...lines, ''].join('\n'));
    expect(plan).toMatchObject({ mapCalls: 18, overlapping: 0, partialUnmaps: 6, inferredDomains: 1 });
    const { result } = play(plan, options);
    expect(result).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
    expect(result.commands.page).toBe(18 + 10);
  });

  test('an unmap of what is partly gone counts as refused, not as a stale translation', () => {
    // The second unmap finds its first page removed by the first one.
    const trace = [map(1, 100, 2), unmap(2, 100, 2), unmap(3, 100, 2), ''].join('\n');
    const { result } = play(planOf(trace), options);
    expect(result.violations).toEqual({ notPresent: 0, stale: 0 });
  });
});

describe('agrees', () => {
  const comparison = (identical: boolean, observed: number, predicted: number): Comparison => {
    const counts = { page: 0, global: 1, context: 1, wait: 0 };
    return {
      upTo: null,
      observed: { ...counts, domain: observed },
      predicted: { ...counts, domain: predicted },
      afterTrace: 0,
      matching: 0,
      identical,
      by: 'address',
      sameDomain: 0,
      concurrent: 0,
      firstDifference: null,
    };
  };
  test.each([
    [true, 62, 67, true],
    [true, 62, 142, false],
    [true, 9, 9, true],
    [false, 9, 9, false],
  ])('pages identical: %s, domain flushes %d and %d: %s', (identical, observed, predicted, expected) => {
    expect(agrees(comparison(identical, observed, predicted))).toBe(expected);
  });
});
