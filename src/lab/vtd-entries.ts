/**
 * Root, context and second-stage entries in words: Intel VT-d rev. 4.1 sections 9.1, 9.3, 9.8; what is wrong with an entry 7.1.3.
 */
import { hex } from '../base/index.ts';
import { vtd } from '../spec/index.ts';
import type { Words } from './fields.ts';
import { addressField, addressOf, bitOf, bitsOf, flag, numberField } from './fields.ts';
import type { EntryKind, Field } from './view.ts';

/** What an entry is and does. */
export interface Decoded {
  readonly kind: EntryKind;
  readonly fields: readonly Field[];
  readonly text: string;
  /** First byte of what it leads to, -1 for nothing. */
  readonly target: number;
}

export function rootEntry(words: Words): Decoded {
  const target = addressOf(words);
  const fields = [
    flag(words, 'P', 0, 'present: this bus has a context table', 'not present: no device of this bus is known'),
    addressField(words, 'CTP', 'the context table of this bus'),
  ];
  if (!bitOf(words, 0))
    return { kind: 'not-present', fields, text: 'nothing: every request of this bus faults', target: -1 };
  if ((words[0] & 0xffe) !== 0 || words[2] !== 0 || words[3] !== 0) {
    return { kind: 'malformed', fields, text: 'a reserved bit is set: the unit reports a fault', target: -1 };
  }
  return { kind: 'table', fields, text: `leads to the context table at ${hex(target)}`, target };
}

const TYPES: readonly string[] = [
  'translate by the tables',
  'translate by the tables, and let the device keep translations in a TLB of its own',
  'pass addresses through untranslated',
  'reserved',
];

export interface DecodedContext extends Decoded {
  readonly domain: number;
  readonly levels: number;
}

/** @param sagaw levels that the unit walks, as CAP.SAGAW */
export function contextEntry(words: Words, sagaw: number): DecodedContext {
  const target = addressOf(words);
  const type = bitsOf(words, 2, 3);
  const width = bitsOf(words, 64, 66);
  const domain = bitsOf(words, 72, 87);
  const levels = width + 2;
  const fields = [
    flag(words, 'P', 0, 'present', 'not present: the device is blocked'),
    flag(words, 'FPD', 1, 'faults of this device are not recorded', 'faults of this device are recorded'),
    numberField(words, 'TT', 2, 3, TYPES[type]),
    addressField(words, 'SLPTPTR', 'the top table'),
    numberField(words, 'AW', 64, 66, `${levels} levels of tables, ${12 + 9 * levels}-bit addresses`),
    numberField(words, 'DID', 72, 87, 'domain id: the tag under which results are cached'),
  ];
  const none = { fields, target: -1, domain: -1, levels: 0 };
  if (!bitOf(words, 0)) return { ...none, kind: 'not-present', text: 'nothing: every request of this device faults' };
  if ((words[0] & 0xff0) !== 0 || (words[2] & 0xff000080) !== 0 || words[3] !== 0) {
    return { ...none, kind: 'malformed', text: 'a reserved bit is set: the unit reports a fault' };
  }
  if (((sagaw >>> width) & 1) === 0 || type === 3) {
    return { ...none, kind: 'malformed', text: 'asks for what this unit cannot do: it reports a fault' };
  }
  if (type === vtd.TT_PASS_THROUGH) {
    return { ...none, kind: 'pass', domain, text: `domain ${domain}: addresses are not translated` };
  }
  return {
    kind: 'table',
    fields,
    target,
    domain,
    levels,
    text: `domain ${domain}: leads to the level ${levels} table at ${hex(target)}`,
  };
}

/** @param level of the table that the entry lies in */
export function secondStageEntry(words: Words, level: number): Decoded {
  const target = addressOf(words);
  const [lo] = words;
  const isLeaf = level === 1 || (lo & vtd.SS_PAGE_SIZE) !== 0;
  const fields = [
    flag(words, 'R', 0, 'may be read', 'may not be read'),
    flag(words, 'W', 1, 'may be written', 'may not be written'),
    ...(level === 1 ? [] : [flag(words, 'PS', 7, 'maps a large page', 'leads to a table')]),
    flag(words, 'SNP', 11, 'requests are made to snoop', 'snooping as the request asks'),
    addressField(words, 'ADDR', isLeaf ? 'the page' : `the level ${level - 1} table`),
    flag(words, 'TM', 62, 'transient: a hint for TLBs of devices', 'no hint for TLBs of devices'),
  ];
  if ((lo & (vtd.SS_READ | vtd.SS_WRITE)) === 0) {
    return {
      kind: 'not-present',
      fields,
      target: -1,
      text: 'nothing is mapped: R and W are clear, which means not present',
    };
  }
  if (isLeaf) {
    const size = pageSize(level);
    const start = target - (target % size.bytes);
    return {
      kind: 'page',
      fields,
      target: start,
      text: `maps the ${size.name} page at ${hex(start)}, ${rights(lo & 3)}`,
    };
  }
  return {
    kind: 'table',
    fields,
    target,
    text: `leads to the level ${level - 1} table at ${hex(target)}, ${rights(lo & 3)}`,
  };
}

export function rights(bits: number): string {
  return ['neither readable nor writable', 'read only', 'write only', 'readable and writable'][bits & 3];
}

/** The page that a leaf of a level maps. */
export function pageSize(level: number): { readonly bytes: number; readonly name: string } {
  const bytes = 4096 * 512 ** (level - 1);
  const name = ['4 KiB', '2 MiB', '1 GiB', '512 GiB'][level - 1] ?? hex(bytes);
  return { bytes, name };
}
