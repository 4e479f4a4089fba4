/** The conformance suite on our models. */
import { AmdviUnit, VtdUnit } from '../../hw/index.ts';
import type { MakeUnit } from './bench.ts';
import { LocalBench, QemuBench } from './bench.ts';
import type { OracleArch } from '../program.ts';
import type { CaseGroup, ConformanceCase } from './case.ts';
import { GENERIC_PT } from './generic-pt.ts';
import { KVM_UNIT_TESTS } from './kvm-unit-tests.ts';
import { OPENVMM_AMDVI } from './openvmm-amdvi.ts';
import { OPENVMM_VTD } from './openvmm-vtd.ts';
import { QEMU_QTEST } from './qemu-qtest.ts';
import type { CaseResult } from './play.ts';
import { playCase } from './play.ts';

export const CASE_GROUPS: readonly CaseGroup[] = [OPENVMM_VTD, OPENVMM_AMDVI, QEMU_QTEST, KVM_UNIT_TESTS, GENERIC_PT];

function ourUnit(conformanceCase: ConformanceCase): MakeUnit {
  return conformanceCase.arch === 'intel'
    ? (mem, clock) => new VtdUnit(mem, clock, conformanceCase.vtd)
    : (mem, clock) => new AmdviUnit(mem, clock, conformanceCase.amdvi);
}

/** Plays a case on our model. @param meddle what stands between the model and the case: a planted fault */
export function playOnModel(
  conformanceCase: ConformanceCase,
  meddle: (unit: ReturnType<MakeUnit>) => ReturnType<MakeUnit> = (unit) => unit,
): CaseResult {
  const makeUnit = ourUnit(conformanceCase);
  const { arch, coherent } = conformanceCase;
  return playCase(
    new LocalBench(arch, (mem, clock) => meddle(makeUnit(mem, clock)), coherent ?? true),
    conformanceCase,
  );
}

/** Plays cases on QEMU's unit of an architecture, in one process. @throws QemuError */
export function playOnQemu(arch: OracleArch, binary: string, cases: readonly ConformanceCase[]): CaseResult[] {
  const bench = new QemuBench(arch, binary, QEMU_LIFETIME_S);
  try {
    return cases.map((each) => playCase(bench, each));
  } finally {
    bench.close();
  }
}

const QEMU_LIFETIME_S = 120;
