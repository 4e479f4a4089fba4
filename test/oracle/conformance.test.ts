/** Other people's cases on our models; and a model that is wrong, which each group finds. */
import { describe, expect, it } from 'vitest';
import type { OracleUnit } from '../../src/oracle/index.ts';
import { CASE_GROUPS, failureText, playOnModel, runConformance } from '../../src/oracle/index.ts';
import { KVM_UNIT_TESTS } from '../../src/oracle/conformance/kvm-unit-tests.ts';
import { needTool } from '../skip.ts';

const QEMU = 'qemu-system-x86_64';
const nrCases = CASE_GROUPS.reduce((sum, { cases }) => sum + cases.length, 0);

it('there are at least 150 cases, each of them looks at something', () => {
  expect(nrCases).toBeGreaterThanOrEqual(150);
  for (const { cases } of CASE_GROUPS) {
    for (const each of cases) expect(playOnModel(each).nrValues, each.test).toBeGreaterThan(0);
  }
});

describe.each(CASE_GROUPS)('$title', ({ cases }) => {
  it.each(cases)('$test: $title', (each) => {
    expect(playOnModel(each).mismatches).toEqual([]);
  });
});

/** Models that are wrong in one thing. */
const PLANTED: Readonly<Record<string, (unit: OracleUnit) => OracleUnit>> = {
  'a page too far': (unit) => changed(unit, { outcome: (paddr) => (paddr < 0 ? paddr : paddr + 4096) }),
  'nothing is blocked': (unit) => changed(unit, { outcome: (paddr) => (paddr < 0 ? 2 ** 27 : paddr) }),
  'registers read 0': (unit) => changed(unit, { read: () => 0 }),
};
const FINDS: Readonly<Record<string, readonly string[]>> = {
  'openvmm-vtd': ['a page too far', 'nothing is blocked', 'registers read 0'],
  'openvmm-amdvi': ['a page too far', 'nothing is blocked', 'registers read 0'],
  // No qtest of QEMU's looks at what is blocked, and its registers are to read 0 where they are looked at.
  'qemu-qtest': ['a page too far'],
  'kvm-unit-tests': ['a page too far', 'registers read 0'],
  'generic-pt': ['a page too far', 'nothing is blocked'],
};

function changed(
  unit: OracleUnit,
  change: { outcome?: (paddr: number) => number; read?: (value: number) => number },
): OracleUnit {
  const { outcome = (paddr) => paddr, read = (value) => value } = change;
  return {
    read32: (offset) => read(unit.read32(offset)),
    write32: (offset, value) => unit.write32(offset, value),
    write64: (offset, lo, hi) => unit.write64(offset, lo, hi),
    translate: (sid, iova, access) => outcome(unit.translate(sid, iova, access)),
  };
}

describe.each(CASE_GROUPS)('planted, $title', ({ id, cases }) => {
  it.each(FINDS[id] ?? ['a group without a planted fault'])('%s: found', (name) => {
    const meddle = PLANTED[name];
    if (meddle === undefined) throw new Error(`no planted fault '${name}'`);
    expect(cases.some((each) => playOnModel(each, meddle).mismatches.length > 0)).toBe(true);
  });
});

describe("on QEMU's units too", () => {
  it.for(CASE_GROUPS)('$title', (group, context) => {
    needTool(context, QEMU);
    const results = runConformance({ arches: ['intel', 'amd'], binary: QEMU, groups: [group] });
    expect(results.failures.map(failureText)).toEqual([]);
    expect(results).toMatchObject({ cases: group.cases.length, passed: group.cases.length });
  });

  it('a QEMU that does not start fails each case', () => {
    const group = { ...KVM_UNIT_TESTS, cases: KVM_UNIT_TESTS.cases.slice(0, 2) };
    const results = runConformance({ arches: ['intel', 'amd'], binary: '/bin/false', groups: [group] });
    expect(results).toMatchObject({ cases: 2, passed: 0 });
    for (const failure of results.failures) {
      expect(failure).toMatchObject({ judge: 'qemu', group: 'kvm-unit-tests' });
      expect(failure.death).toMatch(/^\/bin\/false /);
    }
  });

  it('a case that says what is not so is told with its source, its step and both values', (context) => {
    needTool(context, QEMU);
    const wrong = {
      test: 'ver_register',
      title: 'a version that is none',
      arch: 'intel',
      steps: [{ see: 'register', name: 'major', offset: 0, mask: 0xf0, value: 0x70 }],
    } as const;
    const group = { ...KVM_UNIT_TESTS, cases: [wrong] };
    const { failures, passed } = runConformance({ arches: ['intel'], binary: QEMU, groups: [group] });
    expect(passed).toBe(0);
    expect(failures.map(failureText)).toEqual([
      'kvm-unit-tests, ver_register (a version that is none), on our model: step 0 (register), major: expected 0x70, seen 0x10',
      "kvm-unit-tests, ver_register (a version that is none), on QEMU's unit: step 0 (register), major: expected 0x70, seen 0x10",
    ]);
  });
});
