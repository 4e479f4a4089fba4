import type { JSX } from 'preact';

export function FindingsView(): JSX.Element {
  return <h2>Findings</h2>;
}
