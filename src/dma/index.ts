export type { DmaCookieOptions } from './cookie.ts';
export { DmaCookie } from './cookie.ts';
export {
  DMA_ATTR_ALLOC_SINGLE_PAGES,
  DMA_ATTR_FORCE_CONTIGUOUS,
  DMA_ATTR_MMIO,
  DMA_ATTR_SKIP_CPU_SYNC,
} from './attrs.ts';
export { BuddyPages, MAX_PAGE_ORDER } from './buddy-pages.ts';
export type { CpuSyncOptions } from './cpu-sync.ts';
export { CpuSync } from './cpu-sync.ts';
export type { DmaDebugOptions } from './debug.ts';
export { CheckedDmaDevice, DmaDebug } from './debug.ts';
export { CheckedIovaState } from './debug-iova.ts';
export type { DmaDebugKind, DmaDebugRecord } from './debug-record.ts';
export type { DmaDirection } from './direction.ts';
export { protOf } from './direction.ts';
export type { DmaBuffer } from './dma-buffer.ts';
export type { DmaDeviceOptions, DmaIommuOptions, DmaLimits } from './dma-iommu.ts';
export { DmaDevice, DmaIommu } from './dma-iommu.ts';
export type { DmaSpaceOptions } from './dma-space.ts';
export { DmaSpace } from './dma-space.ts';
export type { FlushQueueOptions, FlushQueueOwner } from './fq.ts';
export { FQ_SINGLE_SIZE, FQ_SINGLE_TIMEOUT_MS, FQ_SIZE, FQ_TIMEOUT_MS, FlushQueue } from './fq.ts';
export type { IovaDeviceOptions } from './iova-device.ts';
export { IovaDevice } from './iova-device.ts';
export type { IovaDomainOptions, IovaSearchState } from './iova-domain.ts';
export { IOVA_LAST_PFN, IovaDomain } from './iova-domain.ts';
export type { IovaPreset } from './iova-rcache.ts';
export {
  IOVA_CACHED_ORDERS,
  IOVA_CACHED_PAGES,
  IOVA_DEPOT_DELAY_MS,
  IOVA_LINUX_6_1,
  IOVA_LINUX_6_12,
} from './iova-rcache.ts';
export { DmaIovaState } from './iova-state.ts';
export { MsiCookie } from './msi.ts';
export type { DmaMode, DmaModeFacts } from './policy.ts';
export { defaultDmaMode } from './policy.ts';
export type { BridgeWindow, HostBridge } from './reserved.ts';
export type { P2pProvider } from './scatterlist.ts';
export { Scatterlist } from './scatterlist.ts';
export type { P2pMapping, SgLimits } from './sg-layout.ts';
export { SgLayout } from './sg-layout.ts';
export { SWIOTLB_SLOT_BYTES, Swiotlb } from './swiotlb.ts';
