/**
 * Machines for the tests of the AMD driver: a register device that executes commands as 48882 2.4 says and caches nothing, the
 * driver above it, and a tape of the commands, written as the recordings' kprobe lines are: the four words in hex. The data of
 * a wait is on the tape; the address that it stores to is masked, since it is wherever memory happened to be.
 */
import { ManualClock } from '../../../src/base/index.ts';
import type { AmdDomain, AmdIommuOptions } from '../../../src/drivers/index.ts';
import { AmdIommu, amdPreset } from '../../../src/drivers/index.ts';
import type { Device } from '../../../src/iommu/index.ts';
import { Iommu } from '../../../src/iommu/index.ts';
import { LocalPlatform } from '../../../src/machine/index.ts';
import type { MmioDevice } from '../../../src/mem/index.ts';
import { Bus, PageAllocator, PhysMem } from '../../../src/mem/index.ts';
import { device } from '../lab.ts';

export { device, GiB, KiB4, MiB2, READ, RW, WRITE } from '../lab.ts';
export const NVME: Device = device('00:04.0');
export const E1000: Device = device('00:05.0');

/** Capability header of the recorded unit (iommu-caps.txt): NpCache and EFRSup set; and the same without NpCache. */
export const NP_CACHE = 0x1f03000f;
export const NATIVE = 0x1b03000f;
/** Its feature register: IASup is bit 6. */
export const FEATURES = 0x29d3;

const REG_DEV_TABLE = 0x0000;
const REG_CMD_BASE = 0x0008;
const REG_CONTROL = 0x0018;
const REG_FEATURES = 0x0030;
const REG_CMD_HEAD = 0x2000;
const REG_CMD_TAIL = 0x2008;
const REG_STATUS = 0x2020;
const COMPLETION_WAIT = 1;

/** Words as the recordings print them. */
export function words(...data: number[]): string {
  return data.map((word) => `0x${(word >>> 0).toString(16)}`).join(' ');
}

/** A unit that only executes commands. */
export class FakeUnit implements MmioDevice {
  readonly tape: string[] = [];
  readonly tails: number[] = [];
  readonly headReads: number[] = [];
  /** Commands executed per turn of a waiting loop; Infinity: at once, when the tail is written. */
  perStep = Infinity;
  /** Called after each command, waits included. */
  onCommand: (() => void) | null = null;
  readonly registers: Int32Array = new Int32Array(0x4000 / 4);
  readonly #mem: PhysMem;

  constructor(mem: PhysMem, features: number) {
    this.#mem = mem;
    this.registers[REG_FEATURES / 4] = features;
  }

  get deviceTable(): number {
    return this.registers[REG_DEV_TABLE / 4] & ~0xfff;
  }

  read32(offset: number): number {
    if (offset === REG_CMD_HEAD) this.headReads.push(this.registers[offset / 4]);
    return this.registers[offset / 4];
  }

  write32(offset: number, value: number): void {
    // Ones clear.
    this.registers[offset / 4] = offset === REG_STATUS ? this.registers[offset / 4] & ~value : value;
    if (offset !== REG_CMD_TAIL) return;
    this.tails.push(value);
    if (this.perStep === Infinity) this.execute(Infinity);
  }

  write64(offset: number, lo: number, hi: number): void {
    this.registers[offset / 4] = lo;
    this.registers[offset / 4 + 1] = hi;
  }

  step(): void {
    if (this.perStep !== Infinity) this.execute(this.perStep);
  }

