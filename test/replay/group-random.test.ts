/**
 * Must hold: traces of a made-up machine are grouped as they were made. Several domains with an allocator like Linux's (from the
 * top down, aligned to the size, freed ranges reused last in first out), tasks that map page by page or by lists, interrupts
 * and preemption in between. What was made is known here and compared; whatever is guessed, every unmap ends one whole call.
 */
import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { callsOf, group } from './group-trace.ts';

/** Page numbers from the top down; sizes are rounded up to a power of two and reused by size, as the kernel's rcaches do. */
class Allocator {
  #top: number = 0x100000;
  readonly #free = new Map<number, number[]>();

  alloc(nrPages: number): number {
    const size = 2 ** Math.ceil(Math.log2(nrPages));
    const reused = this.#free.get(size)?.pop();
    if (reused !== undefined) return reused;
    this.#top = Math.floor((this.#top - size) / size) * size;
    return this.#top;
  }

  free(first: number, nrPages: number): void {
    const size = 2 ** Math.ceil(Math.log2(nrPages));
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [first]);
    else list.push(first);
  }
}

interface Made {
  readonly first: number;
  readonly nrPages: number;
}

interface Scene {
  readonly seed: number;
  /** Microseconds from event to event inside of a call, and at least between two. */
  readonly inside: number;
  readonly between: number;
  /** Chance that an event comes late, by up to 500 us. */
  readonly late: number;
}

/** A trace and the calls made for it, in the order of their ends. */
function make(scene: Scene): { lines: string[]; calls: string[] } {
  const rng = new Rng(scene.seed);
  const lines: string[] = [];
  const calls: string[] = [];
  const hex = (value: number): string => value.toString(16);
  let now = 0;
  const wait = (us: number): void => {
    now += us + (rng.chance(scene.late) ? rng.below(500) : 0);
  };
  const map = (allocator: Allocator, task: string, nrEvents: number): Made => {
    const pages = Array.from({ length: nrEvents }, () => (rng.chance(0.1) ? 1 + rng.below(4) : 1));
    const nrPages = pages.reduce((sum, count) => sum + count, 0);
    const first = allocator.alloc(nrPages);
    let at = first;
    let paddr = -1;
    for (const count of pages) {
      const gap = paddr + 1;
      paddr = rng.below(1 << 18) * 8;
      if (paddr === gap) paddr += 8;
      lines.push(`${now} ${task} map ${hex(at)} ${hex(count)} ${hex(paddr)}`);
      at += count;
      paddr += count - 1;
      wait(scene.inside + rng.below(2 * scene.inside));
    }
    calls.push(`${hex(first)}+${nrPages}`);
    wait(scene.between + rng.below(scene.between));
    return { first, nrPages };
  };
  const devices = Array.from({ length: 5 }, (_, number) => {
    const allocator = new Allocator();
    // What a driver maps when it starts and keeps.
    for (let i = 0; i < 20; i++) map(allocator, `probe${number}`, rng.chance(0.3) ? 1 + rng.below(6) : 1);
    return { allocator, lists: number % 2 === 0, live: [] as Made[] };
  });
  for (let round = 0; round < 3000; round++) {
    const number = rng.below(devices.length);
    const device = devices[number];
    if (device === undefined) continue;
    const { allocator, live } = device;
    const task = `task${number}-${rng.below(2)}`;
    if (live.length < 4 || (live.length < 40 && rng.chance(0.5))) {
      if (device.lists) live.push(map(allocator, task, 1 + rng.below(12)));
      else for (let i = rng.below(5); i >= 0; i--) live.push(map(allocator, task, 1));
    } else {
      for (let i = rng.below(6); i >= 0; i--) {
        const [call] = live.splice(rng.below(live.length), 1);
        if (call === undefined) break;
        lines.push(`${now} ${rng.chance(0.5) ? task : 'idle'}/h unmap ${hex(call.first)} ${hex(call.nrPages)}`);
        allocator.free(call.first, call.nrPages);
        wait(scene.inside);
      }
    }
  }
  return { lines, calls };
}

describe.each([
  // Shares of calls that may be cut otherwise than they were made.
  ['calls are farther apart than events of one', { inside: 1, between: 12, late: 0.01 }, 0],
  ['half as far', { inside: 1, between: 6, late: 0.02 }, 0.001],
  ['times overlap', { inside: 2, between: 3, late: 0.05 }, 0.01],
  ['no usable clock', { inside: 0, between: 0, late: 0 }, 0.02],
] as const)('%s', (_, times, share) => {
  test.each([1, 2, 3, 4, 5, 6])('seed %i', (seed) => {
    const { lines, calls } = make({ ...times, seed });
    const grouper = group(lines);
    const found = callsOf(grouper).map(({ first, nrPages }) => `${first.toString(16)}+${nrPages}`);
    const { counts } = grouper;
    expect(counts.unmap).toBeGreaterThan(1000);
    // Several domains use the same addresses: without that there is nothing to decide.
    expect(new Set(calls).size).toBeLessThan(calls.length / 2);
    expect(counts.unmapWithoutMap).toBeLessThanOrEqual(counts.ambiguous);
    if (share === 0) expect(counts.unmapWithoutMap).toBe(0);
    // Both lists in the order of the calls' last events; a wrong call takes one or two of its neighbours with it.
    const made = new Map<string, number>();
    for (const call of calls) made.set(call, (made.get(call) ?? 0) + 1);
    let wrong = 0;
    for (const call of found) {
      const left = made.get(call) ?? 0;
      if (left === 0) wrong += 1;
      else made.set(call, left - 1);
    }
    expect(wrong).toBeLessThanOrEqual(Math.ceil(calls.length * share));
    expect(wrong).toBeLessThanOrEqual(counts.ambiguous);
  });
});
