/**
 * A machine with one device under the DMA API, and what naive bookkeeping says about it: which pages the device may reach, what
 * bytes it and the CPU see. Steps are numbers, so that a program of them can be shrunk.
 */
import { expect } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import type { DmaBuffer, DmaDirection, DmaIovaState } from '../../src/dma/index.ts';
import { BuddyPages, DMA_ATTR_FORCE_CONTIGUOUS, DMA_ATTR_SKIP_CPU_SYNC } from '../../src/dma/index.ts';
import { DmaDevice, DmaSpace, Scatterlist, Swiotlb } from '../../src/dma/index.ts';
import type { IommuDomain } from '../../src/iommu/index.ts';
import { AmdMachine, IntelMachine } from '../../src/machine/index.ts';
import type { Machine } from '../../src/machine/index.ts';
import { KiB4, NVME, READ, WRITE } from '../drivers/lab.ts';

export interface WorldConfig {
  readonly vendor: 'intel' | 'amd';
  /** CAP.CM, NpCache. */
  readonly cachesNotPresent?: boolean;
  readonly lazy?: boolean;
  readonly single?: boolean;
  readonly untrusted?: boolean;
  readonly minAlignMask?: number;
  readonly coherent?: boolean;
  readonly dmaMask?: number;
}

const NR_CPUS = 3;
// Low addresses: memory keeps a table of frames up to the highest one.
const POOL = 0x800_0000;
const POOL_BYTES = 2 ** 20;
const PAGES_PFN = 0xc000;
/** Callers' buffers: slots of 16 pages, one buffer in each. */
const ARENA = 0x400_0000;
const SLOT_BYTES = 16 * KiB4;
const RESERVED = [0xfee00000, 0x100000] as const;
const DIRECTIONS: readonly DmaDirection[] = ['toDevice', 'fromDevice', 'bidirectional'];

/** Bytes of one physically contiguous piece of a mapping, at a few places. */
interface Piece {
  readonly paddr: number;
  readonly dmaAddress: number;
  readonly nrBytes: number;
  readonly isBounced: boolean;
  /** What the CPU must see, by distance from the start; -1 and nrBytes are the neighbours', which nobody may touch. */
  readonly cpu: Map<number, number>;
  /** What the device must see; the same Map where both see one memory. */
  readonly device: Map<number, number>;
}

interface Held {
  readonly what: string;
  readonly direction: DmaDirection;
  readonly pieces: Piece[];
  /** IOVA pages that the device may use for it. */
  readonly pages: number[];
  readonly slots: number[];
  /** @returns 0 or an errno */
  undo(attrs: number): number;
  /** Tries to undo it once more; must fail. */
  again(): number;
  sync(toCpu: boolean): void;
}

/** expect().toBe() takes microseconds, which a million calls feel. */
function same(actual: unknown, expected: unknown): void {
  if (actual !== expected) expect.fail(`${String(actual)}, not ${String(expected)}`);
}

export class DmaWorld {
  readonly machine: Machine;
  readonly domain: IommuDomain;
  readonly space: DmaSpace;
  readonly device: DmaDevice;
  readonly swiotlb: Swiotlb;
  readonly buddies: BuddyPages;
  readonly config: WorldConfig;
  readonly live: Held[] = [];
  /** IOVA pages in use, with who may: of all that is live. */
  readonly pages = new Map<number, DmaDirection>();
  readonly freeSlots: number[] = Array.from({ length: 400 }, (_, slot) => slot);
  readonly #tablesAtStart: number;
  nrCalls = 0;
  nrSeen = 0;

