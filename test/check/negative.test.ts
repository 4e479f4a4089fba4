/** Bugs that others had: the driver as they describe it is caught on the concrete model, the repaired one passes. */
import { describe, expect, it } from 'vitest';
import type { DriverFactory, NegativeOracle } from '../../src/check/index.ts';
import { NEGATIVE_LEFT_OUT, NEGATIVE_ORACLES, ProbeJudge, playOracle } from '../../src/check/index.ts';

function findings(oracle: NegativeOracle, makeDriver: DriverFactory): string[] {
  const outcome = playOracle(oracle, makeDriver, new ProbeJudge());
  expect(outcome.message).toBe(null);
  return [...new Set(outcome.findings.map(({ contract }) => contract))];
}

describe.each(NEGATIVE_ORACLES.map((oracle) => [oracle.id, oracle] as const))('%s', (_id, oracle) => {
  it('the broken driver is caught', () => {
    expect(findings(oracle, oracle.broken)).toContain(oracle.contract);
  });
  it('the fixed driver passes', () => {
    expect(findings(oracle, oracle.fixed)).toEqual([]);
  });
});

it('every case of the list is a scenario or says why not', () => {
  const ids = [...NEGATIVE_ORACLES, ...NEGATIVE_LEFT_OUT].map(({ id }) =>
    id.replace(/-(map|context|coherency|root)$/, ''),
  );
  expect([...new Set(ids)].toSorted()).toEqual(
    [
      'seL4#1729',
      'asterinas#3920',
      'asterinas#2645',
      'asterinas#2090',
      'edk2-platforms#282',
      'pKVM-IA#20',
      'pKVM-IA#84',
      'pKVM-IA#91',
      'NON-OS#498',
      'riscv-iommu#693',
    ].toSorted(),
  );
});
