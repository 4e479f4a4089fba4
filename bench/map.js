/**
 * Cost of writing page tables: PageTable alone, and through the core with a driver that does nothing else, beside the same
 * work in C (bench/c/map.c, compiled with cc when there is one). ns per page, best of many short rounds. Both formats in one
 * process, as a machine that has both would run them: VT-d second stage, and AMD v1 with its ratio to it.
 * Usage: npm run build && node bench/map.js
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Iommu } from '../dist/iommu/index.js';
import { PageAllocator, PhysMem } from '../dist/mem/index.js';
import { AmdV1Format, PageTable, VtdSsFormat } from '../dist/pt/index.js';

const SIZES = [1, 16, 256, 512, 32768];
const BASE = 0x4000000000;
const PADDR = 0x100000000;
const ROUNDS = 400;

const VTD = { name: '', format: new VtdSsFormat(), pgsizeBitmap: 0x40201000 };
const AMD = { name: 'amd ', format: new AmdV1Format(), pgsizeBitmap: new AmdV1Format().pgsizeBitmap };

function makeTable(kind) {
  const mem = new PhysMem();
  const pages = new PageAllocator(mem);
  return new PageTable(mem, pages, kind.format, 4);
}

/** A driver without hardware: what is left is the core and the table. */
function makeDomain(kind, table) {
  const ops = {
    name: 'none',
    mapPages: (domain, iova, paddr, pgsize, pgcount, prot, mapped) =>
      table.mapRange(iova, paddr, pgsize, pgcount, prot, mapped),
    unmapPages: (domain, iova, pgsize, pgcount, gather) => {
      const bytes = table.unmapRange(iova, pgsize, pgcount, gather.freelist);
      if (bytes > 0) gather.addRange(iova, bytes);
      return bytes;
    },
    iotlbSyncMap: () => 0,
    iotlbSync: (domain, gather) => {
      for (const pfn of gather.freelist) table.pages.free(pfn);
    },
    iovaToPhys: (domain, iova) => table.iovaToPhys(iova),
  };
  return { type: 'paging', ops, pgsizeBitmap: kind.pgsizeBitmap, apertureLast: 2 ** 48 - 1, faultHandler: null };
}

function mapCalls(table, mapped, nr, calls) {
  const bytes = nr * 4096;
  for (let call = 0; call < calls; call++) {
    if (table.mapRange(BASE + call * bytes, PADDR + call * bytes, 4096, nr, 3, mapped) !== 0) throw new Error('map');
  }
}

function unmapCalls(table, freelist, nr, calls) {
  const bytes = nr * 4096;
  for (let call = 0; call < calls; call++) {
    if (table.unmapRange(BASE + call * bytes, 4096, nr, freelist) !== bytes) throw new Error('unmap');
  }
}

function coreMapCalls(core, domain, nr, calls) {
  const bytes = nr * 4096;
  // 4 KiB off, so that runs of 512 pages stay runs of small pages.
  for (let call = 0; call < calls; call++) {
    if (core.map(domain, BASE + call * bytes, PADDR + 4096 + call * bytes, bytes, 3) !== 0) throw new Error('map');
  }
}

function coreUnmapCalls(core, domain, nr, calls) {
  const bytes = nr * 4096;
  for (let call = 0; call < calls; call++) {
    if (core.unmap(domain, BASE + call * bytes, bytes) !== bytes) throw new Error('unmap');
  }
}

function sgCalls(core, domain, chunks, nr, calls) {
  for (let call = 0; call < calls; call++) {
    if (core.mapSg(domain, BASE + call * nr * 4096, chunks, nr, 3) !== nr * 4096) throw new Error('mapSg');
  }
}

function lookups(table, nr) {
  let sum = 0;
  for (let page = 0; page < nr; page++) sum += table.iovaToPhys(BASE + page * 4096);
  return sum;
}

/** Jumps to another leaf table each time, so that the remembered table never helps. */
function farLookups(table, nr) {
  let sum = 0;
  for (let page = 0; page < nr; page++) sum += table.iovaToPhys(BASE + (page & 7) * 2097152 + page * 4096);
  return sum;
}

const results = new Map();
function time(name, count, body) {
  const start = performance.now();
  body();
  const ns = ((performance.now() - start) * 1e6) / count;
  if (ns < (results.get(name) ?? Infinity)) results.set(name, ns);
}

