/** The machine after a step, beside the steps: where the page leads, the tables, the caches, the queue, the fault log. */
import type { JSX } from 'preact';
import { hex } from '../../../src/base/index.ts';
import { answerText } from '../../../src/lab/index.ts';
import type { MachineView } from '../../../src/lab/index.ts';
import { CachesPanel, FaultPanel, QueuePanel, WalkTables } from '../walk/machine-panels.tsx';
import '../walk/walk.css';

/** @param before the machine one step earlier: what differs is said so */
export function MachineColumn({
  machine,
  before,
}: {
  readonly machine: MachineView;
  readonly before: MachineView | null;
}): JSX.Element {
  const { focus, now, walk, queue, faults, lostFaults } = machine;
  return (
    <section class="walk-view finding-machine" aria-label="The machine after this step">
      <dl class="panel finding-facts">
        <dt>Page {hex(focus.iova)}: a device gets</dt>
        <dd>{answerText(now)}</dd>
        <dt>Memory alone would give</dt>
        <dd>{answerText(walk.answer)}</dd>
      </dl>
      <CachesPanel machine={machine} before={before} />
      <WalkTables machine={machine} before={before} />
      <QueuePanel queue={queue} />
      {faults.length === 0 && !lostFaults ? null : <FaultPanel faults={faults} lost={lostFaults} />}
    </section>
  );
}
