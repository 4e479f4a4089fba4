/** `iommukit ui`: what its server answers, and to whom it does not. Requests are written by hand: no client would send them. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LabServer, OpenedFile, readSite } from '../../src/cli/lab-server.ts';
import { TRACE, bin, file, run, useFolder } from './program.ts';

useFolder();

let folder = '';
let opened: OpenedFile;
let server: LabServer;
let port = 0;

const INDEX = '<!doctype html><title>the lab</title>';
const SECRET = 'nobody may read this';
const CONTENT = Buffer.from('some\0trace\r\nof bytes \xff', 'latin1');

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iommukit-ui-'));
  const site = join(folder, 'site');
  mkdirSync(join(site, 'assets'), { recursive: true });
  mkdirSync(join(folder, 'outside'));
  writeFileSync(join(site, 'index.html'), INDEX);
  writeFileSync(join(site, 'assets/app.js'), 'go()');
  writeFileSync(join(folder, 'outside/secret.txt'), SECRET);
  writeFileSync(join(folder, 'secret.txt'), SECRET);
  symlinkSync(join(folder, 'secret.txt'), join(site, 'link.txt'));
  symlinkSync(join(folder, 'outside'), join(site, 'linked'));
  writeFileSync(join(folder, 'a trace?.txt'), CONTENT);
  opened = new OpenedFile(join(folder, 'a trace?.txt'));
  server = await LabServer.start(readSite(site), { host: '127.0.0.1', port: 0, opened });
  port = Number(new URL(server.url).port);
});

afterAll(async () => {
  await server.close();
  opened.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Sends a request as it is written. `HOST` stands for the server's own address. */
async function send(lines: readonly string[], to: number = port): Promise<Answer> {
  const text = lines.map((line) => line.replaceAll('HOST', `127.0.0.1:${to}`)).join('\r\n');
  const bytes = await new Promise<Buffer>((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect(to, '127.0.0.1', () => socket.write(`${text}\r\nConnection: close\r\n\r\n`));
    socket.on('data', (part) => void parts.push(part));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(parts)));
  });
  const end = bytes.indexOf('\r\n\r\n');
  const [first = '', ...rest] = bytes.subarray(0, end).toString('latin1').split('\r\n');
  const headers = Object.fromEntries(rest.map((line) => [line.split(':', 1)[0].toLowerCase(), line.split(': ', 2)[1]]));
  return { status: Number(first.split(' ')[1]), headers, body: bytes.subarray(end + 4) };
}

const get = async (path: string, ...headers: readonly string[]): Promise<Answer> =>
  await send([`GET ${path} HTTP/1.1`, 'Host: HOST', ...headers]);

describe('its own page', () => {
  test('gets the site, with headers that keep other pages out', async () => {
    const { status, headers, body } = await get('/', 'Sec-Fetch-Site: none');
    expect({ status, body: body.toString() }).toEqual({ status: 200, body: INDEX });
    expect(headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'cross-origin-resource-policy': 'same-origin',
      'cross-origin-opener-policy': 'same-origin',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
    });
    expect(headers['content-security-policy']).toMatch(
      /default-src 'none'; script-src 'self';.*frame-ancestors 'none'/,
    );
    expect(headers['access-control-allow-origin']).toBeUndefined();
    const script = await get('/assets/app.js?x=1', 'Sec-Fetch-Site: same-origin', 'Origin: http://HOST');
    expect({ ...script, body: script.body.toString() }).toMatchObject({ status: 200, body: 'go()' });
    expect(script.headers['content-type']).toBe('text/javascript; charset=utf-8');
  });

  test('gets the opened file byte by byte, under its token only, never as a page', async () => {
    expect(opened.address).toMatch(/^open\/[\w-]{22}\/a%20trace%3F\.txt$/);
    const { status, headers, body } = await get(`/${opened.address}`, 'Sec-Fetch-Site: same-origin');
    expect(status).toBe(200);
    expect(body.equals(CONTENT)).toBe(true);
    expect(headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment',
      'content-length': String(CONTENT.length),
      'cross-origin-resource-policy': 'same-origin',
    });
    const head = await send([`HEAD /${opened.address} HTTP/1.1`, 'Host: HOST']);
    expect({ status: head.status, bytes: head.body.length }).toEqual({ status: 200, bytes: 0 });
    for (const path of [
      '/open/',
      '/open',
      `/${opened.address}x`,
      `/${opened.address}/`,
      `/${opened.address.slice(0, -'a%20trace%3F.txt'.length)}`,
      `/${opened.address.slice(0, -'/a%20trace%3F.txt'.length)}`,
      '/open/a%20trace%3F.txt',
      `/open/${'A'.repeat(22)}/a%20trace%3F.txt`,
    ]) {
      expect((await get(path)).status, path).toBe(404);
    }
  });
});

