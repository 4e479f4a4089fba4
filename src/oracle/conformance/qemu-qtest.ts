/** QEMU's own qtests of its x86 IOMMUs (tests/qtest/iommu-intel-test.c, intel-iommu-test.c, amd-iommu-test.c), as `peers.md` tells them. */
import { amdvi, vtd } from '../../spec/index.ts';
import type { CaseGroup } from './case.ts';
import * as d from './dsl.ts';
import { WRAPS_LATE } from './openvmm-amdvi.ts';

const { DATA } = d;
const IOVA = 0x10_0000;

export const QEMU_QTEST: CaseGroup = {
  id: 'qemu-qtest',
  title: "QEMU's qtests",
  file: 'qemu tests/qtest/{iommu-intel-test,intel-iommu-test,amd-iommu-test}.c',
  cases: [
    {
      test: 'legacy-pt',
      title: 'pass-through: one word gets to its own address',
      arch: 'intel',
      steps: [d.context({ type: vtd.TT_PASS_THROUGH }), d.on(), d.writes(DATA, DATA), d.noRecord()],
    },
    {
      test: 'legacy-trans',
      title: 'by tables: one word gets to the page it is mapped to',
      arch: 'intel',
      steps: [d.context(), d.page(IOVA, DATA), d.on(), d.writes(IOVA + 0x40, DATA + 0x40), d.noRecord()],
    },
    {
      test: 'cmdbuf-head-wrap',
      title: 'after 256 waits the head is 0',
      arch: 'amd',
      steps: [
        d.on(),
        ...d.times(4, () => d.queue(...d.times(63, () => d.COMPLETION_INTERRUPT))),
        d.queue(...d.times(4, () => d.COMPLETION_INTERRUPT)),
        d.register('head', amdvi.CMD_HEAD_REG, -1, 0, {
          qemu: d.sees('head', 4096, WRAPS_LATE),
        }),
      ],
    },
  ],
  leftOut: [
    { tests: ['scalable-pt', 'scalable-slt', 'scalable-flt'], why: 'the model has legacy mode' },
    { tests: ['stage-1'], why: 'bits of scalable mode; and the model has no reset, a new unit is made instead' },
  ],
};
