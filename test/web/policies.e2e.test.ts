/** The policies view in Chromium: the numbers of the command line, what is cancelled, what is hostile, and the timeline's keys. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { afterAll, describe, expect, test } from 'vitest';
import type { ReplayReport } from '../../src/report/index.ts';
import { DAT, TRACE, file, root, run, useFolder } from '../cli/program.ts';
import { needTool } from '../skip.ts';
import { seriousFindings } from './axe.ts';
import type { Lab } from './lab.ts';
import { SITE, openLab } from './lab.ts';

useFolder();

let opened: Promise<Lab> | undefined;
const theLab = async (): Promise<Lab> => await (opened ??= openLab(TRACE));
afterAll(async () => await (await opened)?.close());

const BUNDLED = '#/policies?trace=intel-cmon-strict-small-6.12';
/** The quickest there is. */
const ONE = '&map=sync-map&unmap=lazy';

/** Waits until all that was asked for is there. */
async function done(page: Page): Promise<void> {
  await page.locator('[data-policies]').waitFor();
  await page.locator('.work').waitFor({ state: 'detached' });
}

/** Cells of the table of policies, row by row, the verdict left out. */
async function rows(page: Page): Promise<string[][]> {
  return await page
    .locator('[data-policies] tbody tr')
    .evaluateAll((all) => all.map((row) => [...row.children].slice(0, -1).map((cell) => cell.textContent ?? '')));
}

/** The same cells from what the command line says of the file. */
function expectedRows(path: string, ...options: readonly string[]): string[][] {
  const { out, code, err } = run(['replay', path, '--json', ...options]);
  expect({ code, err }).toMatchObject({ code: 0 });
  const report = JSON.parse(out) as ReplayReport;
  const count = (value: number): string => value.toLocaleString('en-US');
  return report.runs.map((played) => [
    played.mapFlush,
    played.unmapFlush,
    count(played.commands.page),
    count(played.commands.domain),
    count(played.commands.wait),
    count(played.doorbells),
    played.perMapCall.toFixed(3),
    played.perUnmap.toFixed(3),
    played.staleWindowMs.p50.toFixed(1),
    played.staleWindowMs.p99.toFixed(1),
    played.staleWindowMs.max.toFixed(1),
    count(played.violations.notPresent),
    count(played.violations.stale),
  ]);
}

async function choose(page: Page, path: string): Promise<void> {
  await page.getByLabel('Your file').setInputFiles(path);
}

const alertText = async (page: Page): Promise<string> => {
  const alert = page.locator('main [role=alert]');
  await alert.waitFor();
  return await alert.innerText();
};

describe('the same numbers as iommukit replay --json', () => {
  test('of the recording that comes with the page, at a click', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open();
    await page.getByRole('button', { name: 'Play the recording' }).click();
    await done(page);
    expect(page.url()).toContain(BUNDLED);
    expect(await rows(page)).toEqual(expectedRows(TRACE));
    expect(await page.locator('#facts-title + p').innerText()).toBe(
      'ftrace text, 15,072 events: 4,684 map, 1,250 unmap, 3,023 dma',
    );
    expect(await page.locator('[data-run="none, strict"] .mark').innerText()).toContain('no: devices fault');
    expect(await page.locator('[data-run="sync-map, strict"] .mark').innerText()).toContain('yes');
  });

  test('of a file that iommukit ui serves, with other policies and hardware in the link', async (context) => {
    needTool(context, 'chromium');
    const lab = await theLab();
    const page = await lab.open(`#/policies?open=${lab.file}&map=caller,map&unmap=recorded,strict&preset=linux-6.1`);
    await done(page);
    expect(await rows(page)).toEqual(
      expectedRows(TRACE, '--map-flush', 'caller,map', '--unmap-flush', 'recorded,strict', '--preset', 'linux-6.1'),
    );
    expect(await page.locator('#facts-title').innerText()).toBe(basename(TRACE));
    await page.getByLabel('Hardware').selectOption('amdvi');
    await page.locator('#facts-title ~ p', { hasText: 'AMD-Vi' }).waitFor();
    await done(page);
    expect(page.url()).toContain('hardware=amdvi');
    expect(await rows(page)).toEqual(
      expectedRows(
        TRACE,
        '--map-flush',
        'caller,map',
        '--unmap-flush',
        'recorded,strict',
        '--preset',
        'linux-6.1',
        '--hardware',
        'amdvi',
      ),
    );
  });

  test.for(['text', 'trace.dat in gzip', 'zstd', 'several gzip members'])(
    'of a chosen file: %s',
    async (kind, context) => {
      needTool(context, 'chromium');
      const text = gunzipSync(readFileSync(TRACE));
      let path = DAT;
      if (kind === 'text') path = file('plain.txt', text);
      if (kind === 'zstd') {
        needTool(context, 'zstd');
        path = file('trace.zst', execFileSync('zstd', ['-c'], { input: text }));
      }
      if (kind === 'several gzip members') {
        const middle = text.indexOf('\n', text.length / 2) + 1;
        path = file('two.gz', Buffer.concat([gzipSync(text.subarray(0, middle)), gzipSync(text.subarray(middle))]));
      }
      const page = await (await theLab()).open(`#/policies?map=sync-map&unmap=lazy`);
      await choose(page, path);
      await done(page);
      expect(await rows(page)).toEqual(expectedRows(path, '--map-flush', 'sync-map', '--unmap-flush', 'lazy'));
      expect(await page.locator('#facts-title').innerText()).toBe(basename(path));
    },
  );
});

