/** The same life on other hardware: what a driver learns from capability registers must make a difference. */
import type { Scenario } from '../scenario.ts';
import type { Stage } from '../stage.ts';
import { DEVICES } from '../stage.ts';
import { IOVA, KiB4, MEMORY, MiB2, run, scattered } from './places.ts';

type Hardware = Pick<Scenario, 'arch' | 'vtd' | 'amdvi' | 'coherent'>;

/** Maps, remaps, attaches and detaches in few calls. */
function life(stage: Stage): void {
  const space = stage.space();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, run(1)), 'map');
  stage.must(space.unmap(IOVA, KiB4), 'unmap');
  stage.settle();
  stage.must(space.map(IOVA, run(1, MEMORY + MiB2)), 'map of another page');
  space.detach(DEVICES[0]);
}

/** The same with many pages, large leaves and two devices. */
function longLife(stage: Stage): void {
  const space = stage.space();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, scattered(16)), 'map of 16 pages');
  stage.must(space.attach(DEVICES[2]), 'attach of the second');
  stage.must(space.map(IOVA + MiB2, [[MEMORY + MiB2, 2 * MiB2]]), 'map of 4 MiB');
  stage.must(space.unmap(IOVA, 16 * KiB4), 'unmap of 16 pages');
  stage.settle();
  stage.must(space.map(IOVA, scattered(16, MEMORY + 8 * MiB2)), 'map of 16 others');
  space.detach(DEVICES[0]);
  stage.must(space.unmap(IOVA + MiB2, 2 * MiB2), 'unmap of 4 MiB');
  stage.must(space.unmap(IOVA, 16 * KiB4), 'unmap of 16 others');
}

function on(name: string, title: string, hardware: Hardware): Scenario[] {
  return [
    { name: `${name}/short`, title, small: true, ...hardware, run: life },
    { name: `${name}/long`, title: `${title}; many pages, two devices`, small: false, ...hardware, run: longLife },
  ];
}

export const HARDWARE_SCENARIOS: readonly Scenario[] = [
  ...on('hw/non-coherent', 'tables are not snooped (ECAP.C = 0): lines must be flushed', {
    arch: 'intel',
    coherent: false,
  }),
  ...on('hw/write-buffer', 'stores wait in a chipset buffer (CAP.RWBF)', {
    arch: 'intel',
    coherent: false,
    vtd: { rwbf: true },
  }),
  ...on('hw/registers', 'no invalidation queue (ECAP.QI = 0): invalidations go over registers', {
    arch: 'intel',
    vtd: { qi: false },
  }),
  ...on('hw/no-psi', 'no page-selective invalidation (CAP.PSI = 0)', { arch: 'intel', vtd: { psi: false } }),
  ...on('hw/small-mask', 'at most 4 pages at once (CAP.MAMV = 2)', { arch: 'intel', vtd: { mamv: 2 } }),
  ...on('hw/3-levels', 'tables of three levels only', { arch: 'intel', vtd: { sagaw: [3], mgaw: 39 } }),
  ...on('hw/4-levels', 'tables of four levels only', { arch: 'intel', vtd: { sagaw: [4] } }),
  ...on('hw/no-large', 'no large leaves', { arch: 'intel', vtd: { sllps2m: false, sllps1g: false } }),
  ...on('hw/slow', 'commands take their time: whoever does not wait is too early', {
    vtd: { completionDelayNs: 20_000 },
    amdvi: { completionDelayNs: 20_000 },
  }),
  ...on('hw/pieces', 'large leaves are cached in pieces', {
    vtd: { psiDropsWholeSuperpage: false },
    amdvi: { holdsWholePages: false },
  }),
];
