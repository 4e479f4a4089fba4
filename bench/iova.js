/**
 * Cost of the IOVA allocator, beside Linux 6.1's own iova.c (test/dma/iova-oracle/build.sh fetches and compiles it when there is
 * a cc and apt-get; with its locks and without) on the same calls; the sums of all addresses are compared. Best of many short rounds.
 * Usage: npm run build && node bench/iova.js [WORD: only lines with it]
 */
import { execFileSync } from 'node:child_process';
import { performance } from 'node:perf_hooks';
import { Rng } from '../dist/base/index.js';
import { IovaDomain } from '../dist/dma/index.js';

const ROUNDS = 100;
const LIMIT = 0xfffff;
// As in iova-oracle/driver.c.
const FAST = { alloc: 0, free: 1 };
const SLOW = { alloc: 2, free: 3 };
const TIMED = 4;

/** Calls as rows (kind, slot, pages, cpu), and how many there are to a line of the table. */
class Workload {
  rows = [];
  pages = [];
  perLine = 2;

  constructor(name) {
    this.name = name;
    this.rng = new Rng(7);
  }

  alloc(kinds, slot, nrPages) {
    this.pages[slot] = nrPages;
    this.rows.push(kinds.alloc, slot, nrPages, 0);
  }

  free(kinds, slot) {
    this.rows.push(kinds.free, slot, this.pages[slot], 0);
  }

  timed() {
    this.rows.push(TIMED, 0, 0, 0);
  }

  get calls() {
    this.array ??= Int32Array.from(this.rows);
    return this.array;
  }
}

/** Keeps `nrLive` ranges and replaces one at random, or the oldest. */
function replace(name, kinds, nrLive, sizeOf, isRing = false) {
  const workload = new Workload(name);
  const { rng } = workload;
  for (let slot = 0; slot < nrLive; slot++) workload.alloc(kinds, slot, sizeOf(rng));
  for (let warm = 0; warm < 2; warm++) {
    if (warm === 1) workload.timed();
    for (let count = 0; count < 20000; count++) {
      const slot = isRing ? count % nrLive : rng.below(nrLive);
      workload.free(kinds, slot);
      workload.alloc(kinds, slot, sizeOf(rng));
    }
  }
  return workload;
}

/** Single free pages between single taken ones, and a request of 64 pages after a page anywhere was freed. */
function holes(nrHoles) {
  const workload = new Workload(`64 pages, ${nrHoles} holes of one page`);
  const { rng } = workload;
  for (let slot = 0; slot < 2 * nrHoles; slot++) workload.alloc(SLOW, slot, 1);
  for (let slot = 0; slot < 2 * nrHoles; slot += 2) workload.free(SLOW, slot);
  workload.timed();
  workload.perLine = 4;
  for (let count = 0; count < 300; count++) {
    const slot = 1 + 2 * rng.below(nrHoles);
    workload.free(SLOW, slot);
    workload.alloc(SLOW, 2 * nrHoles, 64);
    workload.alloc(SLOW, slot, 1);
    workload.free(SLOW, 2 * nrHoles);
  }
  return workload;
}

const one = () => 1;
const WORKLOADS = [
  replace('1 page, random of 1024', FAST, 1024, one),
  replace('1 page, ring of 256', FAST, 256, one, true),
  replace('1 to 32 pages, random of 1024', FAST, 1024, (rng) => 2 ** rng.below(6)),
  replace('33 to 256 pages, random of 1024', FAST, 1024, (rng) => 33 + rng.below(224)),
  replace('no magazines: 1 page, random of 1024', SLOW, 1024, one),
  replace('no magazines: 1 to 32, random of 1024', SLOW, 1024, (rng) => 2 ** rng.below(6)),
  replace('no magazines: 1 page, ring of 256', SLOW, 256, one, true),
  holes(100),
  holes(1000),
  holes(10000),
  holes(30000),
];

function apply(domain, calls, slots, from, to) {
  let sum = 0;
  for (let at = from; at < to; at += 4) {
    const slot = calls[at + 1];
    switch (calls[at]) {
      case 0:
        slots[slot] = domain.allocFast(calls[at + 2], LIMIT, calls[at + 3]);
        sum += slots[slot];
        break;
      case 1:
        domain.freeFast(slots[slot], calls[at + 2], calls[at + 3]);
        break;
      case 2:
        slots[slot] = domain.alloc(calls[at + 2], LIMIT);
        sum += slots[slot];
        break;
      default:
        domain.free(slots[slot]);
    }
  }
  return sum;
}

function ours(workload) {
  const { calls } = workload;
  const slots = new Float64Array(workload.pages.length);
  let timed = 0;
  while (calls[timed] !== TIMED) timed += 4;
  let best = Infinity;
  let sum = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const domain = new IovaDomain({ nrCpus: 4 });
    sum = apply(domain, calls, slots, 0, timed);
    const start = performance.now();
    sum += apply(domain, calls, slots, timed + 4, calls.length);
    best = Math.min(best, (performance.now() - start) * 1e6);
  }
  return { ns: (best / (calls.length - timed - 4)) * 4, sum };
}

function build(locks) {
  const script = new URL('../test/dma/iova-oracle/build.sh', import.meta.url).pathname;
  try {
    return execFileSync(script, ['6.1', locks], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).split(' ')[0];
  } catch (error) {
    console.log(`no C beside: ${error.message.split('\n')[0]}`);
    return null;
  }
}

function theirs(program, workload) {
  const output = execFileSync(program, ['bench', String(workload.pages.length)], { input: workload.calls });
  const [ns, sum] = String(output).trim().split(' ').map(Number);
  return { ns, sum };
}

const locked = build('lock');
const bare = locked === null ? null : build('nolock');
const header = ['ns', 'Linux', 'ratio', 'no locks', 'ratio'].map((name) => name.padStart(10)).join('');
console.log(`${'free and alloc'.padEnd(40)}${header}`);
for (const workload of WORKLOADS.filter(({ name }) => name.includes(process.argv[2] ?? ''))) {
  // Alternating, so that a busy machine is busy for both.
  const best = { js: Infinity, lock: Infinity, bare: Infinity };
  for (let repeat = 0; repeat < 3; repeat++) {
    const { ns, sum } = ours(workload);
    best.js = Math.min(best.js, ns);
    for (const [key, program] of [
      ['lock', locked],
      ['bare', bare],
    ]) {
      if (program === null) continue;
      const linux = theirs(program, workload);
      if (linux.sum !== sum) throw new Error(`${workload.name}: other addresses than Linux, sum ${sum}, ${linux.sum}`);
      best[key] = Math.min(best[key], linux.ns);
    }
  }
  const cells = [best.js, best.lock, best.js / best.lock, best.bare, best.js / best.bare].map((value, index) =>
    (index === 2 || index === 4 ? value.toFixed(2) : (value * workload.perLine).toFixed(1)).padStart(10),
  );
  console.log(`${workload.name.padEnd(40)}${cells.slice(0, locked === null ? 1 : 5).join('')}`);
}
