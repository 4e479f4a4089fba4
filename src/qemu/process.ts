/**
 * A QEMU that does nothing but answer: its CPU halts at the reset vector, its memory and registers are read and written over
 * qtest, here through a pair of FIFOs. FIFOs, because the drivers above are synchronous: Node can block on a file, not on
 * a socket.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** QEMU cannot be used: not there, refused its arguments, or died. `message` says which, and what it printed. */
export class QemuError extends Error {
  override readonly name: string = 'QemuError';
}

export interface QemuOptions {
  /** Program to run. Default qemu-system-x86_64. */
  readonly binary?: string;
  /** Arguments that name the devices. Machine, memory, firmware and qtest come from here. */
  readonly devices: readonly string[];
  /** Seconds after which the process is killed, whatever it does: a QEMU that hangs must not hang its caller. Default 600. */
  readonly lifetimeS?: number;
}

/** Memory of the machine in bytes: all that qtest addresses below the first hole. */
export const QEMU_MEMORY_BYTES: number = 2 ** 28;

const RESET_VECTOR = 0xfff0;
const FIRMWARE_BYTES = 0x10000;
/** cli; hlt; jmp back. Without it the usual firmware runs and programs PCI under the test. */
const HALT = [0xfa, 0xf4, 0xeb, 0xfd];
const START_MS = 10_000;
const READ_BYTES = 1 << 16;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks this thread. */
export function sleepMs(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}

/** Whether a process runs. One that ended stays a zombie until the event loop turns, so its state counts. */
function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** All processes of this module that still run. None outlives this one: not when it exits, and not when it is killed either. */
const running = new Set<QemuProcess>();
process.on('exit', () => {
  for (const qemu of running) qemu.close();
});

export class QemuProcess {
  readonly #child: ChildProcess;
  readonly #stderr: number;
  readonly #input: number;
  readonly #output: number;
  readonly #chunk: Buffer = Buffer.alloc(READ_BYTES);

  /** Starts the process and returns when it listens. @throws QemuError */
  constructor(options: QemuOptions) {
    const binary = options.binary ?? 'qemu-system-x86_64';
    const folder = mkdtempSync(join(tmpdir(), 'iommukit-qemu-'));
    let firmware = -1;
    let qemuInput = -1;
    let qemuOutput = -1;
    let probe = -1;
    try {
      const [pipeIn, pipeOut] = ['in', 'out'].map((name) => join(folder, name));
      const made = spawnSync('mkfifo', [pipeIn, pipeOut]);
      if (made.status !== 0) {
        throw new QemuError(`cannot make FIFOs in ${folder}: ${made.stderr?.toString() ?? made.error?.message}`);
      }
      const image = Buffer.alloc(FIRMWARE_BYTES, 0xf4);
      Buffer.from(HALT).copy(image, RESET_VECTOR);
      writeFileSync(join(folder, 'halt.bin'), image);
      firmware = openSync(join(folder, 'halt.bin'), 'r');
      this.#stderr = openSync(join(folder, 'stderr'), 'w+');
      // In this order no open waits for the other side.
      this.#input = openSync(pipeIn, constants.O_RDWR);
      qemuInput = openSync(pipeIn, constants.O_RDONLY);
      probe = openSync(pipeOut, constants.O_RDONLY | constants.O_NONBLOCK);
      qemuOutput = openSync(pipeOut, constants.O_WRONLY);
      this.#output = openSync(pipeOut, constants.O_RDONLY);
    } finally {
      // All are open: so nothing is left behind, whatever ends this process.
      rmSync(folder, { recursive: true, force: true });
    }
    const args = [
      // A signal for `timeout` when this process dies, however it does: it hands that on.
      ['--pdeathsig', 'TERM', 'timeout', '-s', 'KILL', String(options.lifetimeS ?? 600), binary],
      ['-machine', 'q35,kernel-irqchip=split', '-m', String(QEMU_MEMORY_BYTES / 2 ** 20)],
      ['-bios', '/proc/self/fd/3', ...options.devices],
      // With a halted CPU virtual time jumps to the next timer: the 100 ms of edu's engine cost nothing.
      ['-accel', 'tcg', '-icount', 'shift=0,sleep=off', '-display', 'none', '-nodefaults'],
      ['-qtest-log', 'none', '-qtest', 'stdio'],
    ].flat();
    this.#child = spawn('setpriv', args, { stdio: [qemuInput, qemuOutput, this.#stderr, firmware] });
    this.#child.on('error', () => {});
    this.#child.unref();
    running.add(this);
    for (const fd of [qemuInput, qemuOutput, firmware]) closeSync(fd);
    writeSync(this.#input, 'readb 0x0\n');
    try {
      this.#awaitAnswer(probe, binary);
    } finally {
      closeSync(probe);
    }
  }

  #awaitAnswer(probe: number, binary: string): void {
    const { pid } = this.#child;
    let why = `says nothing within ${START_MS / 1000} s`;
    for (let waited = 0; waited < START_MS; waited += 5) {
      const answer = this.#readNow(probe);
      if (answer.startsWith('OK ')) return;
      if (answer !== '') {
        why = `does not speak qtest: ${JSON.stringify(answer.slice(0, 80))}`;
        break;
      }
      if (pid === undefined || !isRunning(pid)) {
        const said = this.#said();
        const hint = said.includes('failed to run command') ? ' (Debian: apt-get install qemu-system-x86)' : '';
        why = `does not start: ${said || 'it ended at once'}${hint}`;
        break;
      }
      sleepMs(5);
    }
    this.close();
    throw new QemuError(
      pid === undefined ? 'setpriv cannot be run (Debian: apt-get install util-linux)' : `${binary} ${why}`,
    );
  }

  /** What is there to be read, without waiting. */
  #readNow(probe: number): string {
    try {
      return this.#chunk.toString('latin1', 0, readSync(probe, this.#chunk));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return '';
      throw error;
    }
  }

  /** The end of what the process printed. */
  #said(): string {
    const bytes = Buffer.alloc(READ_BYTES);
    return bytes
      .toString('utf8', 0, readSync(this.#stderr, bytes, 0, READ_BYTES, 0))
      .trim()
      .slice(-500);
  }

  /** Sends text. At most 64 KiB may be unread on the other side, or this blocks: read the answers in between. */
  write(text: string): void {
    if (!running.has(this)) throw new QemuError('QEMU is gone');
    writeSync(this.#input, text);
  }

  /** Waits for some of what the process sends. @throws QemuError when it died */
  read(): string {
    const length = readSync(this.#output, this.#chunk);
    if (length > 0) return this.#chunk.toString('latin1', 0, length);
    const said = this.#said();
    this.close();
    throw new QemuError(`QEMU died${said === '' ? '' : `: ${said}`}`);
  }

  /** Kills the process. */
  close(): void {
    if (!running.delete(this)) return;
    const { pid } = this.#child;
    // `timeout` hands no SIGKILL on: its child, which has the same process group, would stay.
    if (pid !== undefined) {
      try {
        process.kill(-pid, 'SIGKILL');
      } catch {
        this.#child.kill('SIGTERM');
      }
    }
    closeSync(this.#input);
    closeSync(this.#stderr);
    closeSync(this.#output);
  }
}
