/**
 * A QEMU with an IOMMU and devices that can be told to do DMA, and the Linux stack above it: the same drivers and core as the
 * machines of this process run.
 */
import { ManualClock } from '../base/index.ts';
import { AmdIommu, IntelIommu, amdPreset, intelPreset } from '../drivers/index.ts';
import type { MapFlush } from '../drivers/index.ts';
import { Iommu } from '../iommu/index.ts';
import type { IommuOps } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import { amdvi } from '../spec/index.ts';
import { EDU_DEVICE, EDU_VENDOR, Edu } from './edu.ts';
import { PciBus } from './pci.ts';
import { QemuError } from './process.ts';
import { QemuPlatform } from './qemu-platform.ts';
import { Qtest } from './qtest.ts';

export type QemuArch = 'intel' | 'amd';

/** Where a PC has the registers of its VT-d unit; QEMU's AMD unit is there by default too, 512 KiB below. */
export const VTD_BASE = 0xfed90000;
export const AMDVI_BASE = 0xfed80000;
/** The PCI function that QEMU's AMD unit is, and its capability block. */
const AMD_CAPABILITY = 0xf;
/** Devices on bus 0, and one behind a bridge. */
const BRIDGE_SLOT = 3;
const EDU_SLOTS = [4, 5];
/** Reset control register of the chipset: choose a hard reset, then the edge that does it. */
const RESET_CONTROL = '0xcf9';
const RESET_ARM = '0x2';
const RESET_GO = '0x6';

export interface QemuMachineOptions {
  readonly arch: QemuArch;
  /** Program to run. Default qemu-system-x86_64. */
  readonly binary?: string;
  /** CAP.CM of the Intel unit. Default true. */
  readonly cachingMode?: boolean;
  /** Seconds after which the process is killed. Default 600. */
  readonly lifetimeS?: number;
}

/** A QEMU that nobody has programmed yet: bus enumerated, devices enabled, IOMMU off. */
export class QemuBoard {
  readonly arch: QemuArch;
  readonly qtest: Qtest;
  #pci: PciBus;
  #devices: readonly Edu[];

  /** @throws QemuError */
  constructor(options: QemuMachineOptions) {
    this.arch = options.arch;
    const caching = options.cachingMode === false ? 'off' : 'on';
    const unit =
      options.arch === 'intel'
        ? ['-device', `intel-iommu,caching-mode=${caching},aw-bits=48,device-iotlb=on`]
        : // With pt, QEMU 10 lets every DMA pass.
          ['-device', 'amd-iommu,pt=off'];
    const edus = EDU_SLOTS.flatMap((slot) => ['-device', `edu,addr=${slot},dma_mask=0xffffffffffffffff`]);
    const bridge = ['-device', `pcie-root-port,id=bridge,addr=${BRIDGE_SLOT},chassis=1`];
    const behind = ['-device', 'edu,bus=bridge,addr=0,dma_mask=0xffffffffffffffff'];
    this.qtest = new Qtest({
      devices: [...unit, ...edus, ...bridge, ...behind],
      ...(options.binary === undefined ? {} : { binary: options.binary }),
      ...(options.lifetimeS === undefined ? {} : { lifetimeS: options.lifetimeS }),
    });
    this.#pci = new PciBus(this.qtest);
    const found = this.#edusOn(0);
    this.#openBridge();
    this.#devices = [...found, ...this.#edusOn(1)];
    if (this.devices.length !== EDU_SLOTS.length + 1) {
      throw new QemuError(`expected ${EDU_SLOTS.length + 1} edu devices, found ${this.devices.length}`);
    }
  }

  get pci(): PciBus {
    return this.#pci;
  }

  /** DMA sources: two on bus 0, one behind a bridge on bus 1. */
  get devices(): readonly Edu[] {
    return this.#devices;
  }

