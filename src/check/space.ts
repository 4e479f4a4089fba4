/** An address space as its caller sees it. */
import type { Device, IommuDomain } from '../iommu/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { CallerKind } from './setup.ts';

/** Physical runs that are mapped one behind the other. */
export type Chunks = readonly (readonly [paddr: number, nrBytes: number])[];

/** Rights of a mapping unless something else is asked for. */
export const READ_WRITE: number = IOMMU_READ | IOMMU_WRITE;

export interface Space {
  readonly caller: CallerKind;
  readonly name: string;
  /** The domain behind it; null while there is none: VFIO and iommufd make it for the first device. */
  readonly domain: IommuDomain | null;
  /** @returns 0 or an errno */
  attach(device: Device): number;
  detach(device: Device): void;
  /** Maps chunks from `iova` on in one call of the caller. @returns 0 or an errno, with nothing mapped */
  map(iova: number, chunks: Chunks, prot?: number): number;
  /** Ends mappings; under `lazy` the DMA API leaves the flush to its queue. @returns 0 or an errno */
  unmap(iova: number, nrBytes: number): number;
  /** Runs timers that are due. */
  tick(): void;
}

/** Bytes of all chunks. */
export function chunkBytes(chunks: Chunks): number {
  let total = 0;
  for (const [, nrBytes] of chunks) total += nrBytes;
  return total;
}

/** Chunks as the core and the DMA API take them: pairs (paddr, bytes). */
export function chunkPairs(chunks: Chunks): Float64Array {
  const pairs = new Float64Array(2 * chunks.length);
  for (let i = 0; i < chunks.length; i++) {
    pairs[2 * i] = chunks[i][0];
    pairs[2 * i + 1] = chunks[i][1];
  }
  return pairs;
}
