/** The frame of every view: tabs, theme, and what is wrong with the address. */
import type { JSX } from 'preact';
import { VIEWS, address, formatAddress } from '../address.ts';
import type { View } from '../address.ts';
import { FindingsView } from '../findings/findings-view.tsx';
import { PoliciesView } from '../policies/policies-view.tsx';
import { WalkView } from '../walk/walk-view.tsx';
import { ThemeSwitch } from './theme-switch.tsx';

const TITLES: Readonly<Record<View, string>> = { policies: 'Policies', walk: 'Walk', findings: 'Findings' };
const BODIES: Readonly<Record<View, () => JSX.Element>> = {
  policies: PoliciesView,
  walk: WalkView,
  findings: FindingsView,
};

/** Where each view was when it was last shown: a tab leads back to that. */
const lastOf = new Map<View, URLSearchParams>();

/** The address is the state of a view, so a link into the page must not become it. */
function skip(event: MouseEvent): void {
  event.preventDefault();
  document.querySelector<HTMLElement>('#main')?.focus();
}

export function Shell(): JSX.Element {
  const { view, params, problem } = address.value;
  lastOf.set(view, params);
  const Body = BODIES[view];
  return (
    <>
      <a class="skip-link" href="#main" onClick={skip}>
        Skip to the view
      </a>
      <header class="shell-header">
        <h1>
          iommukit <span class="quiet">lab</span>
        </h1>
        <nav aria-label="Views">
          {VIEWS.map((name) => (
            <a
              key={name}
              href={formatAddress(name, lastOf.get(name) ?? new URLSearchParams())}
              aria-current={name === view ? 'page' : undefined}
            >
              {TITLES[name]}
            </a>
          ))}
        </nav>
        <ThemeSwitch />
      </header>
      {problem === '' ? null : (
        <p role="alert" class="problem">
          {problem}
        </p>
      )}
      <main id="main" tabIndex={-1}>
        <Body />
      </main>
    </>
  );
}
