/** Ctrl-C: what is known by then is printed, and the exit code is 130, whatever the program waits for. */
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { MAP, TRACE, UNMAP, bin, folder, useFolder } from './program.ts';

useFolder();

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function start(args: readonly string[]): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const child = spawn(process.execPath, [bin, ...args], { cwd: folder });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => void (out += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => void (err += chunk));
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code) => resolve({ code, out, err }));
  });
  return { child, ended };
}

/** Writes and waits until the child took all but what fits into a pipe. */
async function feed(child: ChildProcess, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.stdin?.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

const PAIRS = 20_000;
const LINES = Buffer.from((MAP + UNMAP).repeat(PAIRS));
/** Far more than a pipe or a chunk in the making holds. */
const AT_LEAST = PAIRS;

describe('while reading', () => {
  test.each([
    ['text', LINES],
    ['gzip', gzipSync(LINES, { level: 0 })],
  ])('%s on standard input that goes on: the events read so far', async (_name, bytes) => {
    const { child, ended } = start(['replay', '-', '--json']);
    await feed(child, bytes);
    child.kill('SIGINT');
    const { code, out, err } = await ended;
    expect({ code, err }).toEqual({ code: 130, err: '' });
    const report = JSON.parse(out);
    expect(report).toMatchObject({
      schema: 'iommukit.replay/1',
      trace: { file: 'standard input', format: 'ftrace text', skippedLines: 0 },
      grouping: { rule: 'none' },
      interrupted: true,
      runs: [],
    });
    const { events, map, unmap } = report.trace;
    expect(events).toBeGreaterThan(AT_LEAST);
    expect(events).toBeLessThanOrEqual(2 * PAIRS);
    expect(map + unmap).toBe(events);
  });

  test('an audit', async () => {
    const { child, ended } = start(['audit', '-', '--json']);
    await feed(child, LINES);
    child.kill('SIGINT');
    const { code, out, err } = await ended;
    expect({ code, err }).toEqual({ code: 130, err: '' });
    expect(JSON.parse(out)).toMatchObject({
      schema: 'iommukit.audit/1',
      interrupted: true,
      verdict: 'inconclusive',
      findings: [],
    });
  });

  test('as text', async () => {
    const { child, ended } = start(['replay', '-']);
    await feed(child, LINES);
    child.kill('SIGINT');
    const { code, out } = await ended;
    expect(code).toBe(130);
    expect(out).toMatch(
      /^standard input: ftrace text, \d\d,\d{3} events: .*\ninterrupted while reading: nothing was replayed\n$/,
    );
  });

  // A blocking open(2) or read(2) would keep the program from hearing the signal.
  test.skipIf(process.platform === 'win32')('a named pipe that somebody opened and never writes to', async () => {
    const path = join(folder, 'fifo');
    execFileSync('mkfifo', [path]);
    const { child, ended } = start(['replay', path, '--json']);
    let writer = -1;
    while (writer < 0 && child.exitCode === null) {
      try {
        writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      } catch {
        // Nobody reads yet.
        await pause(20);
      }
    }
    child.kill('SIGINT');
    const { code, out } = await ended;
    if (writer >= 0) closeSync(writer);
    expect(code).toBe(130);
    expect(JSON.parse(out)).toMatchObject({ interrupted: true, trace: { events: 0, format: 'not read' }, runs: [] });
  });
});

test('while replaying: the policies played so far', async () => {
  const { child, ended } = start(['replay', '-', '--json']);
  const text = gunzipSync(readFileSync(TRACE));
  await feed(child, Buffer.concat(Array.from({ length: 20 }, () => text)));
  child.stdin?.end();
  // What is left in the pipe is read in milliseconds; eight policies take seconds.
  await pause(1000);
  child.kill('SIGINT');
  const { code, out } = await ended;
  expect(code).toBe(130);
  const report = JSON.parse(out);
  expect(report).toMatchObject({ schema: 'iommukit.replay/1', interrupted: true, trace: { map: 20 * 4684 } });
  expect(report.grouping.mapCalls).toBeGreaterThan(0);
  expect(report.runs.length).toBeGreaterThan(0);
  expect(report.runs.length).toBeLessThanOrEqual(8);
  const [first] = report.runs;
  expect(first).toMatchObject({ mapFlush: 'none', unmapFlush: 'strict' });
});
