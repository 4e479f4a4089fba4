/**
 * What the kernel's iommufd tests stand on, anew: a mock domain of half pages between 16 MiB and 2 GiB, a buffer of 16 pages,
 * and devices that are bound, attached and taken away in one step (tools/testing/selftests/iommu/iommufd_utils.h of Linux 6.12).
 */
import { expect } from 'vitest';
import type { Device } from '../../src/iommu/index.ts';
import type { IommufdAccess } from '../../src/vfio/index.ts';
import {
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  Iommufd,
  IommufdDevice,
  LAST_ADDRESS,
} from '../../src/vfio/index.ts';
import type { World } from './world.ts';
import { KiB4, MOCK_LAST, MOCK_START, newDevice, world } from './world.ts';

export const HALF = 2048;
export const HUGE = 512 * HALF;
export const BUFFER = 0x7f0000200000;
export const BUFFER_SIZE = 16 * KiB4;
export const RW = IOAS_MAP_READABLE | IOAS_MAP_WRITEABLE;

export interface Stdev {
  readonly device: Device;
  readonly bound: IommufdDevice;
  hwptId: number;
  /** Detaches and unbinds it. */
  readonly destroy: () => void;
}

export interface Variant {
  readonly name: string;
  readonly nrDomains: number;
  readonly memoryLimit?: number;
  readonly huge?: boolean;
}

export interface Fixture extends World {
  readonly fd: Iommufd;
  readonly ioas: number;
  readonly stdevs: Stdev[];
  /** Where fixed IOVAs may begin. */
  readonly base: number;
  readonly stdev: (id?: number, device?: Device) => Stdev | number;
  /** Page tables that frames must be in. */
  readonly checkMap: (vaddr: number, iova: number, nrBytes: number, ioas?: number) => void;
  readonly checkRefs: (vaddr: number, nrBytes: number, nr: number) => void;
  readonly map: (vaddr: number, nrBytes: number, iova?: number, ioas?: number, flags?: number) => number;
  readonly unmap: (iova: number, nrBytes: number, ioas?: number) => number;
  readonly access: (pins?: boolean) => IommufdAccess;
  /** Closes everything; nothing may be left. */
  readonly close: () => void;
}

/** Contiguous in part, so that every kind of seam comes up: runs of 1, 2, 3, ... frames. */
export function frames(nr: number, first: number): number[] {
  const list: number[] = [];
  for (let run = 1, pfn = first; list.length < nr; run = (run % 5) + 1, pfn += 9) {
    for (let page = 0; page < run && list.length < nr; page++) list.push(pfn + page);
  }
  return list;
}

export function fixture(variant: Variant = { name: '', nrDomains: 0 }, limitPages?: number): Fixture {
  const at = world({
    pgsizeBitmap: variant.huge === true ? HALF + HUGE : HALF,
    apertureLast: MOCK_LAST,
    regions: [{ start: 0, nrBytes: MOCK_START, type: 'reserved', prot: 0 }],
    ...(limitPages === undefined ? {} : { limitPages }),
  });
  const { core, memory, mock, process } = at;
  memory.place(BUFFER, 16, frames(16, 0x50000));
  const fd = new Iommufd(core, variant.memoryLimit === undefined ? {} : { memoryLimit: variant.memoryLimit });
  const ioas = fd.ioasAlloc();
  const stdevs: Stdev[] = [];
  const accesses: IommufdAccess[] = [];
  const stdev = (id = ioas, device = newDevice()): Stdev | number => {
    const bound = fd.bind(device, at.group(device));
    if (!(bound instanceof IommufdDevice)) return bound;
    const hwptId = bound.attach(id);
    if (hwptId < 0) {
      bound.unbind();
      return hwptId;
    }
    const one: Stdev = {
      device,
      bound,
      hwptId,
      destroy: () => {
        bound.detach();
        bound.unbind();
        stdevs.splice(stdevs.indexOf(one), 1);
      },
    };
    stdevs.push(one);
    return one;
  };
  for (let nr = 0; nr < variant.nrDomains; nr++) {
    const device = newDevice();
    // Two page tables, not one shared by two devices.
    mock.kinds.set(device, `kind ${nr}`);
    expect(stdev(ioas, device)).toBeTypeOf('object');
  }
  const access = (pins = false): IommufdAccess => {
    const one = fd.createAccess({ unmap: () => {} }, pins);
    accesses.push(one);
    return one;
  };
  return {
    ...at,
    fd,
    ioas,
    stdevs,
    base: variant.nrDomains > 0 ? MOCK_START : 0,
    stdev,
    access,
    checkMap: (vaddr, iova, nrBytes, id = ioas) => {
      for (const domain of fd.ioas(id)?.table.domains ?? []) {
        for (let at2 = 0; at2 < nrBytes; at2 += HALF) {
          const pfn = memory.frames.get(Math.floor((vaddr + at2) / KiB4)) ?? -1;
          const paddr = mock.iovaToPhys(domain, iova + at2);
          if (paddr !== pfn * KiB4 + ((vaddr + at2) % KiB4))
            expect.fail(`${(iova + at2).toString(16)} leads to ${paddr}`);
        }
      }
    },
    checkRefs: (vaddr, nrBytes, nr) => {
      for (let at2 = 0; at2 < nrBytes; at2 += KiB4) {
        const pins = memory.pins.get(memory.frames.get((vaddr + at2) / KiB4) ?? -1) ?? 0;
        if (pins !== nr) expect.fail(`${(vaddr + at2).toString(16)} is pinned ${pins} times, not ${nr}`);
      }
    },
    map: (vaddr, nrBytes, iova, id = ioas, flags = RW) =>
      fd.ioasMap(
        id,
        { vaddr, nrBytes, ...(iova === undefined ? { flags } : { iova, flags: flags | IOAS_MAP_FIXED_IOVA }) },
        process,
      ),
    unmap: (iova, nrBytes, id = ioas) => fd.ioasUnmap(id, iova, nrBytes),
    close: () => {
      for (const one of stdevs.slice()) one.destroy();
      for (const one of accesses) fd.destroyAccess(one);
      fd.close();
      expect(at.leaks()).toEqual([]);
      expect(fd.nrObjects).toBe(0);
    },
  };
}

export { LAST_ADDRESS };