/** A trace long enough to be busy with. */
function longTrace(nrEvents: number): string {
  const path = file(`long-${nrEvents}.txt`, '');
  execFileSync(process.execPath, [join(root, 'bench/make-trace.js'), String(nrEvents), path]);
  return path;
}

describe('cancel', () => {
  test('while reading: the result from before stays; going on ends well', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open(`${BUNDLED}${ONE}`);
    await done(page);
    const before = await rows(page);
    // The click may come late, when the file is read; a longer one takes longer.
    let said = '';
    for (let nr = 400_000; !/while (opening|reading|decoding)/.test(said); nr *= 4) {
      expect(nr).toBeLessThan(10_000_000);
      await page.goto(page.url().replace(/#.*/, `${BUNDLED}${ONE}`));
      await done(page);
      await choose(page, longTrace(nr));
      const cancel = page.getByRole('button', { name: 'Cancel' });
      await cancel.click({ timeout: 3000 }).catch(() => {});
      said = (await page.locator('.cancelled').allInnerTexts()).join('');
    }
    expect(await rows(page)).toEqual(before);
    expect(page.url()).toContain('trace=intel-cmon');
    // Nothing goes on behind the scenes.
    await page.waitForTimeout(1000);
    expect(await rows(page)).toEqual(before);
    expect(await page.locator('.work').count()).toBe(0);
  });

  test('while playing: what was played stays, and going on adds the rest', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open();
    await choose(page, longTrace(400_000));
    await page.locator('[data-run]').first().waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    expect(await page.locator('.cancelled').innerText()).toMatch(/Cancelled while playing .* of 8 policies/);
    const played = await rows(page);
    expect(played.length).toBeLessThan(8);
    await page.getByRole('button', { name: 'Go on' }).click();
    await done(page);
    const all = await rows(page);
    expect(all).toHaveLength(8);
    expect(all.slice(0, played.length)).toEqual(played);
  });
});

const HTML = '<img src=x onerror=globalThis.hacked=1>';

const RESULT = {
  schema: 'iommukit.replay/1',
  trace: { file: '', format: '', events: 0, map: 0, unmap: 0, dma: 0, skippedLines: 0, lost: 0, hasIrqContext: true },
  grouping: { rule: '', mapCalls: 0, ambiguous: 0, overlapping: 0, unmapWithoutMap: 0, inferredDomains: 0 },
  hardware: { model: 'vtd', told: 'trace', cachingMode: true },
  interrupted: false,
  runs: [],
};