/** What one format needs to be measured. */
function makeSide(kind) {
  const coreTable = makeTable(kind);
  return {
    timed: (name, count, body) => time(kind.name + name, count, body),
    table: makeTable(kind),
    domain: makeDomain(kind, coreTable),
    core: new Iommu(),
    // For 2 MiB leaves, 256 at a time, as generic_pt's own table has a row for them, and for leaves of several entries.
    big: makeTable(kind),
  };
}

/** Rounds of the formats alternate: what else the machine does hits both alike. */
function run(kinds) {
  const sides = kinds.map((kind) => makeSide(kind));
  const mapped = { bytes: 0 };
  const freelist = [];
  const release = (table) => {
    for (const pfn of freelist) table.pages.free(pfn);
    freelist.length = 0;
  };
  const rounds = (body) => {
    for (let round = 0; round < ROUNDS; round++) for (const side of sides) body(side);
  };
  for (const nr of SIZES) {
    const total = Math.max(16384, nr);
    const calls = total / nr;
    rounds(({ timed, table, core, domain }) => {
      timed(`map ${nr}`, total, () => mapCalls(table, mapped, nr, calls));
      timed(`unmap ${nr}`, total, () => unmapCalls(table, freelist, nr, calls));
      release(table);
      timed(`core map ${nr}`, total, () => coreMapCalls(core, domain, nr, calls));
      timed(`core unmap ${nr}`, total, () => coreUnmapCalls(core, domain, nr, calls));
    });
  }
  const chunks = new Float64Array(32);
  for (let page = 0; page < 16; page++) chunks.set([PADDR + page * 8192, 4096], page * 2);
  rounds(({ timed, core, domain }) => {
    timed('core mapSg 16', 16384, () => sgCalls(core, domain, chunks, 16, 1024));
    coreUnmapCalls(core, domain, 16, 1024);
  });
  for (const { table } of sides) mapCalls(table, mapped, 4096, 2);
  rounds(({ timed, table }) => {
    timed('lookup 1', 4096, () => lookups(table, 4096));
    timed('lookup far', 4096, () => farLookups(table, 4096));
  });
  for (const [label, bytes, nr] of [
    ['256x2M', 2097152, 256],
    ['512x64K', 65536, 512],
    ['32x1M', 1048576, 32],
  ]) {
    rounds(({ timed, big }) => {
      if (Math.floor(big.format.pgsizeBitmap / bytes) % 2 === 0) return;
      timed(`map ${label}`, nr, () => big.mapRange(BASE, 0, bytes, nr, 3, mapped));
      timed(`unmap ${label}`, nr, () => big.unmapRange(BASE, bytes, nr, freelist));
      release(big);
    });
  }
}

function runC() {
  const folder = mkdtempSync(join(tmpdir(), 'iommukit-bench-'));
  try {
    const binary = join(folder, 'map');
    execFileSync('cc', ['-O2', '-o', binary, new URL('c/map.c', import.meta.url).pathname], { stdio: 'pipe' });
    const lines = execFileSync(binary, { encoding: 'utf8' }).trim().split('\n');
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
    );
  } catch (error) {
    console.log(`no C beside: ${error.message.split('\n')[0]}`);
    return new Map();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const c = runC();
run([VTD, AMD]);
console.log('operation            pages/call     ns/page    C ns/page   ratio  / vtdss');
for (const [name, ns] of results) {
  const anchor = c.get(name.replace('amd ', '').replace('core ', ''));
  const beside =
    anchor === undefined ? ' '.repeat(21) : `${anchor.toFixed(2).padStart(13)}${(ns / anchor).toFixed(2).padStart(8)}`;
  const vtdss = name.startsWith(AMD.name) ? results.get(name.slice(AMD.name.length)) : undefined;
  const ratio = vtdss === undefined ? '' : (ns / vtdss).toFixed(2).padStart(9);
  const cut = name.lastIndexOf(' ');
  console.log(
    `${name.slice(0, cut).padEnd(21)}${name.slice(cut + 1).padStart(10)}${ns.toFixed(2).padStart(12)}${beside}${ratio}`.trimEnd(),
  );
}
