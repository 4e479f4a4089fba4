/** Device table entries and host page table entries in words: AMD 48882 rev. 3.x sections 2.2.2.1 and 2.2.3. */
import { hex } from '../base/index.ts';
import { amdvi } from '../spec/index.ts';
import type { Words } from './fields.ts';
import { addressField, addressOf, bitOf, bitsOf, flag, numberField } from './fields.ts';
import type { Decoded, DecodedContext } from './vtd-entries.ts';
import { pageSize, rights } from './vtd-entries.ts';

export interface DecodedDevice extends DecodedContext {
  /** 1 read, 2 write. */
  readonly rights: number;
}

/** @param most levels that the unit walks */
export function deviceEntry(words: Words, most: number): DecodedDevice {
  const target = addressOf(words);
  const mode = bitsOf(words, 9, 11);
  const domain = bitsOf(words, 64, 79);
  const allowed = bitsOf(words, 61, 62);
  const fields = [
    flag(words, 'V', 0, 'the entry is valid', 'not valid: addresses pass through untranslated'),
    flag(words, 'TV', 1, 'translation fields are valid', 'no translation: requests that need one fault'),
    numberField(words, 'Mode', 9, 11, mode === 0 ? 'no tables: addresses pass' : `${mode} levels of tables`),
    addressField(words, 'Root', 'the top table'),
    flag(words, 'IR', 61, 'the device may read', 'the device may not read'),
    flag(words, 'IW', 62, 'the device may write', 'the device may not write'),
    numberField(words, 'DomainID', 64, 79, 'the tag under which results are cached'),
    flag(words, 'I', 96, 'the device may keep translations in a TLB of its own', 'no TLB in the device'),
    flag(words, 'SE', 97, 'only the first page fault is logged', 'every page fault is logged'),
    flag(words, 'SA', 98, 'no page fault is logged', 'page faults are logged'),
  ];
  const none = { fields, target: -1, domain: -1, levels: 0, rights: 0 };
  if (!bitOf(words, 0))
    return { ...none, kind: 'pass', rights: 3, text: 'not valid: every address passes untranslated' };
  const isReserved =
    (words[0] & amdvi.DTE_RESERVED_W0) !== 0 ||
    (words[1] & amdvi.DTE_RESERVED_W1) !== 0 ||
    (words[2] & amdvi.DTE_RESERVED_W2) !== 0 ||
    (words[3] & amdvi.DTE_RESERVED_W3) !== 0;
  if (isReserved) return { ...none, kind: 'malformed', text: 'a reserved bit is set: the unit logs an event' };
  if (!bitOf(words, 1)) {
    return { ...none, kind: 'not-present', text: 'no translation: every request of this device faults' };
  }
  if (mode > most) return { ...none, kind: 'malformed', text: `${mode} levels: this unit walks at most ${most}` };
  if (mode === 0) {
    return {
      ...none,
      kind: 'pass',
      domain,
      rights: allowed,
      text: `domain ${domain}: addresses pass, ${rights(allowed)}`,
    };
  }
  return {
    kind: 'table',
    fields,
    target,
    domain,
    levels: mode,
    rights: allowed,
    text: `domain ${domain}: leads to the level ${mode} table at ${hex(target)}, ${rights(allowed)}`,
  };
}

export interface DecodedHost extends Decoded {
  /** Level of the table it leads to; 0 for pages. */
  readonly nextLevel: number;
  /** Bytes of the page it maps; 0 for tables. */
  readonly pageBytes: number;
}

/** @param level of the table that the entry lies in */
export function hostEntry(words: Words, level: number): DecodedHost {
  const [lo, hi] = words;
  const next = bitsOf(words, 9, 11);
  const allowed = bitsOf(words, 61, 62);
  const isLeaf = next === amdvi.NEXT_LEVEL_LEAF || next === amdvi.NEXT_LEVEL_SIZED_LEAF;
  const nextText =
    next === amdvi.NEXT_LEVEL_LEAF
      ? `maps a page of this level, ${pageSize(level).name}`
      : next === amdvi.NEXT_LEVEL_SIZED_LEAF
        ? 'maps a page whose size stands in its address'
        : `leads to a table of level ${next}`;
  const fields = [
    flag(words, 'PR', 0, 'present', 'not present'),
    flag(words, 'A', 5, 'was used', 'not marked as used'),
    flag(words, 'D', 6, 'was written', 'not marked as written'),
    numberField(words, 'NextLevel', 9, 11, nextText),
    addressField(words, 'Address', isLeaf ? 'the page' : 'the next table'),
    flag(words, 'FC', 60, 'requests are made to snoop', 'snooping as the request asks'),
    flag(words, 'IR', 61, 'may be read', 'may not be read'),
    flag(words, 'IW', 62, 'may be written', 'may not be written'),
  ];
  const none = { fields, target: -1, nextLevel: 0, pageBytes: 0 };
  if ((lo & amdvi.PTE_PR_LO) === 0) return { ...none, kind: 'not-present', text: 'nothing is mapped: PR is clear' };
  if ((hi & (isLeaf ? amdvi.PTE_RESERVED_HI : amdvi.PDE_RESERVED_HI)) !== 0) {
    return { ...none, kind: 'malformed', text: 'a reserved bit is set: the unit logs a page fault' };
  }
  const target = addressOf(words);
  if (!isLeaf) {
    if (next >= level)
      return { ...none, kind: 'malformed', text: `leads up to level ${next}: the unit logs a page fault` };
    const text = `leads to the level ${next} table at ${hex(target)}, ${rights(allowed)}`;
    return { kind: 'table', fields, target, nextLevel: next, pageBytes: 0, text };
  }
  const pageBytes = next === amdvi.NEXT_LEVEL_LEAF ? pageSize(level).bytes : sizedBytes(target);
  const start = target - (target % pageBytes);
  const text = `maps the page of ${hex(pageBytes)} bytes at ${hex(start)}, ${rights(allowed)}`;
  return { kind: 'page', fields, target: start, nextLevel: 0, pageBytes, text };
}

/** 4 KiB * 2^(n + 1) for the n ones of the address from bit 12 up. */
function sizedBytes(address: number): number {
  let bytes = 8192;
  for (let pfn = address / 4096; pfn % 2 === 1; pfn = (pfn - 1) / 2) bytes *= 2;
  return bytes;
}
