/**
 * Machines for the tests of drivers, dma and machine: one or more VT-d units, the Intel driver above them, and a tape of the
 * commands that each unit executed, written as the kernel's qi_submit events are: `0x300f2 0xfffff000` is quadword 0 and 1.
 */
import { ManualClock, hexWords } from '../../src/base/index.ts';
import type { IntelDomain, IntelIommuOptions } from '../../src/drivers/index.ts';
import { IntelIommu, intelPreset } from '../../src/drivers/index.ts';
import type { VtdConfig, VtdListener } from '../../src/hw/index.ts';
import { VtdUnit } from '../../src/hw/index.ts';
import type { Device } from '../../src/iommu/index.ts';
import { Iommu } from '../../src/iommu/index.ts';
import type { MmioDevice } from '../../src/mem/index.ts';
import { Bus, PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { LocalPlatform } from '../../src/machine/index.ts';

export const READ = 1;
export const WRITE = 2;
export const RW = 3;
export const KiB4 = 4096;
export const MiB2 = 2 ** 21;
export const GiB = 2 ** 30;

/** A PCI device by its address, `00:04.0`. */
export function device(address: string): Device {
  const [bus, slot, fn] = address.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  return { name: `0000:${address}`, sid: (bus << 8) | (slot << 3) | fn };
}
export const NVME = device('00:04.0');
export const E1000 = device('00:05.0');

/** What a unit was told. Waits stand apart: the kernel does not trace them either. */
export class Tape implements VtdListener {
  readonly words: string[] = [];
  readonly waits: string[] = [];
  readonly doorbells: number[] = [];
  /** Register-based requests: CCMD or IOTLB, and IVA. */
  readonly registers: string[] = [];
  /** Called after each descriptor, waits included. */
  onDescriptor: (() => void) | null = null;

  descriptor(w0: number, w1: number, w2: number, w3: number): void {
    ((w0 & 15) === 5 ? this.waits : this.words).push(`${hexWords(w0, w1)} ${hexWords(w2, w3)}`);
    this.onDescriptor?.();
  }
  doorbell(tail: number): void {
    this.doorbells.push(tail);
  }
  registerInvalidation(kind: 'context' | 'iotlb', lo: number, hi: number, ivaLo: number, ivaHi: number): void {
    this.registers.push(
      kind === 'context' ? `CCMD ${hexWords(lo, hi)}` : `IOTLB ${hexWords(lo, hi)} IVA ${hexWords(ivaLo, ivaHi)}`,
    );
  }
  /** The commands since the last call. */
  take(): string[] {
    this.waits.length = 0;
    this.doorbells.length = 0;
    return [...this.words.splice(0), ...this.registers.splice(0)];
  }
}

/** An IOTLB descriptor of granularity 3 (bits 5:4), of a command of a tape. */
export function isPsi(command: string): boolean {
  const low = Number.parseInt(command.split(' ')[0].slice(-2), 16);
  return (low & 0x3f) === 0x32;
}

export const UNIT_BASE = 0xfed90000;

export interface LabOptions {
  preset?: string;
  mapFlush?: IntelIommuOptions['mapFlush'];
  coherent?: boolean;
  /** One per unit. With several, unit n serves bus n. */
  units?: readonly VtdConfig[];
  nrPages?: number;
  /** Stands between the driver and the registers of a unit. */
  between?: (unit: VtdUnit, index: number) => MmioDevice;
  /** The time passes, e.g. for a device that does DMA while the driver waits. */
  onRelax?: () => void;
}

/** As IntelMachine, but with any number of units and with somebody in the wires. */
export class Lab {
  readonly clock: ManualClock = new ManualClock();
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly units: VtdUnit[];
  readonly tapes: Tape[];
  readonly platform: LocalPlatform;
  readonly driver: IntelIommu;
  readonly core: Iommu;

  constructor(options: LabOptions = {}) {
    const preset = intelPreset(options.preset ?? 'linux-6.12');
    const configs = options.units ?? [{ cachingMode: true }];
    this.mem = new PhysMem({ coherent: options.coherent ?? true });
    this.pages = new PageAllocator(this.mem, options.nrPages === undefined ? {} : { nrPages: options.nrPages });
    const bus = new Bus(this.mem);
    this.tapes = configs.map(() => new Tape());
    this.units = configs.map((config, index) => {
      const unit = new VtdUnit(this.mem, this.clock, config);
      unit.listener = this.tapes[index];
      bus.attach(UNIT_BASE + index * 0x1000, 0x1000, options.between?.(unit, index) ?? unit);
      return unit;
    });
    const step = (): void => {
      for (const unit of this.units) unit.step();
      options.onRelax?.();
    };
    this.platform = new LocalPlatform(this.mem, this.pages, bus, this.clock, { step });
    this.driver = new IntelIommu(this.platform, {
      preset: preset.name,
      ...(options.mapFlush === undefined ? {} : { mapFlush: options.mapFlush }),
      units: configs.map((_, index) => ({
        base: UNIT_BASE + index * 0x1000,
        ...(configs.length === 1 ? {} : { serves: (sid: number): boolean => sid >> 8 === index }),
      })),
    });
    this.core = new Iommu({
      syncMapPerRun: preset.syncMapPerRun && this.driver.mapFlush !== 'sync-map',
      pagesPerCallback: preset.mapPages ? 'run' : 'one',
    });
  }

  get unit(): VtdUnit {
    return this.units[0];
  }

  get tape(): Tape {
    return this.tapes[0];
  }

  /** A paging domain with devices attached; the tapes start after that. */
  domain(...devices: Device[]): IntelDomain {
    const domain = this.driver.domainAlloc('paging') as IntelDomain;
    for (const one of devices) this.attach(domain, one);
    for (const tape of this.tapes) tape.take();
    return domain;
  }

  attach(domain: IntelDomain, one: Device): number {
    this.driver.probeDevice(one);
    return this.driver.attachDev(domain, one);
  }
}
