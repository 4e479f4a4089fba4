/** A report that opens from disk: the lab's views over data that the page itself carries (src/report/lab-data.ts). */
import type { ComponentChildren, JSX } from 'preact';
import { render } from 'preact';
import type { LabData } from '../../src/report/index.ts';
import { LAB_DATA_ID, LAB_SCHEMA, auditFacts } from '../../src/report/index.ts';
import { followAddress } from './address.ts';
import { CheckTables } from './findings/check-tables.tsx';
import { FindingsReport } from './findings/findings-report.tsx';
import { PoliciesReport } from './policies/policies-report.tsx';
import { count, counted } from './policies/words.ts';
import { ThemeSwitch } from './shell/theme-switch.tsx';
import './shell/theme.css';

/** @throws Error with a message for people */
function readData(): LabData {
  const text = document.querySelector(`#${LAB_DATA_ID}`)?.textContent ?? '';
  if (text === '') throw new Error('This page has no data: it is the empty page that iommukit makes reports of.');
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error('The data of this report is damaged; write it again.');
  }
  const schema = typeof data === 'object' && data !== null && 'schema' in data ? String(data.schema) : '';
  if (schema !== LAB_SCHEMA) throw new Error(`The data of this report is ${schema.slice(0, 80)}, not ${LAB_SCHEMA}.`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the page and its data are one file of one build
  return data as LabData;
}

const PARTS: Readonly<Record<LabData['kind'], string>> = {
  replay: 'replay',
  audit: 'audit',
  check: 'check',
  schedule: 'counterexample',
};

function View({ data }: { readonly data: LabData }): JSX.Element {
  if (data.kind === 'replay') return <PoliciesReport lab={data} />;
  return (
    <>
      {factsOf(data).map((line) => (
        <p key={line}>{line}</p>
      ))}
      <FindingsReport lab={data} />
      {data.kind === 'check' ? <CheckTables report={data.report} /> : null}
    </>
  );
}

/** What was looked at, and how it ended: a list of findings alone does not say that there was nothing to find. */
function factsOf(data: Exclude<LabData, { readonly kind: 'replay' }>): readonly string[] {
  // Its heading says all.
  if (data.kind === 'schedule') return [];
  if (data.kind === 'audit') return auditFacts(data.report);
  const { driver, scenarios, findings, mutants, complete, interrupted } = data.report;
  const cases = scenarios.reduce((sum, scenario) => sum + scenario.cases, 0);
  const caught = mutants.filter((mutant) => mutant.caught).length;
  const parts = [
    scenarios.length === 0 ? '' : `${counted(scenarios.length, 'scenario')}, ${counted(cases, 'case')}`,
    mutants.length === 0 ? '' : `${count(caught)} of ${counted(mutants.length, 'known bug')} caught`,
    counted(findings.length, 'finding'),
  ].filter((part) => part !== '');
  const end = interrupted ? '; interrupted' : complete ? '' : '; not everything was tried';
  return [`${driver ?? 'The drivers of iommukit'}: ${parts.join(', ')}${end}.`];
}

function Frame({ part, children }: { readonly part: string; readonly children: ComponentChildren }): JSX.Element {
  return (
    <>
      <header class="shell-header">
        <h1>
          iommukit <span class="quiet">{part}</span>
        </h1>
        <ThemeSwitch />
      </header>
      <main id="main">{children}</main>
    </>
  );
}

const root = document.querySelector('#app');
if (root === null) throw new Error('the page has no #app');
followAddress();
try {
  const data = readData();
  render(
    <Frame part={PARTS[data.kind]}>
      <View data={data} />
    </Frame>,
    root,
  );
} catch (error) {
  render(
    <Frame part="report">
      <p role="alert" class="problem">
        {error instanceof Error ? error.message : String(error)}
      </p>
    </Frame>,
    root,
  );
}
