/**
 * The file that `-o` names. It is opened before the work starts, so that a path which cannot be written costs no replay, and
 * emptied only when there is a result: a run that fails leaves an existing file as it was.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
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
};

export class OutputFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #isNew: boolean;
  #isOpen = true;

  /** @throws FileError when the file cannot be written */
  constructor(path: string) {
    this.#path = path;
    this.#isNew = statSync(path, { throwIfNoEntry: false }) === undefined;
    try {
      this.#fd = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o666);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Whether another path leads to this very file. */
  is(path: string): boolean {
    const other = statSync(path, { throwIfNoEntry: false });
    const own = fstatSync(this.#fd);
    return other !== undefined && own.isFile() && other.dev === own.dev && other.ino === own.ino;
  }

  /** Replaces the contents and closes the file. @throws FileError */
  write(text: string): void {
    const bytes = Buffer.from(text, 'utf8');
    try {
      if (fstatSync(this.#fd).isFile()) ftruncateSync(this.#fd);
      for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at);
      this.#close();
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Without effect after a write; else closes the file, and removes it if it was not there before. */
  discard(): void {
    if (!this.#isOpen) return;
    this.#close();
    if (this.#isNew) rmSync(this.#path, { force: true });
  }

  #close(): void {
    this.#isOpen = false;
    closeSync(this.#fd);
  }

  #failed(error: unknown): FileError {
    const code = codeOf(error);
    const problem = PROBLEMS[code] ?? (code === '' ? String(error) : code);
    return new FileError(this.#path, `cannot be written (${problem}); give another path to -o`);
  }
}
