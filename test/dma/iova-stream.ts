/**
 * Random streams of allocator calls, run on an IovaDomain and written down as numbers, so that the kernel's own allocator can run the
 * same stream (iova-oracle/driver.c reads this format). A stream is its profile, seed and length.
 */
import { ENOMEM, Rng } from '../../src/base/index.ts';
import type { IovaPreset } from '../../src/dma/index.ts';
import { IOVA_LAST_PFN, IOVA_LINUX_6_1, IovaDevice, IovaDomain } from '../../src/dma/index.ts';

/** Calls, by the number that stands for them in a stream. Arguments a, b are given behind each. */
export const CALL = {
  /** nrCpus in the place of the CPU; startPfn, granule */
  start: 0,
  /** pages, limit */
  allocFast: 1,
  tryAllocFast: 2,
  alloc: 3,
  allocUnaligned: 4,
  /** pages, pfn */
  freeFast: 5,
  /** -, pfn */
  free: 6,
  /** first, last */
  reserve: 7,
  flush: 8,
  cpuOffline: 9,
  cpuOnline: 10,
  trim: 11,
  /** bytes; the CPU is cpu + 256 * device */
  deviceAlloc: 12,
  /** DMA mask, bus limit; the device as above */
  deviceLimits: 13,
  /** aperture (0: none), 1 for PCI + 2 for forcedac */
  deviceKind: 14,
} as const;

/** Numbers per call: kind, CPU, a, b. And per result: the call's, then the search state. */
export const CALL_FIELDS = 4;
export const RESULT_FIELDS = 5;

export interface Profile {
  readonly name: string;
  /** Most ranges live at a time. */
  readonly maxLive: number;
  /** Most pages of a request. */
  readonly maxPages: number;
  /** Pages that limits choose from. */
  readonly limits: readonly number[];
  /** Also calls that no driver makes: frees of what is not taken, or twice, or with another size. */
  readonly isWild?: boolean;
  /** Calls between changes of what is held and how it is picked; default 700. Depots fill up in long ones only. */
  readonly phase?: number;
  /** Share of calls past the magazines. */
  readonly slow: number;
  readonly nrCpus: number;
  readonly startPfn?: number;
  readonly granule?: number;
}

const P20 = 2 ** 20;
const LOW = P20 - 1;
/** 39 bits, and all 64. */
const MID = 2 ** 27 - 1;

export const PROFILES: readonly Profile[] = [
  { name: 'ring', maxLive: 300, maxPages: 1, limits: [LOW], slow: 0, nrCpus: 1 },
  { name: 'mix', maxLive: 2000, maxPages: 200, limits: [LOW, LOW, MID, IOVA_LAST_PFN], slow: 0.1, nrCpus: 4 },
  { name: 'depot', maxLive: 12000, maxPages: 2, limits: [LOW], slow: 0, nrCpus: 3, phase: 15000 },
  { name: 'aged', maxLive: 30000, maxPages: 32, limits: [LOW, MID], slow: 0.02, nrCpus: 4, phase: 15000 },
  { name: 'full', maxLive: 3000, maxPages: 70, limits: [3000, 6000, 9000, 9001], slow: 0.2, nrCpus: 4 },
  { name: 'tiny', maxLive: 60, maxPages: 9, limits: [0, 1, 2, 5, 17, 63, 64, 100], slow: 0.4, nrCpus: 2 },
  { name: 'large', maxLive: 400, maxPages: 20000, limits: [LOW, LOW, MID, IOVA_LAST_PFN], slow: 0.3, nrCpus: 2 },
  { name: 'huge', maxLive: 200, maxPages: 2 ** 34, limits: [LOW, MID, 2 ** 36, IOVA_LAST_PFN], slow: 0.5, nrCpus: 1 },
  {
    name: 'edge',
    maxLive: 500,
    maxPages: 64,
    limits: [LOW - 2, LOW - 1, LOW, P20, P20 + 1, P20 + 2, P20 + 40, P20 + 63, P20 + 200],
    slow: 0.7,
    nrCpus: 2,
    startPfn: P20 - 1500,
  },
  { name: 'wild', maxLive: 800, maxPages: 100, limits: [2000, LOW, MID], slow: 0.3, nrCpus: 4, isWild: true },
  {
    name: 'granule',
    maxLive: 1000,
    maxPages: 64,
    limits: [2 ** 16 - 1, 2 ** 16, 2 ** 30, 3000],
    slow: 0.2,
    nrCpus: 2,
    granule: 65536,
    startPfn: 7,
  },
];

/** A stream that was run: what was called, and what came of it. */
export interface Stream {
  readonly calls: Float64Array;
  readonly results: Float64Array;
}

interface Live {
  readonly pfn: number;
  readonly nrPages: number;
  /** Not through the magazines: its size may not be what a magazine holds. */
  readonly isSlow: boolean;
}

