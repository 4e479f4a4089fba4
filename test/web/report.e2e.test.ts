/** Report files in a real browser, from disk and without a network, with names that would like to be HTML. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { Browser, Page } from 'playwright-core';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { LabData } from '../../src/report/index.ts';
import { unpackTimeline } from '../../src/report/index.ts';
import { needTool } from '../skip.ts';
import { seriousFindings } from './axe.ts';
import { CHROMIUM } from './lab.ts';

const ROOT = join(import.meta.dirname, '../..');
const TRACE = join(ROOT, 'traces/intel-cmon-strict-small-6.12/trace.txt.gz');
/** What a file may be called. */
const HOSTILE = `</script><script>window.bad = 1<\\script><img src=x onerror="window.bad = 2"><!-- $& .txt`;

let folder = '';
let browser: Browser | undefined;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommukit-report-'));
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

/** Runs a command that leaves a report. @returns its path */
function report(name: string, args: readonly string[], code: number): string {
  const path = join(folder, name);
  const bin = join(ROOT, 'bin/iommukit.js');
  const { status, stderr } = spawnSync(process.execPath, [bin, ...args, '-o', path], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: code, stderr: '' });
  return path;
}

interface Opened {
  readonly page: Page;
  /** What the page asked for beyond itself, and what went wrong in it. */
  readonly requests: string[];
  readonly errors: string[];
}

async function open(path: string): Promise<Opened> {
  browser ??= await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  const page = await (await browser.newContext({ offline: true })).newPage();
  const url = pathToFileURL(path).href;
  const requests: string[] = [];
  const errors: string[] = [];
  page.on('request', (request) => {
    const asked = request.url();
    if (asked !== url && !asked.startsWith('data:')) requests.push(asked);
  });
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  await page.goto(url);
  await page.locator('main').waitFor();
  return { page, requests, errors };
}

/** The data as a browser's parser finds it. */
async function dataOf(page: Page): Promise<LabData> {
  return JSON.parse((await page.locator('#iommukit-data').textContent()) ?? '');
}

const isBad = async (page: Page): Promise<unknown> => await page.evaluate('window.bad');

beforeEach((context) => needTool(context, CHROMIUM));

