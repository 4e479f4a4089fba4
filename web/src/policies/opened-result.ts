/** The JSON that `iommukit replay --json` wrote, opened in the view: the same table, without timelines. It may come from anybody. */
import { MAP_FLUSHES } from '../../../src/drivers/index.ts';
import { HARDWARE_MODELS, UNMAP_POLICIES } from '../../../src/replay/index.ts';
import type { ReplayReport } from '../../../src/report/index.ts';
import { REPLAY_SCHEMA } from '../../../src/report/index.ts';

const MOST_RUNS: number = MAP_FLUSHES.length * UNMAP_POLICIES.length;
/** Longer ones are none of ours. */
const MOST_BYTES: number = 64 << 20;

export async function isResult(file: Blob): Promise<boolean> {
  const head = await file.slice(0, 64).text();
  return head.trimStart().startsWith('{');
}

/** @throws Error with a message for people */
export async function readResult(file: File): Promise<ReplayReport> {
  if (file.size > MOST_BYTES) throw new Error(`${file.name}: is JSON of ${file.size} bytes; no result is that long.`);
  let json: unknown;
  try {
    json = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name}: begins like JSON and is none; write it again with --json.`);
  }
  if (!isRecord(json) || json['schema'] !== REPLAY_SCHEMA) {
    throw new Error(`${file.name}: is JSON, but no result of iommukit replay (${REPLAY_SCHEMA}).`);
  }
  const wrong = firstWrong(json, SHAPE, '');
  if (wrong !== null) throw new Error(`${file.name}: ${wrong}; write it again with --json.`);
  const { hardware, runs } = json;
  if (!isRecord(hardware) || !HARDWARE_MODELS.some((model) => model === hardware['model'])) {
    throw new Error(`${file.name}: hardware.model is none of ${HARDWARE_MODELS.join(', ')}.`);
  }
  if (!Array.isArray(runs) || runs.length > MOST_RUNS) {
    throw new Error(`${file.name}: has more than ${MOST_RUNS} runs; there are not that many policies.`);
  }
  // The shape was looked at, field by field, as far as the view reads it.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- see above
  return json as unknown as ReplayReport;
}

type Shape = 'number' | 'string' | 'boolean' | readonly [Shape] | { readonly [field: string]: Shape };

/** What the view reads of a report. */
const SHAPE: Shape = {
  trace: {
    file: 'string',
    format: 'string',
    events: 'number',
    map: 'number',
    unmap: 'number',
    dma: 'number',
    skippedLines: 'number',
    lost: 'number',
    hasIrqContext: 'boolean',
  },
  grouping: {
    rule: 'string',
    mapCalls: 'number',
    ambiguous: 'number',
    overlapping: 'number',
    unmapWithoutMap: 'number',
    inferredDomains: 'number',
  },
  hardware: { model: 'string', told: 'string', cachingMode: 'boolean' },
  interrupted: 'boolean',
  runs: [
    {
      preset: 'string',
      mapFlush: 'string',
      unmapFlush: 'string',
      commands: { page: 'number', domain: 'number', global: 'number', context: 'number', wait: 'number' },
      doorbells: 'number',
      perMapCall: 'number',
      perUnmap: 'number',
      staleWindowMs: { p50: 'number', p99: 'number', max: 'number' },
      violations: { notPresent: 'number', stale: 'number' },
      renamed: 'number',
      untouchedPages: 'number',
      failed: 'number',
    },
  ],
};

/** What does not fit, in words; null when all does. */
function firstWrong(value: unknown, shape: Shape, path: string): string | null {
  if (typeof shape === 'string') return typeof value === shape ? null : `${path} is no ${shape}`;
  if (isList(shape)) {
    if (!Array.isArray(value)) return `${path} is no list`;
    for (const [i, item] of value.entries()) {
      const wrong = firstWrong(item, shape[0], `${path}[${i}]`);
      if (wrong !== null) return wrong;
    }
    return null;
  }
  if (!isRecord(value)) return `${path} is missing`;
  for (const [field, inner] of Object.entries(shape)) {
    const wrong = firstWrong(value[field], inner, path === '' ? field : `${path}.${field}`);
    if (wrong !== null) return wrong;
  }
  return null;
}

function isList(shape: Shape): shape is readonly [Shape] {
  return Array.isArray(shape);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
