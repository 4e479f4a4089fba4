/** What a replay is to play: what the user said, and where nothing was said, what the trace or the log compared with tells. */
import type { MapFlush } from '../drivers/index.ts';
import { AMD_PRESETS, INTEL_PRESETS } from '../drivers/index.ts';
import type { TraceSummary } from '../trace/index.ts';
import { InputProblem, vendorOf } from '../trace/index.ts';
import { attribute } from './attribution.ts';
import type { Grouper } from './group.ts';
import type { HardwareModel } from './machines.ts';
import { MODEL_NAMES } from './machines.ts';
import type { Observed } from './observed.ts';
import type { Plan } from './plan.ts';
import { planCalls } from './plan.ts';
import type { UnmapPolicy } from './player.ts';
import type { SpillStore } from './record-log.ts';

/** What a user can say. */
export interface ReplayChoice {
  readonly mapFlush: readonly MapFlush[];
  readonly unmapFlush: readonly UnmapPolicy[];
  /** Left out: as the log or the trace tells, else VT-d. */
  readonly hardware?: HardwareModel;
  readonly preset: string;
  /** Left out: as the log shows, else on. */
  readonly cachingMode?: 'on' | 'off';
}

/** The modelled hardware of a run. */
export interface HardwareFacts {
  readonly model: HardwareModel;
  /** What said so: the user, the log compared with, the trace; `default` when nothing did. */
  readonly told: 'option' | 'log' | 'trace' | 'default';
  readonly cachingMode: boolean;
}

/** Kernels whose driver is known, by model. A kernel is only named where its driver differs from the one before. */
export const PRESETS_OF: Readonly<Record<HardwareModel, readonly string[]>> = {
  vtd: INTEL_PRESETS,
  amdvi: AMD_PRESETS,
};

/** A choice that does not fit the trace. The message is one line. */
export class ChoiceProblem extends Error {
  override readonly name = 'ChoiceProblem';
}

/** Plans a trace that was read to its end. @throws InputProblem when it holds nothing to replay */
export function planTrace(
  grouper: Grouper,
  { unmapFlush }: ReplayChoice,
  summary: TraceSummary,
  spill: SpillStore | null = null,
): Plan {
  grouper.finish();
  if (grouper.counts.map + grouper.counts.unmap === 0) {
    const events = `${summary.events.toLocaleString('en-US')} ${summary.events === 1 ? 'event' : 'events'} read`;
    throw new InputProblem(
      `holds no iommu:map or iommu:unmap event (${summary.format}, ${events}, ${summary.skipped} skipped). ` +
        'Record with: trace-cmd record -e iommu -e dma -e intel_iommu',
    );
  }
  return planCalls(grouper, spill, unmapFlush.includes('recorded') ? attribute(grouper) : null);
}

/**
 * Whose hardware is played: as the user, the log or the trace says; VT-d when nothing does.
 * @param summary,plan null for a trace that was not read to its end @throws ChoiceProblem when the preset is of other hardware
 */
export function chooseHardware(
  { hardware, preset, cachingMode }: ReplayChoice,
  observed: Observed | null,
  summary: TraceSummary | null,
  plan: Plan | null,
): HardwareFacts {
  const facts = {
    ...chooseModel(hardware, observed, summary),
    cachingMode:
      cachingMode === undefined
        ? observed === null || plan === null || observed.showsCachingMode(plan.counts.unmap)
        : cachingMode === 'on',
  };
  if (plan !== null && !PRESETS_OF[facts.model].includes(preset)) {
    throw new ChoiceProblem(
      `preset ${preset} has no driver of ${MODEL_NAMES[facts.model]}; there are ${PRESETS_OF[facts.model].join(', ')}`,
    );
  }
  return facts;
}

function chooseModel(
  hardware: HardwareModel | undefined,
  observed: Observed | null,
  summary: TraceSummary | null,
): Pick<HardwareFacts, 'model' | 'told'> {
  if (hardware !== undefined) return { model: hardware, told: 'option' };
  if (observed !== null) return { model: observed.commands.model, told: 'log' };
  const vendor = summary === null ? 'unknown' : vendorOf(summary);
  return vendor === 'unknown' ? { model: 'vtd', told: 'default' } : { model: vendor, told: 'trace' };
}
