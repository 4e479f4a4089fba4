/**
 * Recorded translations: QEMU's log of a run has a line for every DMA access, `vtd_dmar_translate` or
 * `amdvi_translation_result`. The tables are built again from the trace of the same run, by our driver; then each line must
 * agree with a walk of them and with what our unit translates.
 *
 * The trace and the log have clocks of their own; what ties them together are the marks that cut both into phases. So a line
 * is compared with the pages that were mapped at some time in its phase. Where the trace tells each call's domain (dma:*
 * events, from 6.12 on), the requester must be one of that domain.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { fromWords } from '../base/index.ts';
import type { Device } from '../iommu/index.ts';
import { AmdMachine, IntelMachine } from '../machine/index.ts';
import type { Machine } from '../machine/index.ts';
import { CALL_DOMAIN, CALL_DOUBLES, CallKind, Grouper, Player, planCalls } from '../replay/index.ts';
import type { Plan } from '../replay/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import { FtraceTextReader, Names } from '../trace/index.ts';
import type { Leaf } from './table-walk.ts';
import { walkAmdvi, walkVtd } from './table-walk.ts';

const TRACE = 'trace.txt.gz';
const LOG = 'qemu-xlate.log.gz';
const READ = 1;
const WRITE = 2;
/** Lines that disagree and are kept. */
const MAX_KEPT = 5;

/** A run with a log of translations; its folder's name says which machine, and which kernel. */
export interface Recording {
  readonly name: string;
  readonly folder: string;
}

export interface RecordedRun {
  readonly name: string;
  /** Lines compared. */
  readonly translations: number;
  /** Of those, lines for which the walk and our unit say what QEMU's unit did. */
  readonly agree: number;
  /** Of those, lines that lead through a page larger than 4 KiB. */
  readonly large: number;
  /** Of those, lines whose address led to one page only in the time that was looked at. */
  readonly certain: number;
  /** The first lines that disagree. */
  readonly different: readonly string[];
}