const DEVICES: readonly (readonly [mask: number, bus: number, aperture: number, flags: number])[] = [
  [2 ** 32 - 1, 0, 0, 1],
  [2 ** 64, 0, 2 ** 48 - 1, 1],
  [2 ** 39 - 1, 2 ** 40 - 1, 0, 0],
  [2 ** 48 - 1, 2 ** 44 - 1, 0, 3],
  [2 ** 64, 2 ** 36 - 1, 2 ** 52 - 1, 1],
];

class Runner {
  readonly calls: Float64Array;
  readonly results: Float64Array;
  readonly domain: IovaDomain;
  readonly #rng: Rng;
  readonly #profile: Profile;
  readonly #devices: IovaDevice[];
  readonly #live: Live[] = [];
  readonly #freed: Live[] = [];
  #nr = 0;
  // What a phase keeps: how many to hold, how to pick, which CPUs.
  #target = 0;
  #order = 0;
  #allocCpu = -1;
  #freeCpu = -1;
  #limit = 0;
  #sizes = 0;

  constructor(profile: Profile, seed: number, nrCalls: number, preset: IovaPreset) {
    this.#profile = profile;
    this.#rng = new Rng(seed);
    this.calls = new Float64Array(nrCalls * CALL_FIELDS);
    this.results = new Float64Array(nrCalls * RESULT_FIELDS);
    const { startPfn = 1, granule = 4096, nrCpus } = profile;
    this.domain = new IovaDomain({ startPfn, granule, nrCpus, preset });
    this.#note(CALL.start, nrCpus, startPfn, granule, 0);
    this.#devices = DEVICES.map(([dmaMask, busLimit, aperture, flags], index) => {
      this.#note(CALL.deviceLimits, 256 * index, dmaMask, busLimit, 0);
      this.#note(CALL.deviceKind, 256 * index, aperture, flags, 0);
      const apertureLast = aperture === 0 ? Infinity : aperture;
      return new IovaDevice(this.domain, {
        dmaMask,
        busLimit,
        apertureLast,
        isPci: (flags & 1) !== 0,
        forceDac: (flags & 2) !== 0,
      });
    });
    if (this.#rng.chance(0.7)) for (let nr = this.#rng.below(5); nr > 0; nr--) this.#reserve();
  }

  get isDone(): boolean {
    return this.#nr * CALL_FIELDS >= this.calls.length;
  }

  #note(kind: number, cpu: number, a: number, b: number, result: number): void {
    if (this.isDone) return;
    const { below32, below, max32Pages, nrRanges } = this.domain.searchState;
    this.calls.set([kind, cpu, a, b], this.#nr * CALL_FIELDS);
    this.results.set([result, below32, below, max32Pages, nrRanges], this.#nr * RESULT_FIELDS);
    this.#nr += 1;
  }

  phase(): void {
    const rng = this.#rng;
    const { maxLive, nrCpus, limits } = this.#profile;
    this.#target = rng.chance(0.3) ? 0 : rng.below(maxLive + 1);
    this.#order = rng.below(3);
    this.#allocCpu = rng.chance(0.5) ? -1 : rng.below(nrCpus);
    this.#freeCpu = rng.chance(0.5) ? -1 : rng.below(nrCpus);
    this.#limit = rng.chance(0.5) ? -1 : rng.pick(limits);
    this.#sizes = rng.below(5);
  }

  step(): void {
    const rng = this.#rng;
    const draw = rng.below(2000);
    if (draw === 0 && (this.#profile.phase === undefined || rng.chance(0.05))) {
      this.domain.flushCaches();
      this.#note(CALL.flush, 0, 0, 0, 0);
    } else if (draw < 4) this.#reserve();
    else if (draw < 8) this.#changeCpu();
    else if (draw < 16) {
      this.domain.trimDepots();
      this.#note(CALL.trim, 0, 0, 0, 0);
    } else if (draw < 60 && this.#profile.isWild === true) this.#wild();
    else if (rng.chance(this.#live.length < this.#target ? 0.8 : 0.2)) this.#alloc();
    else if (this.#live.length > 0) this.#free();
    else this.#alloc();
  }

  #pages(): number {
    const rng = this.#rng;
    const { maxPages } = this.#profile;
    const small = Math.min(maxPages, 32);
    switch (this.#sizes) {
      case 0:
        return 1;
      case 1:
        return Math.min(2 ** rng.below(9), maxPages);
      case 2:
        return 1 + rng.below(small);
      default:
        return 1 + Math.floor((rng.next32() / 2 ** 32) * maxPages);
    }
  }

  #cpu(wanted: number): number {
    return wanted >= 0 ? wanted : this.#rng.below(this.#profile.nrCpus);
  }

  #alloc(): void {
    const rng = this.#rng;
    const nrPages = this.#pages();
    const cpu = this.#cpu(this.#allocCpu);
    let limit = this.#limit >= 0 ? this.#limit : rng.pick(this.#profile.limits);
    if (rng.chance(0.02)) limit = rng.below(limit % 2 ** 32 === 0 ? 1 : (limit % 2 ** 32) + 1);
    const { domain } = this;
    if (rng.chance(this.#profile.slow)) {
      const isAligned = rng.chance(0.7);
      const pfn = isAligned ? domain.alloc(nrPages, limit) : domain.allocUnaligned(nrPages, limit);
      this.#note(isAligned ? CALL.alloc : CALL.allocUnaligned, cpu, nrPages, limit, pfn);
      if (pfn >= 0) this.#live.push({ pfn, nrPages, isSlow: true });
      return;
    }
    const draw = rng.below(4);
    let pfn: number;
    if (draw === 0) {
      const device = rng.below(this.#devices.length);
      const iova = this.#devices[device].alloc(nrPages * domain.granule, cpu);
      pfn = iova < 0 ? iova : iova / domain.granule;
      this.#note(CALL.deviceAlloc, cpu + 256 * device, nrPages * domain.granule, 0, pfn);
    } else if (draw === 1) {
      pfn = domain.tryAllocFast(nrPages, limit, cpu);
      this.#note(CALL.tryAllocFast, cpu, nrPages, limit, pfn);
    } else {
      pfn = domain.allocFast(nrPages, limit, cpu);
      this.#note(CALL.allocFast, cpu, nrPages, limit, pfn);
    }
    if (pfn >= 0) this.#live.push({ pfn, nrPages, isSlow: false });
    else if (pfn !== ENOMEM) throw new Error(`a stream makes no wrong call, but got ${pfn}`);
  }

  #take(): Live {
    const live = this.#live;
    let at = live.length - 1;
    if (this.#order === 1) at = 0;
    else if (this.#order === 2) at = this.#rng.below(live.length);
    const range = live[at];
    if (this.#order === 1 && live.length < 4000) live.shift();
    else {
      live[at] = live[live.length - 1];
      live.pop();
    }
    return range;
  }

  #free(): void {
    const range = this.#take();
    const cpu = this.#cpu(this.#freeCpu);
    const { domain } = this;
    if (range.isSlow || this.#rng.chance(this.#profile.slow / 4)) {
      this.#note(CALL.free, cpu, 0, range.pfn, domain.free(range.pfn));
    } else {
      this.#note(
        CALL.freeFast,
        cpu,
        range.nrPages,
        range.pfn,
        keepsTo0(domain.freeFast(range.pfn, range.nrPages, cpu)),
      );
    }
    if (this.#freed.length < 50) this.#freed.push(range);
    else this.#freed[this.#rng.below(50)] = range;
  }

  #reserve(): void {
    const rng = this.#rng;
    const limit = rng.pick(this.#profile.limits);
    const first = Math.floor((rng.next32() / 2 ** 32) * limit);
    const last = Math.min(first + rng.below(rng.pick([1, 20, 3000])), IOVA_LAST_PFN);
    this.#note(CALL.reserve, 0, first, last, this.domain.reserve(first, last));
  }

  #changeCpu(): void {
    const cpu = this.#rng.below(this.#profile.nrCpus);
    if (this.#rng.chance(0.5)) {
      this.domain.cpuOffline(cpu);
      this.#note(CALL.cpuOffline, cpu, 0, 0, 0);
    }
    this.domain.cpuOnline(cpu);
    this.#note(CALL.cpuOnline, cpu, 0, 0, 0);
  }

  /** Frees again, or somewhere inside, or with another size. */
  #wild(): void {
    const rng = this.#rng;
    if (this.#freed.length === 0) return;
    const range = rng.pick(this.#freed);
    const pfn = rng.chance(0.5) ? range.pfn : range.pfn + rng.below(range.nrPages + 2);
    if (rng.chance(0.5)) this.#note(CALL.free, 0, 0, pfn, this.domain.free(pfn));
    else {
      const nrPages = rng.chance(0.5) ? range.nrPages : 1 + rng.below(64);
      this.#note(CALL.freeFast, 0, nrPages, pfn, keepsTo0(this.domain.freeFast(pfn, nrPages, 0)));
    }
  }
}

/** free_iova_fast tells nobody that it found nothing. */
function keepsTo0(result: number): number {
  return result <= 0 ? 0 : result;
}

/** Runs a stream of a profile. */
export function runStream(
  profile: Profile,
  seed: number,
  nrCalls: number,
  preset: IovaPreset = IOVA_LINUX_6_1,
): Stream {
  const runner = new Runner(profile, seed, nrCalls, preset);
  const { phase = 700 } = profile;
  for (let count = 0; !runner.isDone; count++) {
    if (count % phase === 0) runner.phase();
    runner.step();
  }
  return runner;
}

/** Frees that gave a whole magazine of other ranges back to the tree, since the depot was full. */
export function nrOverflows({ calls, results }: Stream): number {
  let nr = 0;
  for (let at = RESULT_FIELDS, call = CALL_FIELDS; at < results.length; at += RESULT_FIELDS, call += CALL_FIELDS) {
    if (calls[call] === CALL.freeFast && results[at + 4] < results[at - 1] - 1) nr += 1;
  }
  return nr;
}