  /** Up to `most` of the commands between head and tail, if translation and commands are on. */
  execute(most: number): void {
    if ((this.registers[REG_CONTROL / 4] & 0x1001) !== 0x1001) return;
    const buffer = this.registers[REG_CMD_BASE / 4] & ~0xfff;
    const bytes = 16 << ((this.registers[REG_CMD_BASE / 4 + 1] >>> 24) & 15);
    for (let nr = 0; nr < most && this.registers[REG_CMD_HEAD / 4] !== this.registers[REG_CMD_TAIL / 4]; nr++) {
      const head = this.registers[REG_CMD_HEAD / 4];
      const [w0, w1, w2, w3] = [0, 4, 8, 12].map((at) => this.#mem.deviceLoad32(buffer + head + at));
      this.registers[REG_CMD_HEAD / 4] = (head + 16) % bytes;
      if (w1 >>> 28 === COMPLETION_WAIT) {
        if ((w0 & 1) !== 1) throw new Error('a wait without a store');
        const cell = (w1 & 0xfffff) * 2 ** 32 + ((w0 & ~7) >>> 0);
        this.#mem.deviceStore32(cell, w2);
        this.#mem.deviceStore32(cell + 4, w3);
        this.tape.push(words(1, w1, w2, w3));
      } else {
        this.tape.push(words(w0, w1, w2, w3));
      }
      this.onCommand?.();
    }
  }
}

export const UNIT_BASE = 0xfeb80000;

export interface LabOptions extends Partial<Omit<AmdIommuOptions, 'units'>> {
  capHeader?: number;
  ivhdFeatures?: number;
  features?: number;
  nrPages?: number;
  /** Number of units; with several, unit n serves bus n. */
  nrUnits?: number;
}

/** A driver on fake units, brought up; `completeInit` is the test's to call. */
export class Lab {
  readonly clock: ManualClock = new ManualClock();
  readonly mem: PhysMem = new PhysMem();
  readonly pages: PageAllocator;
  readonly units: FakeUnit[];
  readonly platform: LocalPlatform;
  readonly driver: AmdIommu;
  readonly core: Iommu;

  constructor(options: LabOptions = {}) {
    const {
      capHeader = NP_CACHE,
      ivhdFeatures = FEATURES,
      features = FEATURES,
      nrPages,
      nrUnits = 1,
      ...rest
    } = options;
    const preset = amdPreset(options.preset ?? 'linux-6.12');
    this.pages = new PageAllocator(this.mem, nrPages === undefined ? {} : { nrPages });
    const bus = new Bus(this.mem);
    this.units = Array.from({ length: nrUnits }, (_, index) => {
      const unit = new FakeUnit(this.mem, features);
      bus.attach(UNIT_BASE + index * 0x4000, 0x4000, unit);
      return unit;
    });
    const step = (): void => {
      for (const unit of this.units) unit.step();
    };
    this.platform = new LocalPlatform(this.mem, this.pages, bus, this.clock, { step });
    this.driver = new AmdIommu(this.platform, {
      lastBdf: 0xfb,
      ...rest,
      preset: preset.name,
      units: this.units.map((_, index) => ({
        base: UNIT_BASE + index * 0x4000,
        capHeader,
        ivhdFeatures,
        ...(nrUnits === 1 ? {} : { serves: (sid: number): boolean => sid >> 8 === index }),
      })),
    });
    this.core = new Iommu({
      syncMapPerRun: preset.syncMapPerRun && this.driver.mapFlush !== 'sync-map',
      pagesPerCallback: preset.mapPages ? 'run' : 'one',
    });
  }

  get unit(): FakeUnit {
    return this.units[0];
  }

  /** The commands since the last call, waits left out unless asked for. */
  take(waits: 'waits' | 'no waits' = 'no waits'): string[] {
    const all = this.units.flatMap((unit) => unit.tape.splice(0));
    return waits === 'waits' ? all : all.filter((command) => !command.startsWith('0x1 0x1000'));
  }

  /** A paging domain with devices attached; the tape starts after that. */
  domain(...devices: Device[]): AmdDomain {
    const domain = this.driver.domainAlloc('paging') as AmdDomain;
    for (const one of devices) this.attach(domain, one);
    this.take();
    return domain;
  }

  attach(domain: AmdDomain, one: Device): number {
    this.driver.probeDevice(one);
    return this.driver.attachDev(domain, one);
  }

  /** The four quad words of a device table entry. */
  entry(sid: number): bigint[] {
    return [0, 8, 16, 24].map((at) => {
      const paddr = this.unit.deviceTable + sid * 32 + at;
      return (BigInt(this.mem.load32(paddr + 4) >>> 0) << 32n) | BigInt(this.mem.load32(paddr) >>> 0);
    });
  }
}

/** An all-pages command of a domain, PDE and S set. */
export const allPages = (did: number): string => words(0, 0x30000000 | did, 0xfffff003, 0x7fffffff);
export const devtab = (sid: number): string => words(sid, 0x20000000, 0, 0);
export const wait = (data: number): string => words(1, 0x10000000, data, 0);
