/** What is below is put on the page in a task of its own: all of a long result at once would keep keys waiting. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

/** @param after how many such tasks come first */
export function Later({
  after,
  children,
}: {
  readonly after: number;
  readonly children: ComponentChildren;
}): JSX.Element | null {
  const [left, setLeft] = useState(after);
  useEffect(() => {
    if (left === 0) return undefined;
    const soon = setTimeout(() => setLeft(left - 1), 0);
    return () => clearTimeout(soon);
  }, [left]);
  return left === 0 ? <>{children}</> : null;
}
