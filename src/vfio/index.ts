export { LAST_ADDRESS } from './address-word.ts';
export { dirtyBitmapBytes, setBits, testBit } from './bitmap.ts';
export { VFIO_TYPE1V2_IOMMU, VFIO_TYPE1_IOMMU, VfioContainer } from './container.ts';
export type { DirtyBitmap } from './dirty.ts';
export type { VfioDomain } from './domain.ts';
export type { EmulatedDevice } from './external.ts';
export { VfioGroup } from './group.ts';
export type { IovaRange } from './iova-ranges.ts';
export { PIN_BATCH_PAGES } from './pinning.ts';
export type { Process, ProcessMemory } from './process.ts';
export { LockAccount } from './process.ts';
export type { DmaMapRequest, DmaUnmapRequest, Type1Info, Type1Options } from './type1.ts';
export {
  Type1Iommu,
  VFIO_DIRTY_GET,
  VFIO_DIRTY_START,
  VFIO_DIRTY_STOP,
  VFIO_DMA_MAP_READ,
  VFIO_DMA_MAP_WRITE,
  VFIO_DMA_UNMAP_ALL,
  VFIO_DMA_UNMAP_GET_DIRTY,
} from './type1.ts';
export { TLB_SYNC_MAX } from './unmap.ts';
export type { AccessOps, AccessRw } from './iommufd/access.ts';
export { IommufdAccess } from './iommufd/access.ts';
export { VfioCompat } from './iommufd/compat.ts';
export { IommufdDevice } from './iommufd/device.ts';
export type { DirtyRequest, DirtyTrackingOps } from './iommufd/dirty.ts';
export type { IoasCopyRequest, IoasMapRequest, IoasRanges, IommufdOptions } from './iommufd/iommufd.ts';
export {
  HWPT_ALLOC_DIRTY_TRACKING,
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  Iommufd,
} from './iommufd/iommufd.ts';
