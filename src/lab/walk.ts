/**
 * The walk of one page by memory alone, entry by entry: VT-d rev. 4.1 sections 3.4.3 and 3.7, AMD 48882 sections 2.2.2 and 2.2.3. It
 * reads the memory that the unit reads (`deviceWords`), through none of the unit's caches.
 */
import { hex } from '../base/index.ts';
import type { AmdviUnit, VtdUnit } from '../hw/index.ts';
import type { PhysMem } from '../mem/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import { deviceEntry, hostEntry } from './amd-entries.ts';
import { quads } from './fields.ts';
import type { Answer, EntryView, Focus, WalkView } from './view.ts';
import type { Decoded } from './vtd-entries.ts';
import { contextEntry, rootEntry, secondStageEntry } from './vtd-entries.ts';

const NOWHERE: Answer = { paddr: -1, read: false, write: false };

/** Where an entry is. */
interface Place {
  readonly name: string;
  readonly level: number;
  readonly table: number;
  readonly index: number;
  readonly nrWords: number;
}

class Reader {
  readonly entries: EntryView[] = [];
  readonly #mem: PhysMem;

  constructor(mem: PhysMem) {
    this.#mem = mem;
  }

  /** Reads an entry as the unit sees it and adds it to the walk. */
  read<D extends Decoded>(place: Place, decode: (words: readonly number[]) => D): D {
    const { name, level, table, index, nrWords } = place;
    const paddr = table + index * nrWords * 4;
    const words: number[] = [];
    const stored: number[] = [];
    for (let i = 0; i < nrWords; i++) {
      words.push(this.#mem.deviceLoad32(paddr + i * 4));
      stored.push(this.#mem.load32(paddr + i * 4));
    }
    const found = decode(words);
    const isSame = words.every((word, i) => word === stored[i]);
    const isThere = this.#mem.slotOf(Math.floor(table / 4096)) >= 0;
    const { kind, fields, text, target } = found;
    this.entries.push({
      name,
      level,
      kind: isThere ? kind : 'no-memory',
      table,
      index,
      paddr,
      words: quads(words),
      fields,
      text: isThere ? text : 'there is no memory at this address: the unit reports a fault',
      target,
      unseen: isSame ? null : quads(stored),
    });
    return found;
  }

  /** Whether the last entry lets the walk go on. */
  get goesOn(): boolean {
    return this.entries.at(-1)?.kind === 'table';
  }
}

function register64(unit: VtdUnit | AmdviUnit, offset: number): number {
  return (unit.read32(offset + 4) & 0xfffff) * 4294967296 + ((unit.read32(offset) & -4096) >>> 0);
}

function answer(paddr: number, rights: number): Answer {
  return { paddr: rights === 0 ? -1 : paddr, read: (rights & 1) !== 0, write: (rights & 2) !== 0 };
}

export function vtdWalk(unit: VtdUnit, mem: PhysMem, { sid, iova }: Focus): WalkView {
  const reader = new Reader(mem);
  const { entries } = reader;
  const top = register64(unit, vtd.RTADDR_REG);
  const root = reader.read({ name: 'root entry', level: 0, table: top, index: sid >>> 8, nrWords: 4 }, rootEntry);
  if (!reader.goesOn) return { entries, answer: NOWHERE, domain: -1 };
  const sagaw = (unit.read32(vtd.CAP_REG) >>> vtd.CAP_SAGAW_SHIFT) & 31;
  const context = reader.read(
    { name: 'context entry', level: 0, table: root.target, index: sid & 255, nrWords: 4 },
    (words) => contextEntry(words, sagaw),
  );
  const { domain } = context;
  if (context.kind === 'pass') return { entries, answer: answer(iova, 3), domain };
  let table = context.target;
  let rights = 3;
  if (iova >= 2 ** (12 + 9 * context.levels)) return { entries, answer: NOWHERE, domain };
  for (let level = context.levels; reader.goesOn && level > 0; level--) {
    const span = 4096 * 512 ** (level - 1);
    const index = Math.floor(iova / span) % 512;
    const entry = reader.read({ name: `level ${level} entry`, level, table, index, nrWords: 2 }, (words) =>
      secondStageEntry(words, level),
    );
    rights &= mem.deviceLoad32(table + index * 8) & 3;
    if (entry.kind === 'page') return { entries, answer: answer(entry.target + (iova % span), rights), domain };
    table = entry.target;
  }
  return { entries, answer: NOWHERE, domain };
}

export function amdWalk(unit: AmdviUnit, mem: PhysMem, { sid, iova }: Focus): WalkView {
  const reader = new Reader(mem);
  const { entries } = reader;
  const top = register64(unit, amdvi.DEV_TABLE_REG);
  const device = reader.read(
    { name: 'device table entry', level: 0, table: top, index: sid, nrWords: amdvi.DTE_BYTES / 4 },
    (words) => deviceEntry(words, unit.config.levels),
  );
  const { domain } = device;
  if (device.kind === 'pass') return { entries, answer: answer(iova, device.rights), domain };
  let table = device.target;
  let { rights } = device;
  let level = device.levels;
  if (iova >= 4096 * 512 ** level) return { entries, answer: NOWHERE, domain };
  while (reader.goesOn && level > 0) {
    const here = level;
    const index = Math.floor(iova / (4096 * 512 ** (here - 1))) % 512;
    const entry = reader.read({ name: `level ${here} entry`, level: here, table, index, nrWords: 2 }, (words) =>
      hostEntry(words, here),
    );
    rights &= (mem.deviceLoad32(table + index * 8 + 4) >>> 29) & 3;
    if (entry.kind === 'page') {
      return { entries, answer: answer(entry.target + (iova % entry.pageBytes), rights), domain };
    }
    // Address bits of levels that are left out must be zero.
    const skipped = Math.floor(iova / (4096 * 512 ** entry.nextLevel)) % 512 ** (here - 1 - entry.nextLevel);
    if (reader.goesOn && skipped !== 0) return { entries, answer: NOWHERE, domain };
    table = entry.target;
    level = entry.nextLevel;
  }
  return { entries, answer: NOWHERE, domain };
}

/** An answer for people. */
export function answerText({ paddr, read, write }: Answer): string {
  if (paddr < 0) return 'blocked';
  const how = read && write ? 'read and write' : read ? 'read only' : 'write only';
  return `${hex(paddr)}, ${how}`;
}
