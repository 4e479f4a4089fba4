/** The findings view of the lab: examples, files, links. */
import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import { address } from '../address.ts';
import { EXAMPLES } from './examples.ts';
import { FindingsBrowser, chosenFinding } from './findings-browser.tsx';
import { lookFor, openExample, openFile, refusal, search, state } from './opened-findings.ts';
import './findings.css';

const isOver = signal(false);
const said = signal('');

function take(files: FileList | null | undefined): void {
  const file = files?.[0];
  if (file !== undefined) void openFile(file);
}

async function copyLink(): Promise<void> {
  const { params } = address.value;
  const rest = params.has('file')
    ? ' It names the file, but does not hold it: who opens it is asked for the file.'
    : params.has('open')
      ? ' The file is too large for it: it works while iommukit ui runs, on this machine.'
      : '';
  try {
    await navigator.clipboard.writeText(globalThis.location.href);
    said.value = `The link is copied.${rest}`;
  } catch {
    said.value = `The browser does not let pages copy; the link is this page's address.${rest}`;
  }
}

function Sources(): JSX.Element {
  const id = address.value.params.get('example') ?? '';
  return (
    <div class="finding-controls">
      <label>
        Example{' '}
        <select
          value={id}
          onChange={(event) => event.currentTarget.value !== '' && openExample(event.currentTarget.value)}
        >
          <option value="">choose one…</option>
          {EXAMPLES.map((example) => (
            <option key={example.id} value={example.id}>
              {example.title}
            </option>
          ))}
        </select>
      </label>
      <label>
        or open a file{' '}
        <input
          type="file"
          accept=".json,application/json"
          onChange={(event) => {
            take(event.currentTarget.files);
            // The same file may be chosen again.
            event.currentTarget.value = '';
          }}
        />
      </label>
      {state.value.kind === 'ready' ? (
        <button type="button" onClick={() => void copyLink()}>
          Copy link
        </button>
      ) : null}
      <span role="status" class="quiet">
        {said.value}
      </span>
    </div>
  );
}

function Body(): JSX.Element {
  const now = state.value;
  const index = now.kind === 'ready' ? chosenFinding(now.opened.stories.length) : -1;
  useEffect(() => {
    if (index >= 0) void lookFor(index);
  }, [now, index]);
  switch (now.kind) {
    case 'none':
      return (
        <>
          <p>
            A counterexample is a run in which the IOMMU still used what memory no longer said, or a call returned too
            early. Step through one, forwards and backwards:
          </p>
          <ul>
            {EXAMPLES.map((example) => (
              <li key={example.id}>
                <a href={`#/findings?example=${example.id}`}>{example.title}</a>
              </li>
            ))}
          </ul>
          <p>
            Or drop a file here: a schedule that <code>iommukit check --explore --save</code> wrote, or the JSON of{' '}
            <code>iommukit check --json</code> or <code>iommukit audit --json</code>. It stays in this browser.
          </p>
        </>
      );
    case 'loading':
      return <p role="status">Playing…</p>;
    case 'missing':
      return (
        <p role="alert" class="problem">
          This link names the file <q>{now.file}</q>, which it does not hold. Open that file here, and the link goes on
          where it leads.
        </p>
      );
    case 'problem':
      return (
        <p role="alert" class="problem">
          {now.message}
        </p>
      );
    case 'ready':
      return (
        <>
          {now.opened.note === '' ? null : <p>{now.opened.note}</p>}
          <FindingsBrowser stories={now.opened.stories} note={search.value[index] ?? ''} />
        </>
      );
    default:
      return now satisfies never;
  }
}

export function FindingsPage(): JSX.Element {
  useEffect(() => {
    said.value = '';
  }, [address.value]);
  return (
    // oxlint-disable-next-line jsx-a11y/no-static-element-interactions -- dropping a file; the button does the same
    <div
      class={isOver.value ? 'finding-page finding-over' : 'finding-page'}
      onDragOver={(event) => {
        event.preventDefault();
        isOver.value = true;
      }}
      onDragLeave={() => {
        isOver.value = false;
      }}
      onDrop={(event) => {
        event.preventDefault();
        isOver.value = false;
        take(event.dataTransfer?.files);
      }}
    >
      <Sources />
      {refusal.value === '' ? null : (
        <p role="alert" class="problem">
          {refusal.value}
          {state.value.kind === 'ready' ? ' What was open before is still shown.' : ''}
        </p>
      )}
      <Body />
    </div>
  );
}
