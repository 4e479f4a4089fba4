/**
 * The lab's pictures in docs/images, each view in light and dark, taken of the real page: what `iommukit ui` serves, in Debian's
 * Chromium. Run it after a view changed. Usage: npm run build && node scripts/screenshots.js   (needs: apt-get install chromium)
 */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const ROOT = join(import.meta.dirname, '..');
const IMAGES = join(ROOT, 'docs/images');

/** What each picture shows: the address, what must be there before it is taken, and where on the page its top is. */
const POLICIES = '#/policies?trace=intel-cmon-strict-small-6.12';
const PICTURES = [
  { name: 'policies', address: POLICIES, ready: '.timeline-canvas', top: 'h1' },
  { name: 'timeline', address: POLICIES, ready: '.timeline-canvas', top: '.timeline-panel' },
  {
    name: 'walk',
    address: '#/walk?m=intel_np_none_strict_vfio_linux-6.12&a=p40000.m40000_4s.w40000',
    ready: '.faults tbody tr',
    top: '.walk-view .controls, fieldset',
  },
  { name: 'findings', address: '#/findings?example=bug-2c&step=41', ready: '.finding-steps li', top: 'h1' },
];
const SIZE = { width: 1280, height: 1100 };

const server = spawn(process.execPath, [join(ROOT, 'bin/iommukit.js'), 'ui'], { stdio: ['ignore', 'pipe', 'inherit'] });
const url = await new Promise((resolve, reject) => {
  server.stdout.once('data', (text) => resolve(String(text).trim()));
  server.once('exit', () => reject(new Error('iommukit ui ended; is the project built?')));
});
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  mkdirSync(IMAGES, { recursive: true });
  for (const colorScheme of ['light', 'dark']) {
    for (const { name, address, ready, top } of PICTURES) {
      const page = await browser.newPage({ viewport: SIZE, colorScheme, reducedMotion: 'reduce' });
      await page.goto(url + address);
      await page.locator(ready).first().waitFor({ timeout: 60_000 });
      // Each run of the policies adds a row; nothing changes any more when none is under way.
      await page.locator('progress').waitFor({ state: 'detached', timeout: 60_000 });
      await page
        .locator(top)
        .first()
        .evaluate((element) => element.scrollIntoView());
      await page.waitForTimeout(500);
      await page.screenshot({ path: join(IMAGES, `lab-${name}-${colorScheme}.png`) });
      await page.close();
      console.log(`docs/images/lab-${name}-${colorScheme}.png`);
    }
  }
} finally {
  await browser.close();
  server.kill('SIGINT');
}