describe('nothing else of the disk', () => {
  test.each([
    '/../secret.txt',
    '/assets/../../secret.txt',
    '/%2e%2e/secret.txt',
    '/..%2fsecret.txt',
    '/..%5csecret.txt',
    String.raw`/..\secret.txt`,
    '/%252e%252e/secret.txt',
    '//etc/passwd',
    '/etc/passwd',
    '/assets',
    '/assets/',
    '/link.txt',
    '/linked/secret.txt',
    '/index.html%00.js',
    '/secret.txt%00',
    '/%',
    '/%ff%fe',
    '/__proto__',
    '/constructor',
    `http://127.0.0.1/index.html`,
    'index.html',
    '*',
  ])('%s', async (path) => {
    const { status, body } = await get(path);
    // 400: Node's own parser refused the line.
    expect([400, 404]).toContain(status);
    expect(body.toString()).not.toContain(SECRET);
    expect(body.toString()).not.toContain(INDEX);
  });
});

describe('nobody else', () => {
  test.each([
    'evil.example',
    'evil.example:0',
    'localhost',
    'localhost:1',
    '127.0.0.1',
    '127.0.0.1:80',
    '127.0.0.1.evil.example:PORT',
    'evil.example:PORT',
    '127.1:PORT',
    '0.0.0.0:PORT',
    '192.168.1.1:PORT',
    'user@127.0.0.1:PORT',
    '[::1:PORT',
    '',
  ])('a name that is not the server’s: Host %s', async (host) => {
    const answer = await send(['GET / HTTP/1.1', `Host: ${host.replace('PORT', String(port))}`]);
    expect([400, 421]).toContain(answer.status);
    expect(answer.body.toString()).not.toContain(INDEX);
  });

  test('its own names are known, in any case', async () => {
    for (const host of [`localhost:${port}`, `LocalHost:${port}`, `[::1]:${port}`]) {
      expect((await send(['GET / HTTP/1.1', `Host: ${host}`])).status, host).toBe(200);
    }
  });

  test.each([
    ['Sec-Fetch-Site: cross-site'],
    ['Sec-Fetch-Site: same-site'],
    ['Sec-Fetch-Site: nonsense'],
    ['Origin: http://evil.example'],
    ['Origin: null'],
    ['Origin: https://HOST'],
    ['Origin: http://localhost:1'],
    ['Sec-Fetch-Site: same-origin', 'Origin: http://evil.example'],
  ])('another site: %s', async (...headers) => {
    for (const path of ['/', '/assets/app.js', `/${opened.address}`]) {
      const { status, body } = await get(path, ...headers);
      expect(status).toBe(403);
      expect(body.includes(CONTENT)).toBe(false);
    }
  });

  test.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH'])('%s', async (method) => {
    const { status, headers } = await send([`${method} / HTTP/1.1`, 'Host: HOST', 'Content-Length: 0']);
    expect(status).toBe(405);
    expect(headers['allow']).toBe('GET, HEAD');
    expect(headers['access-control-allow-methods']).toBeUndefined();
  });

  test('what is no HTTP, and an upgrade to another protocol', async () => {
    expect((await send(['\0\x01\x02'])).status).toBe(400);
    const upgrade = await get('/', 'Upgrade: websocket', 'Sec-Fetch-Site: cross-site');
    expect(upgrade.status).toBe(403);
    // It is still there.
    expect((await get('/')).status).toBe(200);
  });
});

