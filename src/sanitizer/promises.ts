/** What the calls of a driver promise, from the moment of the call on until it is judged. */
import type { IommuDomain, IotlbGather } from '../iommu/index.ts';

/** One range that a driver's callback mapped or unmapped. */
export interface Promised {
  readonly kind: 'mapped' | 'gone';
  readonly domain: IommuDomain;
  readonly page: number;
  pages: number;
  /** Of a map: first frame, and rights: read 1, write 2. */
  readonly pfn: number;
  readonly rights: number;
  /** Of an unmap: what its flush is left to. */
  readonly gather: IotlbGather | null;
  /** The gather has been synced since: nothing is left to wait for. */
  isSynced: boolean;
}
