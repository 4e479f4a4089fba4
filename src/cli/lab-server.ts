/**
 * The web server of `iommukit ui`. It serves the files of one built site, read into memory at the start so that no request
 * leads to the disk, and one file of the user's under a path that nobody can guess.
 *
 * Other pages in the same browser can send requests to 127.0.0.1 too, and a name that changes its address (DNS rebinding) makes
 * them look like our own page's. So a request must name this server (Host), must not come from another site (Sec-Fetch-Site,
 * Origin), and no other page may embed or read what comes back (CORP, CSP frame-ancestors).
 */
import { randomBytes } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readFileSync, readdirSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { basename, extname, join, relative, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { UsageError } from './exit.ts';
import { FileError, codeOf } from './file-error.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.gz': 'application/gzip',
};

/** As in web/index.html, and what only a header can say: nobody may frame the page. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
  "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': POLICY,
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  // What is served changes with the next start, and the user's file is nobody else's.
  'cache-control': 'no-store',
};

/** A built site by request path: `/index.html`, `/assets/...`. */
export type Site = ReadonlyMap<string, Uint8Array>;

/** Reads a site. Symbolic links are left out: they may lead anywhere. @throws FileError when it is not built */
export function readSite(folder: string): Site {
  const site = new Map<string, Uint8Array>();
  try {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      site.set(`/${relative(folder, path).split(sep).join('/')}`, readFileSync(path));
    }
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
  const index = site.get('/index.html');
  if (index === undefined) throw new FileError(folder, 'the lab is not built here; run npm run build');
  return site.set('/', index);
}

/** A file of the user's, held open: what is served is this file, whatever its path leads to later. */
export class OpenedFile {
  readonly name: string;
  /** Its address, relative to the page: `open/TOKEN/NAME`. The token is 128 random bits. */
  readonly address: string;
  readonly #fd: number;

  /** @throws FileError, or an error of the system */
  constructor(path: string) {
    this.name = basename(path);
    this.address = `open/${randomBytes(16).toString('base64url')}/${encodeURIComponent(this.name)}`;
    this.#fd = openSync(path, 'r');
    if (fstatSync(this.#fd).isFile()) return;
    closeSync(this.#fd);
    throw new FileError(path, 'is no regular file; save it as one first');
  }

  get size(): number {
    return fstatSync(this.#fd).size;
  }

  /** The first bytes of it, at most `length`. A file that shrank breaks the connection off, so that the page notices. */
  async send(response: ServerResponse, length: number): Promise<void> {
    if (length === 0) {
      response.end();
      return;
    }
    const bytes = createReadStream('', { fd: this.#fd, autoClose: false, start: 0, end: length - 1 });
    try {
      await pipeline(bytes, response, { end: false });
    } catch {
      // The client left, or the disk failed: too little was read then.
    }
    if (bytes.bytesRead === length) response.end();
    else response.destroy();
  }

  close(): void {
    closeSync(this.#fd);
  }
}

export interface ServerOptions {
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  readonly opened: OpenedFile | null;
}

const WILDCARDS = new Set(['0.0.0.0', '::']);

export class LabServer {
  /** `http://127.0.0.1:PORT/` */
  readonly url: string;
  readonly #server: Server;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  /** @throws UsageError when the address cannot be had */
  static async start(site: Site, { host, port, opened }: ServerOptions): Promise<LabServer> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(new UsageError(unavailable(host, port, error))));
      server.listen(port, host, resolve);
    });
    const bound = server.address();
    const own = typeof bound === 'object' && bound !== null ? bound.port : port;
    server.on('request', (request, response) => {
      try {
        answer(request, response, site, opened, isOwnHost(request.headers.host, host, own));
      } catch {
        response.destroy();
      }
    });
    const shown = WILDCARDS.has(host) ? hostname() : isIP(host) === 6 ? `[${host}]` : host;
    return new LabServer(server, `http://${shown}:${own}/`);
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  site: Site,
  opened: OpenedFile | null,
  isNamed: boolean,
): void {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
  const refuse = (code: number, why: string): void => {
    response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' }).end(`${why}\n`);
  };
  if (!isNamed) return refuse(421, 'This is not the address of this server; use the one that iommukit ui printed.');
  if (!isOwnPage(request)) return refuse(403, 'Requests from other sites are refused; paste the address instead.');
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return refuse(405, 'Only GET and HEAD.');
  }
  const path = pathOf(request.url ?? '');
  if (opened !== null && path === decodeURIComponent(`/${opened.address}`)) {
    const { size } = opened;
    response.setHeader('content-type', 'application/octet-stream');
    response.setHeader('content-disposition', 'attachment');
    response.setHeader('content-length', size);
    if (request.method === 'HEAD') response.end();
    else void opened.send(response, size);
    return;
  }
  const bytes = path === null ? undefined : site.get(path);
  if (path === null || bytes === undefined) return refuse(404, 'There is no such file here.');
  response.setHeader('content-type', TYPES[path === '/' ? '.html' : extname(path)] ?? 'application/octet-stream');
  response.setHeader('content-length', bytes.length);
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

/** The path of a request, decoded; null for what is no path. Only looked up, never joined to a folder. */
function pathOf(url: string): string | null {
  const [raw = ''] = url.split('?', 1);
  if (!raw.startsWith('/')) return null;
  try {
    return decodeURIComponent(raw);
  } catch {
    return null;
  }
}

/** Whether a request comes from this server's own page or from nowhere (typed, a program that is no browser). */
function isOwnPage({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
  return headers.origin === undefined || headers.origin === `http://${headers.host ?? ''}`;
}

/** Whether a Host header names this server. A server for all addresses takes any address, but no name that it does not know. */
function isOwnHost(header: string | undefined, host: string, port: number): boolean {
  const [, bracketed, plain, given] = /^(?:\[([\da-fA-F:.]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(header ?? '') ?? [];
  const name = (bracketed ?? plain ?? '').toLowerCase();
  if (Number(given ?? 80) !== port) return false;
  if (name === host.toLowerCase() || name === 'localhost' || name === '127.0.0.1' || name === '::1') return true;
  return WILDCARDS.has(host) && (isIP(name) !== 0 || name === hostname().toLowerCase());
}

function unavailable(host: string, port: number, error: Error): string {
  const code = codeOf(error);
  if (code === 'EADDRINUSE') return `port ${port} is in use; leave --port out for a free one`;
  if (code === 'EACCES') return `port ${port} may not be used (${code}); leave --port out for a free one`;
  return `cannot listen on ${host} (${code === '' ? error.message : code}); leave --host out for this machine alone`;
}
