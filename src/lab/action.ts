/**
 * What can be done to a lab machine, and its text for links: one letter, then arguments, `m40000_4s.r40000.t10.ip40000`. Pages
 * are IOVA page numbers in hexadecimal, other numbers decimal.
 */
import type { CacheName } from '../hw/index.ts';
import { cut } from './config.ts';
import { LabTextError } from './text-error.ts';

/** What an invalidation by hand is about: one page, the domain's translations, all of them, or the entry of a device. */
export type Scope = 'page' | 'domain' | 'global' | 'device';

/** `device` is an index into DEVICES of src/check. Each action is one step. */
export type LabAction =
  /** The caller maps fresh memory: one run of pages, or pages apart from each other. */
  | { readonly do: 'map'; readonly page: number; readonly nr: number; readonly scattered: boolean }
  /** The caller ends the mapping that a page belongs to. */
  | { readonly do: 'unmap'; readonly page: number }
  | { readonly do: 'attach'; readonly device: number }
  | { readonly do: 'detach'; readonly device: number }
  /** A device reads or writes the first word of a page. */
  | { readonly do: 'read'; readonly page: number; readonly device: number }
  | { readonly do: 'write'; readonly page: number; readonly device: number }
  /** The unit walks for a page on an idea of its own, as hardware may at any time: caches fill, no fault is logged. */
  | { readonly do: 'prefetch'; readonly page: number; readonly device: number }
  /** An entry leaves a cache, as it may at any time. `nth` as CachedView counts. */
  | { readonly do: 'evict'; readonly cache: CacheName; readonly nth: number }
  | { readonly do: 'pass'; readonly ms: number }
  /** Somebody sends an invalidation that no caller asked for. */
  | { readonly do: 'invalidate'; readonly scope: Scope; readonly page: number; readonly device: number }
  /** Somebody changes the page's entry behind the driver's back, and invalidates nothing. */
  | { readonly do: 'edit'; readonly page: number; readonly change: 'clear' | 'read-only' }
  /** The next call of the program's scenario. */
  | { readonly do: 'call' };

/** Pages of a 48-bit address. */
export const LAST_PAGE: number = 2 ** 36 - 1;
/** Most pages of one map: a 2 MiB leaf. */
export const MOST_PAGES = 512;
export const MOST_MS = 100;
export const MOST_ACTIONS = 2048;
/** Most pages of all maps together: less than a second of playing. */
export const MOST_MAPPED = 65536;
const MOST_NTH = 9999;
const LAST_DEVICE = 2;
/** Longest text of actions that is read. */
export const MOST_TEXT: number = 32 * 1024;

const CACHE_LETTERS: Readonly<Record<CacheName, string>> = { context: 'c', iotlb: 'i', structure: 's' };
const SCOPE_LETTERS: Readonly<Record<Scope, string>> = { page: 'p', domain: 'd', global: 'g', device: 'c' };

export function formatActions(actions: readonly LabAction[]): string {
  const parts: string[] = [];
  let calls = 0;
  const flush = (): void => {
    if (calls > 0) parts.push(calls === 1 ? 'n' : `n${calls}`);
    calls = 0;
  };
  for (const action of actions) {
    if (action.do === 'call') calls += 1;
    else {
      flush();
      parts.push(formatAction(action));
    }
  }
  flush();
  return parts.join('.');
}

function formatAction(action: LabAction): string {
  switch (action.do) {
    case 'map':
      return `m${hexPage(action.page)}_${action.nr}${action.scattered ? 's' : ''}`;
    case 'unmap':
      return `u${hexPage(action.page)}`;
    case 'attach':
      return `a${action.device}`;
    case 'detach':
      return `d${action.device}`;
    case 'read':
      return `r${hexPage(action.page)}${by(action.device)}`;
    case 'write':
      return `w${hexPage(action.page)}${by(action.device)}`;
    case 'prefetch':
      return `p${hexPage(action.page)}${by(action.device)}`;
    case 'evict':
      return `e${CACHE_LETTERS[action.cache]}${action.nth}`;
    case 'pass':
      return `t${action.ms}`;
    case 'invalidate':
      return `i${SCOPE_LETTERS[action.scope]}${hexPage(action.page)}${by(action.device)}`;
    case 'edit':
      return `x${action.change === 'clear' ? 'c' : 'r'}${hexPage(action.page)}`;
    case 'call':
      return 'n';
    default:
      return action satisfies never;
  }
}

function hexPage(page: number): string {
  return page.toString(16);
}

function by(device: number): string {
  return device === 0 ? '' : `_${device}`;
}

