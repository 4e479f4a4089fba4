/**
 * trace-cmd itself as the judge: its text of a trace.dat, and the version 6 file it converts one to, hold the events that are
 * read from the file directly. (Version 3.1.6 cannot print dma_map_sg of 6.12 and shows its fields instead: raw-payload.ts.)
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decompressors } from '../../src/cli/expand.ts';
import { MemoryAccess, TraceDatReader } from '../../src/trace/index.ts';
import { needTool } from '../skip.ts';
import type { Collected } from './collect.ts';
import { collector, readText } from './collect.ts';
import { gunzipped, runsWith } from './recordings.ts';

let folder = '';
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'trace-cmd-test-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function traceCmd(...args: string[]): Buffer {
  const { status, stdout, stderr } = spawnSync('trace-cmd', args, { cwd: folder, maxBuffer: 1 << 30 });
  if (status !== 0) throw new Error(`trace-cmd ${args.join(' ')}: ${stderr.toString()}`);
  return stdout;
}

function readDat(bytes: Uint8Array): Collected & { readonly version: number } {
  const all = collector();
  const reader = new TraceDatReader(new MemoryAccess(bytes), all.names, all.sink, decompressors);
  while (reader.read(1000));
  return { ...all, version: reader.summary.version };
}

/** As the text has it: microseconds, and no irq context, since trace-cmd report 3.1 prints no flags. */
function printed(events: Collected['events'], hasFlags: boolean): Collected['events'] {
  return events.map((event) => ({
    ...event,
    timeNs: Math.floor((Number(event['timeNs']) + 500) / 1000) * 1000,
    irqContext: hasFlags ? event['irqContext'] : 0,
  }));
}

describe.each(runsWith('trace.dat.gz'))('$name', (run) => {
  const bytes = gunzipped(run, 'trace.dat.gz');
  beforeAll(() => writeFileSync(join(folder, 'trace.dat'), bytes));

  test('trace-cmd report', (context) => {
    needTool(context, 'trace-cmd');
    const own = readDat(bytes);
    const { events, summary, skipped } = readText(new Uint8Array(traceCmd('report', '-i', 'trace.dat')));
    expect(skipped).toEqual([]);
    expect(summary.format).toBe('trace-cmd report');
    expect(events.length).toBe(own.events.length);
    expect(events.length).toBeGreaterThan(10_000);
    const hasFlags = events.some((event) => event['irqContext'] !== 0);
    const expected = printed(own.events, hasFlags);
    for (const [i, event] of events.entries()) {
      if (JSON.stringify(event) !== JSON.stringify(expected[i]))
        expect({ i, event }).toEqual({ i, event: expected[i] });
    }
  });

  test('trace-cmd convert --file-version 6', (context) => {
    needTool(context, 'trace-cmd');
    const own = readDat(bytes);
    traceCmd('convert', '--file-version', '6', '-i', 'trace.dat', '-o', 'v6.dat');
    const converted = readDat(new Uint8Array(readFileSync(join(folder, 'v6.dat'))));
    expect([own.version, converted.version]).toEqual([7, 6]);
    expect(converted.skipped).toEqual([]);
    expect(converted.events).toEqual(own.events);
  });
});
