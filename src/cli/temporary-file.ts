/**
 * A temporary file without a name: where the system allows it, it is unlinked as soon as it is open, so nothing is left behind,
 * however the process ends. Trouble with it is told as its own, never as trouble with the trace that is being read.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileError, codeOf } from './file-error.ts';

const PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such folder',
  ENOTDIR: 'it is not a folder',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'it is read-only',
  ENOSPC: 'no space left',
  EDQUOT: 'the quota is used up',
  EFBIG: 'the limit of file sizes is reached',
  EMFILE: 'too many open files',
  ENFILE: 'too many open files',
};

export class TemporaryFile {
  /** Where temporary files go: TMPDIR, as the system resolves it. */
  readonly #place = tmpdir();
  /** To be removed at the end; null once it is. */
  #folder: string | null = null;
  readonly #fd: number;

  /** @throws FileError */
  constructor() {
    let folder: string | null = null;
    try {
      folder = mkdtempSync(join(this.#place, 'iommukit-'));
      this.#folder = folder;
      this.#fd = openSync(join(folder, 'data'), 'wx+', 0o600);
      // Elsewhere an open file cannot be removed: `close` does it.
      if (process.platform !== 'win32') this.#removeFolder();
    } catch (error) {
      if (folder !== null) rmSync(folder, { recursive: true, force: true });
      throw this.#failed(error);
    }
  }

  /** Writes all of `bytes` at a position. @throws FileError */
  write(bytes: Uint8Array, position: number): void {
    try {
      // A write may be short, as the last one that fits on a disk is.
      for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at, bytes.length - at, position + at);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Fills `into` from a position. @returns the bytes that were there @throws FileError */
  read(into: Uint8Array, position: number): number {
    let got = 0;
    try {
      while (got < into.length) {
        const count = readSync(this.#fd, into, got, into.length - got, position + got);
        if (count === 0) break;
        got += count;
      }
    } catch (error) {
      throw this.#failed(error);
    }
    return got;
  }

  close(): void {
    closeSync(this.#fd);
    this.#removeFolder();
  }

  #removeFolder(): void {
    if (this.#folder !== null) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = null;
  }

  #failed(error: unknown): FileError {
    const code = codeOf(error);
    const problem = PROBLEMS[code] ?? (code === '' ? String(error) : code);
    return new FileError(
      this.#place,
      `cannot hold a temporary file (${problem}); set TMPDIR to a folder with room that can be written`,
    );
  }
}
