// How fast text traces are read: in memory, and from a file as the command line does it. `node bench/parse.js [lines]`
// Numbers are the best of many rounds: the machine's other load only ever adds time.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventKind, FtraceTextReader, Names } from '../dist/trace/index.js';

const NR_LINES = Number(process.argv[2] ?? 300_000);

function hex16(value) {
  return value.toString(16).padStart(16, '0');
}

function header(i) {
  return `            fio-${String(300 + (i % 40)).padEnd(7)} [00${i % 2}] d..1. ${(3 + i / 1e5).toFixed(6).padStart(12)}: `;
}

/** Of trace-cmd report and perf script: no flags, and the pid in a column of its own, filled at its end or (negative) start. */
function toolHeader(i, before, width) {
  const pid = String(300 + (i % 40));
  const column = width > 0 ? pid.padEnd(width + 1) : pid.padStart(-width);
  return `             fio${before}${column} [00${i % 2}] ${(3 + i / 1e5).toFixed(6).padStart(12)}:`;
}

function device(i) {
  return `0000:00:0${i % 8}.0`;
}

function iova(i) {
  return (0xffffe000 - (i % 5000) * 4096).toString(16);
}

function phys(i) {
  return (0x123456000 + i * 4096).toString(16);
}

function list(count, i) {
  return `{${Array.from({ length: count }, (_, k) => `0x${phys(i + k)}`).join(',')}}`;
}

function mapSg(i, count) {
  return `${header(i)}dma_map_sg: ${device(i)} dir=FROM_DEVICE nents=${count}/${count} ents=${count}/${count} dma_addrs=${list(count, i)} sizes={${'0x1000,'.repeat(count).slice(0, -1)}} phys_addrs=${list(count, i)} attrs=\n`;
}

const SHAPES = {
  'iommu map and unmap': (i) => {
    const start = 0xffffe000 - (i % 5000) * 4096;
    const range = `IOMMU: iova=0x${hex16(start)} - 0x${hex16(start + 4096)}`;
    return i % 2 === 0
      ? `${header(i)}map: ${range} paddr=0x${hex16(0x123456000 + i * 4096)} size=4096\n`
      : `${header(i)}unmap: ${range} size=4096 unmapped_size=4096\n`;
  },
  dma_map_page: (i) =>
    `${header(i)}dma_map_page: ${device(i)} dir=TO_DEVICE dma_addr=${iova(i)} size=4096 phys_addr=${phys(i)} attrs=\n`,
  dma_unmap_page: (i) =>
    `${header(i)}dma_unmap_page: ${device(i)} dir=TO_DEVICE dma_addr=${iova(i)} size=4096 attrs=\n`,
  'dma_map_phys, sizes and attributes': (i) =>
    `${header(i)}dma_map_phys: ${device(i)} dir=FROM_DEVICE dma_addr=${iova(i)} size=${1500 + (i % 7) * 600} phys_addr=${phys(i)} attrs=SKIP_CPU_SYNC\n`,
  dma_alloc: (i) =>
    `${header(i)}dma_alloc: ${device(i)} dir=BIDIRECTIONAL dma_addr=${iova(i)} size=512 virt_addr=(____ptrval____) flags=GFP_KERNEL attrs=\n`,
  'dma_map_sg of 1': (i) => mapSg(i, 1),
  'dma_map_sg of 16': (i) => mapSg(i, 16),
  'dma_unmap_sg of 16': (i) =>
    `${header(i)}dma_unmap_sg: ${device(i)} dir=FROM_DEVICE phys_addrs=${list(16, i)} attrs=\n`,
  qi_submit: (i) => `${header(i)}qi_submit: iotlb_inv dmar0: 0x300e2 0x${iova(i)} 0x0 0x0\n`,
  cache_tag_flush_range: (i) =>
    `${header(i)}cache_tag_flush_range: dmar0 dmar0[0] type iotlb did 3 [0x${iova(i)}-0x${iova(i)}] addr 0x${iova(i)} pages 0x1 mask 0x0\n`,
  'map, trace-cmd report': (i) => {
    const start = 0xffffe000 - (i % 5000) * 4096;
    return `${toolHeader(i, '-', 5)} map:                  IOMMU: iova=0x${hex16(start)} - 0x${hex16(start + 4096)} paddr=0x${hex16(0x123456000 + i * 4096)} size=4096\n`;
  },
  'map, perf script': (i) => {
    const start = 0xffffe000 - (i % 5000) * 4096;
    return `${toolHeader(i, ' ', -5)}  iommu:map: IOMMU: iova=0x${hex16(start)} - 0x${hex16(start + 4096)} paddr=0x${hex16(0x123456000 + i * 4096)} size=4096\n`;
  },
};

/** A sink that asks for everything but what the replay leaves out. */
const UNWANTED = new Set([EventKind.qiSubmit, EventKind.cacheTag]);
const WANTS = Object.values(EventKind).filter((kind) => !UNWANTED.has(kind));

class Sum {
  total = 0;
  event(event) {
    this.total += event.iova + event.nrBytes;
  }
  skipped(line, what, excerpt) {
    throw new Error(`line ${line}: ${what}: ${excerpt}`);
  }
}

function inMemory(bytes, sink) {
  const reader = new FtraceTextReader(new Names(), sink);
  const started = performance.now();
  reader.push(bytes);
  const time = performance.now() - started;
  const { events } = reader.end();
  if (events !== NR_LINES) throw new Error(`${events} events of ${NR_LINES}`);
  return time;
}

function report(what, time, bytes) {
  const ns = (time * 1e6) / NR_LINES;
  console.log(
    `${what.padEnd(45)} ${ns.toFixed(1).padStart(7)} ns/line ${(1e3 / ns).toFixed(1).padStart(6)} M events/s ${(bytes / time / 1e6).toFixed(2)} GB/s`,
  );
}

const folder = mkdtempSync(join(tmpdir(), 'iommukit-bench-'));
try {
  for (const [name, line] of Object.entries(SHAPES)) {
    const bytes = new TextEncoder().encode(Array.from({ length: NR_LINES }, (_, i) => line(i)).join(''));
    let best = Infinity;
    for (let round = 0; round < 30; round++) best = Math.min(best, inMemory(bytes, new Sum()));
    report(`${name}, in memory`, best, bytes.length);
    if (name === 'qi_submit' || name === 'cache_tag_flush_range') {
      best = Infinity;
      for (let round = 0; round < 30; round++) {
        best = Math.min(best, inMemory(bytes, Object.assign(new Sum(), { wants: WANTS })));
      }
      report(`${name}, not wanted`, best, bytes.length);
    }
    if (name !== 'iommu map and unmap') continue;
    const { readTrace } = await import('../dist/cli/input.js');
    const path = join(folder, 'trace.txt');
    writeFileSync(path, bytes);
    best = Infinity;
    for (let round = 0; round < 15; round++) {
      const started = performance.now();
      await readTrace(path, new Names(), new Sum());
      best = Math.min(best, performance.now() - started);
    }
    report(`${name}, from a file`, best, bytes.length);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
