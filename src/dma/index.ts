export type { DmaCookieOptions } from './cookie.ts';
export { DmaCookie } from './cookie.ts';
export type { DmaDirection, DmaIommuOptions, DmaLimits } from './dma-iommu.ts';
export { DmaIommu, protOf } from './dma-iommu.ts';
export type { FlushQueueOptions, FlushQueueOwner } from './fq.ts';
export { FQ_SIZE, FQ_TIMEOUT_MS, FlushQueue } from './fq.ts';
export { IovaAllocator } from './iova.ts';
export { Scatterlist } from './scatterlist.ts';