  constructor(config: WorldConfig) {
    this.config = config;
    const np = config.cachesNotPresent ?? false;
    const machine =
      config.vendor === 'intel'
        ? new IntelMachine({ hardware: { cachingMode: np }, coherent: config.coherent ?? true })
        : new AmdMachine({ hardware: { npCache: np }, lastBdf: 0xff });
    this.machine = machine;
    this.#tablesAtStart = machine.pages.nrLive;
    const domain = machine.driver.domainAlloc('paging');
    if (domain === null) throw new Error('no domain');
    this.domain = domain;
    machine.driver.probeDevice(NVME);
    machine.driver.attachDev(domain, NVME);
    this.space = new DmaSpace(machine.core, domain, machine.clock, {
      lazy: config.lazy ?? false,
      nrCpus: NR_CPUS,
      freeTables: (tables) => tables.forEach((pfn) => machine.pages.free(pfn)),
      flushQueue: { single: config.single ?? false, ...(config.single === true ? { size: 64 } : {}) },
    });
    this.space.reserve(RESERVED[0], RESERVED[0] + RESERVED[1] - 1);
    this.swiotlb = new Swiotlb(machine.mem, POOL, POOL_BYTES);
    this.buddies = new BuddyPages(machine.mem, PAGES_PFN, 4096);
    this.device = new DmaDevice(this.space, {
      coherent: config.coherent ?? true,
      untrusted: config.untrusted ?? false,
      swiotlb: this.swiotlb,
      platform: machine.platform,
      pages: this.buddies,
      minAlignMask: config.minAlignMask ?? 0,
      limits: { dmaMask: config.dmaMask ?? 2 ** 32 - 1, segmentBoundaryMask: 0xffff, maxSegmentBytes: 2 ** 17 },
    });
  }

  /** One step of a program. */
  step(kind: number, seed: number): void {
    const rng = new Rng(seed);
    if (kind < 4) this.#map(rng);
    else if (kind < 7) this.#unmap(rng);
    else if (kind === 7) this.#look(rng);
    else if (kind === 8) this.#cpuWrites(rng);
    else if (kind === 9) this.#sync(rng);
    else if (kind === 10) this.#misuse(rng);
    else this.#pass(rng);
  }