describe('hostile input', () => {
  test.for<[string, Uint8Array, RegExp]>([
    ['an ELF file', Buffer.concat([Buffer.from([0x7f, 0x45, 0x4c, 0x46]), Buffer.alloc(500, 7)]), /is an ELF file/],
    ['prose', Buffer.from('no trace\nat all\n'), /is text without a trace line/],
    ['nothing', Buffer.alloc(0), /is empty/],
    ['half a gzip', gzipSync(Buffer.from('x'.repeat(5000))).subarray(0, 30), /the gzip data ends early/],
    ['a trace without a map', Buffer.from('  a-1 [000] ..... 1.000000: sched_switch: a\n'), /holds no iommu:map/],
    ['JSON of somebody', Buffer.from(`{"schema": "${HTML}"}`), /is JSON, but no result of iommukit replay/],
    [
      'a result of no hardware',
      Buffer.from(JSON.stringify({ ...RESULT, hardware: { ...RESULT.hardware, model: 'constructor' } })),
      /hardware\.model is none of vtd, amdvi/,
    ],
    [
      'a result with markup for numbers',
      Buffer.from(`{"schema":"iommukit.replay/1","trace":"${HTML}"}`),
      /trace is missing/,
    ],
  ])('%s: told of, and the result from before stays', async ([name, content, message], context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open(`${BUNDLED}${ONE}`);
    await done(page);
    const before = await rows(page);
    await choose(page, file(`${name.replaceAll(' ', '-')}.bin`, content));
    const text = await alertText(page);
    expect(text).toMatch(message);
    expect(text).toContain(`${name.replaceAll(' ', '-')}.bin`);
    expect(text).toContain('Below is still the result from before');
    expect(await rows(page)).toEqual(before);
    expect(page.url()).toContain('trace=intel-cmon');
    // What follows works as if nothing had been.
    await choose(page, TRACE);
    await done(page);
    expect(await page.locator('main [role=alert]').count()).toBe(0);
    expect(await page.locator('#facts-title').innerText()).toBe(basename(TRACE));
    expect(await page.evaluate(() => 'hacked' in globalThis)).toBe(false);
  });

  test('a trace with markup for tasks, devices and its own name shows it as text', async (context) => {
    needTool(context, 'chromium');
    const lines = gunzipSync(readFileSync(TRACE)).toString().split('\n');
    const text = lines
      .slice(0, 9000)
      .map((line) =>
        line
          .replace(/^ *\S+-(\d+) /, ` ${HTML.slice(0, 15)}-$1 `)
          .replaceAll('0000:00:04.0', HTML.replaceAll(' ', '/')),
      )
      .join('\n');
    expect(text).toContain('onerror');
    const page = await (await theLab()).open(`#/policies?x=1${ONE}`);
    await choose(page, file('<img src=x onerror=hacked=1>.txt', text));
    await done(page);
    expect(await page.locator('#facts-title').innerText()).toBe('<img src=x onerror=hacked=1>.txt');
    expect(await page.locator('[data-window]').innerText()).toContain(HTML.replaceAll(' ', '/'));
    expect(await page.locator('main img').count()).toBe(0);
    expect(await page.evaluate(() => 'hacked' in globalThis)).toBe(false);
  });

  test.for([
    ['a policy', '#/policies?trace=intel-cmon-strict-small-6.12&map=sometimes', "map= of this link says 'sometimes'"],
    ['a trace', `#/policies?trace=${HTML}`, 'is no recording that comes with the page'],
    ['two traces', '#/policies?trace=intel-cmon-strict-small-6.12&open=x', 'names two traces'],
    ['a place elsewhere', '#/policies?open=//evil.example/x', 'no file of iommukit ui'],
    ['a place above', '#/policies?open=open/../secret', 'no file of iommukit ui'],
    ['a script', '#/policies?open=javascript:globalThis.hacked=1', 'no file of iommukit ui'],
    ['an old token', `#/policies?open=open/${'A'.repeat(22)}/trace.txt`, 'trace.txt is not served here any more'],
  ])('a broken link, %s: told of, and it stays until the user goes on', async ([, hash, message], context) => {
    needTool(context, 'chromium');
    const lab = await theLab();
    const page = await (await lab.browser.newContext()).newPage();
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.goto(`${lab.url}${hash}`);
    expect(await alertText(page)).toContain(message);
    expect(await page.locator('[data-policies]').count()).toBe(0);
    expect(await page.locator('main img').count()).toBe(0);
    expect(await page.evaluate(() => 'hacked' in globalThis)).toBe(false);
    expect(asked.filter((url) => !url.startsWith(lab.url) && !url.startsWith('data:'))).toEqual([]);
    expect(decodeURIComponent(new URL(page.url()).hash).length).toBeGreaterThanOrEqual(hash.length - 8);
    await page.getByRole('button', { name: 'Play the recording' }).click();
    await done(page);
    expect(await rows(page)).not.toHaveLength(0);
  });

  test('a kernel that the hardware does not go with: told of, and another one plays', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open(`${BUNDLED}${ONE}&hardware=vtd&preset=linux-6.12.96`);
    expect(await alertText(page)).toMatch(/linux-6\.12\.96 has no driver of .*; there are linux-5\.1/);
    await page.getByLabel('Kernel').selectOption('linux-6.1');
    await done(page);
    expect(await page.locator('main [role=alert]').count()).toBe(0);
  });

  test('a timeline window that is none: told of, the rest is shown', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open(`${BUNDLED}${ONE}&from=9&to=3`);
    await done(page);
    expect(await alertText(page)).toContain('begins at 9 s and ends before');
    expect(await rows(page)).toHaveLength(1);
  });
});

