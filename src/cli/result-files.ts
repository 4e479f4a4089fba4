/** The files of a result, each as its name asks for. All that can be wrong with them is found before the work. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import type { LabData } from '../report/index.ts';
import { htmlReport } from '../report/index.ts';
import { UsageError } from './exit.ts';
import { FileError } from './file-error.ts';
import { OutputFile } from './output-file.ts';
import { pathOf } from './path-argument.ts';

/** Formats by the ends of their names, in words for the help. */
const FORMATS = {
  '.json': 'as --json',
  '.csv': 'tables',
  '.html': 'a page that opens from disk',
  '.perfetto-trace': 'a trace for ui.perfetto.dev',
} as const;
export type Format = keyof typeof FORMATS;

/** A result in each format; only what is asked for is made. A trace is not among them: it is written as the work goes on. */
export interface Result {
  readonly json: unknown;
  readonly csv?: () => string;
  readonly lab: () => LabData;
  readonly title: string;
}

/** The option `-o`, which may be given more than once. */
export function addOutput(command: Command, formats: readonly Format[]): Command {
  const list = formats.map((format) => `${format} (${FORMATS[format]})`).join(', ');
  return command.addOption(
    new Option('-o, --output <file>', `also write the result to a file, as its name ends: ${list}; may be repeated`)
      .argParser((path: string, before: readonly string[]) => [...before, pathOf(path)])
      .default([], 'none'),
  );
}

interface ResultFile {
  readonly format: Format;
  readonly path: string;
  readonly file: OutputFile;
}

export class ResultFiles {
  readonly #files: ResultFile[] = [];
  readonly #viewer: string;

  /**
   * @param formats that the command has @param inputs that no output must be
   * @throws UsageError for a format that the command does not have, FileError for a file that cannot be written
   */
  constructor(paths: readonly string[], formats: readonly Format[], inputs: readonly (string | undefined)[] = []) {
    const asked = paths.map((path) => ({ path, format: formatOf(path, formats) }));
    const names = new Set(paths.map((path) => resolve(path)));
    if (names.size < paths.length) throw new UsageError('-o names one file twice; leave one out');
    this.#viewer = asked.some(({ format }) => format === '.html') ? readViewer() : '';
    try {
      for (const { path, format } of asked) {
        const file = new OutputFile(path);
        this.#files.push({ path, format, file });
        for (const input of inputs) {
          if (input !== undefined && file.is(input)) {
            throw new FileError(input, 'is the output too; give another path to -o');
          }
        }
      }
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  wants(format: Format): boolean {
    return this.#files.some((one) => one.format === format);
  }

  /** Adds to all files of a format, for one that is written as the work goes on. @throws FileError */
  append(format: Format, bytes: Uint8Array): void {
    for (const one of this.#files) if (one.format === format) one.file.append(bytes);
  }

  /** Writes all files that are not written yet, and gives all their names. @throws FileError */
  finish(result: Result): void {
    for (const { format, file } of this.#files) {
      const text = this.#render(format, result);
      if (text !== null) file.append(Buffer.from(text, 'utf8'));
    }
    for (const { file } of this.#files) file.finish();
  }

  #render(format: Format, { json, csv, lab, title }: Result): string | null {
    switch (format) {
      case '.json':
        return jsonText(json);
      case '.csv':
        return csv?.() ?? null;
      case '.html':
        return htmlReport(this.#viewer, lab(), title, scriptHashes(this.#viewer));
      case '.perfetto-trace':
        return null;
      default:
        return format satisfies never;
    }
  }

  /** Without effect on files that are finished; else nothing is left of them. */
  discard(): void {
    for (const { file } of this.#files) file.discard();
  }
}

/** A result as `--json` prints it. */
export function jsonText(result: unknown): string {
  return `${JSON.stringify(result, null, 2)}\n`;
}

function formatOf(path: string, formats: readonly Format[]): Format {
  const extension = extname(path).toLowerCase();
  const found = formats.find((format) => format === extension);
  if (found !== undefined) return found;
  throw new UsageError(`-o ${path}: the name must end in ${formats.join(', ')}, which says what is written`);
}

/** The page without data. @throws UsageError when it was not built */
function readViewer(): string {
  try {
    return readFileSync(new URL('../../dist/web/report.html', import.meta.url), 'utf8');
  } catch {
    throw new UsageError('the page of reports (dist/web/report.html) is not built; run `npm run build`');
  }
}

/** Of the inline scripts, as a content security policy names them. */
function scriptHashes(viewer: string): string[] {
  return [...viewer.matchAll(/<script type="module"[^>]*>([\s\S]*?)<\/script>/g)].map(
    ([, code = '']) => `sha256-${createHash('sha256').update(code).digest('base64')}`,
  );
}
