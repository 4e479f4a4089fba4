/** The findings view in a real browser: stepping both ways, links, files of strangers, accessibility. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PlayedSchedule } from '../../src/check/index.ts';
import { needTool } from '../skip.ts';
import type { Lab } from './lab.ts';
import { openLab } from './lab.ts';

const ROOT = join(import.meta.dirname, '../..');
const SCHEDULE = join(ROOT, 'docs/counterexamples/bug-2c.json');
const AXE = createRequire(import.meta.url).resolve('axe-core');

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

/** What the command prints of the same file: the view must show that. */
function replayed(): PlayedSchedule {
  try {
    execFileSync(process.execPath, [join(ROOT, 'bin/iommukit.js'), 'check', '--replay', SCHEDULE, '--json']);
  } catch (error) {
    return JSON.parse(String((error as { stdout: Buffer }).stdout));
  }
  throw new Error('exit code 0: the schedule shows nothing');
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
    const iotlb = page.locator('.finding-machine h4:has-text("IOTLB") + ul li').first();
    await iotlb.waitFor();
    expect(await iotlb.textContent()).toContain('as in memory');
    await page.getByRole('button', { name: 'Forward' }).click();
    expect(await iotlb.textContent()).toContain('stale');
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
    await page.locator('.finding-machine table').waitFor();
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

  test('of audit: the lines that it names are the steps', async (context) => {
    needTool(context, 'chromium');
    const detail = 'no command reached 0x5000 before the call ended (line 90) (the first one is at line 80)';
    const finding = { contract: 'C-UNMAP-GONE', line: 70, iova: '0x5000', domain: 2, detail };
    const report = { schema: 'iommukit.audit/1', trace: { file: EVIL }, findings: [finding], nrFindings: 9 };
    const page = await open();
    await drop(page, file('audit.json', JSON.stringify(report)));
    await page.locator('.finding-steps li').first().waitFor();
    expect(await page.locator('.finding-by').allTextContents()).toEqual(['line 70', 'line 80', 'line 90']);
    expect(await page.locator('[data-step="2"] [data-mark]').textContent()).toContain('returned too early');
    expect(await page.locator('main').textContent()).toContain('first 1 of 9 findings');
    expect(await page.evaluate(() => (globalThis as { wasRun?: number }).wasRun)).toBeUndefined();
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

describe('everybody can use it', () => {
  test.for(['light', 'dark'] as const)(
    'no serious accessibility finding (%s), also at 200 %',
    async (colorScheme, context) => {
      needTool(context, 'chromium');
      const page = await open('#/findings?example=bug-2c&step=21');
      await page.emulateMedia({ colorScheme });
      await page.locator('.finding-machine table').waitFor();
      // Not as a script of the page: its policy forbids those.
      await page.evaluate(readFileSync(AXE, 'utf8'));
      for (const width of [1280, 640]) {
        await page.setViewportSize({ width, height: 800 });
        const found = await page.evaluate(async () => {
          const { axe } = globalThis as unknown as {
            axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> };
          };
          return (await axe.run()).violations
            .filter(({ impact }) => impact === 'serious' || impact === 'critical')
            .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
        });
        expect(found).toEqual([]);
        // Nothing is cut off: the page itself does not scroll sideways.
        expect(await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')).toBe(
          0,
        );
      }
    },
  );
});