const LETTER_OF_CACHE: Readonly<Record<string, CacheName>> = { c: 'context', i: 'iotlb', s: 'structure' };
const LETTER_OF_SCOPE: Readonly<Record<string, Scope>> = { p: 'page', d: 'domain', g: 'global', c: 'device' };

/** @throws LabTextError naming the first part that cannot be read */
export function parseActions(text: string): LabAction[] {
  if (text.length > MOST_TEXT) {
    throw new LabTextError(`The list of actions has ${text.length} characters; at most ${MOST_TEXT} are read.`);
  }
  const actions: LabAction[] = [];
  if (text === '') return actions;
  let nrMapped = 0;
  for (const [index, part] of text.split('.').entries()) {
    const calls = /^n(\d{1,4})?$/.exec(part);
    if (calls === null) {
      const action = parseAction(part, index + 1);
      if (action.do === 'map') nrMapped += action.nr;
      if (nrMapped > MOST_MAPPED) {
        throw new LabTextError(`The link maps more than ${MOST_MAPPED} pages; that is the most that is played.`);
      }
      actions.push(action);
    } else {
      // A count that is cut off would play less than the link says: it is refused below.
      const nr = calls[1] === undefined ? 1 : Number(calls[1]);
      if (nr === 0) throw wrong(part, index + 1, 'no calls at all');
      for (let i = 0; i < nr; i++) actions.push({ do: 'call' });
    }
    if (actions.length > MOST_ACTIONS) {
      throw new LabTextError(`The link has more than ${MOST_ACTIONS} actions; that is the most that is played.`);
    }
  }
  return actions;
}

function wrong(part: string, place: number, why: string): LabTextError {
  return new LabTextError(`Action ${place}, '${cut(part)}', cannot be read: ${why}.`);
}

function parseAction(part: string, place: number): LabAction {
  const page = (text: string): number => {
    const value = Number.parseInt(text, 16);
    if (value > LAST_PAGE) throw wrong(part, place, `pages end at ${LAST_PAGE.toString(16)} (48-bit addresses)`);
    return value;
  };
  const number = (text: string, first: number, last: number, what: string): number => {
    const value = Number(text);
    if (value < first || value > last) throw wrong(part, place, `${what} may be ${first} to ${last}`);
    return value;
  };
  const device = (text: string | undefined): number => number(text ?? '0', 0, LAST_DEVICE, 'a device');

  const map = /^m([0-9a-f]{1,10})_(\d{1,4})(s?)$/.exec(part);
  if (map !== null) {
    const first = page(map[1]);
    const nr = number(map[2], 1, MOST_PAGES, 'the number of pages');
    if (first + nr - 1 > LAST_PAGE) throw wrong(part, place, 'it goes beyond 48-bit addresses');
    return { do: 'map', page: first, nr, scattered: map[3] === 's' };
  }
  const access = /^([rwp])([0-9a-f]{1,10})(?:_(\d))?$/.exec(part);
  if (access !== null) {
    const kind = access[1] === 'r' ? 'read' : access[1] === 'w' ? 'write' : 'prefetch';
    return { do: kind, page: page(access[2]), device: device(access[3]) };
  }
  const unmap = /^u([0-9a-f]{1,10})$/.exec(part);
  if (unmap !== null) return { do: 'unmap', page: page(unmap[1]) };
  const move = /^([ad])(\d)$/.exec(part);
  if (move !== null) return { do: move[1] === 'a' ? 'attach' : 'detach', device: device(move[2]) };
  const evict = /^e([cis])(\d{1,4})$/.exec(part);
  if (evict !== null)
    return { do: 'evict', cache: LETTER_OF_CACHE[evict[1]], nth: number(evict[2], 0, MOST_NTH, 'an entry') };
  const pass = /^t(\d{1,4})$/.exec(part);
  if (pass !== null) return { do: 'pass', ms: number(pass[1], 1, MOST_MS, 'milliseconds') };
  const hand = /^i([pdgc])([0-9a-f]{1,10})(?:_(\d))?$/.exec(part);
  if (hand !== null) {
    return { do: 'invalidate', scope: LETTER_OF_SCOPE[hand[1]], page: page(hand[2]), device: device(hand[3]) };
  }
  const edit = /^x([cr])([0-9a-f]{1,10})$/.exec(part);
  if (edit !== null) return { do: 'edit', page: page(edit[2]), change: edit[1] === 'c' ? 'clear' : 'read-only' };
  throw wrong(
    part,
    place,
    'no action looks like that; a map is m40000_4, a read r40000, see the buttons of the view for the others',
  );
}
