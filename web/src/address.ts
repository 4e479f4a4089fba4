/**
 * The address of a state: `#/VIEW?key=value&…`, read from and written to the location's hash. A view owns its keys and says how
 * they are read; whatever a link holds that a view cannot read becomes a message, never an exception, and the link stays as it
 * is until the user changes something, so that nothing is lost.
 */
import type { Signal } from '@preact/signals';
import { signal } from '@preact/signals';

/** The views, in the order of the tabs. */
export const VIEWS = ['policies', 'walk', 'findings'] as const;
export type View = (typeof VIEWS)[number];

export interface Address {
  readonly view: View;
  readonly params: URLSearchParams;
  /** What is wrong with the link; empty when nothing is. */
  readonly problem: string;
}

/** Longer links are refused: browsers and chat programs cut them. */
export const MAX_LINK = 64 * 1024;

export function parseAddress(hash: string): Address {
  const empty = new URLSearchParams();
  if (hash === '' || hash === '#' || hash === '#/') return { view: 'policies', params: empty, problem: '' };
  if (hash.length > MAX_LINK) {
    return {
      view: 'policies',
      params: empty,
      problem: `This link has ${hash.length} characters; at most ${MAX_LINK} are read.`,
    };
  }
  const [, name = '', query = ''] = /^#\/([^?]*)\??(.*)$/s.exec(hash) ?? [];
  const view = VIEWS.find((known) => known === name);
  if (view === undefined) {
    return {
      view: 'policies',
      params: empty,
      problem: `This link asks for a view '${name}'; there are ${VIEWS.join(', ')}.`,
    };
  }
  return { view, params: new URLSearchParams(query), problem: '' };
}

export function formatAddress(view: View, params: URLSearchParams): string {
  const query = params.toString();
  return query === '' ? `#/${view}` : `#/${view}?${query}`;
}

/** Where the page is. */
export const address: Signal<Address> = signal(parseAddress(globalThis.location?.hash ?? ''));

/** Follows the browser's back, forward and typed addresses. Call once. */
export function followAddress(): void {
  globalThis.addEventListener('hashchange', () => {
    if (globalThis.location.hash !== formatAddress(address.value.view, address.value.params)) {
      address.value = parseAddress(globalThis.location.hash);
    }
  });
}

/** Goes to a state. `replace` for steps too small for the browser's history (a slider, a key repeat). */
export function go(view: View, params: URLSearchParams = new URLSearchParams(), replace: boolean = false): void {
  const hash = formatAddress(view, params);
  address.value = { view, params, problem: '' };
  if (replace) globalThis.history.replaceState(null, '', hash);
  else if (globalThis.location.hash !== hash) globalThis.history.pushState(null, '', hash);
}
