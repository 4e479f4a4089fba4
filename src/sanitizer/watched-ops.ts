/** A driver whose callbacks are heard of. */
import type { Device, IommuDomain, IommuOps, IotlbGather, Mapped } from '../iommu/index.ts';

/** What the sanitizer hears of a driver. */
export interface OpsWatcher {
  /** A callback that is part of a longer call begins. @param queued what it unmaps is left to a flush queue */
  enter(queued: boolean): void;
  leave(): void;
  /** A callback that may be a call of its own begins. @returns whether it is; then `end` must follow */
  begin(name: string): boolean;
  end(): void;
  mapped(domain: IommuDomain, iova: number, paddr: number, nrBytes: number, prot: number): void;
  /** A map failed, whatever of it was mapped before. */
  mapFailed(domain: IommuDomain): void;
  unmapped(domain: IommuDomain, iova: number, nrBytes: number, gather: IotlbGather): void;
  synced(gather: IotlbGather): void;
  flushed(domain: IommuDomain): void;
  moved(domain: IommuDomain | null, device: Device): void;
}

/**
 * Replaces a driver's methods on the object itself: domains name the driver that serves them, so a wrapper around it would be
 * bypassed.
 */
export function watchOps(ops: IommuOps, watcher: OpsWatcher): void {
  const set = <K extends keyof IommuOps>(name: K, value: IommuOps[K]): void => {
    Object.defineProperty(ops, name, { value, configurable: true, writable: true, enumerable: false });
  };
  const mapPages = ops.mapPages.bind(ops);
  set('mapPages', (domain, iova, paddr, pgsize, pgcount, prot, mapped: Mapped) => {
    watcher.enter(false);
    const errno = mapPages(domain, iova, paddr, pgsize, pgcount, prot, mapped);
    watcher.leave();
    if (mapped.bytes > 0) watcher.mapped(domain, iova, paddr, mapped.bytes, prot);
    if (errno !== 0) watcher.mapFailed(domain);
    return errno;
  });
  const unmapPages = ops.unmapPages.bind(ops);
  set('unmapPages', (domain, iova, pgsize, pgcount, gather) => {
    watcher.enter(gather.queued);
    const nrBytes = unmapPages(domain, iova, pgsize, pgcount, gather);
    watcher.leave();
    if (nrBytes > 0 && !gather.queued) watcher.unmapped(domain, iova, nrBytes, gather);
    return nrBytes;
  });
  const iotlbSyncMap = ops.iotlbSyncMap.bind(ops);
  set('iotlbSyncMap', (domain, iova, nrBytes) => {
    const isCall = watcher.begin('iotlb_sync_map');
    try {
      return iotlbSyncMap(domain, iova, nrBytes);
    } finally {
      if (isCall) watcher.end();
    }
  });
  const iotlbSync = ops.iotlbSync.bind(ops);
  set('iotlbSync', (domain, gather) => {
    const isCall = watcher.begin('iotlb_sync');
    try {
      iotlbSync(domain, gather);
      watcher.synced(gather);
    } finally {
      if (isCall) watcher.end();
    }
  });
  const flushIotlbAll = ops.flushIotlbAll.bind(ops);
  set('flushIotlbAll', (domain) => {
    const isCall = watcher.begin('flush_iotlb_all');
    try {
      flushIotlbAll(domain);
      watcher.flushed(domain);
    } finally {
      if (isCall) watcher.end();
    }
  });
  const attachDev = ops.attachDev.bind(ops);
  set('attachDev', (domain, device) => {
    const isCall = watcher.begin('attach_dev');
    try {
      const errno = attachDev(domain, device);
      if (errno === 0) watcher.moved(domain, device);
      return errno;
    } finally {
      if (isCall) watcher.end();
    }
  });
  const detachDev = ops.detachDev.bind(ops);
  set('detachDev', (domain, device) => {
    const isCall = watcher.begin('detach_dev');
    try {
      detachDev(domain, device);
      watcher.moved(null, device);
    } finally {
      if (isCall) watcher.end();
    }
  });
  const direct = ops.mapSgDirect?.bind(ops);
  if (direct === undefined) return;
  set('mapSgDirect', (domain, iova, chunks, nr, prot) => {
    watcher.enter(false);
    const errno = direct(domain, iova, chunks, nr, prot);
    watcher.leave();
    if (errno < 0) return errno;
    let at = iova;
    for (let i = 0; i < nr; i++) {
      watcher.mapped(domain, at, chunks[2 * i], chunks[2 * i + 1], prot);
      at += chunks[2 * i + 1];
    }
    return errno;
  });
}
