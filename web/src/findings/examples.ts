/** Counterexamples that come with the page; docs/counterexamples says where they are from. */
import bug10 from '../../../docs/counterexamples/bug-10.json?raw';
import bug17 from '../../../docs/counterexamples/bug-17.json?raw';
import bug18 from '../../../docs/counterexamples/bug-18.json?raw';
import bug26a from '../../../docs/counterexamples/bug-26a.json?raw';
import bug2b from '../../../docs/counterexamples/bug-2b.json?raw';
import bug2c from '../../../docs/counterexamples/bug-2c.json?raw';
import bug6 from '../../../docs/counterexamples/bug-6.json?raw';

export interface Example {
  /** As it stands in links. */
  readonly id: string;
  readonly title: string;
  /** The file. */
  readonly text: string;
}

export const EXAMPLES: readonly Example[] = [
  { id: 'bug-2c', title: '2019, AMD: callers of the DMA API flush after a map, and VFIO does not', text: bug2c },
  { id: 'bug-2b', title: '2019, Intel: the same patch', text: bug2b },
  { id: 'bug-6', title: '2022, Intel: the tail of an unaligned range is not flushed', text: bug6 },
  { id: 'bug-10', title: '2021, Intel: a large page takes the place of a table that caches still know', text: bug10 },
  { id: 'bug-17', title: '2020, AMD: a table grows, and nobody waits for the flush', text: bug17 },
  { id: 'bug-18', title: 'AMD: one entry of a replicated leaf is cleared, no cache to blame', text: bug18 },
  { id: 'bug-26a', title: 'Intel: a context entry is invalidated under the wrong domain id', text: bug26a },
];
