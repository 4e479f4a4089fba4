/** Short words for choices. */
import type { CallerKind, ContractId } from '../../../src/check/index.ts';
import type { MapFlush, UnmapFlush } from '../../../src/drivers/index.ts';

export const POLICY_WORDS: Readonly<Record<MapFlush, string>> = {
  none: 'nobody',
  caller: 'the caller, if it knows',
  map: 'the driver, per callback',
  'sync-map': 'the driver, once per call',
};

export const UNMAP_WORDS: Readonly<Record<UnmapFlush, string>> = {
  strict: 'strict: an unmap waits',
  lazy: 'lazy: a queue flushes later',
};

export const CALLER_WORDS: Readonly<Record<CallerKind, string>> = {
  core: 'the core itself',
  'dma-iommu': 'DMA API',
  vfio: 'VFIO',
  iommufd: 'iommufd',
};

/** What was promised, by the ids of docs/contracts.md. */
export const CONTRACT_WORDS: Readonly<Record<ContractId, string>> = {
  'C-MAP-VISIBLE': 'when a map returns, the mapping works',
  'C-UNMAP-GONE': 'when an unmap returns, the page is out of reach',
  'C-TABLE-LIVE': 'no table is freed that hardware may still read',
  'C-LAZY-BOUND': 'a queued unmap is flushed in time, and before its address is used again',
  'C-ROLLBACK': 'of a map that failed nothing stays',
  'C-ATTACH': 'after an attach or detach only the new address space counts',
};

/** Terms of the page, for who meets them first. */
export const GLOSSARY: readonly (readonly [term: string, text: string])[] = [
  ['IOMMU, unit', 'Hardware between devices and memory that translates the addresses devices use.'],
  ['IOVA', 'An address as a device uses it; the unit translates it to a physical one.'],
  [
    'Root, context, device table',
    'Tables in memory that name the page tables of each device (Intel: root and context; AMD: device table).',
  ],
  ['Domain', 'An address space; devices of one domain share its tables. Its id tags what is cached.'],
  ['Page table, level', 'Tables of 512 entries; each level takes nine bits of the address. Level 1 maps 4 KiB pages.'],
  ['IOTLB', 'The cache of finished translations.'],
  ['Paging-structure cache', 'A cache of entries above the last level, so that walks are shorter.'],
  [
    'Not-present entry',
    'A cached “nothing is mapped”. Allowed with caching mode (Intel CAP.CM) or NpCache (AMD), as in virtual machines.',
  ],
  ['Invalidation', 'A command that makes caches forget: a page, a domain, everything, or the entry of a device.'],
  ['Stale', 'Cached, and no longer what memory says.'],
  ['Fault', 'The unit blocks an access and writes a record into its log.'],
  ['Strict, lazy', 'Whether an unmap waits for its invalidation, or leaves it to a queue for some milliseconds.'],
  ['Sanitizer', 'The judge: it watches what the driver does and tells what any legal hardware might still hold.'],
];
