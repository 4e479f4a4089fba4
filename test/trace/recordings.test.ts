// Whole recorded runs: the counts made by another program (summarize.py), and text against trace.dat, event by event.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { collector, readText } from './collect.ts';
import { decompressors } from '../../src/cli/expand.ts';
import type { AmdCommandSink } from '../../src/trace/index.ts';
import {
  AmdCommandReader,
  AmdOperation,
  MemoryAccess,
  Names,
  QemuLogReader,
  TraceDatReader,
  commandsOf,
  vendorOf,
} from '../../src/trace/index.ts';
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
    expect(summary).toMatchObject({ skipped: 0, lost: 0, format: 'ftrace text' });
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
      const { summary } = reader;
      expect(summary).toMatchObject({ version: 7, compression: 'zstd', skipped: 0, lost: 0 });
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
    const amd: number[] = [];
    let amdAtEnd: number[] = [];
    const reader = new QemuLogReader({
      descriptor: () => void descriptors++,
      tail: () => void tails++,
      amdCommand: (operation) => void (amd[operation] = (amd[operation] ?? 0) + 1),
      mark(name) {
        marks.push(name);
        if (/^\d+-end$/.test(name)) amdAtEnd = amd.slice();
        if (/^\d+-end$/.test(name)) atEnd.set('vtd_inv_desc', descriptors).set('vtd_inv_qi_tail', tails);
      },
      skipped: (line, what, excerpt) => expect.fail(`${line}: ${what}: ${excerpt}`),
    });
    const bytes = gunzipped(run, 'qemu-inval.log.gz');
    reader.push(bytes);
    const summary = reader.end();
    expect(summary).toMatchObject({ skipped: 0 });
    const qemu = countsOf(run)['qemu'] ?? {};
    expect(atEnd.get('vtd_inv_desc')).toBe(qemu['vtd_inv_desc'] ?? 0);
    expect(atEnd.get('vtd_inv_qi_tail')).toBe(qemu['vtd_inv_qi_tail'] ?? 0);
    // The same names count VT-d's waits in Intel runs.
    const isAmd = run.name.startsWith('amd-');
    const total = isAmd ? (countsOf(run)['total'] ?? {}) : {};
    const ofOperation = (operation: AmdOperation): number => amdAtEnd[operation] ?? 0;
    expect(ofOperation(AmdOperation.devtabEntry)).toBe(total['qDTE'] ?? 0);
    expect(ofOperation(AmdOperation.completionWait)).toBe(total['qWAIT'] ?? 0);
    expect(ofOperation(AmdOperation.interruptTable)).toBe(total['qIRT'] ?? 0);
    expect(ofOperation(AmdOperation.pages)).toBe(total['qPAGES'] ?? 0);
    expect(ofOperation(AmdOperation.all)).toBe(total['qALL'] ?? 0);
    expect(summary.vendor).toBe(isAmd ? 'amdvi' : 'vtd');
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
    let translations = 0;
    const reader = new QemuLogReader({
      mark() {},
      event: () => void events++,
      translation: () => void translations++,
      skipped: (line, what, excerpt) => expect.fail(`${line}: ${what}: ${excerpt}`),
    });
    reader.push(gunzipped(run, 'qemu-xlate.log.gz'));
    const { byName, skipped } = reader.end();
    expect(skipped).toBe(0);
    expect(translations).toBe((byName.get('vtd_dmar_translate') ?? 0) + (byName.get('amdvi_translation_result') ?? 0));
    expect(translations).toBeGreaterThan(0);
    expect(events).toBe([...byName].reduce((sum, [name, count]) => sum + (/^(vtd|amdvi)/.test(name) ? count : 0), 0));
  });
});

describe('whose hardware a recording is of', () => {
  test.each(texts)('$name', (run) => {
    const { summary } = readText(gunzipped(run, 'trace.txt.gz'));
    // An AMD trace shows nothing by itself.
    expect(vendorOf(summary)).toBe(run.name.startsWith('amd-') ? 'unknown' : 'vtd');
  });

  test.each(dats)('$name: trace.dat, which has the probe', (run) => {
    const all = collector();
    const reader = new TraceDatReader(
      new MemoryAccess(gunzipped(run, 'trace.dat.gz')),
      all.names,
      all.sink,
      decompressors,
    );
    while (reader.read(1000));
    expect(vendorOf(reader.summary)).toBe(run.name.startsWith('amd-') ? 'amdvi' : 'vtd');
  });
});

describe('amd-commands.txt.gz', () => {
  test.each(runsWith('amd-commands.txt.gz'))('$name: as many of each kind as were counted', (run) => {
    const counts: Record<string, number> = {};
    const names: Record<number, string> = { 1: 'gWAIT', 2: 'gDTE', 3: 'gPAGES', 5: 'gIRT', 8: 'gALL' };
    let last = 0;
    const reader = new AmdCommandReader({
      command(_d0, d1, _d2, _d3, _line, timeNs) {
        const name = names[d1 >>> 28] ?? `operation ${d1 >>> 28}`;
        counts[name] = (counts[name] ?? 0) + 1;
        expect(timeNs).toBeGreaterThanOrEqual(last);
        last = timeNs;
      },
      skipped: (line, what, excerpt) => expect.fail(`${line}: ${what}: ${excerpt}`),
    });
    const bytes = gunzipped(run, 'amd-commands.txt.gz');
    reader.push(bytes);
    const { commands, lines, otherEvents } = reader.end();
    expect({ commands, otherEvents }).toEqual({ commands: lines, otherEvents: 0 });
    const total = countsOf(run)['total'] ?? {};
    for (const name of Object.values(names))
      expect({ [name]: counts[name] ?? 0 }).toEqual({ [name]: total[name] ?? 0 });
    expect(Object.keys(counts).every((name) => Object.values(names).includes(name))).toBe(true);
  });

  const both = dats.filter((run) => existsSync(join(run.folder, 'amd-commands.txt.gz')));
  test.each(both)('$name: the trace.dat has the same commands', (run) => {
    const seen = (): { words: number[][]; sink: AmdCommandSink } => {
      const words: number[][] = [];
      const sink = {
        command: (...values: number[]) => void words.push(values.slice(0, 4)),
        skipped: () => expect.fail('skipped'),
      };
      return { words, sink };
    };
    const text = seen();
    const fromText = new AmdCommandReader(text.sink);
    fromText.push(gunzipped(run, 'amd-commands.txt.gz'));
    fromText.end();
    const binary = seen();
    const bytes = new MemoryAccess(gunzipped(run, 'trace.dat.gz'));
    const reader = new TraceDatReader(bytes, new Names(), commandsOf(binary.sink), decompressors);
    while (reader.read(1000));
    expect(binary.words.length).toBeGreaterThan(0);
    expect(binary.words).toEqual(text.words);
  });
});
