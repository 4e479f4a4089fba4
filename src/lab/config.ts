/** What a lab machine is built of, and its text for links: `intel_np_none_strict_vfio_linux-6.12`. */
import type { Arch, CallerKind, StageSetup } from '../check/index.ts';
import { ARCHES, CALLERS, PRESETS_OF } from '../check/index.ts';
import type { MapFlush, UnmapFlush } from '../drivers/index.ts';
import { MAP_FLUSHES, UNMAP_FLUSHES } from '../drivers/index.ts';
import { LabTextError } from './text-error.ts';

export interface LabConfig {
  readonly arch: Arch;
  /** CAP.CM or NpCache: the unit may cache what is not present. */
  readonly npCache: boolean;
  /** Who drops cached not-present entries after a map. */
  readonly mapFlush: MapFlush;
  /** What unmaps of the DMA API wait for; other callers are strict always. */
  readonly unmapFlush: UnmapFlush;
  readonly caller: CallerKind;
  /** Kernel whose driver and core are used; one of PRESETS_OF[arch]. */
  readonly preset: string;
}

export const DEFAULT_CONFIG: LabConfig = {
  arch: 'intel',
  npCache: true,
  mapFlush: 'sync-map',
  unmapFlush: 'strict',
  caller: 'dma-iommu',
  preset: 'linux-6.12',
};

const NP = ['np', 'plain'] as const;

export function formatConfig({ arch, npCache, mapFlush, unmapFlush, caller, preset }: LabConfig): string {
  return [arch, npCache ? NP[0] : NP[1], mapFlush, unmapFlush, caller, preset].join('_');
}

/** @throws LabTextError naming the part that is wrong and what it may be */
export function parseConfig(text: string): LabConfig {
  const parts = text.split('_');
  if (parts.length !== 6) {
    throw new LabTextError(
      `The machine '${cut(text)}' has ${parts.length} parts; it needs 6, as in '${formatConfig(DEFAULT_CONFIG)}'.`,
    );
  }
  const [arch, np, mapFlush, unmapFlush, caller, preset] = parts;
  const known = oneOf(ARCHES, arch, 'vendor');
  return {
    arch: known,
    npCache: oneOf(NP, np, 'caching of not-present entries') === NP[0],
    mapFlush: oneOf(MAP_FLUSHES, mapFlush, 'map-flush policy'),
    unmapFlush: oneOf(UNMAP_FLUSHES, unmapFlush, 'unmap-flush policy'),
    caller: oneOf(CALLERS, caller, 'caller'),
    preset: oneOf(PRESETS_OF[known], preset, `kernel of ${known}`),
  };
}

function oneOf<T extends string>(known: readonly T[], text: string, what: string): T {
  const found = known.find((value) => value === text);
  if (found === undefined) throw new LabTextError(`'${cut(text)}' is no ${what}; there are ${known.join(', ')}.`);
  return found;
}

/** What a link holds may be long. */
export function cut(text: string): string {
  return text.length <= 40 ? text : `${text.slice(0, 40)}…`;
}

/** Records for as many faults as a story makes; a single one, as on many units, would compress most of them. */
const FAULT_RECORDS = 16;

export function stageSetup(config: LabConfig): StageSetup {
  return config.arch === 'intel' ? { ...config, vtd: { nfr: FAULT_RECORDS } } : { ...config };
}
