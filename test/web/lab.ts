/** The built lab in a real browser, for tests: Debian's Chromium, headless, without a network of its own. */
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { chromium } from 'playwright-core';
import { LabServer, OpenedFile, readSite } from '../../src/cli/lab-server.ts';

export const CHROMIUM = '/usr/bin/chromium';
export const SITE: string = join(import.meta.dirname, '../../dist/web');

export interface Lab {
  readonly browser: Browser;
  /** Where the site is: `http://127.0.0.1:PORT/`. */
  readonly url: string;
  /** Where the opened file is, `open/TOKEN/NAME`; '' without one. */
  readonly file: string;
  /** A page of its own context whose errors make `close` fail. */
  open(hash?: string): Promise<Page>;
  close(): Promise<void>;
}

/** @param file served as `iommukit ui FILE` serves it; its address is `lab.file` */
export async function openLab(file?: string): Promise<Lab> {
  const opened = file === undefined ? null : new OpenedFile(file);
  const server = await LabServer.start(readSite(SITE), { host: '127.0.0.1', port: 0, opened });
  const { url } = server;
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  const errors: string[] = [];
  return {
    browser,
    url,
    file: opened?.address ?? '',
    async open(hash = '') {
      const page = await (await browser.newContext()).newPage();
      page.on('pageerror', (error) => errors.push(error.stack ?? error.message));
      page.on('console', (message) => {
        if (message.type() === 'error') errors.push(message.text());
      });
      await page.goto(`${url}${hash}`);
      return page;
    },
    async close() {
      await browser.close();
      await server.close();
      opened?.close();
      if (errors.length > 0) throw new Error(`the page reported errors:\n${errors.join('\n')}`);
    },
  };
}
