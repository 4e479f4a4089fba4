/** A machine at one moment: its tables along the chosen walk, its caches, its queue, its fault log. For any view that has a MachineView. */
import type { ComponentChildren, JSX } from 'preact';
import { hex } from '../../../src/base/index.ts';
import type {
  CacheView,
  CachedView,
  CommandView,
  EntryView,
  FaultView,
  Field,
  MachineView,
  QueueView,
  WalkView,
} from '../../../src/lab/index.ts';
import type { Tone } from './marks.tsx';
import { Mark } from './marks.tsx';

export function Panel({
  title,
  hint,
  children,
}: {
  readonly title: string;
  readonly hint: string;
  readonly children: ComponentChildren;
}): JSX.Element {
  const id = `panel-${title.toLowerCase().replaceAll(/\W+/g, '-')}`;
  return (
    <section class="panel" aria-labelledby={id}>
      <h3 id={id}>{title}</h3>
      <p class="quiet hint">{hint}</p>
      {children}
    </section>
  );
}

/** A table that may be wider than the page: it scrolls by itself, by keyboard too. */
export function Scroll({
  label,
  children,
}: {
  readonly label: string;
  readonly children: ComponentChildren;
}): JSX.Element {
  return (
    <div class="scroll" role="region" aria-label={label} tabIndex={0}>
      {children}
    </div>
  );
}

const KIND_MARKS: Readonly<Record<EntryView['kind'], readonly [Tone, string]>> = {
  table: ['plain', 'leads on'],
  page: ['good', 'page'],
  pass: ['plain', 'passes'],
  'not-present': ['warn', 'not present'],
  malformed: ['bad', 'malformed'],
  'no-memory': ['bad', 'no memory'],
};

