/** Invalidation commands, field by field: VT-d rev. 4.1 section 6.5.2, AMD 48882 rev. 3.x section 2.4. */
import { hex } from '../base/index.ts';
import { amdCommand, vtdCommand } from '../check/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import type { Words } from './fields.ts';
import { addressField, bitsOf, flag, numberField, quads } from './fields.ts';
import type { CommandView, Field } from './view.ts';

const VTD_NAMES: Readonly<Record<number, string>> = {
  [vtd.DESC_CONTEXT]: 'context-cache invalidate',
  [vtd.DESC_IOTLB]: 'IOTLB invalidate',
  [vtd.DESC_DEVICE_IOTLB]: 'device-TLB invalidate',
  [vtd.DESC_INTERRUPT_ENTRY]: 'interrupt-entry-cache invalidate',
  [vtd.DESC_WAIT]: 'invalidation wait',
  [vtd.DESC_PIOTLB]: 'PASID-based IOTLB invalidate',
  [vtd.DESC_PASID_CACHE]: 'PASID-cache invalidate',
};

const GRANULARITIES: readonly string[] = ['reserved', 'global', 'domain', 'device'];

/** A descriptor of an invalidation queue: four words of 32 bits. */
export function vtdDescriptor(words: Words): CommandView {
  const [w0, w1, w2, w3] = words;
  const type = bitsOf(words, 0, 3);
  return {
    name: VTD_NAMES[type] ?? `type ${type}`,
    words: quads(words),
    fields: [
      numberField(words, 'Type', 0, 3, VTD_NAMES[type] ?? 'no descriptor of this type'),
      ...vtdFields(type, words),
    ],
    text: vtdCommand(w0, w1, w2, w3),
    isWait: type === vtd.DESC_WAIT,
  };
}

function vtdFields(type: number, words: Words): Field[] {
  const granularity = bitsOf(words, 4, 5);
  switch (type) {
    case vtd.DESC_CONTEXT:
      return [
        numberField(words, 'G', 4, 5, GRANULARITIES[granularity]),
        numberField(words, 'DID', 16, 31, 'domain id'),
        numberField(words, 'SID', 32, 47, 'device'),
        numberField(words, 'FM', 48, 49, 'bits of the function that do not count'),
      ];
    case vtd.DESC_IOTLB: {
      const mask = bitsOf(words, 64, 69);
      return [
        numberField(words, 'G', 4, 5, granularity === vtd.GRANULARITY_PAGE ? 'pages' : GRANULARITIES[granularity]),
        flag(words, 'DW', 6, 'waits for writes under way', 'does not wait for writes'),
        flag(words, 'DR', 7, 'waits for reads under way', 'does not wait for reads'),
        numberField(words, 'DID', 16, 31, 'domain id'),
        ...(granularity === vtd.GRANULARITY_PAGE
          ? [
              numberField(words, 'AM', 64, 69, `2^${mask} pages`),
              flag(
                words,
                'IH',
                70,
                'copies of entries above the leaves may stay',
                'copies of entries above the leaves go too',
              ),
              addressField(words, 'ADDR', 'first page', 2),
            ]
          : []),
      ];
    }
    case vtd.DESC_WAIT:
      return [
        flag(words, 'IF', 4, 'an interrupt tells of completion', 'no interrupt'),
        flag(words, 'SW', 5, 'a status is written', 'no status is written'),
        flag(words, 'FN', 6, 'what follows waits for it', 'what follows does not wait'),
        numberField(words, 'Data', 32, 63, 'the status'),
        { name: 'Address', bits: '127:66', value: hex(bitsOf(words, 66, 115) * 4), text: 'where the status goes' },
      ];
    default:
      return [];
  }
}

const AMD_NAMES: Readonly<Record<number, string>> = {
  [amdvi.CMD_COMPLETION_WAIT]: 'COMPLETION_WAIT',
  [amdvi.CMD_INVALIDATE_DEVTAB_ENTRY]: 'INVALIDATE_DEVTAB_ENTRY',
  [amdvi.CMD_INVALIDATE_IOMMU_PAGES]: 'INVALIDATE_IOMMU_PAGES',
  [amdvi.CMD_INVALIDATE_IOTLB_PAGES]: 'INVALIDATE_IOTLB_PAGES',
  [amdvi.CMD_INVALIDATE_INTERRUPT_TABLE]: 'INVALIDATE_INTERRUPT_TABLE',
  [amdvi.CMD_PREFETCH_IOMMU_PAGES]: 'PREFETCH_IOMMU_PAGES',
  [amdvi.CMD_COMPLETE_PPR_REQUEST]: 'COMPLETE_PPR_REQUEST',
  [amdvi.CMD_INVALIDATE_IOMMU_ALL]: 'INVALIDATE_IOMMU_ALL',
};

/** A command of a command buffer: four words of 32 bits. */
export function amdCommandView(words: Words): CommandView {
  const [w0, w1, w2, w3] = words;
  const operation = bitsOf(words, 60, 63);
  const name = AMD_NAMES[operation] ?? `command ${operation}`;
  return {
    name,
    words: quads(words),
    fields: [numberField(words, 'Op', 60, 63, name), ...amdFields(operation, words)],
    text: amdCommand(w0, w1, w2, w3),
    isWait: operation === amdvi.CMD_COMPLETION_WAIT,
  };
}

function amdFields(operation: number, words: Words): Field[] {
  switch (operation) {
    case amdvi.CMD_COMPLETION_WAIT:
      return [
        flag(words, 's', 0, 'a number is stored', 'nothing is stored'),
        flag(words, 'i', 1, 'an interrupt tells of completion', 'no interrupt'),
        flag(words, 'f', 2, 'what follows waits for it', 'what follows does not wait'),
        { name: 'Store Address', bits: '51:3', value: hex(bitsOf(words, 3, 51) * 8), text: 'where the number goes' },
        numberField(words, 'Store Data (low word)', 64, 95, 'the number'),
      ];
    case amdvi.CMD_INVALIDATE_DEVTAB_ENTRY:
      return [numberField(words, 'DeviceID', 0, 15, 'device')];
    case amdvi.CMD_INVALIDATE_IOMMU_PAGES:
      return [
        numberField(words, 'DomainID', 32, 47, 'domain id'),
        flag(words, 'S', 64, 'the ones of the address from bit 12 up code the size', 'one page of 4 KiB'),
        flag(
          words,
          'PDE',
          65,
          'copies of entries that lead to tables go too',
          'copies of entries that lead to tables stay',
        ),
        flag(words, 'GN', 66, 'guest addresses', 'host addresses'),
        {
          name: 'Address',
          bits: '127:76',
          value: hex(bitsOf(words, 76, 127) * 4096),
          text: 'page, and with S the size',
        },
      ];
    default:
      return [];
  }
}
