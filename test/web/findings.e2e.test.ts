/** The findings view in a real browser: stepping both ways, links, files of strangers, accessibility. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { gunzipSync } from 'node:zlib';
import type { AuditFinding } from '../../src/audit/index.ts';
import type { CheckReport, PlayedSchedule } from '../../src/check/index.ts';
import type { AuditReport } from '../../src/report/index.ts';
import { needTool } from '../skip.ts';
import { seriousFindings } from './axe.ts';
import type { Lab } from './lab.ts';
import { openLab } from './lab.ts';

const ROOT = join(import.meta.dirname, '../..');
const SCHEDULE = join(ROOT, 'docs/counterexamples/bug-2c.json');

let folder = '';
let lab: Lab | undefined;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommukit-findings-'));
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await lab?.close();
});
const open = async (hash = '#/findings'): Promise<Page> => {
  lab ??= await openLab();
  return await lab.open(hash);
};

/** What a command prints that finds something. */
function printed(args: readonly string[]): string {
  try {
    execFileSync(process.execPath, [join(ROOT, 'bin/iommukit.js'), ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  } catch (error) {
    return String((error as { stdout: Buffer }).stdout);
  }
  throw new Error('exit code 0: it found nothing');
}

/** What the command says of the same file: the view must show that. */
function replayed(): PlayedSchedule {
  return JSON.parse(printed(['check', '--replay', SCHEDULE, '--json']));
}

/** A recording in which one page-selective invalidation of a map names a domain that nobody has. */
function brokenTrace(): string {
  const lines = gunzipSync(readFileSync(join(ROOT, 'traces/intel-cmon-strict-small-6.12/trace.txt.gz')))
    .toString('utf8')
    .split('\n');
  const at = lines.findIndex(
    (line, i) => i > 2000 && line.includes('iotlb_inv') && lines[i - 2].includes(' map: IOMMU'),
  );
  lines[at] = lines[at].replace(/dmar0: 0x[0-9a-f]*?([0-9a-f]{4}) /, 'dmar0: 0x3e7$1 ');
  return file('broken.txt', lines.join('\n'));
}

const status = (page: Page): Promise<string | null> => page.locator('.finding-now').textContent();

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function drop(page: Page, path: string): Promise<void> {
  await page.locator('input[type=file]').setInputFiles(path);
}

describe('a counterexample', () => {
  test('is stepped both ways; steps and marks are those of check --replay --json', async (context) => {
    needTool(context, 'chromium');
    const { steps, broken } = replayed();
    const page = await open();
    await page.locator('select').last().selectOption('bug-2c');
    await page.locator('.finding-steps li').first().waitFor();
    const texts = await page.locator('.finding-steps li > button').allTextContents();
    expect(texts.map((text) => text.replace(/^\S+ /, ''))).toEqual(steps.map(({ text }) => text));
    const marked = await page
      .locator('.finding-steps [data-mark]')
      .evaluateAll((badges: unknown[]) =>
        (badges as { closest(css: string): { dataset: { step: string } }; dataset: { mark: string } }[]).map(
          (badge) => [Number(badge.closest('li').dataset.step), badge.dataset.mark] as const,
        ),
      );
    expect(marked).toEqual(broken?.marks.map(({ at, mark }) => [at, mark]));
    expect(marked.map(([, mark]) => mark)).toEqual(
      expect.arrayContaining(['made-stale', 'returned-too-early', 'used-stale']),
    );
    // Forwards to the end by keys, and back.
    const seen: (string | null)[] = [];
    await page.locator('.finding-steps').focus();
    for (let i = 0; i < steps.length; i++) {
      seen.push(await status(page));
      await page.keyboard.press('ArrowRight');
    }
    expect(seen.map((text, i) => text?.includes(steps[i].text))).toEqual(steps.map(() => true));
    const back: (string | null)[] = [];
    for (let i = 0; i < steps.length; i++) {
      back.push(await status(page));
      await page.keyboard.press('ArrowLeft');
    }
    expect(back).toEqual(seen.toReversed());
    await page.keyboard.press('End');
    expect(await status(page)).toBe(seen.at(-1));
    await page.keyboard.press('Home');
    expect(await status(page)).toBe(seen[0]);
  });

  test('shows the machine: the entry is current before the store that made it stale, and stale after', async (context) => {
    needTool(context, 'chromium');
    const { broken } = replayed();
    const store = broken?.marks.findLast(({ mark }) => mark === 'made-stale');
    const at = (store?.at ?? -1) + 1;
    const page = await open(`#/findings?example=bug-2c&step=${at - 1}`);
    const iotlb = page.locator('.finding-machine [data-cache=iotlb] tbody tr').first();
    await iotlb.waitFor();
    expect(await iotlb.textContent()).toContain('as in memory');
    await page.getByRole('button', { name: 'Forward' }).click();
    expect(await iotlb.textContent()).toContain('stale');
    expect(await page.locator('.finding-machine .walk').textContent()).toContain('changed in this step');
    expect(await status(page)).toContain('made stale here');
    await page.getByRole('button', { name: 'Back' }).click();
    expect(await iotlb.textContent()).toContain('as in memory');
  });
});

describe('a link', () => {
  test('restores example and step', async (context) => {
    needTool(context, 'chromium');
    const page = await open('#/findings?example=bug-2c&step=5');
    await page.locator('.finding-now').waitFor();
    const told = await status(page);
    expect(told).toContain('Step 5 of');
    await page.getByRole('button', { name: 'Forward' }).click();
    expect(page.url()).toContain('step=6');
    const again = await open(new URL(page.url()).hash);
    await again.locator('.finding-now').waitFor();
    expect(await status(again)).toBe(await status(page));
  });

  test('holds a dropped schedule, and opens it elsewhere', async (context) => {
    needTool(context, 'chromium');
    const page = await open();
    await drop(page, SCHEDULE);
    await page.locator('.finding-now').waitFor();
    await page.keyboard.press('Tab');
    await page.getByRole('button', { name: 'Last' }).click();
    const { hash } = new URL(page.url());
    expect(hash).toMatch(/[?&]z=[\w-]+/);
    expect(hash.length).toBeLessThan(2000);
    const other = await open(hash);
    await other.locator('.finding-now').waitFor();
    expect(await status(other)).toBe(await status(page));
  });

  test('to a file that is only here asks for it, and goes on at the step', async (context) => {
    needTool(context, 'chromium');
    const page = await open('#/findings?file=big.json&finding=3');
    expect(await page.getByRole('alert').textContent()).toContain('big.json');
    const findings = Array.from({ length: 3 }, (_, i) => ({
      contract: 'C-UNMAP-GONE',
      line: i + 1,
      iova: '0x1000',
      domain: 1,
      // Not to be deflated into a link.
      detail: Array.from({ length: 1500 }, () => Math.random().toString(36).slice(2))
        .join(' ')
        .slice(0, 19_000),
    }));
    const report = { schema: 'iommukit.audit/1', trace: { file: 'x' }, findings, nrFindings: 3 };
    await drop(page, file('big.json', JSON.stringify(report)));
    await page.locator('.finding-list [aria-current]').waitFor();
    expect(await page.locator('.finding-list [aria-current]').textContent()).toContain('line 3');
  });

  test.for<[string, string, RegExp]>([
    ['an example that is not there', 'example=nonsense', /asks for an example 'nonsense'/],
    ['a file cut short', 'z=abc', /cannot be read: the link was cut/],
    ['no base64', 'z=%3Cb%3E', /cannot be read: the link was cut/],
  ])('with %s says so', async ([, query, message], context) => {
    needTool(context, 'chromium');
    const page = await open(`#/findings?${query}`);
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('alert').textContent()).toMatch(message);
  });

  test('with numbers out of bounds shows what is nearest', async (context) => {
    needTool(context, 'chromium');
    for (const step of ['999999', '-5', 'x', '0', '1e3']) {
      const page = await open(`#/findings?example=bug-2c&step=${step}&finding=77`);
      await page.locator('.finding-now').waitFor();
      expect(await status(page)).toMatch(/Step \d+ of \d+/);
    }
  });
});

const EVIL = '<img src=x onerror="globalThis.wasRun=1"><script>globalThis.wasRun=1</script>';

describe('reports', () => {
  test('of check: a finding is played, the others tell what they know; HTML stays text', async (context) => {
    needTool(context, 'chromium');
    const common = {
      verdict: 'violated',
      nrBytes: 4096,
      sid: -1,
      message: null,
      more: 0,
      detail: {},
      call: 'iommu_map',
    };
    const given = { arch: 'amd', caller: 'vfio', npCache: true, mapFlush: 'caller' };
    const contract = 'C-MAP-VISIBLE';
    const report = {
      schema: 'iommukit.check/1',
      driver: null,
      findings: [
        { ...common, scenario: 'map/one-page', setup: 'amd, vfio', given, contract, iova: '0x40000000' },
        { ...common, scenario: EVIL, setup: EVIL, given: null, contract: EVIL, call: EVIL, iova: null },
      ],
    };
    const page = await open();
    await drop(page, file('check.json', JSON.stringify(report)));
    // Looked for and played.
    await page.locator('.finding-machine').waitFor();
    await page
      .getByRole('button', { name: /made stale here/ })
      .first()
      .click();
    expect(await status(page)).toContain('made stale here');
    await page.locator('.finding-list button').last().click();
    expect(await page.locator('h3').first().textContent()).toContain('<img src=x');
    expect(await status(page)).toContain('returned too early');
    await page.locator('select').last().selectOption(contract);
    expect(await page.locator('.finding-list li').count()).toBe(1);
    expect(await page.evaluate(() => (globalThis as { wasRun?: number }).wasRun)).toBeUndefined();
  });

  test('of check, as the command writes it: every finding of a broken driver has its steps and marks', async (context) => {
    needTool(context, 'chromium');
    const drivers = join(ROOT, 'dist/drivers/index.js');
    const module = file(
      'lazy.mjs',
      `import { IntelIommu } from '${drivers}';
       export default (platform, { arch, ...setup }) => new IntelIommu(platform, { ...setup, mapFlush: 'none' });`,
    );
    const text = printed(['check', module, '--driver', 'intel', '--scenario', 'map/*', '--json']);
    const { findings }: CheckReport = JSON.parse(text);
    const page = await open();
    await drop(page, file('check.json', text));
    await page.locator('.finding-steps li').first().waitFor();
    expect(findings.length).toBeGreaterThan(3);
    expect(await page.locator('.finding-list li').count()).toBe(findings.length);
    // By keys through the list: each has the store, the call and the device.
    await page.locator('.finding-list [aria-current] button').focus();
    for (const { scenario, detail, call } of findings) {
      expect(await page.locator('h3').first().textContent()).toContain(`${scenario}:`);
      const steps = page.locator('.finding-steps li');
      const { paddr } = detail['store'] as { paddr: number };
      expect(await steps.filter({ hasText: 'made stale here' }).textContent()).toContain(`0x${paddr.toString(16)}`);
      expect(await steps.filter({ hasText: 'returned too early' }).textContent()).toContain(call ?? '');
      expect(await page.locator('.finding-facts').textContent()).toContain(String(detail['stale']));
      await page.keyboard.press('ArrowDown');
      await page.evaluate('new Promise(requestAnimationFrame)');
    }
  });

  test('of audit, as the command writes it: the lines of the log, the stale entry, the call', async (context) => {
    needTool(context, 'chromium');
    const path = brokenTrace();
    const text = printed(['audit', path, '--json']);
    const [finding]: readonly AuditFinding[] = (JSON.parse(text) as AuditReport).findings;
    const recorded = readFileSync(path, 'utf8').split('\n');
    const page = await open();
    await drop(page, file('audit.json', text));
    await page.locator('.finding-steps li').first().waitFor();
    const lines = finding.evidence.map(({ line }) => line);
    expect(finding.evidence.map(({ role }) => role)).toEqual(['change', 'command', 'end']);
    expect(await page.locator('.finding-by').allTextContents()).toEqual(lines.map((line) => `line ${line}`));
    expect(await page.locator('.finding-steps .finding-quote').allTextContents()).toEqual(
      lines.map((line) => recorded[line - 1].trimEnd()),
    );
    // Both ways, by keys; the call that made the entry stale, and where it was over.
    await page.locator('.finding-steps').focus();
    expect(await status(page)).toContain('made stale here');
    expect(await status(page)).toContain(`nothing is mapped at ${finding.iova} in domain ${finding.domain}`);
    await page.keyboard.press('ArrowRight');
    expect(await status(page)).toContain('not enough');
    await page.keyboard.press('ArrowRight');
    expect(await status(page)).toContain('returned too early');
    await page.keyboard.press('Home');
    expect(await status(page)).toContain('made stale here');
    // The whole report is in the link.
    const again = await open(new URL(page.url()).hash);
    await again.locator('.finding-now').waitFor();
    expect(await status(again)).toBe(await status(page));
    expect(await again.locator('.finding-quote').count()).toBeGreaterThan(0);
  });

  test('of audit: HTML in task names stays text; more findings than listed are told', async (context) => {
    needTool(context, 'chromium');
    const finding = {
      contract: 'C-LAZY-BOUND',
      line: 90,
      iova: '0x5000',
      domain: 2,
      detail: EVIL,
      evidence: [
        { role: 'change', line: 70 },
        { role: 'reuse', line: 90 },
      ],
    };
    const lines = [{ line: 70, text: `${EVIL}-201 [000] ..... 22.4: unmap: IOMMU: iova=0x5000` }];
    const report = { schema: 'iommukit.audit/1', trace: { file: EVIL }, findings: [finding], nrFindings: 9, lines };
    const page = await open();
    await drop(page, file('audit.json', JSON.stringify(report)));
    await page.locator('.finding-steps li').first().waitFor();
    expect(await page.locator('[data-step="0"]').textContent()).toContain('onerror=');
    expect(await page.locator('[data-step="1"] [data-mark]').textContent()).toContain('returned too early');
    expect(await page.locator('main').textContent()).toContain('first 1 of 9 findings');
    expect(await page.locator('main img').count()).toBe(0);
    expect(await page.evaluate(() => (globalThis as { wasRun?: number }).wasRun)).toBeUndefined();
  });

  test('of thousands of findings are listed near the chosen one', async (context) => {
    needTool(context, 'chromium');
    const findings = Array.from({ length: 3000 }, (_, i) => ({
      contract: i % 2 === 0 ? 'C-UNMAP-GONE' : 'C-MAP-VISIBLE',
      line: i + 1,
      iova: null,
      domain: null,
      detail: 'no invalidation',
    }));
    const report = { schema: 'iommukit.audit/1', trace: { file: 'x' }, findings, nrFindings: 3000 };
    const page = await open();
    await drop(page, file('many.json', JSON.stringify(report)));
    await page.locator('.finding-list [aria-current] button').focus();
    await page.keyboard.press('End');
    expect(await page.locator('.finding-list [aria-current]').textContent()).toContain('line 3000');
    expect(await page.locator('.finding-list li').count()).toBe(201);
    expect(await page.locator('main').textContent()).toContain('2800 to 3000 of 3000');
  });

  const schedule = (change: object): string =>
    JSON.stringify({ ...JSON.parse(readFileSync(SCHEDULE, 'utf8')), ...change });
  test.for<[string, string, RegExp]>([
    ['garbage', '\u0000\u0001 garbage', /is not JSON/],
    ['no schema', '[1, 2]', /names no schema/],
    ['another schema', '{"schema": "<b>x</b>"}', /schema is '<b>x<\/b>', which this view does not know/],
    ['a report of other members', '{"schema": "iommukit.check/1", "driver": 7}', /cannot be used: driver/],
    [
      'a finding of numbers',
      '{"schema": "iommukit.audit/1", "trace": {"file": "x"}, "findings": [5], "nrFindings": 1}',
      /findings\.0/,
    ],
    ['an unknown scenario', schedule({ scenario: EVIL }), /cannot be played: there is no scenario '<img/],
    [
      'an address that is none',
      schedule({ target: { sids: ['7'], pages: [], beside: [] } }),
      /sids must be a hex string/,
    ],
    ['a huge file', `"${'x'.repeat(17 << 20)}"`, /at most/],
    ['deep nesting', '['.repeat(200_000), /is not JSON|cannot be used|names no schema/],
  ])('%s gets a message and runs nothing', async ([, text, message], context) => {
    needTool(context, 'chromium');
    const page = await open();
    await page.locator('input[type=file]').waitFor();
    await drop(page, file('hostile.json', text));
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('alert').textContent()).toMatch(message);
    expect(await page.evaluate(() => (globalThis as { wasRun?: number }).wasRun)).toBeUndefined();
  });
});

test('a file that cannot be used leaves what is shown as it is', async (context) => {
  needTool(context, 'chromium');
  const page = await open('#/findings?example=bug-6&step=4');
  await page.locator('.finding-now').waitFor();
  const [told, url] = [await status(page), page.url()];
  await drop(page, file('garbage.json', '\u0000 garbage'));
  await page.getByRole('alert').waitFor();
  expect(await page.getByRole('alert').textContent()).toContain('garbage.json: The file is not JSON');
  expect([await status(page), page.url()]).toEqual([told, url]);
  // The message goes with the next thing that is opened.
  await page.getByLabel('Example').selectOption('bug-10');
  await page.getByRole('alert').waitFor({ state: 'detached' });
});

describe('iommukit ui FILE', () => {
  const inLab = async (path: string, body: (page: Page, served: Lab) => Promise<void>): Promise<void> => {
    const served = await openLab(path);
    try {
      await body(await served.open(`#/findings?open=${served.file}`), served);
    } finally {
      await served.close();
    }
  };

  test('opens it, and keeps it in the link', async (context) => {
    needTool(context, 'chromium');
    await inLab(SCHEDULE, async (page) => {
      await page.locator('.finding-now').waitFor();
      await page.getByRole('button', { name: 'Last' }).click();
      await page.waitForFunction(`location.hash.includes('z=')`);
      const other = await open(new URL(page.url()).hash);
      await other.locator('.finding-now').waitFor();
      expect(await status(other)).toBe(await status(page));
    });
  });

  test('says what is wrong with it', async (context) => {
    needTool(context, 'chromium');
    await inLab(file('other.json', '{"schema": "iommukit.replay/1"}'), async (page) => {
      await page.getByRole('alert').waitFor();
      expect(await page.getByRole('alert').textContent()).toContain("schema is 'iommukit.replay/1'");
    });
  });

  test('with an address of another server asks nobody', async (context) => {
    needTool(context, 'chromium');
    const page = await open();
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.goto(`${lab?.url}#/findings?open=${encodeURIComponent('//evil.example/x.json')}`);
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('alert').textContent()).toContain('is no file of iommukit ui');
    expect(asked.filter((url) => url.includes('evil'))).toEqual([]);
  });
});