  /** Resets the machine through its chipset: every device is as after power-on, memory stays as it is. */
  reset(): void {
    this.qtest.ask(`outb ${RESET_CONTROL} ${RESET_ARM}`);
    // QEMU answers, and resets before it reads the next command.
    this.qtest.ask(`outb ${RESET_CONTROL} ${RESET_GO}`);
    this.#pci = new PciBus(this.qtest);
    const enable = (sid: number): Edu => new Edu(this.qtest, this.#pci, sid);
    const sids = this.#devices.map(({ sid }) => sid);
    const near = sids.filter((sid) => sid < 0x100).map(enable);
    this.#openBridge();
    this.#devices = [...near, ...sids.filter((sid) => sid >= 0x100).map(enable)];
  }

  #openBridge(): void {
    this.#pci.openBridge(BRIDGE_SLOT << 3, 1, 2 ** 22);
  }

  #edusOn(bus: number): Edu[] {
    return this.pci
      .functions(bus)
      .filter(({ vendor, device }) => vendor === EDU_VENDOR && device === EDU_DEVICE)
      .map(({ sid }) => new Edu(this.qtest, this.pci, sid));
  }

  /** A word of the AMD unit's capability block. @throws QemuError when no such function is on bus 0 */
  amdCapability(offset: number): number {
    for (const { sid } of this.pci.functions(0)) {
      const block = this.pci.capability(sid, AMD_CAPABILITY);
      if (block !== 0) return this.pci.read(sid, block + offset);
    }
    throw new QemuError('no AMD-Vi unit on bus 0');
  }

  close(): void {
    this.qtest.close();
  }
}

export interface QemuStackOptions extends QemuMachineOptions {
  /** Kernel whose driver is used. Default linux-6.12. */
  readonly preset?: string;
  readonly mapFlush?: MapFlush;
  /** Puts something between the driver and QEMU: a wrapper that records, or tells another unit the same. */
  readonly wrapPlatform?: (platform: QemuPlatform, base: number) => Platform;
}

export class QemuMachine {
  readonly clock: ManualClock = new ManualClock();
  readonly board: QemuBoard;
  readonly platform: QemuPlatform;
  readonly driver: IommuOps;
  readonly core: Iommu;

  /** Starts QEMU and lets the driver bring the IOMMU up. @throws QemuError; RangeError when the driver finds no working unit */
  constructor(options: QemuStackOptions) {
    this.board = new QemuBoard(options);
    this.platform = new QemuPlatform(this.board.qtest, this.clock);
    const base = options.arch === 'intel' ? VTD_BASE : AMDVI_BASE;
    const platform = options.wrapPlatform?.(this.platform, base) ?? this.platform;
    const mapFlush = options.mapFlush === undefined ? {} : { mapFlush: options.mapFlush };
    const name = options.preset ?? 'linux-6.12';
    if (options.arch === 'intel') {
      const preset = intelPreset(name);
      this.driver = new IntelIommu(platform, { preset: name, ...mapFlush, units: [{ base }] });
      this.core = new Iommu({ syncMapPerRun: preset.syncMapPerRun, pagesPerCallback: preset.mapPages ? 'run' : 'one' });
    } else {
      const preset = amdPreset(name);
      const driver = new AmdIommu(platform, {
        preset: name,
        ...mapFlush,
        lastBdf: 0x1ff,
        units: [{ base, capHeader: this.board.amdCapability(amdvi.CAP_HEADER) }],
      });
      driver.completeInit();
      this.driver = driver;
      this.core = new Iommu({ syncMapPerRun: preset.syncMapPerRun, pagesPerCallback: preset.mapPages ? 'run' : 'one' });
    }
  }

  /** A device of the board as the core knows it. */
  device(index: number): { readonly name: string; readonly sid: number } {
    const { sid } = this.board.devices[index];
    const hex2 = (value: number): string => value.toString(16).padStart(2, '0');
    return { name: `0000:${hex2(sid >>> 8)}:${hex2((sid >>> 3) & 31)}.${sid & 7}`, sid };
  }

  close(): void {
    this.board.close();
  }
}
