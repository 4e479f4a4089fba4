/** Recorded streams of allocator calls and what Linux answered: the text of test/dma/data, and running it on ours. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { IovaPreset } from '../../src/dma/index.ts';
import { IovaDevice, IovaDomain } from '../../src/dma/index.ts';
import { CALL } from './iova-stream.ts';

export const DATA: string = join(import.meta.dirname, 'data');

export interface RecordedStream {
  readonly name: string;
  /** Rows (kind, CPU, a, b, result). */
  readonly rows: readonly (readonly number[])[];
}

/** Reads `kind cpu a b result` lines below `# name` lines. */
export function readRecording(file: string): RecordedStream[] {
  const text = gunzipSync(readFileSync(join(DATA, file))).toString();
  return text
    .split('# ')
    .slice(1)
    .map((part) => {
      const [name, ...lines] = part.trimEnd().split('\n');
      return { name, rows: lines.map((line) => line.split(' ').map(Number)) };
    });
}

/** Runs recorded calls; the results. Device calls give pages, as the recording does. */
export class Replay {
  readonly #preset: IovaPreset;
  #domain: IovaDomain;
  readonly #limits = new Map<number, { dmaMask: number; busLimit: number }>();
  readonly #devices = new Map<number, IovaDevice>();

  constructor(preset: IovaPreset) {
    this.#preset = preset;
    this.#domain = new IovaDomain({ preset });
  }

  get domain(): IovaDomain {
    return this.#domain;
  }

  apply([kind, where, a, b]: readonly number[]): number {
    const domain = this.#domain;
    const device = where >> 8;
    const cpu = where & 255;
    switch (kind) {
      case CALL.start:
        this.#domain = new IovaDomain({ nrCpus: where, startPfn: a, granule: b, preset: this.#preset });
        return 0;
      case CALL.allocFast:
        return domain.allocFast(a, b, cpu);
      case CALL.tryAllocFast:
        return domain.tryAllocFast(a, b, cpu);
      case CALL.alloc:
        return domain.alloc(a, b);
      case CALL.allocUnaligned:
        return domain.allocUnaligned(a, b);
      case CALL.freeFast:
        // free_iova_fast returns nothing.
        domain.freeFast(b, a, cpu);
        return 0;
      case CALL.free:
        return domain.free(b);
      case CALL.reserve:
        return domain.reserve(a, b);
      case CALL.flush:
        domain.flushCaches();
        return 0;
      case CALL.cpuOffline:
        domain.cpuOffline(cpu);
        return 0;
      case CALL.cpuOnline:
        domain.cpuOnline(cpu);
        return 0;
      case CALL.trim:
        domain.trimDepots();
        return 0;
      case CALL.deviceLimits:
        this.#limits.set(device, { dmaMask: a, busLimit: b });
        return 0;
      case CALL.deviceKind: {
        const aperture = a === 0 ? {} : { apertureLast: a };
        const kinds = { isPci: (b & 1) !== 0, forceDac: (b & 2) !== 0 };
        this.#devices.set(device, new IovaDevice(domain, { ...this.#limits.get(device), ...aperture, ...kinds }));
        return 0;
      }
      case CALL.deviceAlloc: {
        const iova = this.#devices.get(device)!.alloc(a, cpu);
        return iova < 0 ? iova : iova / domain.granule;
      }
      default:
        throw new RangeError(`a recording has no call ${kind}`);
    }
  }
}
