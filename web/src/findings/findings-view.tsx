/** The findings view, loaded when it is first looked at: the page that starts stays small. */
import { signal } from '@preact/signals';
import type { JSX } from 'preact';

const loaded = signal<(() => JSX.Element) | null>(null);
const problem = signal('');
let isAsked = false;

async function load(): Promise<void> {
  isAsked = true;
  try {
    loaded.value = (await import('./findings-page.tsx')).FindingsPage;
  } catch {
    isAsked = false;
    problem.value = 'This view could not be loaded from the server. Reload the page.';
  }
}

export function FindingsView(): JSX.Element {
  if (!isAsked) void load();
  const Page = loaded.value;
  return (
    <>
      <h2>Findings</h2>
      {problem.value === '' ? null : (
        <p role="alert" class="problem">
          {problem.value}
        </p>
      )}
      {Page === null ? <p class="quiet">Loading…</p> : <Page />}
    </>
  );
}
