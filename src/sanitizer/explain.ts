/** The words of a finding: what was stale, what would have covered it, and why the last invalidations did not. */
import { hex, hexRange, hexWords } from '../base/index.ts';
import type { Command } from './command.ts';
import { LEAF, NONE, entryPfn } from './entry-format.ts';
import type { Finding } from './finding.ts';
import { runLo } from './leaf-runs.ts';
import { TLB } from './stale-values.ts';
import type { Tables } from './tables.ts';
import type { DeviceEntry, Unit } from './unit.ts';

const PAGE = 4096;

export function describeEntry(entry: DeviceEntry): string {
  if (entry.kind === 'blocked') return 'blocked';
  if (entry.kind === 'pass') return 'untranslated';
  return `domain ${entry.domainId}, tables at ${hex(entry.rootPfn * PAGE)}, ${entry.levels} levels`;
}

/** A stale value, as hardware would use it. */
export function describeValue(tables: Tables, at: number): string {
  const { values } = tables;
  const { unit, sid } = tables.spaces[values.space[at]];
  const lo = tables.loAt(at, values.page[at]);
  const hi = values.hi[at];
  const level = values.level[at];
  const kind = unit.format.kind(lo, hi, level);
  const range = hexRange(values.page[at] * PAGE, values.pages[at] * PAGE);
  const inUnit = values.cls[at] === TLB ? 'the IOTLB' : 'a walk cache';
  const holder = sid >= 0 ? `the TLB of device ${hex(sid)}` : inUnit;
  const holds = values.cached[at] === 0 ? 'memory may still show' : `${holder} may still hold`;
  if (kind === NONE) return `${holds} that nothing is mapped at ${range}`;
  const target = hex(entryPfn(lo, hi) * PAGE);
  return kind === LEAF
    ? `${holds} ${range} leading to ${target}`
    : `${holds} the level ${level} entry of ${range}, which leads to the table at ${target}`;
}

/** The store that made a value stale. @param page of the value */
export function wordsOf(tables: Tables, at: number, page: number): Finding['store'] {
  const { values } = tables;
  const { format } = tables.spaces[values.space[at]].unit;
  const nr = values.level[at] === 1 ? page - values.home[at] : 0;
  return {
    step: values.step[at],
    paddr: values.paddr[at] + 8 * nr,
    before: hexWords(tables.loAt(at, page), values.hi[at]),
    after: hexWords(runLo(format, values.newLo[at], values.newHi[at], nr), values.newHi[at]),
  };
}

/** What should have been sent. @param leaves copies of table entries need not go */
export function missingFor(unit: Unit, domainId: number, page: number, pages: number, leaves: boolean): string {
  const how = leaves ? '' : ', copies of table entries included';
  return `an invalidation of domain ${domainId} that covers ${hexRange(page * PAGE, pages * PAGE)}${how}, seen complete before the call returned (unit ${unit.index})`;
}

function describeCommand(command: Command): string {
  const { domainId } = command;
  switch (command.kind) {
    case 'pages':
      return `pages ${hexRange(command.page * PAGE, command.pages * PAGE)} of domain ${domainId}${command.leavesOnly ? ', leaves only' : ''}`;
    case 'domain':
      return `all of domain ${domainId}${command.leavesOnly ? ', leaves only' : ''}`;
    case 'all':
      return 'all translations';
    case 'device':
      return `the entry of device ${hex(command.sid)}`;
    case 'devices-of-domain':
      return `entries of devices in domain ${domainId}`;
    case 'all-devices':
      return 'entries of all devices';
    case 'device-tlb': {
      const what = command.pages === Infinity ? 'all' : hexRange(command.page * PAGE, command.pages * PAGE);
      return `${what} in the TLB of device ${hex(command.sid)}`;
    }
    case 'wait':
      return 'a wait';
    case 'other':
      return 'something else';
    default:
      return command.kind satisfies never;
  }
}

/** The same for a device's own TLB. @param step until when the unit could answer the device by it */
export function nearestToDevice(unit: Unit, sid: number, page: number, pages: number, step: number): string[] {
  return unit.commands.recent(4).map((command) => {
    let why = 'covers it';
    if (command.kind !== 'device-tlb') why = 'leaves TLBs of devices';
    else if (command.sid !== sid) why = 'other device';
    else if (command.page > page || command.page + command.pages < page + pages) why = 'too narrow';
    else if (command.step <= step) why = 'sent before the unit had lost it, from which the device may ask for it again';
    else if (!command.isDone) why = 'not waited for';
    return `${describeCommand(command)}: ${why}`;
  });
}

/** The last invalidations of a unit, newest first, with what each lacked. @param domainId -1 when entries of devices are meant */
export function nearestTo(
  unit: Unit,
  domainId: number,
  page: number,
  pages: number,
  step: number,
  needsTables: boolean,
): string[] {
  return unit.commands.recent(4).map((command) => {
    const isTranslations = command.kind === 'pages' || command.kind === 'domain' || command.kind === 'all';
    let why = 'covers it';
    if (isTranslations !== domainId >= 0) why = isTranslations ? 'leaves entries of devices' : 'leaves translations';
    else if (domainId >= 0 && command.kind !== 'all' && command.domainId !== domainId)
      why = `other domain, not ${domainId}`;
    else if (command.kind === 'pages' && (command.page > page || command.page + command.pages < page + pages))
      why = 'too narrow';
    else if (needsTables && command.leavesOnly) why = 'spares copies of table entries';
    else if (command.step <= step) why = 'sent before the store';
    else if (!command.isDone) why = 'not waited for';
    return `${describeCommand(command)}: ${why}`;
  });
}
