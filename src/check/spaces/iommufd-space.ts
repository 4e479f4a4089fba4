/** An IOAS of an iommufd. Its page table comes with the first device; mappings outlive the devices. */
import { hexRange } from '../../base/index.ts';
import type { Device, Iommu, IommuDomain } from '../../iommu/index.ts';
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE } from '../../iommu/index.ts';
import {
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  Iommufd,
  IommufdDevice,
} from '../../vfio/index.ts';
import type { Chunks, Space } from '../space.ts';
import { READ_WRITE, chunkBytes } from '../space.ts';
import type { SpaceHost } from '../space-host.ts';
import { ChosenProcess } from './process-memory.ts';

/** The file, and what is bound to it: one for all spaces of a stage, so that devices can move between them. */
export interface IommufdFile {
  readonly fd: Iommufd;
  readonly bound: Map<Device, IommufdDevice>;
}

export function openIommufd(core: Iommu): IommufdFile {
  return { fd: new Iommufd(core), bound: new Map() };
}

export class IommufdSpace implements Space {
  readonly caller = 'iommufd';
  readonly name: string;
  readonly #host: SpaceHost;
  readonly #file: IommufdFile;
  readonly #ioas: number;
  readonly #process = new ChosenProcess();

  constructor(host: SpaceHost, name: string, file: IommufdFile) {
    this.#host = host;
    this.name = name;
    this.#file = file;
    this.#ioas = file.fd.ioasAlloc();
  }

  get domain(): IommuDomain | null {
    return this.#file.fd.ioas(this.#ioas)?.hwpts[0]?.domain ?? null;
  }

  /** Attaches a device, or moves it here from another IOAS. */
  attach(device: Device): number {
    const { fd, bound } = this.#file;
    let member = bound.get(device);
    if (member === undefined) {
      const made = fd.bind(device, this.#host.group(device));
      if (!(made instanceof IommufdDevice)) return made;
      member = made;
      bound.set(device, made);
    }
    const one = member;
    return this.#host.call(`iommufd attach ${device.name}`, () => {
      const result = one.isAttached ? one.replace(this.#ioas) : one.attach(this.#ioas);
      if (result < 0) return result;
      this.#host.attached(this, device);
      return 0;
    });
  }

  detach(device: Device): void {
    const member = this.#file.bound.get(device);
    if (member === undefined) throw new RangeError(`${device.name} is not attached`);
    this.#host.call(`iommufd detach ${device.name}`, () => {
      member.detach();
      this.#host.attached(null, device);
    });
  }

  map(iova: number, chunks: Chunks, prot: number = READ_WRITE): number {
    const nrBytes = chunkBytes(chunks);
    const vaddr = this.#process.memory.place(iova, chunks);
    const flags =
      IOAS_MAP_FIXED_IOVA |
      ((prot & IOMMU_READ) === 0 ? 0 : IOAS_MAP_READABLE) |
      ((prot & IOMMU_WRITE) === 0 ? 0 : IOAS_MAP_WRITEABLE);
    return this.#host.call(`IOMMU_IOAS_MAP ${hexRange(iova, nrBytes)}`, () => {
      const result = this.#file.fd.ioasMap(this.#ioas, { vaddr, nrBytes, iova, flags }, this.#process);
      if (result < 0) {
        this.#process.memory.restore(vaddr);
        return result;
      }
      this.#host.mapped(this, iova, chunks, prot | IOMMU_CACHE);
      return 0;
    });
  }

  unmap(iova: number, nrBytes: number): number {
    return this.#host.call(`IOMMU_IOAS_UNMAP ${hexRange(iova, nrBytes)}`, () => {
      const result = this.#file.fd.ioasUnmap(this.#ioas, iova, nrBytes);
      if (result < 0) return result;
      this.#host.unmapped(this, iova, nrBytes);
      return 0;
    });
  }

  tick(): void {}
}