describe('everybody can use it', () => {
  test('from the tabs to a marked step with the keyboard alone', async (context) => {
    needTool(context, 'chromium');
    const page = await open('#/policies');
    const tabTo = async (css: string): Promise<void> => {
      for (let i = 0; i < 40; i++) {
        if ((await page.locator(`${css}:focus`).count()) > 0) return;
        await page.keyboard.press('Tab');
      }
      throw new Error(`Tab does not come to ${css}`);
    };
    await tabTo('nav a[href^="#/findings"]');
    await page.keyboard.press('Enter');
    await page.locator('.finding-page select').waitFor();
    await tabTo('.finding-page select');
    await page.keyboard.press('ArrowDown');
    await page.locator('.finding-now').waitFor();
    await tabTo('.finding-jumps button');
    await page.keyboard.press('Enter');
    expect(await status(page)).toContain('cached here');
    // The focus stays where it is when a button that is at its end is switched off.
    await tabTo('.finding-steps');
    await page.keyboard.press('End');
    expect(await status(page)).toContain('used while stale');
    await page.keyboard.press('ArrowLeft');
    expect(await status(page)).toContain('returned too early');
  });

  test('skipping to the view keeps the state', async (context) => {
    needTool(context, 'chromium');
    const page = await open('#/findings?example=bug-2c&step=5');
    await page.locator('.finding-now').waitFor();
    const before = [page.url(), await status(page)];
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    expect(await page.locator('main:focus').count()).toBe(1);
    expect([page.url(), await status(page)]).toEqual(before);
  });

  const STATES: readonly (readonly [string, (page: Page) => Promise<void>])[] = [
    ['#/findings', async (page) => await page.locator('input[type=file]').waitFor()],
    ['#/findings?example=bug-2c&step=21', async (page) => await page.locator('.finding-machine').waitFor()],
    ['#/findings?z=abc', async (page) => await page.getByRole('alert').waitFor()],
    [
      '#/findings',
      async (page) => {
        await drop(page, file('audit.json', printed(['audit', brokenTrace(), '--json'])));
        await page.locator('.finding-quote').first().waitFor();
      },
    ],
  ];
  test.for(['light', 'dark'] as const)(
    'no serious accessibility finding (%s), also at 200 %',
    async (colorScheme, context) => {
      needTool(context, 'chromium');
      for (const [hash, reach] of STATES) {
        const page = await open(hash);
        await page.emulateMedia({ colorScheme });
        await reach(page);
        for (const width of [1280, 640]) {
          await page.setViewportSize({ width, height: 800 });
          expect(await seriousFindings(page)).toEqual([]);
          // Nothing is cut off: the page itself does not scroll sideways.
          const overhang = 'document.documentElement.scrollWidth - document.documentElement.clientWidth';
          expect(await page.evaluate(overhang)).toBe(0);
        }
        await page.close();
      }
    },
  );

  test('marks have a word and a shape each, not a colour alone', async (context) => {
    needTool(context, 'chromium');
    const page = await open('#/findings?example=bug-2c&step=21');
    await page.locator('.finding-machine').waitFor();
    const marks = await page.locator('.finding-steps [data-mark]').allTextContents();
    expect(marks.length).toBeGreaterThan(3);
    for (const text of marks) expect(text).toMatch(/^[●▲■✖◆] \S+ /u);
  });
});
