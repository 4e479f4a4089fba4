/**
 * The qtest protocol: one line per command, one `OK [value]` or `FAIL reason` per line in return, in order. Commands whose
 * answer nobody needs are sent in bulk; every read collects the answers before its own.
 */
import { hex } from '../base/index.ts';
import type { QemuOptions } from './process.ts';
import { QemuError, QemuProcess } from './process.ts';

/** Text that is sent at once. Well below what a FIFO holds, so that neither side waits for the other to read. */
const MAX_TEXT = 16_000;
/** Commands kept to say what came before a death. */
const NR_REMEMBERED = 40;

export class Qtest {
  readonly #qemu: QemuProcess;
  readonly #lines: string[] = [];
  readonly #last: { readonly command: string; times: number }[] = [];
  #received = '';
  #text = '';
  /** Commands whose answer has not been read. */
  #nrOpen = 0;
  /** Commands sent in all. */
  nrCommands: number = 0;

  /** Starts a QEMU. @throws QemuError */
  constructor(options: QemuOptions) {
    this.#qemu = new QemuProcess(options);
  }

  /** Sends a command, its answer to be checked some time later. */
  post(command: string): void {
    this.#text += `${command}\n`;
    this.#nrOpen += 1;
    this.nrCommands += 1;
    this.#remember(command);
    if (this.#text.length > MAX_TEXT) this.settle();
  }

  /** A register that is polled until QEMU dies is one command many times, and does not push out what came before. */
  #remember(command: string): void {
    const last = this.#last.at(-1);
    if (last?.command === command) {
      last.times += 1;
      return;
    }
    this.#last.push({ command, times: 1 });
    if (this.#last.length > NR_REMEMBERED * 2) this.#last.splice(0, NR_REMEMBERED);
  }

  #lastCommands(): string {
    const lines = this.#last
      .slice(-NR_REMEMBERED)
      .map(({ command, times }) => (times === 1 ? command : `${command} (${times} times)`));
    return `last commands:\n${lines.join('\n')}`;
  }

  /** Waits until everything posted is done. @throws QemuError when a command failed or QEMU died */
  settle(): void {
    while (this.#nrOpen > 0) this.#answer();
  }

  /** Sends a command. @returns what stands behind OK. @throws QemuError */
  ask(command: string): string {
    this.post(command);
    for (;;) {
      const answer = this.#answer();
      if (this.#nrOpen === 0) return answer;
    }
  }

  /** Sends several commands at once. @returns their answers in order */
  askAll(commands: readonly string[]): string[] {
    this.settle();
    for (const command of commands) {
      this.#text += `${command}\n`;
      this.#remember(command);
    }
    this.#nrOpen += commands.length;
    this.nrCommands += commands.length;
    return commands.map(() => this.#answer());
  }

  #answer(): string {
    try {
      if (this.#text !== '') {
        const text = this.#text;
        this.#text = '';
        this.#qemu.write(text);
      }
      while (this.#lines.length === 0) {
        const parts = (this.#received + this.#qemu.read()).split('\n');
        this.#received = parts.pop() ?? '';
        for (const part of parts) if (!part.startsWith('IRQ ')) this.#lines.push(part);
        this.#lines.reverse();
      }
    } catch (error) {
      if (!(error instanceof QemuError)) throw error;
      throw new QemuError(`${error.message}\n${this.#lastCommands()}`);
    }
    const line = this.#lines.pop() ?? '';
    this.#nrOpen -= 1;
    if (line === 'OK') return '';
    if (line.startsWith('OK ')) return line.slice(3);
    throw new QemuError(`QEMU answered '${line}'; ${this.#lastCommands()}`);
  }

  readl(paddr: number): number {
    return Number(this.ask(`readl ${hex(paddr)}`)) | 0;
  }

  writel(paddr: number, value: number): void {
    this.post(`writel ${hex(paddr)} ${hex(value >>> 0)}`);
  }

  /** One 64-bit write. */
  writeq(paddr: number, lo: number, hi: number): void {
    this.post(`writeq ${hex(paddr)} 0x${(hi >>> 0).toString(16)}${(lo >>> 0).toString(16).padStart(8, '0')}`);
  }

  /** Stores 32-bit words. */
  writeWords(paddr: number, words: Int32Array): void {
    if (words.length === 1) this.writel(paddr, words[0]);
    else if (words.length === 2) this.writeq(paddr, words[0], words[1]);
    else if (words.every((word) => word === words[0]) && isByteFill(words[0])) {
      this.fill(paddr, words.byteLength, words[0] & 0xff);
    } else {
      this.writeBytes(paddr, Buffer.from(words.buffer, words.byteOffset, words.byteLength));
    }
  }

  /** Fills bytes. */
  fill(paddr: number, nrBytes: number, byte: number): void {
    this.post(`memset ${hex(paddr)} ${hex(nrBytes)} ${hex(byte)}`);
  }

  writeBytes(paddr: number, bytes: Buffer): void {
    this.post(`write ${hex(paddr)} ${hex(bytes.length)} 0x${bytes.toString('hex')}`);
  }

  readBytes(paddr: number, nrBytes: number): Buffer {
    return Buffer.from(this.ask(`read ${hex(paddr)} ${hex(nrBytes)}`).slice(2), 'hex');
  }

  outl(port: number, value: number): void {
    this.post(`outl ${hex(port)} ${hex(value >>> 0)}`);
  }

  inl(port: number): number {
    return Number(this.ask(`inl ${hex(port)}`)) | 0;
  }

  close(): void {
    this.#qemu.close();
  }
}

function isByteFill(word: number): boolean {
  const byte = word & 0xff;
  return word >>> 0 === (byte * 0x01010101) >>> 0;
}
