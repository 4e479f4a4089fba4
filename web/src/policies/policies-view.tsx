/** The policies view is loaded when it is first shown. */
import { signal } from '@preact/signals';
import type { JSX } from 'preact';

const loaded = signal<(() => JSX.Element) | null>(null);
const problem = signal('');

export function PoliciesView(): JSX.Element {
  const Body = loaded.value;
  if (Body !== null) return <Body />;
  if (problem.value === '') void load();
  return problem.value === '' ? <p>Loading…</p> : <p role="alert">{problem.value}</p>;
}

async function load(): Promise<void> {
  try {
    loaded.value = (await import('./policies.tsx')).Policies;
  } catch {
    problem.value = 'A part of the page could not be loaded. Reload the page.';
  }
}
