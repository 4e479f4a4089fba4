/**
 * Cost of writing page tables: PageTable alone, and through the core with a driver that does nothing else, beside the same
 * work in C (bench/c/map.c, compiled with cc when there is one). ns per page, best of many short rounds.
 * Usage: npm run build && node bench/map.js
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Iommu } from '../dist/iommu/index.js';
import { PageAllocator, PhysMem } from '../dist/mem/index.js';
import { PageTable, VtdSsFormat } from '../dist/pt/index.js';

const SIZES = [1, 16, 256, 512, 32768];
const BASE = 0x4000000000;
const PADDR = 0x100000000;
const ROUNDS = 400;

function makeTable() {
  const mem = new PhysMem();
  const pages = new PageAllocator(mem);
  return new PageTable(mem, pages, new VtdSsFormat(), 4);
}

/** A driver without hardware: what is left is the core and the table. */
function makeDomain(table) {
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
  return { type: 'paging', ops, pgsizeBitmap: 0x40201000, apertureLast: 2 ** 48 - 1, faultHandler: null };
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

function run() {
  const table = makeTable();
  const mapped = { bytes: 0 };
  const freelist = [];
  const coreTable = makeTable();
  const domain = makeDomain(coreTable);
  const core = new Iommu();
  for (const nr of SIZES) {
    const total = Math.max(16384, nr);
    const calls = total / nr;
    for (let round = 0; round < ROUNDS; round++) {
      time(`map ${nr}`, total, () => mapCalls(table, mapped, nr, calls));
      time(`unmap ${nr}`, total, () => unmapCalls(table, freelist, nr, calls));
      for (const pfn of freelist) table.pages.free(pfn);
      freelist.length = 0;
      time(`core map ${nr}`, total, () => coreMapCalls(core, domain, nr, calls));
      time(`core unmap ${nr}`, total, () => coreUnmapCalls(core, domain, nr, calls));
    }
  }
  const chunks = new Float64Array(32);
  for (let page = 0; page < 16; page++) chunks.set([PADDR + page * 8192, 4096], page * 2);
  for (let round = 0; round < ROUNDS; round++) {
    time('core mapSg 16', 16384, () => sgCalls(core, domain, chunks, 16, 1024));
    coreUnmapCalls(core, domain, 16, 1024);
  }
  mapCalls(table, mapped, 4096, 2);
  for (let round = 0; round < ROUNDS; round++) {
    time('lookup 1', 4096, () => lookups(table, 4096));
    time('lookup far', 4096, () => farLookups(table, 4096));
  }
  // 2 MiB leaves, 256 at a time, as generic_pt's own table has a row for them.
  const big = makeTable();
  for (let round = 0; round < ROUNDS; round++) {
    time('map 256x2M', 256, () => big.mapRange(BASE, 0, 2097152, 256, 3, mapped));
    time('unmap 256x2M', 256, () => big.unmapRange(BASE, 2097152, 256, freelist));
    for (const pfn of freelist) big.pages.free(pfn);
    freelist.length = 0;
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
run();
console.log('operation        pages/call     ns/page    C ns/page   ratio');
for (const [name, ns] of results) {
  const anchor = c.get(name.replace('core ', ''));
  const beside = anchor === undefined ? '' : `${anchor.toFixed(2).padStart(13)}${(ns / anchor).toFixed(2).padStart(8)}`;
  const cut = name.lastIndexOf(' ');
  console.log(
    `${name.slice(0, cut).padEnd(17)}${name.slice(cut + 1).padStart(10)}${ns.toFixed(2).padStart(12)}${beside}`,
  );
}
