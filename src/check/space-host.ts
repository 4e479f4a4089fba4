/** What an address space needs of its stage. */
import type { Device, IommuDomain, IommuGroup, IommuOps } from '../iommu/index.ts';
import type { Machine } from '../machine/index.ts';
import type { Promises } from './promises.ts';
import type { StageSetup } from './setup.ts';
import type { Chunks, Space } from './space.ts';

/** A call did not do what it must do on any IOMMU: the driver is broken where no cache is needed to show it. */
export class StageError extends Error {
  override readonly name = 'StageError';
}

export interface SpaceHost {
  readonly setup: StageSetup;
  readonly machine: Machine;
  /** The driver in charge: the machine's, or the one that took over from it. */
  readonly driver: IommuOps;
  readonly promises: Promises;
  /** Whether this kernel, or the override, leaves the flush after a map to the DMA API. */
  readonly flushAfterMap: boolean;
  /** Runs one call of a caller and judges it at its end. */
  call<T>(name: string, body: () => T): T;
  group(device: Device): IommuGroup;
  // What came of a call, for the table of promises.
  attached(space: Space | null, device: Device): void;
  mapped(space: Space, iova: number, chunks: Chunks, prot: number): void;
  unmapped(space: Space, iova: number, nrBytes: number, queued?: boolean): void;
  /** Queued pages were flushed. */
  flushed(space: Space, iova: number, nrBytes: number): void;
  /** @throws StageError when a page of a range still waits for a flush: a caller may not map there */
  mustBeFree(space: Space, iova: number, nrBytes: number): void;
}

/** A paging domain of the stage's driver. @throws StageError when there is none */
export function allocDomain(host: SpaceHost): IommuDomain {
  const domain = host.driver.domainAlloc('paging');
  if (domain === null) throw new StageError('domainAlloc(paging) returned null');
  return domain;
}
