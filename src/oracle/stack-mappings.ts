/**
 * Who maps in a stack run: the core itself, the DMA API, VFIO. Each maps chosen frames and answers with the IOVA, so that
 * a run needs to know nothing of them.
 */
import { EFAULT } from '../base/index.ts';
import { DmaIommu, IOVA_LINUX_6_12 } from '../dma/index.ts';
import type { DmaDirection } from '../dma/index.ts';
import { IOMMU_READ, IOMMU_WRITE, IommuGroup } from '../iommu/index.ts';
import type { Device, IommuDomain } from '../iommu/index.ts';
import type { QemuMachine } from '../qemu/index.ts';
import { LockAccount, Type1Iommu, VFIO_DMA_MAP_READ, VFIO_DMA_MAP_WRITE } from '../vfio/index.ts';
import type { Process, ProcessMemory } from '../vfio/index.ts';

export const STACK_CALLERS = ['core', 'dma', 'vfio'] as const;
export type StackCaller = (typeof STACK_CALLERS)[number];

/** One address space of a run. Results below 0 are errnos. */
export interface Mappings {
  /** Domain whose tables the mappings are in. */
  readonly domain: IommuDomain;
  /** @param wish an IOVA, which who chooses its own ignores. @param prot IOMMU_READ, IOMMU_WRITE. @returns the IOVA */
  map(wish: number, paddr: number, nrBytes: number, prot: number): number;
  unmap(iova: number, nrBytes: number, prot: number): number;
  /** Time passed: what waits for it is done. */
  tick(): void;
}

class CoreMappings implements Mappings {
  readonly domain: IommuDomain;
  readonly #machine: QemuMachine;

  constructor(machine: QemuMachine, device: Device) {
    this.#machine = machine;
    this.domain = attachedDomain(machine, device);
  }

  map(wish: number, paddr: number, nrBytes: number, prot: number): number {
    const errno = this.#machine.core.map(this.domain, wish, paddr, nrBytes, prot);
    return errno < 0 ? errno : wish;
  }

  unmap(iova: number, nrBytes: number): number {
    return this.#machine.core.unmap(this.domain, iova, nrBytes);
  }

  tick(): void {}
}

const DIRECTIONS: Readonly<Record<number, DmaDirection>> = {
  [IOMMU_READ]: 'toDevice',
  [IOMMU_WRITE]: 'fromDevice',
  [IOMMU_READ | IOMMU_WRITE]: 'bidirectional',
};

class DmaMappings implements Mappings {
  readonly domain: IommuDomain;
  readonly #dma: DmaIommu;
  readonly #machine: QemuMachine;

  constructor(machine: QemuMachine, device: Device, lazy: boolean) {
    this.#machine = machine;
    this.domain = attachedDomain(machine, device);
    this.#dma = new DmaIommu(machine.core, this.domain, machine.clock, [[0xfee00000, 0x100000]], {
      iovaPreset: IOVA_LINUX_6_12,
      freeTables: (tables) => tables.forEach((pfn) => machine.platform.pages.free(pfn)),
    });
    // Also on hardware whose driver would refuse it: what follows is then what the model says, stale entries included.
    if (lazy) this.#dma.space.cookie.startQueue();
  }

  map(_wish: number, paddr: number, nrBytes: number, prot: number): number {
    return this.#dma.mapPage(paddr, nrBytes, DIRECTIONS[prot]);
  }

  unmap(iova: number, nrBytes: number, prot: number): number {
    return this.#dma.unmapPage(iova, nrBytes, DIRECTIONS[prot]);
  }

  tick(): void {
    const { cookie } = this.#dma.space;
    if (cookie.deadlineNs <= this.#machine.clock.nowNs()) cookie.timeout();
  }
}

/** A process whose pages are the frames that were mapped last, by address. */
class FramesProcess implements Process, ProcessMemory {
  readonly memory: ProcessMemory = this;
  readonly account: LockAccount = new LockAccount();
  readonly exited = false;
  readonly #frames = new Map<number, number>();

  place(vaddr: number, paddr: number, nrBytes: number): void {
    for (let at = 0; at < nrBytes; at += 4096) this.#frames.set((vaddr + at) / 4096, (paddr + at) / 4096);
  }

  pin(vaddr: number, nrPages: number, _write: boolean, pfns: Float64Array): number {
    for (let nr = 0; nr < nrPages; nr++) {
      const pfn = this.#frames.get(vaddr / 4096 + nr);
      if (pfn === undefined) return nr === 0 ? EFAULT : nr;
      pfns[nr] = pfn;
    }
    return nrPages;
  }

  unpin(): void {}

  copyUser(): number {
    return EFAULT;
  }

  copyFrame(): void {}
}

/** Where the process sees IOVA 0. */
const VADDR = 0x7f00_0000_0000;

class VfioMappings implements Mappings {
  readonly #type1: Type1Iommu;
  readonly #process = new FramesProcess();

  constructor(machine: QemuMachine, device: Device) {
    this.#type1 = new Type1Iommu(machine.core, { pages: machine.platform.pages });
    const group = new IommuGroup(machine.core, machine.driver, device.sid);
    mustBeZero(group.addDevice(device), 'addDevice');
    mustBeZero(group.claimDma(this), 'claimDma');
    mustBeZero(this.#type1.attachGroup(group), 'attachGroup');
  }

  get domain(): IommuDomain {
    return this.#type1.domains[0].domain;
  }

  map(wish: number, paddr: number, nrBytes: number, prot: number): number {
    const vaddr = VADDR + wish;
    this.#process.place(vaddr, paddr, nrBytes);
    const flags =
      ((prot & IOMMU_READ) === 0 ? 0 : VFIO_DMA_MAP_READ) | ((prot & IOMMU_WRITE) === 0 ? 0 : VFIO_DMA_MAP_WRITE);
    const errno = this.#type1.mapDma({ iova: wish, vaddr, size: nrBytes, flags }, this.#process);
    return errno < 0 ? errno : wish;
  }

  unmap(iova: number, nrBytes: number): number {
    return this.#type1.unmapDma({ iova, size: nrBytes });
  }

  tick(): void {}
}

function mustBeZero(errno: number, what: string): void {
  if (errno !== 0) throw new Error(`${what} failed with errno ${errno}`);
}

function attachedDomain(machine: QemuMachine, device: Device): IommuDomain {
  const domain = machine.driver.domainAlloc('paging');
  if (domain === null) throw new Error('the driver allocates no domain');
  mustBeZero(domain.ops.attachDev(domain, device), 'attachDev');
  return domain;
}

/** Gives a device an address space of its own. */
export function makeMappings(machine: QemuMachine, caller: StackCaller, device: Device, lazy: boolean): Mappings {
  mustBeZero(machine.driver.probeDevice(device), 'probeDevice');
  switch (caller) {
    case 'core':
      return new CoreMappings(machine, device);
    case 'dma':
      return new DmaMappings(machine, device, lazy);
    case 'vfio':
      return new VfioMappings(machine, device);
    default:
      return caller satisfies never;
  }
}