/** The runs in some folders, each name once. A folder that does not exist has none. */
export function findRecordings(folders: readonly string[]): Recording[] {
  const found = new Map<string, Recording>();
  for (const folder of folders.filter((each) => existsSync(each))) {
    for (const name of readdirSync(folder)) {
      const run = { name, folder: join(folder, name) };
      const isRun = existsSync(join(run.folder, TRACE)) && existsSync(join(run.folder, LOG));
      if (isRun && /^(intel|amd)-/.test(name) && !found.has(name)) found.set(name, run);
    }
  }
  return [...found.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** A page as a device reached it: by our walk, and by our unit. */
interface Reached extends Leaf {
  /** Who shares its domain. */
  readonly devices: readonly Device[];
  readonly translated: number;
}

/** What was mapped in each phase of a run, by page address; what was live when it began included. */
interface Phases {
  /** Of the marks that begin the phases; the first has none. */
  readonly names: readonly string[];
  readonly pages: readonly ReadonlyMap<number, readonly Reached[]>[];
  /** The trace says whose each mapping is. */
  readonly domainsTold: boolean;
}

/**
 * Mappings of one address. Where the trace does not tell domains, an unmap of what several have mapped may be any one's: then
 * all stay possible until none is left.
 */
interface Live {
  readonly page: number;
  nr: number;
  readonly possible: Reached[];
}

function planOf(folder: string): Plan {
  const names = new Names();
  const grouper = new Grouper(names);
  const reader = new FtraceTextReader(names, grouper);
  reader.push(gunzipSync(readFileSync(join(folder, TRACE))));
  reader.end();
  grouper.finish();
  return planCalls(grouper, null, null);
}

/** The page at an address, as a device finds it now. */
function reach(machine: Machine, devices: readonly Device[], iova: number): Reached | null {
  const sid = devices[0]?.sid ?? -1;
  let leaf: Leaf | null;
  if (machine instanceof IntelMachine) {
    const root = fromWords(machine.unit.read32(vtd.RTADDR_REG) & -4096, machine.unit.read32(vtd.RTADDR_REG + 4));
    leaf = walkVtd(machine.mem, root, sid, iova);
  } else if (machine instanceof AmdMachine) {
    const base = amdvi.DEV_TABLE_REG;
    const table = fromWords(machine.unit.read32(base) & -4096, machine.unit.read32(base + 4) & 0xfffff);
    leaf = walkAmdvi(machine.mem, table, sid, iova);
  } else {
    throw new TypeError('a machine of no known architecture');
  }
  if (leaf === null) return null;
  return { ...leaf, devices, translated: machine.unit.translate(sid, iova, leaf.mayRead ? READ : WRITE) };
}

function phasesOf({ name, folder }: Recording): Phases {
  const plan = planOf(folder);
  const model = name.startsWith('intel-') ? 'vtd' : 'amdvi';
  const player = new Player(plan, {
    model,
    preset: `linux-${name.slice(name.lastIndexOf('-') + 1)}`,
    mapFlush: 'sync-map',
    unmapFlush: 'strict',
    // QEMU's AMD unit has NpCache always.
    cachingMode: model === 'amdvi' || name.includes('-cmon-'),
  });
  const domainsTold = plan.rule.startsWith('dma-events') && plan.inferredDomains === 0;
  const live = new Map<string, Live>();
  const names = [''];
  let phase = new Map<number, Reached[]>();
  const pages = [phase];
  const add = (page: number, reached: Reached): void => {
    const known = phase.get(page);
    if (known === undefined) phase.set(page, [reached]);
    else known.push(reached);
  };
  const reader = plan.calls.reader();
  for (let nr = 0; nr < plan.nrRecords; nr++) {
    player.step(1);
    const at = reader.take(CALL_DOUBLES);
    const [packed = 0, start = 0, nrBytes = 0] = reader.data.subarray(at, at + 3);
    const nrChunks = reader.data[at + 5];
    for (let i = 0; i < nrChunks; i++) reader.take(2);
    const kind = packed & 15;
    const domain = Math.floor(packed / CALL_DOMAIN);
    if (kind === CallKind.mark) {
      names.push((plan.marks[start] ?? '').replace(/^LAB /, ''));
      phase = new Map();
      pages.push(phase);
      for (const { page, possible } of live.values()) for (const reached of possible) add(page, reached);
    }
    if (kind !== CallKind.map && kind !== CallKind.direct && kind !== CallKind.unmap) continue;
    const devices = plan.domains[domain]?.devices ?? [];
    for (let page = start; page < start + nrBytes; page += 4096) {
      const key = domainsTold ? `${domain}:${page}` : String(page);
      const known = live.get(key);
      if (kind === CallKind.unmap) {
        if (known !== undefined && --known.nr === 0) live.delete(key);
        continue;
      }
      // A direct mapping precedes the attachment of its device: nothing reaches it yet.
      const reached = reach(player.machine, devices, page);
      if (reached === null) continue;
      add(page, reached);
      if (known === undefined) live.set(key, { page, nr: 1, possible: [reached] });
      else {
        known.nr += 1;
        known.possible.push(reached);
      }
    }
  }
  return { names, pages, domainsTold };
}

/** One line of QEMU's log. */
interface Translation {
  readonly sid: number;
  readonly page: number;
  readonly paddr: number;
}

function translationIn(line: string): Translation | null {
  const match =
    /vtd_dmar_translate dev (\w+):(\w+)\.(\w+) iova (\S+) -> gpa (\S+)/.exec(line) ??
    /amdvi_translation_result devid: (\w+):(\w+)\.(\w+) gpa (\S+) hpa (\S+)/.exec(line);
  if (match === null) return null;
  const [bus = 0, slot = 0, fn = 0] = match.slice(1, 4).map((digits) => parseInt(digits, 16));
  const [iova = 0, paddr = 0] = match.slice(4, 6).map(Number);
  return { sid: (bus << 8) | (slot << 3) | fn, page: iova - (iova % 4096), paddr: paddr - (paddr % 4096) };
}

/** QEMU prints where the page that maps an address begins, the larger one if it is. */
function isSame({ paddr, nrBytes, translated }: Reached, line: Translation): boolean {
  return paddr - (paddr % nrBytes) === line.paddr && translated === paddr;
}

/** Compares all translations of a run. */
export function compareRecorded(run: Recording): RecordedRun {
  const { names, pages, domainsTold } = phasesOf(run);
  let phase = 0;
  let translations = 0;
  let agree = 0;
  let large = 0;
  let certain = 0;
  const different: string[] = [];
  for (const line of gunzipSync(readFileSync(join(run.folder, LOG)))
    .toString('latin1')
    .split('\n')) {
    const mark = /v9fs_mkdir .* name (\S+)/.exec(line);
    if (mark !== null) phase = Math.max(phase, names.indexOf(mark[1] ?? ''));
    const translation = translationIn(line);
    // Tracing in the guest ends with the run; its shutdown is in QEMU's log only.
    if (translation === null || (names[phase] ?? '').endsWith('-end')) continue;
    translations += 1;
    const candidates = (pages[phase]?.get(translation.page) ?? []).filter(
      ({ devices }) => !domainsTold || devices.some(({ sid }) => sid === translation.sid),
    );
    const same = candidates.filter((reached) => isSame(reached, translation));
    if (same.length === 0) {
      if (different.length < MAX_KEPT) different.push(line);
      continue;
    }
    agree += 1;
    if (same.every(({ nrBytes }) => nrBytes > 4096)) large += 1;
    if (candidates.every(({ paddr }) => paddr === candidates[0].paddr)) certain += 1;
  }
  return { name: run.name, translations, agree, large, certain, different };
}
