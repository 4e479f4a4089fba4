/** PCI configuration space through the ports of a PC (PCI 3.0 section 3.2.2.3.2), and memory for what has none yet. */
import { hex } from '../base/index.ts';
import { QemuError } from './process.ts';
import type { Qtest } from './qtest.ts';

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const ENABLE = 0x8000_0000;
const COMMAND = 0x04;
const COMMAND_MEMORY = 2;
const COMMAND_MASTER = 4;
const CAPABILITIES = 0x34;
const BAR0 = 0x10;

/** Memory window for base address registers: where a PC has its PCI hole, away from chipset and interrupt ranges. */
const WINDOW_FIRST = 0xe000_0000;
const WINDOW_LAST = 0xefff_ffff;

/** One function of the bus. */
export interface PciFunction {
  readonly sid: number;
  readonly vendor: number;
  readonly device: number;
}

export class PciBus {
  readonly #qtest: Qtest;
  #next = WINDOW_FIRST;

  constructor(qtest: Qtest) {
    this.#qtest = qtest;
  }

  /** @param offset multiple of 4 */
  read(sid: number, offset: number): number {
    this.#qtest.outl(CONFIG_ADDRESS, ENABLE | (sid << 8) | offset);
    return this.#qtest.inl(CONFIG_DATA);
  }

  /** @param offset multiple of 4 */
  write(sid: number, offset: number, value: number): void {
    this.#qtest.outl(CONFIG_ADDRESS, ENABLE | (sid << 8) | offset);
    this.#qtest.outl(CONFIG_DATA, value);
  }

  /** The functions that answer on a bus. */
  functions(bus: number): PciFunction[] {
    const found: PciFunction[] = [];
    for (let slot = 0; slot < 256; slot++) {
      const sid = (bus << 8) | slot;
      const id = this.read(sid, 0);
      if (id !== -1 && id !== 0) found.push({ sid, vendor: id & 0xffff, device: id >>> 16 });
    }
    return found;
  }

  /** Opens a bridge's secondary bus with a window of its own. @throws QemuError when the window is full */
  openBridge(sid: number, secondary: number, nrBytes: number): void {
    const base = this.#take(nrBytes, 2 ** 20);
    this.write(sid, 0x18, (secondary << 16) | (secondary << 8) | (sid >>> 8));
    const top = (base + nrBytes - 1) >>> 16;
    this.write(sid, 0x20, ((top & 0xfff0) << 16) | ((base >>> 16) & 0xfff0));
    this.write(sid, COMMAND, COMMAND_MEMORY | COMMAND_MASTER);
    // What is behind it takes its memory from the start of the window.
    this.#next = base;
  }

  /** Gives a function's first base address register memory and lets it work. @returns where it is. @throws QemuError */
  enable(sid: number): number {
    this.write(sid, BAR0, -1);
    const nrBytes = (~(this.read(sid, BAR0) & ~15) + 1) >>> 0;
    if (nrBytes === 0) throw new QemuError(`PCI function ${hex(sid)} has no memory register`);
    const base = this.#take(nrBytes, nrBytes);
    this.write(sid, BAR0, base | 0);
    this.write(sid, COMMAND, COMMAND_MEMORY | COMMAND_MASTER);
    return base;
  }

  #take(nrBytes: number, alignment: number): number {
    const base = Math.ceil(this.#next / alignment) * alignment;
    if (base + nrBytes - 1 > WINDOW_LAST) throw new QemuError('the PCI memory window is full');
    this.#next = base + nrBytes;
    return base;
  }

  /** Offset of a capability, 0 when the function has none of this kind. */
  capability(sid: number, id: number): number {
    let offset = this.read(sid, CAPABILITIES) & 0xfc;
    for (let seen = 0; offset !== 0 && seen < 48; seen++) {
      const head = this.read(sid, offset);
      if ((head & 0xff) === id) return offset;
      offset = (head >>> 8) & 0xfc;
    }
    return 0;
  }
}
