/**
 * Speed of the hardware models, VT-d and AMD-Vi side by side: translate() hits, misses, page invalidation with refill. Run
 * `npm run build` first, then `node bench/translate.js`. Each model runs in processes of its own, in turns, since V8 compiles
 * what both share for whoever came first. Prints the best round of each row: on a shared machine the best one is the one not
 * descheduled. Loops live in functions and warm up first: at module top level V8 compiles them differently (6 against 34 ns).
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ManualClock } from '../dist/base/index.js';
import { PhysMem } from '../dist/mem/index.js';
import { AmdviUnit, VtdUnit } from '../dist/hw/index.js';

const SID = 0x0010;
const DOMAIN = 5;
const ROUNDS = 40;
const TURNS = 2;

/** Memory with a counter that hands out tables, and 4 levels of them that map `nrPages` pages from IOVA 4 GiB downwards. */
function tables(nrPages, directory, leaf) {
  const mem = new PhysMem();
  let next = 0x1000;
  const table = () => {
    const pfn = next++;
    mem.ensure(pfn);
    return pfn * 4096;
  };
  const top = table();
  const step = (at, level) => {
    if (mem.load32(at) === 0) {
      const [lo, hi] = directory(table(), level);
      mem.store64(at, lo, hi);
    }
    return mem.load32(at) & -4096;
  };
  const firstPage = 0x100000 - nrPages;
  for (let page = firstPage; page < 0x100000; page++) {
    const l3 = step(top + Math.floor(page / 2 ** 27) * 8, 3);
    const l2 = step(l3 + ((page >>> 18) & 511) * 8, 2);
    const l1 = step(l2 + ((page >>> 9) & 511) * 8, 1);
    const [lo, hi] = leaf((0x40000 + (page - firstPage)) << 12);
    mem.store64(l1 + (page & 511) * 8, lo, hi);
  }
  return { mem, table, top, firstIova: firstPage * 4096 };
}

/** A unit with translation on and one device in one domain; and how software drops a page: four words and a doorbell. */
const MACHINES = {
  vtd(nrPages) {
    const { mem, table, top, firstIova } = tables(
      nrPages,
      (paddr) => [paddr | 3, 0],
      (paddr) => [paddr | 3, 0],
    );
    const root = table();
    const contexts = table();
    mem.store64(root, contexts | 1, 0);
    mem.store64(contexts + (SID & 0xff) * 16, top | 1, 0);
    mem.store64(contexts + (SID & 0xff) * 16 + 8, (DOMAIN << 8) | 2, 0);
    const unit = new VtdUnit(mem, new ManualClock());
    unit.write64(0x20, root, 0);
    unit.write32(0x18, 1 << 30);
    const queue = table();
    unit.write64(0x90, queue, 0);
    unit.write32(0x18, 1 << 26);
    unit.write32(0x18, (1 << 26) | (1 << 31));
    const command = { w0: 0x32 | (DOMAIN << 16), w1: 0, w2: 0x40, doorbell: 0x88 };
    return { mem, unit, queue, firstIova, command, stopped: () => unit.read32(0x34) !== 0 };
  },
  amdvi(nrPages) {
    const { mem, table, top, firstIova } = tables(
      nrPages,
      (paddr, level) => [paddr | (level << 9) | 1, 0x60000000],
      (paddr) => [paddr | 1, 0x60000000],
    );
    const devices = table();
    mem.store64(devices + SID * 32, top | (4 << 9) | 3, 0x60000000);
    mem.store64(devices + SID * 32 + 8, DOMAIN, 0);
    const unit = new AmdviUnit(mem, new ManualClock());
    unit.write64(0x00, devices, 0);
    const queue = table();
    unit.write64(0x08, queue, 8 << 24);
    unit.write64(0x10, table(), 8 << 24);
    unit.write32(0x18, 0x1005);
    const command = { w0: 0, w1: 0x30000000 | DOMAIN, w2: 0, doorbell: 0x2008 };
    return { mem, unit, queue, firstIova, command, stopped: () => unit.read32(0x2020) !== 0x18 };
  },
};

function hitLoop(unit, iovas, nr) {
  let sum = 0;
  const length = iovas.length;
  let index = 0;
  for (let count = 0; count < nr; count++) {
    sum += unit.translate(SID, iovas[index], 1);
    if (++index === length) index = 0;
  }
  return sum;
}

