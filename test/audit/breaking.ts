/** Ways to break one invalidation of a recording. */
import type { Recorded } from './recorded.ts';
import type { Purpose } from './naive.ts';
import { wireOf } from './naive.ts';

export type Breakage = 'deleted' | 'narrowed' | 'other domain' | 'late';
export const BREAKAGES: readonly Breakage[] = ['deleted', 'narrowed', 'other domain', 'late'];

/** A recording with changes: replaced events by index, null for none; and events moved behind others. */
export class Changes {
  readonly replaced = new Map<number, Recorded | null>();
  readonly behind = new Map<number, Recorded[]>();

  apply(events: readonly Recorded[]): Recorded[] {
    const result: Recorded[] = [];
    for (const [index, event] of events.entries()) {
      const replacement = this.replaced.get(index);
      if (replacement !== null) result.push(replacement ?? event);
      result.push(...(this.behind.get(index) ?? []));
    }
    return result;
  }
}

/** The same command for half as many pages, null when it is for one. */
export function narrowed(event: Recorded): Recorded | null {
  const { pages, first } = wireOf(event);
  if (pages < 2) return null;
  const [w0, w1, w2, w3] = event.words;
  if (!event.isAmd) return { ...event, words: [w0, w1, (w2 & ~0x3f) | ((w2 & 0x3f) - 1), w3] };
  // Size 2^n: n - 13 ones from bit 12 up, then a zero; a single page has S clear.
  const half = pages / 2;
  const address = (BigInt(first) << 12n) | (half === 1 ? 0n : (BigInt(half / 2) - 1n) << 12n);
  const low = Number(address & 0xfffff000n) | (w2 & 0xffe) | (half === 1 ? 0 : 1);
  return { ...event, words: [w0, w1, low | 0, Number(address >> 32n) | 0] };
}

/** The same command for another domain. */
export function redirected(event: Recorded, domain: number): Recorded {
  const [w0, w1, w2, w3] = event.words;
  return event.isAmd
    ? { ...event, words: [w0, (w1 & ~0xffff) | domain, w2, w3] }
    : { ...event, words: [(w0 & 0xffff) | (domain << 16), w1, w2, w3] };
}

/** Breaks a command. @returns false where this cannot be done to it, or would not matter */
export function breakOne(
  changes: Changes,
  events: readonly Recorded[],
  purpose: Purpose,
  breakage: Breakage,
  domain: number,
): boolean {
  const { index, over } = purpose;
  const event = events[index];
  if (changes.replaced.has(index)) return false;
  if (breakage === 'deleted') {
    changes.replaced.set(index, null);
    return true;
  }
  if (breakage === 'narrowed') {
    const less = narrowed(event);
    if (less === null) return false;
    const { first, pages } = wireOf(less);
    if ([...purpose.pages].every((page) => page >= first && page < first + pages)) return false;
    changes.replaced.set(index, less);
    return true;
  }
  if (breakage === 'other domain') {
    const wire = wireOf(event);
    // An AMD-Vi device table entry has no domain id in its command; VT-d's name 0 when nothing was there before.
    if ((event.isAmd && wire.type === 'context') || wire.domain === domain) return false;
    changes.replaced.set(index, redirected(event, domain));
    return true;
  }
  if (over < 0) return false;
  changes.replaced.set(index, null);
  changes.behind.set(over, [...(changes.behind.get(over) ?? []), event]);
  return true;
}
