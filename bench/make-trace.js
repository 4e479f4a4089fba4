/**
 * Writes a text trace of any length, in the shape and with the mix of the recorded ones: 4 KiB blocks, 64 KiB scatterlists
 * of scattered pages, network buffers, on two CPUs, each IOVA reused as Linux's caches reuse it. For benchmarks only: what
 * is compared with hardware is always a recording.
 *
 *   node bench/make-trace.js EVENTS FILE
 */
import { closeSync, openSync, writeSync } from 'node:fs';

/** Calls `write` with chunks of text of about 1 MiB that hold `nrEvents` map and unmap events in all. */
export function makeTrace(nrEvents, write) {
  let seed = 12345;
  const random = (bound) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return seed % bound;
  };
  const hex = (value) => `0x${value.toString(16).padStart(16, '0')}`;
  let text = '# tracer: nop\n#\n';
  let timeUs = 10_000_000;
  const count = { events: 0 };
  const line = (task, cpu, event, rest) => {
    timeUs += 1 + random(4);
    const time = `${Math.floor(timeUs / 1e6)}.${String(timeUs % 1e6).padStart(6, '0')}`;
    text += `${task.padStart(16)}-${100 + cpu}     [00${cpu}] .....    ${time}: ${event}: IOMMU: ${rest}\n`;
    count.events += 1;
    if (text.length > 1 << 20) {
      write(text);
      text = '';
    }
  };
  /** Free IOVAs by page count, last freed first. */
  const free = new Map([
    [1, []],
    [16, []],
  ]);
  let next = 0xffff0000;
  const live = [];
  while (count.events < nrEvents) {
    const kind = random(10);
    const cpu = random(2);
    const nrPages = kind < 8 ? 1 : 16;
    let iova = free.get(nrPages).pop();
    if (iova === undefined) {
      next -= nrPages * 4096;
      next -= next % (nrPages * 4096);
      iova = next;
    }
    for (let page = 0; page < nrPages; page++) {
      const paddr = (0x1000 + random(1 << 18)) * 4096 * 2;
      const start = iova + page * 4096;
      line('fio', cpu, 'map', `iova=${hex(start)} - ${hex(start + 4096)} paddr=${hex(paddr)} size=4096`);
    }
    live.push([iova, nrPages]);
    if (live.length > 32) {
      const [start, pages] = live.splice(random(live.length), 1)[0];
      const nrBytes = pages * 4096;
      line(
        '<idle>',
        cpu,
        'unmap',
        `iova=${hex(start)} - ${hex(start + nrBytes)} size=${nrBytes} unmapped_size=${nrBytes}`,
      );
      free.get(pages).push(start);
    }
  }
  write(text);
  return count.events;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const [, , events, file] = process.argv;
  if (file === undefined) {
    process.stderr.write('usage: node bench/make-trace.js EVENTS FILE\n');
    process.exit(2);
  }
  const fd = openSync(file, 'w');
  makeTrace(Number(events), (text) => writeSync(fd, text));
  closeSync(fd);
}
