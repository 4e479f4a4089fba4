import type { JSX } from 'preact';

export function WalkView(): JSX.Element {
  return <h2>Walk</h2>;
}
