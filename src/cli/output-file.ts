/**
 * A file that `-o` names. Its path is tried before the work starts, so that one which cannot be written costs no replay. What is
 * written goes to a hidden file beside it, which takes the name at the end: a run that fails leaves an existing file as it was,
 * and nobody ever sees half of a new one.
 */
import {
  accessSync,
  closeSync,
  constants,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { FileError, codeOf } from './file-error.ts';

const PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'a folder of the path does not exist',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left',
  EDQUOT: 'the quota is used up',
  EFBIG: 'the limit of file sizes is reached',
  ENAMETOOLONG: 'the name is too long',
};

export class OutputFile {
  readonly #path: string;
  /** Where the file is: a symbolic link stays one. */
  readonly #target: string;
  readonly #temporary: string;
  readonly #fd: number;
  #isOpen = false;

  /** @throws FileError when the file cannot be written */
  constructor(path: string) {
    this.#path = path;
    try {
      const before = statSync(path, { throwIfNoEntry: false });
      this.#target = before === undefined ? path : realpathSync(path);
      if (before !== undefined) this.#requireReplaceable(before);
      this.#temporary = join(dirname(this.#target), `.${basename(this.#target)}.${process.pid}.tmp`);
      this.#fd = openSync(this.#temporary, 'wx', before === undefined ? 0o666 : before.mode & 0o777);
      this.#isOpen = true;
    } catch (error) {
      throw error instanceof FileError ? error : this.#failed(error);
    }
  }

  /** Whether another path leads to this very file. */
  is(path: string): boolean {
    const other = statSync(path, { throwIfNoEntry: false });
    const own = statSync(this.#target, { throwIfNoEntry: false });
    return other !== undefined && own !== undefined && other.dev === own.dev && other.ino === own.ino;
  }

  /** Adds to the contents. @throws FileError */
  append(bytes: Uint8Array): void {
    try {
      // A write may be short, as the last one that fits on a disk is.
      for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** What was added is the file now. @throws FileError */
  finish(): void {
    try {
      this.#close();
      renameSync(this.#temporary, this.#target);
    } catch (error) {
      rmSync(this.#temporary, { force: true });
      throw this.#failed(error);
    }
  }

  /** Without effect after `finish`; else it is as if there had been no output. */
  discard(): void {
    if (!this.#isOpen) return;
    this.#close();
    rmSync(this.#temporary, { force: true });
  }

  /** A rename asks the folder only: what may not be written must be found here. */
  #requireReplaceable(before: Stats): void {
    if (before.isDirectory()) throw this.#refused(PROBLEMS['EISDIR']);
    if (!before.isFile()) throw this.#refused('it is no regular file');
    accessSync(this.#target, constants.W_OK);
  }

  #close(): void {
    this.#isOpen = false;
    closeSync(this.#fd);
  }

  #failed(error: unknown): FileError {
    const code = codeOf(error);
    return this.#refused(PROBLEMS[code] ?? (code === '' ? String(error) : code));
  }

  #refused(problem: string): FileError {
    return new FileError(this.#path, `cannot be written (${problem}); give another path to -o`);
  }
}
