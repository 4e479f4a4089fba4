/**
 * dma_map_sg + dma_unmap_sg of 30 and 256 elements on whole machines: IOVA allocator, core, page tables, driver, command queue,
 * hardware. 30 pages is the list of Chuck Lever's report of January 2021 (120 KiB of NFS over RDMA), 256 a request of 1 MiB.
 * No two elements are physically contiguous. Strict, strict on hardware that caches "not present", and lazy; both vendors.
 * Time per pair of calls and per element, best of many short rounds; commands without waits, counted apart.
 * Usage: npm run build && node bench/map-sg.js
 */
import { performance } from 'node:perf_hooks';
import { DmaDevice, DmaSpace, Scatterlist } from '../dist/dma/index.js';
import { AmdMachine, IntelMachine } from '../dist/machine/index.js';

const DEVICE = { name: '0000:00:04.0', sid: 0x20 };
const ROUNDS = 300;
const MODES = [
  ['strict', false, false],
  ['strict, not present cached', true, false],
  ['lazy', false, true],
];

function makeDevice(vendor, cachesNotPresent, lazy) {
  const machine =
    vendor === 'intel'
      ? new IntelMachine({ hardware: { cachingMode: cachesNotPresent } })
      : new AmdMachine({ hardware: { npCache: cachesNotPresent } });
  const { driver, core, clock, pages, unit } = machine;
  const domain = driver.domainAlloc('paging');
  driver.probeDevice(DEVICE);
  driver.attachDev(domain, DEVICE);
  const freeTables = (tables) => {
    for (const pfn of tables) pages.free(pfn);
  };
  const space = new DmaSpace(core, domain, clock, { lazy, freeTables });
  return { unit, device: new DmaDevice(space, { limits: { maxSegmentBytes: 2 ** 22 } }) };
}

function listOf(nr) {
  const list = new Scatterlist(nr);
  for (let page = 0; page < nr; page++) list.add(0x100000000 + page * 8192, 4096);
  return list;
}

function pairs(device, list, calls) {
  for (let call = 0; call < calls; call++) {
    if (device.mapSg(list, 'fromDevice') !== 1) throw new Error('mapSg');
    if (device.unmapSg(list, list.nents, 'fromDevice') !== 0) throw new Error('unmapSg');
  }
}

/** Invalidations per pair, over enough pairs for a lazy queue to fill many times. */
function commandsPerPair(unit, device, list) {
  let nr = 0;
  unit.listener = {
    descriptor: (w0) => {
      if ((w0 & 15) !== 5) nr += 1;
    },
    command: (_w0, w1) => {
      if (w1 >>> 28 !== 1) nr += 1;
    },
    doorbell: () => {},
    registerInvalidation: () => {},
  };
  pairs(device, list, 5100);
  unit.listener = null;
  return nr / 5100;
}

const cells = [];
for (const vendor of ['intel', 'amd']) {
  for (const [mode, cachesNotPresent, lazy] of MODES) {
    for (const nr of [30, 256]) {
      cells.push({ vendor, mode, nr, list: listOf(nr), best: Infinity, ...makeDevice(vendor, cachesNotPresent, lazy) });
    }
  }
}
for (const cell of cells) cell.commands = commandsPerPair(cell.unit, cell.device, cell.list);
// Cells take turns: what else the machine does hits all alike.
for (let round = 0; round < ROUNDS; round++) {
  for (const cell of cells) {
    const calls = Math.ceil(2000 / cell.nr);
    const start = performance.now();
    pairs(cell.device, cell.list, calls);
    cell.best = Math.min(cell.best, ((performance.now() - start) * 1e6) / calls);
  }
}
console.log('map_sg + unmap_sg                   elements      ns/pair  ns/element  commands/pair');
for (const { vendor, mode, nr, best, commands } of cells) {
  const figures = [best.toFixed(0).padStart(13), (best / nr).toFixed(1).padStart(12), commands.toFixed(3).padStart(15)];
  console.log(`${`${vendor}, ${mode}`.padEnd(36)}${String(nr).padStart(8)}${figures.join('')}`);
}
