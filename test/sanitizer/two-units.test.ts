/** A domain with devices behind two units: what is forgotten on one of them is found there, and nothing else. */
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../src/base/index.ts';
import type { AmdDomain, AmdParts, IntelDomain, IntelParts } from '../../src/drivers/index.ts';
import { AmdIommu, DomainFlusher, IntelIommu, Invalidator } from '../../src/drivers/index.ts';
import { AmdviUnit, VtdUnit } from '../../src/hw/index.ts';
import type { IommuOps } from '../../src/iommu/index.ts';
import { Iommu } from '../../src/iommu/index.ts';
import { LocalPlatform } from '../../src/machine/index.ts';
import { Bus, PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { Sanitizer } from '../../src/sanitizer/index.ts';
import { device } from '../drivers/lab.ts';

const KiB4 = 4096;
const RW = 3;
const BASES = [0xfed9_0000, 0xfed9_8000];
const DEVICES = ['00:04.0', '01:00.0'].map((address) => device(address));
const serves =
  (bus: number) =>
  (sid: number): boolean =>
    sid >> 8 === bus;

/** What invalidates pages on the second unit reports success and sends nothing. */
class ForgetsIntel extends Invalidator {
  readonly #isSecond: boolean;

  constructor(...args: ConstructorParameters<typeof Invalidator>) {
    super(...args);
    this.#isSecond = args[1] === BASES[1];
  }

  override iotlbPages(did: number, pfn: number, nrPages: number, leavesOnly: boolean): number {
    return this.#isSecond ? 0 : super.iotlbPages(did, pfn, nrPages, leavesOnly);
  }
}

/** Ranges go to the first of a domain's units that is asked, the one of the first device. */
class ForgetsAmd extends DomainFlusher {
  #first: unknown = null;

  protected override queuePages(...args: Parameters<DomainFlusher['queuePages']>): number {
    this.#first ??= args[0];
    return args[0] === this.#first ? super.queuePages(...args) : 0;
  }
}

interface Rig {
  readonly sanitizer: Sanitizer;
  readonly core: Iommu;
  readonly ops: IommuOps;
}

function intel(cachingMode: boolean, parts: Partial<IntelParts> = {}): Rig {
  const clock = new ManualClock();
  const mem = new PhysMem();
  const bus = new Bus(mem);
  const units = BASES.map(() => new VtdUnit(mem, clock, { cachingMode }));
  for (const [index, unit] of units.entries()) bus.attach(BASES[index] ?? 0, 0x1000, unit);
  const step = (): void => units.forEach((unit) => unit.step());
  const sanitizer = new Sanitizer();
  const platform = sanitizer.platform(new LocalPlatform(mem, new PageAllocator(mem), bus, clock, { step }));
  for (const base of BASES) sanitizer.watchVtd(base);
  const ops = new IntelIommu(platform, {
    preset: 'linux-6.12',
    parts,
    units: BASES.map((base, index) => ({ base, serves: serves(index) })),
  });
  sanitizer.watch(ops);
  return { sanitizer, core: new Iommu(), ops };
}

function amd(npCache: boolean, parts: Partial<AmdParts> = {}): Rig {
  const clock = new ManualClock();
  const mem = new PhysMem();
  const bus = new Bus(mem);
  const units = BASES.map(() => new AmdviUnit(mem, clock, { npCache }));
  for (const [index, unit] of units.entries()) bus.attach(BASES[index] ?? 0, 0x4000, unit);
  const step = (): void => units.forEach((unit) => unit.step());
  const sanitizer = new Sanitizer();
  const platform = sanitizer.platform(new LocalPlatform(mem, new PageAllocator(mem), bus, clock, { step }));
  const scopes = units.map((unit, index) => ({
    base: BASES[index] ?? 0,
    capHeader: unit.readCapability(),
    ivhdFeatures: unit.read32(0x30),
    serves: serves(index),
  }));
  for (const scope of scopes) sanitizer.watchAmdvi(scope.base, scope.capHeader, scope.serves);
  const ops = new AmdIommu(platform, { preset: 'linux-6.12', parts, units: scopes });
  sanitizer.watch(ops);
  return { sanitizer, core: new Iommu(), ops };
}

/** Maps pages, unmaps them, moves a device away and back. @returns the contracts broken, each with its unit */
function played({ sanitizer, core, ops }: Rig): string[] {
  const domain = ops.domainAlloc('paging') as IntelDomain | AmdDomain;
  for (const one of DEVICES) {
    expect(ops.probeDevice?.(one) ?? 0).toBe(0);
    sanitizer.call('attach', () => ops.attachDev(domain as never, one));
  }
  const at = 0x10_0000;
  for (let i = 0; i < 2; i++) {
    sanitizer.call('map', () => core.map(domain, at, 0x4000_0000, 2 * KiB4, RW));
    sanitizer.call('unmap', () => core.unmap(domain, at, 2 * KiB4));
  }
  const [, there] = DEVICES;
  if (there !== undefined) {
    sanitizer.call('detach', () => ops.detachDev?.(domain as never, there));
    sanitizer.call('attach', () => ops.attachDev(domain as never, there));
  }
  sanitizer.call('map', () => core.map(domain, at, 0x4000_0000, KiB4, RW));
  return [...new Set(sanitizer.findings.map(({ contract, unit }) => `${contract} on ${unit}`))].toSorted();
}

describe.each([
  { cached: true, broken: ['C-MAP-VISIBLE on 1', 'C-UNMAP-GONE on 1'] },
  { cached: false, broken: ['C-UNMAP-GONE on 1'] },
])('two units, not present cached: $cached', ({ cached, broken }) => {
  test('Intel: no finding', () => expect(played(intel(cached))).toEqual([]));
  test('AMD: no finding', () => expect(played(amd(cached))).toEqual([]));
  test('Intel forgets the second unit', () =>
    expect(played(intel(cached, { Invalidator: ForgetsIntel }))).toEqual(broken));
  test('AMD forgets the second unit', () => expect(played(amd(cached, { DomainFlusher: ForgetsAmd }))).toEqual(broken));
});
