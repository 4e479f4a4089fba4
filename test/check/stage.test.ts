/** The stage: what scenarios do on it is what a device sees, and the dispute of 2019 shows on the concrete models. */
import { describe, expect, it } from 'vitest';
import type { Arch, CallerKind, StageSetup } from '../../src/check/index.ts';
import { ARCHES, CALLERS, ProbeJudge, SCENARIOS, Stage, applies, setupFor } from '../../src/check/index.ts';
import { AMD_PRESETS, INTEL_PRESETS } from '../../src/drivers/index.ts';

function play(name: string, setup: StageSetup): ProbeJudge {
  const scenario = SCENARIOS.find((candidate) => candidate.name === name);
  if (scenario === undefined) throw new Error(`no scenario ${name}`);
  const judge = new ProbeJudge();
  scenario.run(new Stage(setupFor(scenario, setup), judge));
  return judge;
}

const presetsOf = (arch: Arch): readonly string[] => (arch === 'intel' ? INTEL_PRESETS : AMD_PRESETS);

describe.each(ARCHES)('%s', (arch) => {
  it.each(SCENARIOS.map(({ name }) => name))('%s shows the device what it promises', (name) => {
    for (const caller of CALLERS) {
      for (const npCache of [false, true]) {
        for (const unmapFlush of ['strict', 'lazy'] as const) {
          const setup: StageSetup = { arch, caller, npCache, unmapFlush, mapFlush: 'sync-map' };
          const scenario = SCENARIOS.find((candidate) => candidate.name === name);
          if (scenario === undefined || !applies(scenario, setup)) continue;
          const judge = play(name, setup);
          expect({ setup, findings: judge.findings }).toEqual({ setup, findings: [] });
          expect(judge.nrLooks).toBeGreaterThan(10);
        }
      }
    }
  });

  it('the policies of 2019: who sees a page that the device had looked at too early', () => {
    const verdict = (caller: CallerKind, mapFlush: 'none' | 'caller' | 'map' | 'sync-map'): boolean =>
      play('map/one-page', { arch, caller, npCache: true, mapFlush }).findings.length === 0;
    for (const caller of CALLERS) {
      expect([caller, verdict(caller, 'none')]).toEqual([caller, false]);
      expect([caller, verdict(caller, 'caller')]).toEqual([caller, caller === 'dma-iommu']);
      expect([caller, verdict(caller, 'map')]).toEqual([caller, true]);
      expect([caller, verdict(caller, 'sync-map')]).toEqual([caller, true]);
    }
  });

  it('the presets of kernels: AMD drivers of 5.1 and 5.3 left cached absent tables alone, everybody else is right', () => {
    for (const preset of presetsOf(arch)) {
      for (const caller of CALLERS) {
        const held = play('map/one-page', { arch, preset, caller, npCache: true }).findings.length === 0;
        const due = !(arch === 'amd' && ['linux-5.1', 'linux-5.3'].includes(preset));
        expect([preset, caller, held]).toEqual([preset, caller, due]);
      }
    }
  });
});
