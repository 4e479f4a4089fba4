export type { MmioDevice } from './bus.ts';
export { Bus } from './bus.ts';
export type { PagesObserver, PagesOptions } from './pages.ts';
export { POISON, PageAllocator } from './pages.ts';
export type { PhysMemOptions, StoreObserver } from './physmem.ts';
export { PHYS_LIMIT, PhysMem } from './physmem.ts';
export type { Platform } from './platform.ts';
