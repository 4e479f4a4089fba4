/** The built lab in a real browser, for tests: Debian's Chromium, headless, without a network of its own. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { chromium } from 'playwright-core';

export const CHROMIUM = '/usr/bin/chromium';
const SITE = join(import.meta.dirname, '../../dist/web');
const TYPES: Readonly<Record<string, string>> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

export interface Lab {
  readonly browser: Browser;
  /** Where the site is: `http://127.0.0.1:PORT/`. */
  readonly url: string;
  /** A page of its own context whose errors make `close` fail. */
  open(hash?: string): Promise<Page>;
  close(): Promise<void>;
}

export async function openLab(): Promise<Lab> {
  if (!existsSync(join(SITE, 'index.html'))) throw new Error('dist/web is not built; run: npm run build');
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? '/', 'http://localhost').pathname);
    const file = path === '/' ? '/index.html' : path;
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    readFile(join(SITE, file)).then(
      (bytes) => response.setHeader('content-type', type).end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  const errors: string[] = [];
  return {
    browser,
    url,
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
      await new Promise((resolve) => void server.close(resolve));
      if (errors.length > 0) throw new Error(`the page reported errors:\n${errors.join('\n')}`);
    },
  };
}