  #map(rng: Rng): void {
    if (this.freeSlots.length < 16 || this.live.length > 60) return;
    this.nrCalls += 1;
    const direction = rng.pick(DIRECTIONS);
    const how = rng.below(10);
    if (how < 4) this.#mapPage(rng, direction);
    else if (how < 7) this.#mapSg(rng, direction);
    else if (how === 7) this.#alloc(rng);
    else if (how === 8) this.#link(rng, direction);
    else this.#mapResource(rng, direction);
  }

  /** A buffer in a slot of its own; of whole cache lines where the device does not snoop, as drivers must. */
  #buffer(rng: Rng): { slot: number; paddr: number; nrBytes: number } {
    const [slot] = this.freeSlots.splice(rng.below(this.freeSlots.length), 1);
    const unit = this.config.coherent === false ? 64 : 1;
    const aligned = rng.chance(0.4);
    const offset = aligned ? KiB4 : KiB4 + rng.below(KiB4 / unit) * unit;
    const nrBytes = aligned
      ? KiB4 * (1 + rng.below(4))
      : unit * (1 + rng.below((rng.pick([100, 4000, 30000]) / unit) | 0));
    return { slot, paddr: ARENA + slot * SLOT_BYTES + offset, nrBytes: Math.max(unit, nrBytes) };
  }

  #piece(rng: Rng, paddr: number, nrBytes: number, dmaAddress: number, isBounced: boolean): Piece {
    const shared = this.config.coherent !== false && !isBounced;
    const cpu = new Map<number, number>();
    for (const at of this.#places(rng, nrBytes)) cpu.set(at, this.#load(paddr + at, false));
    return { paddr, dmaAddress, nrBytes, isBounced, cpu, device: shared ? cpu : new Map(cpu) };
  }

  #places(rng: Rng, nrBytes: number): Set<number> {
    return new Set([0, nrBytes - 1, rng.below(nrBytes), rng.below(nrBytes)]);
  }

  /** Fills a buffer before it is mapped, and its neighbourhood. */
  #fill(rng: Rng, paddr: number, nrBytes: number): void {
    const put = (at: number): void => {
      const word = paddr + at - ((paddr + at) % 4);
      this.machine.mem.store32(word, rng.next32() | 0);
    };
    for (let at = -64; at < 64; at += 4) {
      put(at);
      put(nrBytes + at);
    }
    for (let count = 0; count < 30; count++) put(rng.below(nrBytes));
  }

  #load(paddr: number, asDevice: boolean): number {
    const { mem } = this.machine;
    const word = asDevice ? mem.deviceLoad32(paddr - (paddr % 4)) : mem.load32(paddr - (paddr % 4));
    return (word >>> (8 * (paddr % 4))) & 0xff;
  }

  #enter(held: Held): void {
    for (const page of held.pages) {
      if (this.pages.has(page)) expect.fail(`${held.what}: IOVA page 0x${page.toString(16)} was handed out twice`);
      if (page * KiB4 >= RESERVED[0] && page * KiB4 < RESERVED[0] + RESERVED[1]) expect.fail('a reserved page');
      if (page === 0) expect.fail('page 0');
      this.pages.set(page, held.direction);
    }
    this.live.push(held);
    this.#check(held);
  }

  static #pagesOf(dmaAddress: number, nrBytes: number): number[] {
    const first = Math.floor(dmaAddress / KiB4);
    const last = Math.floor((dmaAddress + nrBytes - 1) / KiB4);
    return Array.from({ length: last - first + 1 }, (_, page) => first + page);
  }

  #mustBounce(paddr: number, nrBytes: number): boolean {
    return this.config.untrusted === true && (paddr % KiB4 !== 0 || nrBytes % KiB4 !== 0);
  }

  #mapPage(rng: Rng, direction: DmaDirection): void {
    const { slot, paddr, nrBytes } = this.#buffer(rng);
    this.#fill(rng, paddr, nrBytes);
    const { device } = this;
    const dmaAddress = device.mapPage(paddr, nrBytes, direction);
    if (dmaAddress < 0) return this.#refused(dmaAddress, [slot]);
    const piece = this.#piece(rng, paddr, nrBytes, dmaAddress, this.#mustBounce(paddr, nrBytes));
    this.#enter({
      what: 'mapPage',
      direction,
      pieces: [piece],
      pages: DmaWorld.#pagesOf(dmaAddress, nrBytes),
      slots: [slot],
      undo: (attrs) => device.unmapPage(dmaAddress, nrBytes, direction, attrs),
      again: () => device.unmapPage(dmaAddress, nrBytes, direction),
      sync: (toCpu) => {
        if (toCpu) device.syncForCpu(dmaAddress, nrBytes, direction);
        else device.syncForDevice(dmaAddress, nrBytes, direction);
      },
    });
  }

  /** Memory or IOVAs may be out; nothing else. */
  #refused(errno: number, slots: number[]): void {
    if (errno !== -12 && errno !== -28 && errno !== -5) expect.fail(`refused with ${errno}`);
    this.freeSlots.push(...slots);
  }

  #mapSg(rng: Rng, direction: DmaDirection): void {
    const buffers = Array.from({ length: 1 + rng.below(8) }, () => this.#buffer(rng));
    for (const { paddr, nrBytes } of buffers) this.#fill(rng, paddr, nrBytes);
    const list = Scatterlist.of(buffers.map(({ paddr, nrBytes }) => [paddr, nrBytes] as const));
    const slots = buffers.map(({ slot }) => slot);
    const { device } = this;
    const count = device.mapSg(list, direction);
    if (count < 0) return this.#refused(count, slots);
    const pieces: Piece[] = [];
    let [segment, done] = [0, 0];
    for (const { paddr, nrBytes } of buffers) {
      const at = list.dmaAddress[segment] + done;
      pieces.push(this.#piece(rng, paddr, nrBytes, at, this.#mustBounce(paddr, nrBytes)));
      done += nrBytes;
      if (done === list.dmaBytes[segment]) [segment, done] = [segment + 1, 0];
    }
    same(segment, count);
    same(done, 0);
    this.#enter({
      what: 'mapSg',
      direction,
      pieces,
      // One run, with what is mapped between segments to keep them off boundaries; or element by element.
      pages: list.isBounced
        ? pieces.flatMap((piece) => DmaWorld.#pagesOf(piece.dmaAddress, piece.nrBytes))
        : DmaWorld.#pagesOf(
            list.dmaAddress[0],
            list.dmaAddress[count - 1] + list.dmaBytes[count - 1] - list.dmaAddress[0],
          ),
      slots,
      undo: (attrs) => device.unmapSg(list, list.nents, direction, attrs),
      again: () => device.unmapSg(list, list.nents, direction),
      sync: (toCpu) => {
        if (toCpu) device.syncSgForCpu(list, list.nents, direction);
        else device.syncSgForDevice(list, list.nents, direction);
      },
    });
  }

  #alloc(rng: Rng): void {
    const { device } = this;
    const nrBytes = 1 + rng.below(rng.pick([KiB4, 20 * KiB4, 70 * KiB4]));
    const contiguous = rng.chance(0.3);
    const buffer: DmaBuffer | null = device.alloc(nrBytes, contiguous ? DMA_ATTR_FORCE_CONTIGUOUS : 0);
    if (buffer === null) return;
    const pieces = buffer.pfns.map((pfn, page) => {
      const piece = this.#piece(rng, pfn * KiB4, KiB4, buffer.dmaAddress + page * KiB4, false);
      for (const byte of piece.cpu.values()) if (byte !== 0) expect.fail('memory that was not zeroed');
      return piece;
    });
    this.#enter({
      what: 'alloc',
      direction: 'bidirectional',
      pieces,
      pages: DmaWorld.#pagesOf(buffer.dmaAddress, nrBytes),
      slots: [],
      undo: () => {
        const errno = device.free(buffer);
        for (const piece of pieces) piece.cpu.clear();
        return errno;
      },
      again: () => device.free(buffer),
      sync: () => {},
    });
  }

  #link(rng: Rng, direction: DmaDirection): void {
    const { device } = this;
    const first = this.#buffer(rng);
    // Links behind the first begin on pages, so all but the last end on one.
    const parts = [first];
    while (rng.chance(0.6) && (parts.at(-1)!.paddr + parts.at(-1)!.nrBytes) % KiB4 === 0 && parts.length < 5) {
      const next = this.#buffer(rng);
      parts.push({ ...next, paddr: next.paddr - (next.paddr % KiB4) });
    }
    const slots = parts.map(({ slot }) => slot);
    const total = parts.reduce((sum, { nrBytes }) => sum + nrBytes, 0);
    const state: DmaIovaState | null = device.iovaTryAlloc(first.paddr, total);
    if (state === null) return this.#refused(-12, slots);
    let linked = 0;
    const pieces: Piece[] = [];
    for (const { paddr, nrBytes } of parts) {
      this.#fill(rng, paddr, nrBytes);
      const errno = state.link(paddr, linked, nrBytes, direction);
      if (errno !== 0) {
        same(state.destroy(linked, direction, DMA_ATTR_SKIP_CPU_SYNC), 0);
        return this.#refused(errno, slots);
      }
      const bounces = this.#mustBounce(paddr, nrBytes);
      // Head and tail pages are copied, the middle is not.
      const head = bounces && paddr % KiB4 !== 0 ? Math.min(nrBytes, KiB4 - (paddr % KiB4)) : 0;
      const tail = bounces && nrBytes > head ? (paddr + nrBytes) % KiB4 : 0;
      const cuts: [at: number, bytes: number, isBounced: boolean][] = [
        [0, head, true],
        [head, nrBytes - head - tail, false],
        [nrBytes - tail, tail, true],
      ];
      for (const [at, bytes, isBounced] of cuts) {
        if (bytes > 0) {
          pieces.push(this.#piece(rng, paddr + at, bytes, state.dmaAddress + linked + at, isBounced));
        }
      }
      linked += nrBytes;
    }
    same(state.sync(0, total), 0);
    this.#enter({
      what: 'link',
      direction,
      pieces,
      pages: DmaWorld.#pagesOf(state.dmaAddress, total),
      slots,
      undo: (attrs) => {
        if (rng.chance(0.5)) return state.destroy(total, direction, attrs);
        const errno = state.unlink(0, total, direction, attrs);
        return errno === 0 ? state.free() : errno;
      },
      again: () => state.destroy(total, direction),
      sync: () => {},
    });
  }

  #mapResource(rng: Rng, direction: DmaDirection): void {
    const { device } = this;
    const paddr = 0xe000_0000 + rng.below(0x1000_0000);
    const nrBytes = 1 + rng.below(3 * KiB4);
    const dmaAddress = device.mapResource(paddr, nrBytes, direction);
    if (dmaAddress < 0) return this.#refused(dmaAddress, []);
    for (const at of [0, nrBytes - 1]) {
      same(this.#translate(dmaAddress + at, direction === 'fromDevice' ? WRITE : READ), paddr + at);
    }
    this.#enter({
      what: 'mapResource',
      direction,
      pieces: [],
      pages: DmaWorld.#pagesOf(dmaAddress, nrBytes),
      slots: [],
      undo: () => device.unmapResource(dmaAddress, nrBytes),
      again: () => device.unmapResource(dmaAddress, nrBytes),
      sync: () => {},
    });
  }

  #translate(dmaAddress: number, access: number): number {
    return this.machine.unit.translate(NVME.sid, dmaAddress, access);
  }

  /** The device and the CPU look at a mapping: rights, places, bytes. */
  #check(held: Held): void {
    for (const piece of held.pieces) {
      for (const [at, byte] of piece.device) {
        const reads = this.#translate(piece.dmaAddress + at, READ);
        const writes = this.#translate(piece.dmaAddress + at, WRITE);
        this.nrSeen += 1;
        if (reads < 0 !== (held.direction === 'fromDevice'))
          expect.fail(`${held.what} ${held.direction}: read gave ${reads}`);
        if (writes < 0 !== (held.direction === 'toDevice'))
          expect.fail(`${held.what} ${held.direction}: write gave ${writes}`);
        const paddr = Math.max(reads, writes);
        if (piece.isBounced !== (paddr >= POOL && paddr < POOL + POOL_BYTES))
          expect.fail(`${held.what}: bounced ${paddr}`);
        if (!piece.isBounced && paddr !== piece.paddr + at) expect.fail(`${held.what}: leads elsewhere`);
        if (this.#load(paddr, true) !== byte) expect.fail(`${held.what}: the device sees another byte at ${at}`);
      }
    }
    this.#checkCpu(held);
  }

  #checkCpu(held: Held): void {
    for (const piece of held.pieces) {
      for (const [at, byte] of piece.cpu) {
        if (this.#load(piece.paddr + at, false) !== byte)
          expect.fail(`${held.what}: the CPU sees another byte at ${at}`);
      }
    }
  }

  /** The device reads everything and writes something. */
  #look(rng: Rng): void {
    if (this.live.length === 0) return;
    const held = rng.pick(this.live);
    this.#check(held);
    if (held.direction === 'toDevice' || this.config.coherent === false) return;
    for (const piece of held.pieces) {
      for (const at of piece.device.keys()) {
        if (rng.chance(0.5)) continue;
        const value = rng.below(256);
        const paddr = this.#translate(piece.dmaAddress + at, WRITE);
        const shift = 8 * (paddr % 4);
        const word = paddr - (paddr % 4);
        const { mem } = this.machine;
        mem.deviceStore32(word, (mem.deviceLoad32(word) & ~(0xff << shift)) | (value << shift));
        piece.device.set(at, value);
      }
    }
    this.#check(held);
  }

  #cpuWrites(rng: Rng): void {
    if (this.live.length === 0) return;
    const held = rng.pick(this.live);
    for (const piece of held.pieces) {
      for (const at of piece.cpu.keys()) {
        if (rng.chance(0.5)) continue;
        const value = rng.below(256);
        const paddr = piece.paddr + at;
        const shift = 8 * (paddr % 4);
        const word = paddr - (paddr % 4);
        const { mem } = this.machine;
        mem.store32(word, (mem.load32(word) & ~(0xff << shift)) | (value << shift));
        piece.cpu.set(at, value);
      }
    }
    this.#check(held);
  }

  #sync(rng: Rng): void {
    if (this.live.length === 0) return;
    this.nrCalls += 1;
    const held = rng.pick(this.live);
    if (held.what !== 'mapPage' && held.what !== 'mapSg') return;
    const toCpu = rng.chance(0.5);
    held.sync(toCpu);
    for (const piece of held.pieces) {
      if (piece.isBounced && toCpu && held.direction !== 'toDevice') {
        for (const [at, byte] of piece.device) piece.cpu.set(at, byte);
      } else if (
        piece.isBounced ? !toCpu && held.direction !== 'fromDevice' : !toCpu || held.direction !== 'toDevice'
      ) {
        // Not bounced: lines are flushed, whoever asked.
        for (const [at, byte] of piece.cpu) piece.device.set(at, byte);
      }
    }
    this.#check(held);
  }

  #unmap(rng: Rng): void {
    if (this.live.length === 0) return;
    this.nrCalls += 1;
    const [held] = this.live.splice(rng.below(this.live.length), 1);
    this.#check(held);
    const skip = rng.chance(0.2);
    same(held.undo(skip ? DMA_ATTR_SKIP_CPU_SYNC : 0), 0);
    for (const piece of held.pieces) {
      if (piece.isBounced && !skip && held.direction !== 'toDevice') {
        for (const [at, byte] of piece.device) if (piece.cpu.has(at)) piece.cpu.set(at, byte);
      }
    }
    this.#checkCpu(held);
    for (const page of held.pages) {
      this.pages.delete(page);
      // Strict: gone at return. Lazy: the window is open, and closes at the flush.
      if (this.config.lazy === true) continue;
      const address = page * KiB4 + rng.below(KiB4);
      if (this.#translate(address, READ) >= 0 || this.#translate(address, WRITE) >= 0) {
        expect.fail(`${held.what}: reachable after its unmap`);
      }
    }
    this.freeSlots.push(...held.slots);
    if (rng.chance(0.3)) this.#unchanged(() => same(held.again(), -22));
  }

  /** Calls that are wrong change nothing and say so. */
  #misuse(rng: Rng): void {
    this.nrCalls += 1;
    const { device } = this;
    const direction = rng.pick(DIRECTIONS);
    const bad = rng.pick([0, -1, -KiB4, 0.5, Number.NaN, 2 ** 53, Infinity]);
    this.#unchanged(() => {
      switch (rng.below(7)) {
        case 0:
          return same(device.mapPage(ARENA, bad, direction), -22);
        case 1:
          return same(device.mapPage(rng.pick([-1, 0.25, 2 ** 52, 2 ** 53]), KiB4, direction), -22);
        case 2:
          return same(device.mapResource(ARENA, bad, direction), -22);
        case 3:
          return same(device.mapSg(new Scatterlist(3), direction), -22);
        case 4:
          // Never handed out: reserved.
          return same(device.unmapPage(RESERVED[0] + rng.below(RESERVED[1]), KiB4, direction), -22);
        case 5:
          return same(device.iovaTryAlloc(ARENA, bad), null);
        default:
          return same(device.alloc(bad), null);
      }
    });
  }

  #unchanged(act: () => unknown): void {
    const now = (): string =>
      [
        this.space.nrLive,
        this.swiotlb.nrUsedSlots,
        this.buddies.nrLive,
        this.machine.pages.nrLive,
        this.space.cookie.nrOpenWindows,
      ].join();
    const before = now();
    act();
    if (now() !== before) expect.fail(`a refused call changed something: ${before} became ${now()}`);
    const [held] = this.live;
    if (held !== undefined) this.#check(held);
  }

  #pass(rng: Rng): void {
    this.space.cpu = rng.below(NR_CPUS);
    if (this.config.lazy !== true) return;
    this.machine.clock.advanceBy(rng.below(12_000_000));
    this.space.cookie.timeout();
    if (this.space.cookie.nrOpenWindows > 0) return;
    // No window is open: nothing but what is live can be reached.
    for (let page = 0; page < 40; page++) {
      const at = 2 ** 20 - 1 - rng.below(400);
      if (!this.pages.has(at) && this.#translate(at * KiB4, READ) >= 0) expect.fail('reachable after its flush');
    }
  }

  /** Everything back. */
  finish(): void {
    const rng = new Rng(1);
    while (this.live.length > 0) this.#unmap(rng);
    this.space.cookie.drain();
    expect(this.space.nrLive).toBe(0);
    expect(this.swiotlb.nrUsedSlots).toBe(0);
    expect(this.buddies.nrLive).toBe(0);
    const { driver, pages } = this.machine;
    driver.detachDev(this.domain, NVME);
    driver.domainFree(this.domain);
    driver.releaseDevice(NVME);
    expect(pages.nrLive - this.#tablesAtStart).toBeLessThanOrEqual(1);
  }
}
