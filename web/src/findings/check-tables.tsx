/** What `iommukit check` tried and how it ended, as tables: the dispute of 2019, the scenarios, what is known to fail, known bugs. */
import type { ComponentChildren, JSX } from 'preact';
import type { CheckReport, DisputeRow } from '../../../src/check/index.ts';
import { count, counted } from '../policies/words.ts';
import { Mark } from '../walk/marks.tsx';
import './findings.css';

export function CheckTables({ report }: { readonly report: CheckReport }): JSX.Element {
  const { table, scenarios, knownFaults, mutants } = report;
  return (
    <div class="panels">
      {table.length === 0 ? null : <Dispute table={table} />}
      {scenarios.length === 0 ? null : (
        <Panel id="scenarios" title="Scenarios">
          <Effort report={report} />
          <Table id="scenarios" columns={['scenario', '', 'cases', 'held', 'known to fail', 'findings']} words={2}>
            {scenarios.map(({ name, title, cases, held, known, findings }) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{title}</td>
                {[cases, held, known, findings].map((value, i) => (
                  <td class="number" key={i}>
                    {count(value)}
                  </td>
                ))}
              </tr>
            ))}
          </Table>
        </Panel>
      )}
      {knownFaults.every(({ violated }) => violated === 0) ? null : (
        <Panel id="known" title="Known to fail, and why">
          <ul>
            {knownFaults.map(({ id, title, violated, cases }) =>
              violated === 0 ? null : (
                <li key={id}>
                  {title}: {count(violated)} of {counted(cases, 'case')}
                </li>
              ),
            )}
          </ul>
        </Panel>
      )}
      {mutants.length === 0 ? null : (
        <Panel id="mutants" title="Known bugs">
          <Table id="mutants" columns={['bug', 'what it is', 'caught?', 'by', 'scenario']} words={5}>
            {mutants.map(({ id, title, caught, contract, scenario }) => (
              <tr key={id}>
                <th scope="row">{id}</th>
                <td>{title}</td>
                <td>{caught ? <Mark tone="good">caught</Mark> : <Mark tone="bad">not caught</Mark>}</td>
                <td>{caught ? (contract ?? 'a test') : ''}</td>
                <td>{scenario ?? ''}</td>
              </tr>
            ))}
          </Table>
        </Panel>
      )}
    </div>
  );
}

function Dispute({ table }: { readonly table: readonly DisputeRow[] }): JSX.Element {
  return (
    <Panel id="dispute" title="The dispute of April 2019">
      <p>
        16 scattered pages are mapped in one call, on hardware that caches “not present”. Who flushes after the map,
        whether every walk then sees the pages, and with how many invalidations:
      </p>
      <Table id="dispute" columns={['driver', 'preset', 'caller', 'map flush', 'verdict', 'invalidations']} words={5}>
        {table.map(({ arch, preset, caller, mapFlush, verdict, contract, commands }) => (
          <tr key={`${arch} ${preset} ${caller} ${mapFlush}`}>
            <th scope="row">{arch}</th>
            <td>{preset}</td>
            <td>{caller}</td>
            <td>{mapFlush}</td>
            <td>
              {verdict === 'held' ? (
                <Mark tone="good">held</Mark>
              ) : (
                <Mark tone="bad">{contract === null ? verdict : `${verdict}: ${contract}`}</Mark>
              )}
            </td>
            <td class="number">{count(commands)}</td>
          </tr>
        ))}
      </Table>
    </Panel>
  );
}

/** What was done besides the scenarios' cases. */
function Effort({ report }: { readonly report: CheckReport }): JSX.Element | null {
  const { random, explored, agreement } = report;
  return (
    <>
      {random === null ? null : (
        <p>
          {counted(random.operations, 'random operation')} from seed {random.seed} on
        </p>
      )}
      {explored.schedules === 0 ? null : (
        <p>
          {counted(explored.schedules, 'schedule')} and {counted(explored.states, 'state')} of the hardware explored;
          the sanitizer agrees in {count(agreement.cases - agreement.disagreements)} of{' '}
          {counted(agreement.cases, 'case')}
        </p>
      )}
    </>
  );
}

interface PanelProps {
  readonly id: string;
  readonly title: string;
  readonly children: ComponentChildren;
}

function Panel({ id, title, children }: PanelProps): JSX.Element {
  return (
    <section class="panel" aria-labelledby={`${id}-title`}>
      <h3 id={`${id}-title`}>{title}</h3>
      {children}
    </section>
  );
}

interface TableProps {
  /** Of the panel that it stands in. */
  readonly id: string;
  readonly columns: readonly string[];
  /** How many of the columns, from the left, hold words and not numbers. */
  readonly words: number;
  readonly children: ComponentChildren;
}

function Table({ id, columns, words, children }: TableProps): JSX.Element {
  return (
    <div class="scroll" role="region" aria-labelledby={`${id}-title`} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {columns.map((title, i) =>
              title === '' ? (
                <td key={i} />
              ) : (
                <th scope="col" class={i < words ? '' : 'number'} key={i}>
                  {title}
                </th>
              ),
            )}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
