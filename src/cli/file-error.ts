/** A file that cannot be used: an input, the output, or a temporary one. Its message is one line: the file, what is wrong, what to do. */
export class FileError extends Error {
  readonly path: string;

  /** @param path as the user gave it; `-` is standard input */
  constructor(path: string, problem: string) {
    super(`${path === '-' ? 'standard input' : path}: ${problem}`);
    this.name = 'FileError';
    this.path = path;
  }
}

/** The system's error code (`ENOENT`, `Z_DATA_ERROR`), '' for an error without one. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
