import { afterAll, expect, test } from 'vitest';
import { needTool } from '../skip.ts';
import type { Lab } from './lab.ts';
import { openLab } from './lab.ts';

let opened: Promise<Lab> | undefined;
const theLab = async (): Promise<Lab> => await (opened ??= openLab());
afterAll(async () => await (await opened)?.close());

test('the page has a tab for each view, and a link that names none says so', async (context) => {
  needTool(context, 'chromium');
  const lab = await theLab();
  const page = await lab.open();
  expect(await page.locator('nav a').allTextContents()).toEqual(['Policies', 'Walk', 'Findings']);
  await page.locator('nav a', { hasText: 'Walk' }).click();
  expect(page.url()).toContain('#/walk');
  const broken = await lab.open('#/nonsense?x=1');
  expect(await broken.locator('[role=alert]').textContent()).toContain("'nonsense'");
});
