// Whole recorded runs: the counts made by another program (summarize.py), and text against trace.dat, event by event.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { collector, readText } from './collect.ts';
import { decompressors } from '../../src/cli/input.ts';
import { MemoryAccess, QemuLogReader, TraceDatReader } from '../../src/trace/index.ts';
import { countsOf, gunzipped, runsWith } from './recordings.ts';

const texts = runsWith('trace.txt.gz').filter((run) => existsSync(join(run.folder, 'counts.json')));
const dats = runsWith('trace.dat.gz');
const logs = runsWith('qemu-inval.log.gz').filter((run) => existsSync(join(run.folder, 'counts.json')));

/** Names of counts.json that are event names, and the events they count. */
function countOf(events: readonly Record<string, unknown>[], name: string): number {
  const kinds: Record<string, string> = {
    map: 'map',
    unmap: 'unmap',
    add_device_to_group: 'addDevice',
    attach_device_to_domain: 'attach',
    dma_map_page: 'dmaMap',
    dma_unmap_page: 'dmaUnmap',
    dma_alloc: 'dmaAlloc',
    dma_map_sg: 'dmaMapSg',
    dma_unmap_sg: 'dmaUnmapSg',
    qi_submit: 'qiSubmit',
  };
  if (name.startsWith('cache_tag_'))
    return events.filter((event) => event['kind'] === 'cacheTag' && event['text'] === name).length;
  return events.filter((event) => event['kind'] === kinds[name]).length;
}

describe.skipIf(texts.length === 0)('counts of trace.txt.gz (skipped when no recordings are here)', () => {
  test.each(texts)('$name', (run) => {
    const { events, summary } = readText(gunzipped(run, 'trace.txt.gz'));
    expect(summary).toMatchObject({ skipped: 0, lost: 0, format: 'ftrace text', truncated: false, recognised: true });
    // The counts stop at the "end" mark.
    const end = events.findIndex((event) => /^LAB \d+-end$/.test(String(event['text'])));
    const counted = end < 0 ? events : events.slice(0, end);
    const guest = countsOf(run)['guest'] ?? {};
    let checked = 0;
    for (const [name, count] of Object.entries(guest)) {
      if (!/^[a-z_]+$/.test(name) || name === 'amdcmd') continue;
      expect({ [name]: countOf(counted, name) }).toEqual({ [name]: count });
      checked++;
    }
    expect(checked).toBeGreaterThanOrEqual(4);
    const types: Record<string, RegExp> = { CC: /^cc_inv$/, PSI: /./, DSI: /./, GLB: /./ };
    for (const type of Object.keys(types)) {
      const found = counted.filter((event) => {
        if (event['kind'] !== 'qiSubmit') return false;
        const word = (event['words'] as number[])[0] ?? 0;
        if (type === 'CC') return event['text'] === 'cc_inv';
        return event['text'] === 'iotlb_inv' && ((word >> 4) & 3) === { GLB: 1, DSI: 2, PSI: 3 }[type];
      });
      expect(found.length).toBe(guest[`qi:${type}`] ?? 0);
    }
  });
});

describe.skipIf(dats.length === 0)(
  'trace.dat.gz gives the events of trace.txt.gz (skipped when no recordings are here)',
  () => {
    test.each(dats)('$name', (run) => {
      const text = readText(gunzipped(run, 'trace.txt.gz')).events;
      const all = collector();
      const reader = new TraceDatReader(
        new MemoryAccess(gunzipped(run, 'trace.dat.gz')),
        all.names,
        all.sink,
        decompressors,
      );
      while (reader.read(1000));
      const summary = reader.end();
      expect(summary).toMatchObject({ version: 7, compression: 'zstd', skipped: 0, lost: 0, recognised: true });
      // The kprobe events went to a file of their own when the text was saved.
      const binary = all.events.filter((event) => event['text'] !== 'amdcmd');
      expect(binary.length).toBe(text.length);
      // The kernel prints times rounded to microseconds.
      for (const event of binary) event['timeNs'] = Math.floor(((event['timeNs'] as number) + 500) / 1000) * 1000;
      for (let i = 0; i < text.length; i++) {
        if (JSON.stringify(binary[i]) !== JSON.stringify(text[i]))
          expect({ i, event: binary[i] }).toEqual({ i, event: text[i] });
      }
    });
  },
);

describe.skipIf(logs.length === 0)('counts of qemu-inval.log.gz (skipped when no recordings are here)', () => {
  test.each(logs)('$name', (run) => {
    const marks: string[] = [];
    const atEnd = new Map<string, number>();
    let tails = 0;
    let descriptors = 0;
    const reader = new QemuLogReader({
      descriptor: () => void descriptors++,
      tail: () => void tails++,
      mark(name) {
        marks.push(name);
        if (/^\d+-end$/.test(name)) atEnd.set('vtd_inv_desc', descriptors).set('vtd_inv_qi_tail', tails);
      },
      skipped: (line, what, excerpt) => expect.fail(`${line}: ${what}: ${excerpt}`),
    });
    const bytes = gunzipped(run, 'qemu-inval.log.gz');
    reader.push(bytes);
    const summary = reader.end();
    expect(summary).toMatchObject({ skipped: 0, recognised: true, truncated: false });
    const qemu = countsOf(run)['qemu'] ?? {};
    expect(atEnd.get('vtd_inv_desc')).toBe(qemu['vtd_inv_desc'] ?? 0);
    expect(atEnd.get('vtd_inv_qi_tail')).toBe(qemu['vtd_inv_qi_tail'] ?? 0);
    // Up to the end mark, by name: the log cut there.
    const text = Buffer.from(bytes).toString('latin1');
    const head = text.slice(0, text.search(/^.*v9fs_mkdir .*name \d+-end mode/m));
    const cut = new QemuLogReader({ descriptor() {}, tail() {}, mark() {}, skipped: () => expect.fail('skipped') });
    cut.push(Buffer.from(head, 'latin1'));
    const byName = Object.fromEntries(
      [...cut.end().byName].filter(([name, count]) => count > 0 && name !== 'v9fs_mkdir'),
    );
    expect(byName).toEqual(qemu);
    expect(marks.length).toBe(summary.byName.get('v9fs_mkdir'));
    // Each guest mark has its counterpart here.
    const guest = readText(gunzipped(run, 'trace.txt.gz')).events.filter((event) => event['kind'] === 'mark');
    for (const mark of guest) expect(marks).toContain(String(mark['text']).replace(/^LAB /, ''));
  });

  test.each(runsWith('qemu-xlate.log.gz'))('$name: translations', (run) => {
    let events = 0;
    const reader = new QemuLogReader({
      descriptor() {},
      tail() {},
      mark() {},
      event: () => void events++,
      skipped: (line, what, excerpt) => expect.fail(`${line}: ${what}: ${excerpt}`),
    });
    reader.push(gunzipped(run, 'qemu-xlate.log.gz'));
    const { byName, skipped } = reader.end();
    expect(skipped).toBe(0);
    expect(events).toBe([...byName].reduce((sum, [name, count]) => sum + (/^(vtd|amdvi)/.test(name) ? count : 0), 0));
  });
});