function invalidateLoop(m, iovas, nr, state) {
  let sum = 0;
  const { mem, unit, queue } = m;
  const { w0, w1, w2, doorbell } = m.command;
  const length = iovas.length;
  let index = 0;
  for (let count = 0; count < nr; count++) {
    const iova = iovas[index];
    if (++index === length) index = 0;
    const words = mem.words;
    const at = ((mem.slotOf(queue >>> 12) << 10) + state.tail * 4) | 0;
    words[at] = w0;
    words[at + 1] = w1;
    words[at + 2] = (iova & -4096) | w2;
    words[at + 3] = 0;
    state.tail = (state.tail + 1) & 255;
    unit.write32(doorbell, state.tail << 4);
    sum += unit.translate(SID, iova, 1);
  }
  return sum;
}

function best(body, nr) {
  for (let round = 0; round < 20; round++) body(Math.min(nr, 20000));
  let bestNs = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    body(nr);
    bestNs = Math.min(bestNs, ((performance.now() - start) * 1e6) / nr);
  }
  return bestNs;
}

function sequential(m, nr) {
  return Float64Array.from({ length: nr }, (_, index) => m.firstIova + index * 4096 + (index & 7) * 64);
}

function shuffled(iovas) {
  const out = iovas.slice();
  let seed = 1;
  for (let index = out.length - 1; index > 0; index--) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    const other = (seed >>> 8) % (index + 1);
    [out[index], out[other]] = [out[other], out[index]];
  }
  return out;
}

/** All rows of one model. */
function measure(machine) {
  const rows = [];
  let sink = 0;
  const report = (name, ns, goal) => rows.push({ name, ns, goal });
  for (const nr of [64, 1000]) {
    const m = machine(nr);
    const iovas = sequential(m, nr);
    const ns = best((n) => (sink += hitLoop(m.unit, iovas, n)), 200000);
    report(`hit, ${nr} pages in sequence`, ns, '< 10');
  }
  {
    const m = machine(1000);
    const iovas = shuffled(sequential(m, 1000));
    const ns = best((n) => (sink += hitLoop(m.unit, iovas, n)), 200000);
    report('hit, 1000 pages in random order', ns, '< 15');
  }
  {
    const m = machine(65536);
    const iovas = sequential(m, 65536);
    const ns = best((n) => (sink += hitLoop(m.unit, iovas, n)), 200000);
    report('miss: 65536 pages in sequence', ns, '< 40');
  }
  for (const nr of [64, 1000, 4000]) {
    const m = machine(nr);
    const iovas = sequential(m, nr);
    const state = { tail: 0 };
    hitLoop(m.unit, iovas, nr);
    const before = m.unit.iotlbEntries().length;
    const ns = best((n) => (sink += invalidateLoop(m, iovas, n, state)), 100000);
    report(`invalidate a page by the queue and refill, ${nr} live`, ns, '< 60');
    if (m.stopped() || m.unit.iotlbEntries().length !== before) throw new Error('the queue stopped');
  }
  if (!Number.isFinite(sink) || sink <= 0) throw new Error('a translation failed');
  return rows;
}

if (process.argv[2] !== undefined) {
  console.log(JSON.stringify(measure(MACHINES[process.argv[2]])));
} else {
  const results = {};
  for (let turn = 0; turn < TURNS; turn++) {
    for (const name of Object.keys(MACHINES)) {
      const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), name], { encoding: 'utf8' });
      if (child.status !== 0) throw new Error(child.stderr);
      const rows = JSON.parse(child.stdout);
      results[name] ??= rows;
      for (const [index, row] of rows.entries()) {
        results[name][index].ns = Math.min(results[name][index].ns, row.ns);
      }
    }
  }
  console.log(`${''.padEnd(52)}   VT-d  AMD-Vi   goal`);
  for (const [index, { name, ns, goal }] of results.vtd.entries()) {
    const amd = results.amdvi[index].ns;
    console.log(`${name.padEnd(52)} ${ns.toFixed(1).padStart(6)} ${amd.toFixed(1).padStart(6)}   ${goal} ns`);
  }
}