describe('the timeline', () => {
  /** Sums of the columns of the window's numbers. */
  async function sums(page: Page): Promise<Record<string, number>> {
    const titles = await page.locator('[data-window] thead th').allInnerTexts();
    const cells = await page
      .locator('[data-window] tbody tr')
      .evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent ?? '')));
    return Object.fromEntries(
      titles.map((title, i) => [
        title,
        cells.reduce((sum, row) => sum + Number((row[i] ?? '').replaceAll(',', '')), 0),
      ]),
    );
  }
  const rested = async (page: Page): Promise<void> => await page.waitForTimeout(500);

  test('tells of the whole trace what the table tells, and of a part by keys, wheel and drag what is in it', async (context) => {
    needTool(context, 'chromium');
    const lab = await theLab();
    const page = await lab.open(`${BUNDLED}${ONE}`);
    await done(page);
    const [row = []] = await rows(page);
    const number = (i: number): number => Number((row[i] ?? '').replaceAll(',', ''));
    const whole = await sums(page);
    expect(whole).toMatchObject({ maps: 1774, unmaps: 1250, 'stale windows': 1250, violations: number(12) });
    expect(whole['invalidations']).toBeGreaterThanOrEqual(number(2) + number(3));
    const canvas = page.locator('.timeline-canvas');
    await canvas.focus();
    for (const key of ['+', '+', '+', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
    await rested(page);
    const { hash } = new URL(page.url());
    expect(hash).toMatch(/from=[\d.]+&to=[\d.]+/);
    const part = await sums(page);
    expect(part['maps']).toBeLessThan(1774);

    // Counted from the trace itself: dma_map lines tell each call once, so unmap lines are taken.
    const params = new URLSearchParams(hash.split('?')[1]);
    const [from, to] = [Number(params.get('from')), Number(params.get('to'))];
    const unmaps = [
      ...gunzipSync(readFileSync(TRACE))
        .toString()
        .matchAll(/ (\d+\.\d+): unmap: /g),
    ]
      .map(([, time]) => Number(time))
      .filter((time) => time >= from && time <= to);
    expect(part['unmaps']).toBe(unmaps.length);

    const other = await lab.open(hash);
    await done(other);
    expect(await sums(other)).toEqual(part);
    await canvas.focus();
    await page.keyboard.press('0');
    await rested(page);
    expect(await sums(page)).toEqual(whole);
    expect(page.url()).not.toContain('from=');

    await canvas.hover({ position: { x: 500, y: 40 } });
    await page.mouse.wheel(0, -1500);
    await rested(page);
    const near = new URL(page.url()).hash;
    expect(near).toMatch(/from=/);
    await page.mouse.down();
    await canvas.hover({ position: { x: 300, y: 40 } });
    await page.mouse.up();
    await rested(page);
    const fromOf = (text: string): number => Number(new URLSearchParams(text.split('?')[1]).get('from'));
    expect(fromOf(new URL(page.url()).hash)).toBeGreaterThan(fromOf(near));
  });

  test('has something on it: the picture is not of one colour, and another run looks different', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open(`${BUNDLED}&map=sync-map`);
    await done(page);
    const colours = async (): Promise<number[]> => {
      await rested(page);
      // --map, --unmap, --invalidate, --stale, --bad of the light theme
      return await page.evaluate<number[]>(`
        const canvas = document.querySelector('.timeline-canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const counts = new Map();
        for (let i = 0; i < data.length; i += 4) {
          const colour = data[i] * 65536 + data[i + 1] * 256 + data[i + 2];
          counts.set(colour, (counts.get(colour) ?? 0) + 1);
        }
        [0x1668c7, 0x6b2fb3, 0x0b6e63, 0xa34a00, 0xb3161b].map((colour) => counts.get(colour) ?? 0);
      `);
    };
    const strict = await colours();
    expect(strict.slice(0, 3).filter((count) => count > 20)).toHaveLength(3);
    expect(strict.slice(3)).toEqual([0, 0]);
    await page.locator('.timeline-panel select').selectOption('sync-map, lazy');
    const lazy = await colours();
    expect(lazy.filter((count) => count > 20)).toHaveLength(5);
    expect(page.url()).toContain('run=sync-map%2C+lazy');
  });
});

