/** The walk view in Chromium: driven by its buttons and keys, restored from its links. */
import type { Page } from 'playwright-core';
import { afterAll, describe, expect, test } from 'vitest';
import { needTool } from '../skip.ts';
import { seriousFindings } from './axe.ts';
import type { Lab } from './lab.ts';
import { openLab } from './lab.ts';

let opened: Promise<Lab> | undefined;
const theLab = async (): Promise<Lab> => await (opened ??= openLab());
afterAll(async () => await (await opened)?.close());

const outcome = (page: Page): Promise<string> => page.locator('.outcome').innerText();
const press = async (page: Page, name: string): Promise<void> => {
  await page.locator('.actions').getByRole('button', { name, exact: true }).click();
};
/** Waits until the shown step is this one. */
const atStep = async (page: Page, step: number): Promise<void> => {
  await page.locator('.outcome strong', { hasText: new RegExp(`^${step}\\.`) }).waitFor();
};
const FAULT = '#/walk?m=intel_np_none_strict_vfio_linux-6.12&a=p40000.m40000_4s.w40000';

describe('the walk view', () => {
  test('driven to the stale not-present entry and its fault; with sync-map the same steps end well', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open('#/walk');
    await atStep(page, 0);
    await page.getByLabel('Flush after a map').selectOption('none');
    await page.getByLabel('Caller', { exact: true }).selectOption('vfio');
    await press(page, 'Walk ahead of time');
    await atStep(page, 1);
    await press(page, 'Map');
    await atStep(page, 2);

    const iotlb = page.locator('[data-cache=iotlb] tbody tr');
    expect(await iotlb.count()).toBe(1);
    expect(await iotlb.innerText()).toMatch(/nothing is mapped.*stale: memory says otherwise/s);
    expect(await page.locator('.entry').last().innerText()).toContain('0x100000000');
    const may = page.locator('.may-hold tr', { hasText: 'IOTLB' });
    expect(await may.innerText()).toMatch(/may still hold that nothing is mapped.*not as promised.*holds it/s);
    expect(await page.locator('.findings li').first().innerText()).toContain('C-MAP-VISIBLE');

    await press(page, 'Write');
    await atStep(page, 3);
    expect(await outcome(page)).toContain('a fault, although the page was promised at 0x100000000');
    expect(await page.locator('[role=status]').innerText()).toContain('fault: the promise is broken');
    expect(await page.locator('.faults tbody tr').innerText()).toMatch(
      /00:02\.0\s+write\s+0x40000000\s+fault reason 0x5/,
    );

    await page.getByLabel('Flush after a map').selectOption('sync-map');
    await page.locator('.outcome.reached').waitFor();
    expect(await outcome(page)).toContain('wrote 0x3 to 0x100000000, as promised');
    expect(await page.locator('.faults').count()).toBe(0);
    expect(await page.locator('.findings').count()).toBe(0);
    expect(await page.locator('.answers').innerText()).not.toContain('not as promised');
  });

  test('the story of 2019 tells how each policy ends, and each end is one click', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open('#/walk');
    const rows = page.locator('.story tbody tr');
    await rows.first().waitFor();
    const ends = await rows.evaluateAll((all) =>
      all.map((row) => [...row.querySelectorAll('td .mark')].map((mark) => mark.textContent?.replace(/\W/g, ''))),
    );
    expect(ends).toEqual([
      ['fault', 'fault', 'fault', 'fault'],
      ['works', 'fault', 'works', 'fault'],
      ['works', 'works', 'works', 'works'],
      ['works', 'works', 'works', 'works'],
    ]);
    await page.locator('.story td a').nth(7).click();
    await atStep(page, 3);
    expect(page.url()).toContain('m=amd_np_caller_strict_vfio_linux-6.12');
    expect(await page.locator('.faults tbody tr').innerText()).toContain('IO_PAGE_FAULT');
  });

  test('keys go through the steps, and the address follows; a link restores machine, step and page', async (context) => {
    needTool(context, 'chromium');
    const lab = await theLab();
    const page = await lab.open(`${FAULT}&iova=0x40001000`);
    await atStep(page, 3);
    await page.locator('h2').click();
    await page.keyboard.press('ArrowLeft');
    await atStep(page, 2);
    await page.keyboard.press('Home');
    await atStep(page, 0);
    await page.keyboard.press('ArrowRight');
    await atStep(page, 1);
    expect(new URL(page.url()).hash).toContain('step=1');
    // Keys that belong to a control stay its own.
    await page.getByLabel('Page (IOVA)').press('ArrowRight');
    expect(await outcome(page)).toMatch(/1\. the unit walks/);

    const other = await lab.open(new URL(page.url()).hash);
    await atStep(other, 1);
    const text = async (shown: Page): Promise<string[]> => await shown.locator('.walk-view .panel').allInnerTexts();
    // The table of the story is computed beside the walk and comes when it is done.
    for (const shown of [page, other]) await shown.locator('.story tbody tr').first().waitFor();
    expect(await text(other)).toEqual(await text(page));
    expect(await other.getByLabel('Page (IOVA)').inputValue()).toBe('0x40001000');
    expect(await other.getByLabel('Flush after a map').inputValue()).toBe('none');

    await page.goto(`${lab.url}#/walk`);
    await atStep(page, 0);
    await page.goBack();
    await atStep(page, 1);
  });

  test('a scenario of check goes on call by call, with a device that looks between', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open('#/walk?m=intel_np_none_strict_dma-iommu_linux-6.12');
    await atStep(page, 0);
    await page.getByLabel('Program', { exact: true }).selectOption('map/one-page');
    await atStep(page, 1);
    await press(page, 'Read');
    await atStep(page, 2);
    expect(await outcome(page)).toContain('blocked, as it must be');
    await press(page, 'Next call');
    await atStep(page, 3);
    expect(await outcome(page)).toContain('dma_map_sg 0x40000000+0x1000');
    await press(page, 'Read');
    await atStep(page, 4);
    expect(await outcome(page)).toContain('fault: the promise is broken');
    await press(page, 'All calls to its end');
    await atStep(page, 5);
    expect(await outcome(page)).toContain('dma_unmap_sg');
  });

  test.for([
    ['no action', '#/walk?a=m40000_4.hello', "Action 2, 'hello', cannot be read"],
    ['no machine', '#/walk?m=vax_np_none_strict_vfio_linux-6.12&a=m40000_4', "'vax' is no vendor"],
    ['markup', '#/walk?s=<img src=x onerror="globalThis.hacked=1">', 'There is no scenario'],
    ['a step that is not there', '#/walk?a=m40000_4&step=7', "'7' is no step of this link"],
  ] as const)('a broken link (%s) is told of, and nothing is played', async ([, hash, message], context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open(hash);
    const alert = page.locator('.walk-view [role=alert]');
    await alert.waitFor();
    expect(await alert.innerText()).toContain(message);
    expect(await alert.innerText()).toContain('Nothing was played');
    expect(await page.locator('.outcome').count()).toBe(0);
    expect(await page.locator('main img').count()).toBe(0);
    expect(await page.evaluate(() => 'hacked' in globalThis)).toBe(false);
    // The link stays until the user goes on.
    expect(decodeURIComponent(new URL(page.url()).hash).length).toBeGreaterThanOrEqual(hash.length - 8);
    await alert.getByRole('link').click();
    await atStep(page, 0);
  });

  test.for(['light', 'dark'])('no serious accessibility finding (%s)', async (theme, context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open(FAULT);
    await atStep(page, 3);
    await page.locator('.theme-switch select').selectOption(theme);
    for (const summary of await page.locator('summary').all()) await summary.click();
    expect(await seriousFindings(page)).toEqual([]);
    // The checker checks.
    await page.evaluate("document.querySelector('main').append(document.createElement('button'))");
    expect((await seriousFindings(page)).join()).toContain('button-name');
  });

  test('what is done quickly is all done', async (context) => {
    needTool(context, 'chromium');
    const page = await (await theLab()).open('#/walk');
    await atStep(page, 0);
    await page.evaluate(`
      const press = (name) => [...document.querySelectorAll('.actions button')].find((b) => b.textContent === name).click();
      press('Map');
      press('Write');
      press('Unmap');
      press('Write');
    `);
    await atStep(page, 4);
    expect(await outcome(page)).toContain('blocked, as it must be');
    expect(await page.locator('.timeline li').count()).toBe(5);
  });

  test('at 200 % zoom, which is half the width, the page itself does not scroll sideways', async (context) => {
    needTool(context, 'chromium');
    const lab = await theLab();
    const page = await (await lab.browser.newContext({ viewport: { width: 640, height: 400 } })).newPage();
    await page.goto(`${lab.url}${FAULT}`);
    await atStep(page, 3);
    expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
  });

  test('the first page does not load the view', async (context) => {
    needTool(context, 'chromium');
    const lab = await theLab();
    const page = await (await lab.browser.newContext()).newPage();
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.goto(lab.url);
    await page.locator('nav a').first().waitFor();
    expect(asked.filter((url) => /\/walk|\/worker/.test(url))).toEqual([]);
  });
});
