/**
 * The KUnit suite of Linux' generic_pt (drivers/iommu/generic_pt/kunit_iommu_pt.h), whose numbers are in `peers.md`, on our
 * table writer and, through it, on the units.
 */
import type { OracleArch } from '../program.ts';
import type { CaseGroup, CaseStep, ConformanceCase } from './case.ts';
import * as d from './dsl.ts';

const { DATA, MIB2, GIB } = d;
const attach = (arch: OracleArch): readonly CaseStep[] => [
  { do: 'writer', levels: 4 },
  arch === 'intel' ? d.context({ top: 'software' }) : d.device({ top: 'software' }),
  d.on(),
];
const map = (iova: number, paddr: number, nrBytes: number, errno: number = 0): CaseStep => ({
  see: 'map',
  iova,
  paddr,
  nrBytes,
  errno,
});
const unmap = (iova: number, nrBytes: number, unmapped: number): CaseStep => ({
  see: 'unmap',
  iova,
  nrBytes,
  unmapped,
});
const leaves = (nr: Readonly<Record<number, number>>): CaseStep => ({ see: 'leaves', nr });
const span = (iova: number, at: number, nrBytes: number, arrives: boolean = true): CaseStep => ({
  see: 'span',
  iova,
  at,
  nrBytes,
  arrives,
});
const SIZES: Readonly<Record<OracleArch, readonly number[]>> = {
  intel: [12, 21, 30],
  amd: [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 30],
};

function casesOf(arch: OracleArch): ConformanceCase[] {
  const one = (test: string, title: string, ...steps: readonly CaseStep[]): ConformanceCase => ({
    test,
    title: `${title} (${arch === 'intel' ? 'vtdss' : 'amdv1'})`,
    arch,
    steps: [...attach(arch), ...steps],
  });
  return [
    ...SIZES[arch].map((lg2) =>
      one(
        'test_map_simple',
        `a page of 2^${lg2}`,
        map(4 * GIB, 0, 2 ** lg2),
        leaves({ [lg2]: 1 }),
        ...(lg2 <= 27 ? [] : [span(4 * GIB + DATA, DATA, MIB2)]),
        unmap(4 * GIB, 2 ** lg2, 2 ** lg2),
        leaves({}),
      ),
    ),
    one(
      'test_map_table_to_oa',
      'a table of small pages gives way to a large one',
      map(MIB2, DATA, 4096),
      unmap(MIB2, 4096, 4096),
      map(MIB2, DATA, MIB2),
      leaves({ 21: 1 }),
      span(MIB2, DATA, MIB2),
    ),
    one(
      'test_unmap_split',
      'a piece of a large page unmaps all of it',
      map(MIB2, DATA, MIB2),
      unmap(MIB2, 4096, MIB2),
      leaves({}),
    ),
    one(
      'test_random_map',
      'an overlap is refused: -EADDRINUSE',
      map(MIB2, DATA, 4096),
      map(MIB2, DATA + MIB2, 4096, -98),
      span(MIB2, DATA, 4096),
    ),
    one(
      'test_pgsize_boundary',
      '0xfef80000 to 0x208b95d000: the two are aligned alike to 4 KiB and no more',
      map(0xfef80000, 0x208b95d000, 0x80000),
      leaves({ 12: 128 }),
      unmap(0xfef80000, 0x80000, 0x80000),
      leaves({}),
    ),
    one(
      'test_mixed',
      arch === 'intel'
        ? '20 leaves: 14 of 2 MiB, 3 of 1 GiB, 3 of 2 MiB'
        : 'the same range in the sizes of this format',
      map(0x3fe400000, 0x3fe400000, 0xc2200000),
      // amdv1: 4 + 8 + 16 MiB, 2 + 1 GiB, 4 + 2 MiB: the largest sizes that both addresses are aligned to.
      leaves(arch === 'intel' ? { 21: 17, 30: 3 } : { 21: 1, 22: 2, 23: 1, 24: 1, 30: 1, 31: 1 }),
      unmap(0x3fe400000, 0xc2200000, 0xc2200000),
      leaves({}),
    ),
    one(
      'test_unmap_split',
      'nothing is left for a device',
      map(MIB2, DATA, MIB2),
      unmap(MIB2, MIB2, MIB2),
      span(MIB2, DATA, MIB2, false),
    ),
  ];
}

export const GENERIC_PT: CaseGroup = {
  id: 'generic-pt',
  title: "Linux' generic_pt",
  file: 'linux drivers/iommu/generic_pt/kunit_iommu_pt.h',
  cases: [...casesOf('intel'), ...casesOf('amd')],
  leftOut: [{ tests: ['x86_64, riscv64, mock formats'], why: 'formats that are not ours' }],
};
