/** Which QEMU a program is: its IOMMUs changed over time, and what ours must do to be like them. */
import { spawnSync } from 'node:child_process';
import { QemuError } from './process.ts';

export interface QemuVersion {
  /** What it calls itself. */
  readonly text: string;
  /** First number of its version. */
  readonly major: number;
}

/** A program that is no QEMU may well wait for something. */
const ANSWER_MS = 10_000;

const known = new Map<string, QemuVersion>();

/** Asks a program, once. @throws QemuError when it cannot be run or is no QEMU */
export function qemuVersion(binary: string = 'qemu-system-x86_64'): QemuVersion {
  const asked = known.get(binary);
  if (asked !== undefined) return asked;
  const { status, stdout, error } = spawnSync(binary, ['--version'], { encoding: 'utf8', timeout: ANSWER_MS });
  if (error !== undefined || status !== 0) {
    throw new QemuError(`${binary} cannot be run. Debian: apt-get install qemu-system-x86; another place: --qemu PATH`);
  }
  const [text = ''] = stdout.split('\n');
  const match = /^QEMU emulator version (\d+)\./.exec(text);
  if (match === null) throw new QemuError(`${binary} is no QEMU: its version is '${text}'`);
  const version = { text, major: Number(match[1]) };
  known.set(binary, version);
  return version;
}
