import { expect, test } from 'vitest';
import { vendorOf } from '../../src/trace/index.ts';
import { readText } from './collect.ts';

const HEAD = '            init-1       [001] d..1.     2.478259: ';
const MAP = `${HEAD}map: IOMMU: iova=0x00000000ffff0000 - 0x0000000100000000 paddr=0x0000000123450000 size=65536\n`;
const QI = `${HEAD}qi_submit: iotlb_inv dmar0: 0x300e2 0xffffe000 0x0 0x0\n`;
const TAG = `${HEAD}cache_tag_assign: dmar0/dmar0 type iotlb did 2 pasid 0 ref 1\n`;
const PROBE = `${HEAD}amdcmd: (__iommu_queue_command_sync+0x0/0xd0) d0=0x1 d1=0x20000000 d2=0x0 d3=0x0\n`;
const FAULT = `${HEAD}io_page_fault: IOMMU:nvme 0000:01:00.0 iova=0x0000000000002000 flags=0x0000\n`;

test.each([
  ['maps alone, also of a size that is a leaf of AMD only', MAP, 'unknown'],
  ['a descriptor of VT-d', MAP + QI, 'vtd'],
  ['a cache tag of VT-d', TAG + MAP, 'vtd'],
  ['the probe on the AMD driver', MAP + PROBE, 'amdvi'],
  ['both: two machines', MAP + QI + PROBE, 'unknown'],
  ['a fault, which Intel does not trace, but others than AMD do', MAP + FAULT, 'unknown'],
  ['nothing', '', 'unknown'],
])('%s', (_name, text, vendor) => {
  expect(vendorOf(readText(text).summary)).toBe(vendor);
});
