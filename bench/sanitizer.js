/**
 * What the sanitizer costs: the same run with and without it, on whole machines. Calls of the core (map and unmap, nothing else),
 * and a whole operation as `replay` plays one: DMA API map, three accesses of each page by the device, unmap. 1 and 16 pages,
 * hardware that caches "not present" and hardware that does not, both vendors. CPU time, best of short rounds that alternate.
 * Usage: npm run build && node bench/sanitizer.js [OPERATIONS]   (per row, with and without; default 1,000,000)
 */
import { spawnSync } from 'node:child_process';
import { DmaDevice, DmaSpace } from '../dist/dma/index.js';
import { AmdMachine, IntelMachine } from '../dist/machine/index.js';
import { Sanitizer } from '../dist/sanitizer/index.js';

const DEVICE = { name: '0000:00:04.0', sid: 0x20 };
const ROUNDS = 40;
const READ = 1;
const OPERATIONS = Number(process.argv[2] ?? 1_000_000);

function makeSide(vendor, cachesNotPresent, isWatched) {
  const sanitizer = isWatched ? new Sanitizer() : null;
  const wrapPlatform = (inner, units) => {
    const platform = sanitizer.platform(inner);
    for (const unit of units) {
      if (vendor === 'intel') sanitizer.watchVtd(unit.base);
      else sanitizer.watchAmdvi(unit.base, unit.capHeader, unit.serves);
    }
    return platform;
  };
  const more = isWatched ? { wrapPlatform } : {};
  const machine =
    vendor === 'intel'
      ? new IntelMachine({ hardware: { cachingMode: cachesNotPresent }, ...more })
      : new AmdMachine({ hardware: { npCache: cachesNotPresent }, lastBdf: 0x1ff, ...more });
  const { driver, core, clock, pages, unit } = machine;
  if (isWatched) sanitizer.watch(driver);
  driver.probeDevice(DEVICE);
  const domain = driver.domainAlloc('paging');
  driver.attachDev(domain, DEVICE);
  const freeTables = (tables) => {
    for (const pfn of tables) pages.free(pfn);
  };
  const device = new DmaDevice(new DmaSpace(core, domain, clock, { lazy: false, freeTables }));
  return { core, domain, unit, device, sanitizer, best: Infinity, outcomes: new Float64Array(16) };
}

function coreCalls({ core, domain }, nrPages, calls) {
  const nrBytes = nrPages * 4096;
  for (let call = 0; call < calls; call++) {
    const iova = ((call * 7) % 4096) * nrBytes + 0x10000000;
    if (core.map(domain, iova, 0x100000000 + iova, nrBytes, 3) !== 0) throw new Error('map');
    if (core.unmap(domain, iova, nrBytes) !== nrBytes) throw new Error('unmap');
  }
}

function wholeOperations({ device, unit, outcomes }, nrPages, calls) {
  const nrBytes = nrPages * 4096;
  for (let call = 0; call < calls; call++) {
    const address = device.mapPage(0x100000000 + (call % 4096) * nrBytes, nrBytes, 'bidirectional');
    if (address < 0) throw new Error('mapPage');
    for (let access = 0; access < 3; access++) unit.translateRun(DEVICE.sid, address, nrPages, READ, outcomes);
    device.unmapPage(address, nrBytes, 'bidirectional');
  }
}

/** CPU time per operation of a run, best of rounds that alternate. @returns nanoseconds without and with the sanitizer */
function measure(body, vendor, cachesNotPresent, nrPages) {
  const sides = [false, true].map((isWatched) => makeSide(vendor, cachesNotPresent, isWatched));
  const calls = Math.ceil(OPERATIONS / ROUNDS);
  for (let nr = 0; nr < ROUNDS * sides.length; nr++) {
    const side = sides[nr % sides.length];
    const start = process.cpuUsage();
    body(side, nrPages, calls);
    const { user, system } = process.cpuUsage(start);
    side.best = Math.min(side.best, ((user + system) * 1000) / calls);
  }
  const [{ stale } = { stale: '' }] = sides[1].sanitizer.findings;
  if (stale !== '') throw new Error(stale);
  return sides.map((side) => side.best);
}

const RUNS = [
  ['core calls', coreCalls],
  ['whole operation', wholeOperations],
].flatMap(([name, body]) => ['intel', 'amd'].map((vendor) => ({ name, body, vendor })));

const ROWS = RUNS.flatMap((run) =>
  [true, false].flatMap((cachesNotPresent) => [1, 16].map((nrPages) => ({ ...run, cachesNotPresent, nrPages }))),
);

function printRow({ name, body, vendor, cachesNotPresent, nrPages }) {
  const [without, watched] = measure(body, vendor, cachesNotPresent, nrPages);
  const held = (cachesNotPresent ? 'cached' : '-').padEnd(11);
  const figures = `${without.toFixed(0).padStart(13)}${watched.toFixed(0).padStart(10)}`;
  const ratio = (watched / without).toFixed(2).padStart(8);
  console.log(`${name.padEnd(17)}${vendor.padEnd(8)}${held}${String(nrPages).padStart(7)}${figures}${ratio}`);
}

const row = process.argv[3];
if (row !== undefined) {
  printRow(ROWS[Number(row)]);
} else {
  console.log('run              vendor  not present  pages   without ns   with ns   ratio');
  // A process per row: code that has met both vendors is compiled for both, which no run of one machine is.
  for (const nr of ROWS.keys()) {
    const { status } = spawnSync(process.execPath, [import.meta.filename, String(OPERATIONS), String(nr)], {
      stdio: 'inherit',
    });
    if (status !== 0) process.exit(1);
  }
}