function Fields({ fields }: { readonly fields: readonly Field[] }): JSX.Element {
  return (
    <table class="fields">
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Bits</th>
          <th scope="col">Value</th>
          <th scope="col">Means</th>
        </tr>
      </thead>
      <tbody>
        {fields.map(({ name, bits, value, text }) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td class="mono">{bits}</td>
            <td class="mono">{value}</td>
            <td>{text}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function EntryCard({
  entry,
  isChanged,
  isOpen,
}: {
  readonly entry: EntryView;
  readonly isChanged: boolean;
  readonly isOpen: boolean;
}): JSX.Element {
  const [tone, word] = KIND_MARKS[entry.kind];
  return (
    <li class={`entry ${entry.kind}`}>
      <h4>
        {entry.name} <Mark tone={tone}>{word}</Mark> {isChanged ? <Mark tone="warn">changed in this step</Mark> : null}
      </h4>
      <p>
        entry {entry.index} of the table at <code>{hex(entry.table)}</code>
      </p>
      <p class="words">
        <code>{entry.words.join(' ')}</code>
      </p>
      <p>{entry.text}</p>
      {entry.unseen === null ? null : (
        <p>
          <Mark tone="warn">not seen by the unit yet:</Mark> <code>{entry.unseen.join(' ')}</code>
        </p>
      )}
      <details open={isOpen}>
        <summary>Bits of this {entry.name}</summary>
        <Scroll label={`Bits of the ${entry.name}`}>
          <Fields fields={entry.fields} />
        </Scroll>
      </details>
    </li>
  );
}

/** How an address is cut into indexes of tables. */
function AddressParts({ iova, walk }: { readonly iova: number; readonly walk: WalkView }): JSX.Element {
  const levels = walk.entries.filter(({ level }) => level > 0);
  return (
    <p>
      <code>{hex(iova)}</code>{' '}
      {levels.length === 0
        ? 'is not looked up in any table: the walk ends at the entry of the device.'
        : `is cut into ${levels.map(({ level, index }) => `index ${index} at level ${level}`).join(', ')}.`}
    </p>
  );
}

/** The chosen walk by memory alone, as linked tables. */
export function WalkTables({
  machine,
  before,
}: {
  readonly machine: MachineView;
  /** The same machine one step earlier, to mark what changed. */
  readonly before: MachineView | null;
}): JSX.Element {
  const { walk, focus } = machine;
  const { answer } = walk;
  const old = new Map(before?.walk.entries.map(({ paddr, words }) => [paddr, words.join(' ')]));
  return (
    <Panel
      title="The walk in memory"
      hint="How the unit finds a page when no cache helps: the entry of the device names the top table, each entry leads to the next table, the last one to the page."
    >
      <AddressParts iova={focus.iova} walk={walk} />
      <ol class="walk">
        {walk.entries.map((entry, at) => (
          <EntryCard
            key={entry.name}
            entry={entry}
            isChanged={before !== null && old.get(entry.paddr) !== entry.words.join(' ')}
            isOpen={at === walk.entries.length - 1}
          />
        ))}
        <li class={`entry end ${answer.paddr < 0 ? 'not-present' : 'page'}`}>
          <h4>{answer.paddr < 0 ? 'no page' : 'page'}</h4>
          <p>
            {answer.paddr < 0 ? (
              <Mark tone="warn">the walk ends here: blocked</Mark>
            ) : (
              <>
                <code>{hex(answer.paddr)}</code>,{' '}
                {answer.read && answer.write ? 'read and write' : answer.read ? 'read only' : 'write only'}
              </>
            )}
          </p>
        </li>
      </ol>
    </Panel>
  );
}

const STATE_MARKS: Readonly<Record<CachedView['state'], readonly [Tone, string]>> = {
  current: ['good', 'as in memory'],
  stale: ['bad', 'stale: memory says otherwise'],
  unknown: ['plain', 'no device uses this domain'],
};

/** What the caches hold, not-present entries included. @param onEvict given: entries have a button that lets them leave */
export function CachesPanel({
  machine,
  before = null,
  onEvict,
}: {
  readonly machine: MachineView;
  /** The same machine one step earlier, to mark what is new. */
  readonly before?: MachineView | null;
  readonly onEvict?: (cache: CacheView['cache'], nth: number) => void;
}): JSX.Element {
  const what = machine.arch === 'intel' ? 'caching mode' : 'NpCache';
  return (
    <Panel
      title="What the caches hold"
      hint={
        machine.npCache
          ? `With ${what} on, caches may keep "not present" too. A stale entry is one that memory no longer backs.`
          : `With ${what} off, caches keep only what is present.`
      }
    >
      {machine.caches.map((cache, at) => (
        <CacheTable key={cache.cache} cache={cache} before={before?.caches[at] ?? cache} onEvict={onEvict} />
      ))}
    </Panel>
  );
}

function CacheTable({
  cache,
  before,
  onEvict,
}: {
  readonly cache: CacheView;
  readonly before: CacheView;
  readonly onEvict: ((cache: CacheView['cache'], nth: number) => void) | undefined;
}): JSX.Element {
  const old = new Set(before.entries.map(({ key, text }) => `${key} ${text}`));
  return (
    <section class="cache" data-cache={cache.cache}>
      <h4>
        {cache.name} ({cache.entries.length})
      </h4>
      {cache.entries.length === 0 ? (
        <p class="quiet">empty</p>
      ) : (
        <Scroll label={cache.name}>
          <table>
            <thead>
              <tr>
                <th scope="col">For</th>
                <th scope="col">Says</th>
                <th scope="col">Memory</th>
                {onEvict === undefined ? null : <th scope="col">Evict</th>}
              </tr>
            </thead>
            <tbody>
              {cache.entries.map((entry) => (
                <tr key={entry.nth} class={entry.isUsed ? 'used' : ''}>
                  <th scope="row">
                    {entry.key}
                    {entry.isUsed ? <span class="normal"> (this walk uses it)</span> : null}{' '}
                    {old.has(`${entry.key} ${entry.text}`) ? null : <Mark tone="plain">new in this step</Mark>}
                  </th>
                  <td>{entry.isNothing ? <Mark tone="warn">{entry.text}</Mark> : entry.text}</td>
                  <td>
                    <Mark tone={STATE_MARKS[entry.state][0]}>{STATE_MARKS[entry.state][1]}</Mark>
                  </td>
                  {onEvict === undefined ? null : (
                    <td>
                      <button type="button" onClick={() => onEvict(cache.cache, entry.nth)}>
                        Evict
                        <span class="visually-hidden">
                          {' '}
                          {entry.key} from the {cache.name}
                        </span>
                      </button>
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </section>
  );
}

function CommandRow({
  command,
  first,
}: {
  readonly command: CommandView;
  readonly first: ComponentChildren;
}): JSX.Element {
  return (
    <tr>
      {first}
      <td>{command.name}</td>
      <td>
        {command.text}
        {command.fields.length === 0 ? null : (
          <details>
            <summary>Fields</summary>
            <p class="words">
              <code>{command.words.join(' ')}</code>
            </p>
            <Fields fields={command.fields} />
          </details>
        )}
      </td>
    </tr>
  );
}

/** Commands of one step, in the order in which the unit did them. */
export function CommandTable({ commands }: { readonly commands: readonly CommandView[] }): JSX.Element {
  return (
    <Scroll label="Commands of this step">
      <table>
        <thead>
          <tr>
            <th scope="col">No</th>
            <th scope="col">Command</th>
            <th scope="col">In words</th>
          </tr>
        </thead>
        <tbody>
          {commands.map((command, at) => (
            <CommandRow key={at} command={command} first={<td class="number">{at + 1}</td>} />
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

/** The queue with its commands decoded. */
export function QueuePanel({ queue }: { readonly queue: QueueView | null }): JSX.Element {
  return (
    <Panel
      title="The queue"
      hint="A ring in memory. Software writes commands at the tail and rings; hardware reads them at the head. A wait at the end tells software that all before it are done."
    >
      {queue === null ? (
        <p>This unit is programmed by registers only.</p>
      ) : (
        <>
          <p>
            {queue.name} at <code>{hex(queue.base)}</code>, {queue.size} entries; head {queue.head}, tail {queue.tail}
            {queue.head === queue.tail ? ': all done' : ''}
          </p>
          <Scroll label={queue.name}>
            <table>
              <thead>
                <tr>
                  <th scope="col">Entry</th>
                  <th scope="col">State</th>
                  <th scope="col">Command</th>
                  <th scope="col">In words</th>
                </tr>
              </thead>
              <tbody>
                {queue.entries.toReversed().map((entry) => (
                  <CommandRow
                    key={entry.index}
                    command={entry}
                    first={
                      <>
                        <td class="number">{entry.index}</td>
                        <td>{entry.state}</td>
                      </>
                    }
                  />
                ))}
              </tbody>
            </table>
          </Scroll>
        </>
      )}
    </Panel>
  );
}

/** The fault log. @param note beside a record: when it happened, whether the kernel has taken it */
export function FaultPanel<F extends FaultView>({
  faults,
  lost,
  note,
}: {
  readonly faults: readonly F[];
  readonly lost: boolean;
  readonly note?: (fault: F) => string;
}): JSX.Element {
  return (
    <Panel title="The fault log" hint="What the unit wrote down about accesses that it blocked.">
      {lost ? <Mark tone="warn">the log was full and lost faults</Mark> : null}
      {faults.length === 0 ? (
        <p class="quiet">no faults</p>
      ) : (
        <Scroll label="Fault log">
          <table class="faults">
            <thead>
              <tr>
                <th scope="col">Device</th>
                <th scope="col">Access</th>
                <th scope="col">Address</th>
                <th scope="col">Record</th>
                <th scope="col">Means</th>
                {note === undefined ? null : <th scope="col">When</th>}
              </tr>
            </thead>
            <tbody>
              {faults.map((fault, at) => (
                <tr key={at}>
                  <th scope="row" class="mono">
                    {fault.device}
                  </th>
                  <td>{fault.access}</td>
                  <td class="mono">{hex(fault.iova)}</td>
                  <td>{fault.name}</td>
                  <td>{fault.text}</td>
                  {note === undefined ? null : <td>{note(fault)}</td>}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </Panel>
  );
}
