/** The conformance suite: every case on our model and on QEMU's unit. */
import { AmdviUnit, VtdUnit } from '../../hw/index.ts';
import { QemuError } from '../../qemu/index.ts';
import type { OracleArch } from '../program.ts';
import type { ConformanceFailure, ConformanceResults } from '../results.ts';
import type { MakeUnit } from './bench.ts';
import { LocalBench, QemuBench } from './bench.ts';
import type { CaseGroup, ConformanceCase } from './case.ts';
import { GENERIC_PT } from './generic-pt.ts';
import { KVM_UNIT_TESTS } from './kvm-unit-tests.ts';
import { OPENVMM_AMDVI } from './openvmm-amdvi.ts';
import { OPENVMM_VTD } from './openvmm-vtd.ts';
import { QEMU_QTEST } from './qemu-qtest.ts';
import type { CaseResult } from './play.ts';
import { playCase } from './play.ts';

export const CASE_GROUPS: readonly CaseGroup[] = [OPENVMM_VTD, OPENVMM_AMDVI, QEMU_QTEST, KVM_UNIT_TESTS, GENERIC_PT];

/** A QEMU that plays cases for longer than this hangs. */
const QEMU_LIFETIME_S = 120;

function ourUnit({ arch }: ConformanceCase): MakeUnit {
  return arch === 'intel' ? (mem, clock) => new VtdUnit(mem, clock) : (mem, clock) => new AmdviUnit(mem, clock);
}

/** Plays a case on our model. @param meddle what stands between the model and the case: a planted fault */
export function playOnModel(
  conformanceCase: ConformanceCase,
  meddle: (unit: ReturnType<MakeUnit>) => ReturnType<MakeUnit> = (unit) => unit,
): CaseResult {
  const makeUnit = ourUnit(conformanceCase);
  const bench = new LocalBench(conformanceCase.arch, (mem, clock) => meddle(makeUnit(mem, clock)));
  return playCase(bench, conformanceCase);
}

/** QEMU's unit of an architecture. One process serves until it dies; the next case gets another. */
class QemuJudge {
  readonly #arch: OracleArch;
  readonly #binary: string;
  #bench: QemuBench | null = null;

  constructor(arch: OracleArch, binary: string) {
    this.#arch = arch;
    this.#binary = binary;
  }

  /** @returns what was seen, or what killed QEMU */
  play(conformanceCase: ConformanceCase): CaseResult & { readonly death?: string } {
    try {
      this.#bench ??= new QemuBench(this.#arch, this.#binary, QEMU_LIFETIME_S);
      return playCase(this.#bench, conformanceCase);
    } catch (error) {
      if (!(error instanceof QemuError)) throw error;
      this.close();
      return { mismatches: [], reasons: [], nrValues: 0, death: error.message };
    }
  }

  close(): void {
    this.#bench?.close();
    this.#bench = null;
  }
}

export interface ConformanceOptions {
  readonly arches: readonly OracleArch[];
  /** QEMU's program. */
  readonly binary: string;
  /** Default all. */
  readonly groups?: readonly CaseGroup[];
}

/** Plays the cases of some architectures on our models and on QEMU's units. A QEMU that dies fails the case it died of. */
export function runConformance({ arches, binary, groups = CASE_GROUPS }: ConformanceOptions): ConformanceResults {
  const failures: ConformanceFailure[] = [];
  const total = { cases: 0, passed: 0, values: 0, otherwise: 0 };
  for (const arch of arches) {
    const qemu = new QemuJudge(arch, binary);
    const cases = groups.flatMap((group) => group.cases.map((each) => ({ group: group.id, each })));
    try {
      for (const { group, each } of cases.filter((one) => one.each.arch === arch)) {
        const ours = playOnModel(each);
        const theirs = qemu.play(each);
        const said = { group, test: each.test, title: each.title, arch };
        const failed: ConformanceFailure[] = [
          ...ours.mismatches.map((mismatch) => ({ ...said, judge: 'model' as const, ...mismatch })),
          ...theirs.mismatches.map((mismatch) => ({ ...said, judge: 'qemu' as const, ...mismatch })),
          ...(theirs.death === undefined ? [] : [{ ...said, judge: 'qemu' as const, death: theirs.death }]),
        ];
        failures.push(...failed);
        total.cases += 1;
        total.passed += failed.length === 0 ? 1 : 0;
        total.values += ours.nrValues + theirs.nrValues;
        total.otherwise += theirs.reasons.length > 0 ? 1 : 0;
      }
    } finally {
      qemu.close();
    }
  }
  return { ...total, failures };
}
