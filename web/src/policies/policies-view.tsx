import type { JSX } from 'preact';

export function PoliciesView(): JSX.Element {
  return <h2>Policies</h2>;
}
