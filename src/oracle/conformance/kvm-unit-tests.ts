/** kvm-unit-tests' x86/intel-iommu.c: what vtd_init reports, and its DMA through edu. */
import { vtd } from '../../spec/index.ts';
import { QUEUE, ROOT } from './board.ts';
import type { CaseGroup, CaseStep, ConformanceCase } from './case.ts';
import * as d from './dsl.ts';

const { DATA } = d;
const one = (test: string, title: string, ...steps: readonly CaseStep[]): ConformanceCase => ({
  test,
  title,
  arch: 'intel',
  steps,
});
const status = (name: string, bit: number): CaseStep => d.register(name, vtd.GSTS_REG, bit, bit);

export const KVM_UNIT_TESTS: CaseGroup = {
  id: 'kvm-unit-tests',
  title: 'kvm-unit-tests',
  file: 'kvm-unit-tests x86/intel-iommu.c, lib/x86/intel-iommu.c',
  cases: [
    one('fault status check', 'FSTS is 0', d.register('fsts', vtd.FSTS_REG, -1, 0)),
    one('QI enablement', 'QIES', d.writeq(vtd.IQA_REG, QUEUE), d.gcmd(vtd.GCMD_QIE), status('qies', vtd.GCMD_QIE)),
    one(
      'DMAR table setup',
      'RTPS',
      d.writeq(vtd.RTADDR_REG, ROOT),
      d.gcmd(vtd.GCMD_SRTP),
      status('rtps', vtd.GCMD_SRTP),
    ),
    one(
      'DMAR enablement',
      'TES',
      d.on({ translation: false }),
      d.gcmd(vtd.GCMD_TE | vtd.GCMD_QIE),
      status('tes', vtd.GCMD_TE),
    ),
    one('DMAR support 39 bits address width', 'SAGAW bit 1', d.register('sagaw', vtd.CAP_REG, 0x200, 0x200)),
    one('DMAR support huge pages', 'SLLPS', d.register('sllps', vtd.CAP_REG + 4, 0xc, 0xc)),
    one(
      'DMAR 4B memcpy test',
      'a word is read from one mapped page and written to another',
      d.context({ levels: 3 }),
      d.page(0, DATA, { levels: 3 }),
      d.page(0x1000, DATA + 0x1000, { levels: 3 }),
      d.on(),
      d.reads(0, DATA),
      d.writes(0x1004, DATA + 0x1004),
      d.noRecord(),
    ),
  ],
  leftOut: [
    {
      tests: ['IR table setup', 'IR enablement', 'IR IOAPIC', 'IR MSI'],
      why: 'interrupts are not remapped by the model',
    },
  ],
};
