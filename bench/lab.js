/**
 * The policies view of the lab in a real browser (Debian's chromium), with a written trace of a million map and unmap events, all
 * eight policies: how soon the first picture is there, how the page answers while its worker is busy, how fluent the timeline is,
 * and what memory the tab takes. `npm run build` first.
 *
 *   node bench/lab.js [EVENTS]
 *
 * Times are the page's own: from the `change` event of the file input, which is what a drop leads to as well. How the page answers
 * is what the browser says of it: the longest task of the page's thread (by the clock, and its CPU time, since on a busy machine the
 * clock counts the others too), and of each key that is pressed meanwhile the time until the next picture is out (Event Timing).
 * Memory is the resident set of the tab's process (worker included), its peak as Linux says.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { LabServer, readSite } from '../dist/cli/lab-server.js';
import { makeTrace } from './make-trace.js';

const nrEvents = Number(process.argv[2] ?? 1_000_000);

/** Runs in the page before its own scripts. */
function watch() {
  const seen = { start: NaN, first: NaN, all: NaN, keys: [] };
  globalThis.seen = seen;
  globalThis.addEventListener('change', (event) => {
    if (event.target.type !== 'file') return;
    seen.start = performance.now();
    const look = () => {
      const canvas = document.querySelector('.timeline-canvas');
      // A canvas that was not drawn yet is 300 pixels wide.
      if (Number.isNaN(seen.first) && canvas !== null && canvas.width !== 300) seen.first = performance.now();
      if (!Number.isNaN(seen.first) && document.querySelector('.work') === null) seen.all = performance.now();
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
  new PerformanceObserver((list) => {
    for (const { name, duration } of list.getEntries()) if (name === 'keydown') seen.keys.push(duration);
  }).observe({ type: 'event', durationThreshold: 16 });
}

/** Tasks of the page's thread in a recording of the browser: milliseconds by the clock, and of CPU. */
function tasksOf(recording) {
  const { traceEvents } = JSON.parse(recording.toString());
  const isMain = ({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain';
  const threads = new Set(traceEvents.filter(isMain).map(({ pid, tid }) => `${pid} ${tid}`));
  return traceEvents
    .filter(({ name, ph, pid, tid }) => ph === 'X' && name.endsWith('RunTask') && threads.has(`${pid} ${tid}`))
    .map(({ dur, tdur }) => ({ clock: dur / 1000, cpu: (tdur ?? 0) / 1000 }));
}

async function tabProcess(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  const sizes = processInfo
    .filter(({ type }) => type === 'renderer')
    .map(({ id }) => {
      const status = readFileSync(`/proc/${id}/status`, 'utf8');
      const of = (field) => Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1] ?? NaN) / 1024;
      return { now: of('VmRSS'), peak: of('VmHWM') };
    });
  return sizes.toSorted((a, b) => b.peak - a.peak)[0];
}

const ms = (value) => `${value.toFixed(0)} ms`;

const folder = mkdtempSync(join(tmpdir(), 'iommukit-lab-'));
const server = await LabServer.start(readSite(join(import.meta.dirname, '../dist/web')), {
  host: '127.0.0.1',
  port: 0,
  opened: null,
});
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  const path = join(folder, 'trace.txt');
  const fd = openSync(path, 'w');
  makeTrace(nrEvents, (text) => writeSync(fd, text));
  closeSync(fd);
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
  await page.addInitScript(watch);
  await page.goto(server.url);
  await page.getByLabel('Your file').waitFor();
  const input = page.getByLabel('Your file');
  await browser.startTracing(page, {
    categories: ['toplevel', 'devtools.timeline', 'disabled-by-default-devtools.timeline'],
  });
  await input.setInputFiles(path);

  // Somebody uses the page while it works: the Tab key goes through its controls, and on the timeline keys zoom.
  let nrKeys = 0;
  while (await page.evaluate(() => Number.isNaN(globalThis.seen.all))) {
    const isThere = (await page.locator('.timeline-canvas').count()) > 0;
    if (isThere && nrKeys % 3 === 0) await page.locator('.timeline-canvas').focus();
    await page.keyboard.press(['Tab', '+', '0'][isThere ? nrKeys % 3 : 0]);
    nrKeys += 1;
    await page.waitForTimeout(100);
  }
  const work = await page.evaluate(() => globalThis.seen);
  const memory = await tabProcess(browser);
  const tasks = tasksOf(await browser.stopTracing());
  const most = (field) => tasks.reduce((longest, task) => Math.max(longest, task[field]), 0);
  const keys = work.keys.toSorted((a, b) => a - b);
  const keyAt = (share) => keys[Math.floor(share * (keys.length - 1))] ?? 0;

  await page.locator('.timeline-canvas').focus();
  const frames = await page.evaluate(async () => {
    const canvas = document.querySelector('.timeline-canvas');
    const times = [];
    let before = performance.now();
    for (let i = 0; i < 120; i++) {
      const key = i % 40 < 20 ? '+' : '-';
      canvas.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
      await new Promise((resolve) => requestAnimationFrame(resolve));
      times.push(performance.now() - before);
      before = performance.now();
    }
    return times.toSorted((a, b) => a - b);
  });
  const kept = await page.locator('.timeline-panel > .group').first().innerText();

  const rows = [
    [
      'trace',
      `${nrEvents.toLocaleString('en-US')} maps and unmaps, ${(statSync(path).size / 1e6).toFixed(0)} MB of text`,
    ],
    ['first picture (first policy, with its timeline)', ms(work.first - work.start)],
    ['all eight policies', ms(work.all - work.start)],
    ['longest task of the page while the worker works: clock / CPU', `${ms(most('clock'))} / ${ms(most('cpu'))}`],
    [`from one of ${nrKeys} keys to the next picture meanwhile, median / worst`, `${ms(keyAt(0.5))} / ${ms(keyAt(1))}`],
    ['a picture of the timeline while zooming, median / worst of 120', `${ms(frames[60])} / ${ms(frames[119])}`],
    [
      'memory of the tab, worker included: at the end / peak',
      `${memory.now.toFixed(0)} / ${memory.peak.toFixed(0)} MiB`,
    ],
    ['timeline', kept.split('\n').at(-1)],
  ];
  for (const [what, figure] of rows) process.stdout.write(`${what.padEnd(66)} ${figure}\n`);
} finally {
  await browser.close();
  await server.close();
  rmSync(folder, { recursive: true, force: true });
}
