/**
 * The bytes of a path or of standard input, chunk by chunk, with progress and a way to stop. Regular files are read
 * synchronously, which is fastest; everything that can make a reader wait (pipes, standard input) by events, so that Ctrl-C is
 * heard while nothing comes.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type { Chunks } from '../trace/index.ts';
import { FileError, codeOf } from './file-error.ts';

/** How a read is watched and stopped. */
export interface ReadOptions {
  /** Stops the read between two chunks. */
  readonly signal?: AbortSignal;
  /** Bytes of the input read so far, of all; total is 0 when it is not known (standard input). */
  readonly onProgress?: (done: number, total: number) => void;
}

export const CHUNK_BYTES: number = 1 << 20;

export class ByteSource {
  /** The descriptor when the input is a regular file, which can be read anywhere; else -1. */
  readonly fd: number;
  /** Bytes in all; 0 when unknown. */
  readonly total: number;
  readonly bytes: Chunks;
  /** Set it when a chunk is used up as the next one is asked for: then one buffer serves all, which saves a third of the time. */
  reusesBuffer: boolean = false;
  readonly #close: () => void;

  /** @throws FileError or an error of the system */
  constructor(path: string, options: ReadOptions) {
    this.fd = -1;
    this.total = 0;
    this.#close = () => {};
    if (path === '-') {
      this.bytes = streamed(process.stdin, options);
      return;
    }
    // Without O_NONBLOCK a named pipe would keep the process in open(2) until somebody writes. It means nothing to a file.
    let fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stat = fstatSync(fd);
    if (stat.isFIFO()) {
      const socket = new Socket({ fd, readable: true, writable: false });
      this.#close = () => void socket.destroy();
      this.bytes = streamed(socket, options);
      return;
    }
    if (stat.isDirectory()) {
      closeSync(fd);
      throw new FileError(path, 'is a directory; give a trace file in it');
    }
    if (!stat.isFile()) {
      closeSync(fd);
      fd = openSync(path, 'r');
    }
    this.fd = stat.isFile() ? fd : -1;
    this.total = stat.isFile() ? stat.size : 0;
    this.#close = () => closeSync(fd);
    this.bytes = this.#chunksOf(fd, options);
  }

  close(): void {
    this.#close();
  }

  async *#chunksOf(fd: number, options: ReadOptions): Chunks {
    let done = 0;
    let spare: Uint8Array | undefined;
    for (;;) {
      const buffer = spare ?? new Uint8Array(CHUNK_BYTES);
      if (this.reusesBuffer) spare = buffer;
      const count = readOrInterrupted(fd, buffer);
      if (count === 0) return;
      if (count > 0) {
        done += count;
        yield buffer.subarray(0, count);
        options.onProgress?.(done, this.total);
      } else {
        // A file that waits for events, as the kernel's trace_pipe does, was left because of a signal: hear it, then go on.
        await yieldToEvents();
        options.signal?.throwIfAborted();
      }
    }
  }
}

/** Bytes read; -1 when a signal came in between. */
function readOrInterrupted(fd: number, buffer: Uint8Array): number {
  try {
    return readSync(fd, buffer, 0, buffer.length, null);
  } catch (error) {
    if (codeOf(error) === 'EINTR') return -1;
    throw error;
  }
}

async function* streamed(stream: NodeJS.ReadStream | Socket, options: ReadOptions): Chunks {
  const { signal, onProgress } = options;
  const stop = (): void => void stream.destroy(new Error('aborted'));
  signal?.addEventListener('abort', stop, { once: true });
  try {
    let done = 0;
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      done += chunk.length;
      yield chunk;
      onProgress?.(done, 0);
    }
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

/** The same chunks with a look at the signal after each and time for other events now and then: also inside one archive chunk. */
export async function* watched(bytes: Chunks, options: ReadOptions): Chunks {
  let sinceYield = 0;
  for await (const chunk of bytes) {
    yield chunk;
    sinceYield += chunk.length;
    if (sinceYield >= CHUNK_BYTES) {
      sinceYield = 0;
      await yieldToEvents();
    }
    options.signal?.throwIfAborted();
  }
}