test('a tab leads back to where its view was', async (context) => {
  needTool(context, 'chromium');
  const page = await (await theLab()).open(`${BUNDLED}${ONE}`);
  await done(page);
  const before = await rows(page);
  await page.locator('nav a', { hasText: 'Walk' }).click();
  await page.locator('.walk-view').waitFor();
  await page.locator('nav a', { hasText: 'Policies' }).click();
  await done(page);
  expect(new URL(page.url()).hash).toBe(`${BUNDLED}${ONE}`);
  expect(await rows(page)).toEqual(before);
});

test('the built site works from a folder of any web server, without anything behind it', async (context) => {
  needTool(context, 'chromium');
  const asked: string[] = [];
  // Knows nothing but files: no policy, no header of ours, a type by the name's end.
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace(/[?#].*/, '').replace(/\/$/, '/index.html');
    asked.push(path);
    const type = { html: 'text/html', js: 'text/javascript', css: 'text/css' }[path.split('.').at(-1) ?? ''];
    try {
      const bytes = readFileSync(join(SITE, path.replace('/any/folder', '')));
      response.writeHead(200, { 'content-type': type ?? 'application/octet-stream' }).end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  try {
    const bound = server.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
    const page = await (await (await theLab()).browser.newContext()).newPage();
    await page.goto(`http://127.0.0.1:${port}/any/folder/${BUNDLED}&map=sync-map`);
    await done(page);
    expect(await rows(page)).toEqual(expectedRows(TRACE, '--map-flush', 'sync-map'));
    expect(asked.filter((path) => !path.startsWith('/any/folder/'))).toEqual([]);
    await page.context().close();
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('a file dropped on the page is opened', async (context) => {
  needTool(context, 'chromium');
  const page = await (await theLab()).open(`#/policies?map=sync-map&unmap=strict`);
  await page.getByRole('button', { name: 'Play the recording' }).waitFor();
  const text = gunzipSync(readFileSync(TRACE)).toString('latin1');
  await page.evaluate(`
    const transfer = new DataTransfer();
    transfer.items.add(new File([${JSON.stringify(text)}], 'dropped.txt'));
    for (const type of ['dragover', 'drop']) {
      const event = new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
      document.querySelector('h2').dispatchEvent(event);
    }
  `);
  await done(page);
  expect(await page.locator('#facts-title').innerText()).toBe('dropped.txt');
  expect(await rows(page)).toEqual(expectedRows(TRACE, '--map-flush', 'sync-map', '--unmap-flush', 'strict'));
});

test('the JSON of iommukit replay shows the same table, without a timeline', async (context) => {
  needTool(context, 'chromium');
  const { out } = run(['replay', TRACE, '--json', '--map-flush', 'map']);
  const page = await (await theLab()).open();
  await choose(page, file('result.json', out));
  await done(page);
  expect(await rows(page)).toEqual(expectedRows(TRACE, '--map-flush', 'map'));
  expect(await page.locator('.timeline-canvas').count()).toBe(0);
});

test.for(['light', 'dark'])('no serious accessibility finding (%s)', async (theme, context) => {
  needTool(context, 'chromium');
  const page = await (await theLab()).open(BUNDLED);
  await done(page);
  await page.locator('.theme-switch select').selectOption(theme);
  for (const summary of await page.locator('summary').all()) await summary.click();
  expect(await seriousFindings(page)).toEqual([]);
  await choose(page, file('garbage.bin', 'garbage'));
  await alertText(page);
  expect(await seriousFindings(page)).toEqual([]);
});

test('at 200 % zoom, which is half the width, the page itself does not scroll sideways', async (context) => {
  needTool(context, 'chromium');
  const lab = await theLab();
  const page = await (await lab.browser.newContext({ viewport: { width: 640, height: 400 } })).newPage();
  await page.goto(`${lab.url}${BUNDLED}`);
  await done(page);
  expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
});

test('the first page, all that it loads, is below 150 KB of gzip', async (context) => {
  needTool(context, 'chromium');
  const lab = await theLab();
  const page = await (await lab.browser.newContext()).newPage();
  const bodies: Promise<Buffer>[] = [];
  page.on('response', (response) => {
    if (response.url().startsWith(lab.url)) bodies.push(response.body());
  });
  await page.goto(lab.url);
  await page.getByRole('button', { name: 'Play the recording' }).waitFor();
  await page.waitForLoadState('networkidle');
  const sizes = (await Promise.all(bodies)).map((body) => gzipSync(body).length);
  expect(sizes.length).toBeGreaterThanOrEqual(3);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(150 * 1024);
});
