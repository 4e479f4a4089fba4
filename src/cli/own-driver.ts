/** A user's own driver: a module whose default export makes an IommuOps. */
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Arch, DriverFactory } from '../check/index.ts';
import { ARCHES, StageError } from '../check/index.ts';
import type { IommuOps } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import { FileError } from './file-error.ts';

export interface OwnDriver {
  readonly makeDriver: DriverFactory;
  /** Whose hardware it drives, when the module says so. */
  readonly arch: Arch | null;
}

/** What `IommuOps` asks for; optional members are not listed. */
const METHODS: readonly (keyof IommuOps)[] = [
  'domainAlloc',
  'domainFree',
  'probeDevice',
  'releaseDevice',
  'attachDev',
  'detachDev',
  'getResvRegions',
  'mapPages',
  'unmapPages',
  'iotlbSyncMap',
  'iotlbSync',
  'flushIotlbAll',
  'flushNpCache',
  'iovaToPhys',
];

/** A driver that turns this often in waiting loops waits for what never comes: 0.2 s of the machine's time. */
const MAX_TURNS = 2_000_000;

/** @throws FileError when the path leads to no module with a driver */
export async function loadDriver(path: string): Promise<OwnDriver> {
  const full = resolve(path);
  if (!existsSync(full)) throw new FileError(path, 'does not exist');
  if (statSync(full).isDirectory()) throw new FileError(path, 'is a folder; give the file of the module');
  if (!/\.[cm]?[jt]s$/.test(path)) {
    throw new FileError(path, 'is no JavaScript module by its name; one ends in .js, .mjs or .cjs');
  }
  let module: unknown;
  try {
    module = await import(pathToFileURL(full).href);
  } catch (error) {
    throw new FileError(path, `cannot be loaded: ${textOf(error)}`);
  }
  const make = memberOf(module, 'default');
  if (typeof make !== 'function') {
    throw new FileError(
      path,
      `has no driver: its default export must be a function (platform, setup) => IommuOps, it is ${kindOf(make)}`,
    );
  }
  const arch = memberOf(module, 'arch');
  if (arch !== undefined && !ARCHES.some((known) => known === arch)) {
    throw new FileError(path, `exports arch = ${JSON.stringify(arch)}; it must be 'intel' or 'amd'`);
  }
  return {
    arch: ARCHES.find((known) => known === arch) ?? null,
    makeDriver: (platform, setup) => {
      const ops: unknown = make(guarded(platform), setup);
      requireOps(ops);
      return ops;
    },
  };
}

/** @throws StageError for what is no driver */
function requireOps(ops: unknown): asserts ops is IommuOps {
  if (typeof ops !== 'object' || ops === null) {
    throw new StageError(`the module's function returned ${kindOf(ops)}, not an IommuOps`);
  }
  const missing = METHODS.filter((name) => typeof memberOf(ops, name) !== 'function');
  if (missing.length > 0) throw new StageError(`the driver lacks ${missing.join(', ')} (IommuOps of iommukit/iommu)`);
}

/** The platform, with an end to waiting loops: one that never ends would hang the whole check. */
function guarded(inner: Platform): Platform {
  let turns = 0;
  return {
    mem: inner.mem,
    pages: inner.pages,
    readl: (paddr) => inner.readl(paddr),
    writel: (paddr, value) => inner.writel(paddr, value),
    writeq: (paddr, lo, hi) => inner.writeq(paddr, lo, hi),
    loadShared32: (paddr) => inner.loadShared32(paddr),
    clflush: (paddr, nrBytes) => inner.clflush(paddr, nrBytes),
    relax: (): void => {
      turns += 1;
      if (turns > MAX_TURNS) {
        throw new StageError('the driver waits for something that does not come (2,000,000 turns of platform.relax())');
      }
      inner.relax();
    },
    nowNs: () => inner.nowNs(),
  };
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'missing';
  return value === null ? 'null' : `a ${typeof value}`;
}

function textOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