test('--host 0.0.0.0 takes any address of the machine and its name, no other name', async () => {
  const wide = await LabServer.start(new Map([['/', Buffer.from(INDEX)]]), { host: '0.0.0.0', port: 0, opened: null });
  try {
    expect(new URL(wide.url).hostname).toBe(hostname().toLowerCase());
    const own = Number(new URL(wide.url).port);
    const statusOf = async (host: string): Promise<number> =>
      (await send(['GET / HTTP/1.1', `Host: ${host}:${own}`], own)).status;
    expect(await statusOf('192.168.7.7')).toBe(200);
    expect(await statusOf(hostname())).toBe(200);
    expect(await statusOf('rebound.example')).toBe(421);
  } finally {
    await wide.close();
  }
});

test('a file that shrank breaks the answer off instead of leaving it short', async () => {
  const path = join(folder, 'shrinks.txt');
  writeFileSync(path, 'x'.repeat(1 << 20));
  const shrinking = new OpenedFile(path);
  const own = await LabServer.start(new Map([['/', Buffer.from(INDEX)]]), {
    host: '127.0.0.1',
    port: 0,
    opened: shrinking,
  });
  try {
    Object.defineProperty(shrinking, 'size', { get: () => 2 << 20 });
    await expect(
      fetch(`${own.url}${shrinking.address}`).then(async (got) => await got.arrayBuffer()),
    ).rejects.toThrow();
  } finally {
    await own.close();
    shrinking.close();
  }
});

describe('the command', () => {
  async function start(...args: readonly string[]): Promise<{ child: ChildProcess; url: string }> {
    const child = spawn(process.execPath, [bin, 'ui', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    const url = await new Promise<string>((resolve, reject) => {
      let out = '';
      child.stdout?.setEncoding('utf8').on('data', (part: string) => {
        out += part;
        if (out.endsWith('\n')) resolve(out.trim());
      });
      child.once('close', () => reject(new Error('it ended')));
    });
    return { child, url };
  }

  test('prints where it is, serves the trace, and ends with Ctrl-C and exit code 0', async () => {
    const { child, url } = await start(TRACE);
    const { hash, origin } = new URL(url);
    const path = /^#\/policies\?open=(open\/[\w-]{22}\/trace\.txt\.gz)$/.exec(hash)?.[1] ?? '';
    expect(origin).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const got = await fetch(`${origin}/${path}`);
    expect(got.status).toBe(200);
    expect(Buffer.from(await got.arrayBuffer()).equals(readFileSync(TRACE))).toBe(true);
    const ended = new Promise((resolve) => void child.once('close', resolve));
    child.kill('SIGINT');
    expect(await ended).toBe(0);
    await expect(fetch(origin)).rejects.toThrow();
  });

  test('a result opens in the view that shows it', async () => {
    const json = file('audit.json', '{"schema":"iommukit.audit/1"}');
    const { child, url } = await start(json);
    child.kill('SIGINT');
    expect(url).toMatch(/#\/findings\?open=open\/[\w-]{22}\/audit\.json$/);
  });

  test.each([
    ['missing.txt', null, /missing\.txt: no such file/],
    ['empty.txt', '', /empty\.txt: is empty/],
    ['garbage.bin', Buffer.from([0x7f, 0x45, 0x4c, 0x46, 1, 2]), /garbage\.bin: is an ELF file; expected a text trace/],
    ['prose.txt', 'no trace\nat all\n', /prose\.txt: is text without a trace line/],
    ['half.json', '{"schema": "iommukit.au', /half\.json: begins like JSON and is none/],
    ['other.json', '{"schema": "somebody/1"}', /other\.json: is JSON without a schema of ours/],
  ])('what cannot be opened: %s', (name, content, message) => {
    const path = content === null ? name : file(name, content);
    const { code, out, err } = run(['ui', path]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(message);
    expect(err.trim().split('\n')).toHaveLength(1);
  });

  test('a folder, a port that is none, a port in use', () => {
    expect(run(['ui', '.']).err).toMatch(/is no regular file/);
    expect(run(['ui', '--port', '70000']).err).toMatch(/0 to 65535/);
    const { code, err } = run(['ui', '--port', String(port)]);
    expect({ code, err }).toEqual({
      code: 2,
      err: `iommukit: port ${port} is in use; leave --port out for a free one\n`,
    });
  });

  test('a copy whose lab is not built says so', () => {
    expect(() => readSite(join(folder, 'nowhere'))).toThrow(/not built here; run npm run build/);
  });
});
