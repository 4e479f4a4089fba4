/**
 * Writes a text trace of any length, in the shape and with the mix of the recorded ones: 4 KiB blocks, 64 KiB scatterlists
 * of scattered pages, network buffers, on two CPUs, each IOVA reused as Linux's caches reuse it. For benchmarks only: what
 * is compared with hardware is always a recording.
 *
 *   node bench/make-trace.js EVENTS FILE [--recorded]
 *
 * Without `--recorded` only map and unmap lines; with it all that `trace-cmd record -e iommu -e dma -e intel_iommu` (README)
 * gives of the same calls on Linux 6.12 in strict mode under caching mode: the DMA call, the range and the command it queued.
 */
import { closeSync, openSync, writeSync } from 'node:fs';

/**
 * Calls `write` with chunks of text of about 1 MiB that hold `nrEvents` map and unmap events in all.
 * @returns how many events of `all` kinds, and how many of them are `maps`, map and unmap
 */
export function makeTrace(nrEvents, write, isRecorded = false) {
  let seed = 12345;
  const random = (bound) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return seed % bound;
  };
  const hex = (value) => `0x${value.toString(16).padStart(16, '0')}`;
  let text = '# tracer: nop\n#\n';
  let timeUs = 10_000_000;
  const count = { all: 0, maps: 0 };
  const line = (task, cpu, event, rest) => {
    timeUs += 1 + random(4);
    const time = `${Math.floor(timeUs / 1e6)}.${String(timeUs % 1e6).padStart(6, '0')}`;
    text += `${task.padStart(16)}-${100 + cpu}     [00${cpu}] .....    ${time}: ${event}: ${rest}\n`;
    count.all += 1;
    if (event === 'map' || event === 'unmap') count.maps += 1;
    if (text.length > 1 << 20) {
      write(text);
      text = '';
    }
  };
  /** What the driver's flush of naturally aligned pages leaves: the range, and the page-selective command with its IH. */
  const flush = (task, cpu, suffix, iova, nrPages, hint) => {
    const address = `0x${iova.toString(16)}`;
    const mask = Math.log2(nrPages);
    const range = `[${address}-0x${(iova + nrPages * 4096 - 1).toString(16)}] addr ${address} pages 0x${nrPages.toString(16)} mask 0x${mask}`;
    line(task, cpu, `cache_tag_flush_range${suffix}`, `dmar0 dmar0[0] type iotlb did 3 ${range}`);
    line(task, cpu, 'qi_submit', `iotlb_inv dmar0: 0x300f2 0x${(iova + hint + mask).toString(16)} 0x0 0x0`);
  };
  const call = (task, cpu, verb, iova, paddrs) => {
    const isMap = verb === 'map';
    if (paddrs.length === 1) {
      const physical = isMap ? ` phys_addr=${paddrs[0].toString(16)}` : '';
      line(
        task,
        cpu,
        `dma_${verb}_page`,
        `0000:00:04.0 dir=FROM_DEVICE dma_addr=${iova.toString(16)} size=4096${physical} attrs=`,
      );
      return;
    }
    const phys = `phys_addrs={${paddrs.map((paddr) => `0x${paddr.toString(16)}`).join(',')}}`;
    const nr = paddrs.length;
    const mapped = `nents=${nr}/${nr} ents=1/1 dma_addrs={0x${iova.toString(16)}} sizes={0x${(nr * 4096).toString(16)}} `;
    line(task, cpu, `dma_${verb}_sg`, `0000:00:04.0 dir=FROM_DEVICE ${isMap ? mapped : ''}${phys} attrs=`);
  };
  /** Free IOVAs by page count, last freed first. */
  const free = new Map([
    [1, []],
    [16, []],
  ]);
  let next = 0xffff0000;
  const live = [];
  while (count.maps < nrEvents) {
    const kind = random(10);
    const cpu = random(2);
    const nrPages = kind < 8 ? 1 : 16;
    let iova = free.get(nrPages).pop();
    if (iova === undefined) {
      next -= nrPages * 4096;
      next -= next % (nrPages * 4096);
      iova = next;
    }
    const paddrs = Array.from({ length: nrPages }, () => (0x1000 + random(1 << 18)) * 4096 * 2);
    for (let page = 0; page < nrPages; page++) {
      const start = iova + page * 4096;
      line('fio', cpu, 'map', `IOMMU: iova=${hex(start)} - ${hex(start + 4096)} paddr=${hex(paddrs[page])} size=4096`);
    }
    if (isRecorded) {
      flush('fio', cpu, '_np', iova, nrPages, 0);
      call('fio', cpu, 'map', iova, paddrs);
    }
    live.push([iova, paddrs]);
    if (live.length > 32) {
      const [start, freed] = live.splice(random(live.length), 1)[0];
      const nrBytes = freed.length * 4096;
      // Linux traces an unmap of a list before it starts and that of a page when it is done.
      if (isRecorded && freed.length > 1) call('<idle>', cpu, 'unmap', start, freed);
      line(
        '<idle>',
        cpu,
        'unmap',
        `IOMMU: iova=${hex(start)} - ${hex(start + nrBytes)} size=${nrBytes} unmapped_size=${nrBytes}`,
      );
      if (isRecorded) {
        flush('<idle>', cpu, '', start, freed.length, 0x40);
        if (freed.length === 1) call('<idle>', cpu, 'unmap', start, freed);
      }
      free.get(freed.length).push(start);
    }
  }
  write(text);
  return count;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const [, , events, file, form] = process.argv;
  if (file === undefined || (form ?? '--recorded') !== '--recorded') {
    process.stderr.write('usage: node bench/make-trace.js EVENTS FILE [--recorded]\n');
    process.exit(2);
  }
  const fd = openSync(file, 'w');
  makeTrace(Number(events), (text) => writeSync(fd, text), form !== undefined);
  closeSync(fd);
}