describe('a report file', () => {
  test('replay: the table, the timelines, and a trace whose name is HTML', { timeout: 120_000 }, async () => {
    writeFileSync(join(folder, HOSTILE.replaceAll('/', '_')), gunzipSync(readFileSync(TRACE)));
    const name = HOSTILE.replaceAll('/', '_');
    const policies = ['--map-flush', 'none,sync-map', '--unmap-flush', 'strict,lazy'];
    const path = report('replay.html', ['replay', name, ...policies, '-o', 'replay.json'], 0);
    const json = JSON.parse(readFileSync(join(folder, 'replay.json'), 'utf8'));
    const { page, requests, errors } = await open(path);
    const data = await dataOf(page);
    if (data.kind !== 'replay') throw new Error(data.kind);
    expect(data.report).toEqual(json);
    expect(data.report.trace.file).toBe(name);
    expect(await page.title()).toBe(`iommukit replay: ${name}`);
    expect(data.timelines.map(unpackTimeline).map((timeline) => timeline.name)).toEqual([
      'none, strict',
      'none, lazy',
      'sync-map, strict',
      'sync-map, lazy',
    ]);
    const text = await page.locator('main').innerText();
    for (const run of json.runs) expect(text).toContain(run.commands.page.toLocaleString('en'));
    expect(await page.locator('canvas').count()).toBeGreaterThan(0);
    expect(await seriousFindings(page)).toEqual([]);
    expect(await isBad(page)).toBe(undefined);
    expect({ requests, errors }).toEqual({ requests: [], errors: [] });
  });

  test('check: a counterexample, stepped', { timeout: 120_000 }, async () => {
    const path = report('steps.html', ['check', '--replay', join(ROOT, 'docs/counterexamples/bug-2c.json')], 1);
    const { page, requests, errors } = await open(path);
    const data = await dataOf(page);
    if (data.kind !== 'schedule') throw new Error(data.kind);
    expect(data.sequence.isShown).toBe(true);
    const text = await page.locator('main').innerText();
    expect(text).toContain(data.sequence.contract);
    expect(text).toContain(data.sequence.steps[0]?.text);
    expect(await seriousFindings(page)).toEqual([]);
    expect({ requests, errors }).toEqual({ requests: [], errors: [] });
  });

  test("check: the findings of a user's own driver are played with it", { timeout: 120_000 }, async () => {
    const drivers = join(ROOT, 'dist/drivers/index.js');
    const machine = join(folder, 'own.mjs');
    writeFileSync(
      machine,
      `import { IntelIommu } from ${JSON.stringify(pathToFileURL(drivers).href)};
       export default (platform, setup) => {
         const ops = new IntelIommu(platform, { ...setup, mapFlush: 'none' });
         return ops;
       };`,
    );
    const path = report('own.html', ['check', machine, '--scenario', 'map/one-page', '--caching-mode', 'on'], 1);
    const { page, requests, errors } = await open(path);
    const data = await dataOf(page);
    if (data.kind !== 'check') throw new Error(data.kind);
    expect(data.report.findings.length).toBeGreaterThan(0);
    expect(data.sequences.length).toBe(data.report.findings.length);
    for (const [i, sequence] of data.sequences.entries()) {
      expect(sequence?.contract).toBe(data.report.findings[i]?.contract);
    }
    expect(await page.locator('main').innerText()).toContain('C-MAP-VISIBLE');
    expect({ requests, errors }).toEqual({ requests: [], errors: [] });
  });

  test('check: what was tried, when nothing was found', { timeout: 120_000 }, async () => {
    const path = report('tried.html', ['check', '--scenario', 'map/*', '--driver', 'amd'], 0);
    const { page, requests, errors } = await open(path);
    const data = await dataOf(page);
    if (data.kind !== 'check') throw new Error(data.kind);
    const { scenarios, knownFaults } = data.report;
    expect(scenarios.length).toBeGreaterThan(1);
    const rows = page.getByRole('region', { name: 'Scenarios' }).locator('tbody tr');
    expect(await rows.count()).toBe(scenarios.length);
    for (const [i, { name, title, cases, held, known, findings }] of scenarios.entries()) {
      expect(await rows.nth(i).locator('th, td').allInnerTexts()).toEqual([
        name,
        title,
        ...[cases, held, known, findings].map(String),
      ]);
    }
    const failing = knownFaults.filter(({ violated }) => violated > 0);
    expect(failing.length).toBeGreaterThan(0);
    const text = await page.locator('main').innerText();
    for (const { title, violated } of failing) expect(text).toContain(`${title}: ${violated} of `);
    expect(await seriousFindings(page)).toEqual([]);
    expect({ requests, errors }).toEqual({ requests: [], errors: [] });
  });

  test('audit: nothing found is said, and what was looked at', { timeout: 120_000 }, async () => {
    const { page, requests, errors } = await open(report('audit.html', ['audit', TRACE], 0));
    const data = await dataOf(page);
    if (data.kind !== 'audit') throw new Error(data.kind);
    const text = await page.locator('main').innerText();
    // As README.md has it of this trace.
    expect(text).toMatch(/15,072 events: 1,774 map calls, 1,250 unmap calls, 3,043 commands/);
    expect(text).toMatch(/held: 3,023 calls flushed in time/);
    expect(text).toContain('There is no finding');
    expect(await seriousFindings(page)).toEqual([]);
    expect({ requests, errors }).toEqual({ requests: [], errors: [] });
  });

  test("the page's policy: no script but its own, no request", { timeout: 120_000 }, async () => {
    const path = report('policy.html', ['audit', TRACE], 0);
    const { page, errors } = await open(path);
    await page.evaluate(`
      const script = document.createElement('script');
      script.textContent = 'window.bad = 3';
      document.body.append(script);
      const button = document.createElement('button');
      button.setAttribute('onclick', 'window.bad = 4');
      button.click();
    `);
    expect(await isBad(page)).toBe(undefined);
    expect(errors.filter((error) => error.includes('Content Security Policy')).length).toBeGreaterThanOrEqual(2);
    const asked: string[] = await page.evaluate(`(async () => {
      const blocked = [];
      document.addEventListener('securitypolicyviolation', (event) => blocked.push(event.effectiveDirective));
      await fetch('http://127.0.0.1:9/').catch(() => {});
      new Image().src = 'http://127.0.0.1:9/x.png';
      await new Promise((resolve) => setTimeout(resolve, 200));
      return blocked;
    })()`);
    expect(asked.sort()).toEqual(['connect-src', 'img-src']);
  });

  test('the data cannot end its element, and a page without data says so', { timeout: 120_000 }, async () => {
    const source = readFileSync(report('plain.html', ['audit', TRACE], 0), 'utf8');
    const [, json = ''] = /id="iommukit-data">([\s\S]*?)<\/script>/.exec(source) ?? [];
    expect(json).not.toMatch(/[<>&\u2028\u2029]/);
    expect(JSON.parse(json).schema).toBe('iommukit.lab/1');
    const { page } = await open(join(ROOT, 'dist/web/report.html'));
    expect(await page.locator('[role=alert]').innerText()).toMatch(/^This page has no data/);
  });
});
