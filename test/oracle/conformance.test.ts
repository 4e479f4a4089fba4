/** Other people's cases on our models; and a model that is wrong, which each group finds. */
import { describe, expect, it } from 'vitest';
import type { OracleUnit } from '../../src/oracle/index.ts';
import { CASE_GROUPS, playOnModel, playOnQemu } from '../../src/oracle/index.ts';
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

describe.each(CASE_GROUPS)("on QEMU's units, $title", ({ cases }) => {
  it.for(['intel', 'amd'] as const)('%s', (arch, context) => {
    needTool(context, QEMU);
    const asked = cases.filter((each) => each.arch === arch);
    if (asked.length === 0) return;
    const results = playOnQemu(arch, QEMU, asked);
    expect(
      results.flatMap(({ mismatches }, nr) => (mismatches.length > 0 ? [asked[nr]?.test, mismatches] : [])),
    ).toEqual([]);
  });
});
