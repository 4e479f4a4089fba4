/** What a machine lets others put in: somebody between driver and hardware, another driver. */
import { describe, expect, it } from 'vitest';
import { AmdIommu, IntelIommu } from '../../src/drivers/index.ts';
import { AmdMachine, IntelMachine } from '../../src/machine/index.ts';
import type { Platform } from '../../src/mem/index.ts';

/** Notes register writes, passes everything on. */
function noting(inner: Platform, writes: number[]): Platform {
  return {
    mem: inner.mem,
    pages: inner.pages,
    readl: (paddr) => inner.readl(paddr),
    writel: (paddr, value): void => {
      writes.push(paddr);
      inner.writel(paddr, value);
    },
    writeq: (paddr, lo, hi): void => {
      writes.push(paddr);
      inner.writeq(paddr, lo, hi);
    },
    loadShared32: (paddr) => inner.loadShared32(paddr),
    clflush: (paddr, nrBytes): void => inner.clflush(paddr, nrBytes),
    relax: (): void => inner.relax(),
    nowNs: () => inner.nowNs(),
  };
}

class OwnIntel extends IntelIommu {
  readonly isOwn = true;
}

class OwnAmd extends AmdIommu {
  nrCompleted = 0;
  override completeInit(): void {
    this.nrCompleted += 1;
    super.completeInit();
  }
}

describe('seams of a machine', () => {
  it.each([
    ['Intel', (options: object): unknown => new IntelMachine(options)],
    ['AMD', (options: object): unknown => new AmdMachine(options)],
  ])('%s: whoever is put between sees every register write, from the first on', (_name, make) => {
    const writes: number[] = [];
    let units: readonly { base: number }[] = [];
    const wrapPlatform = (inner: Platform, places: readonly { base: number }[]): Platform => {
      units = places;
      return noting(inner, writes);
    };
    make({ wrapPlatform });
    expect(units).toHaveLength(1);
    expect(writes.length).toBeGreaterThan(4);
    for (const paddr of writes) expect(paddr - units[0].base).toBeGreaterThanOrEqual(0);
    for (const paddr of writes) expect(paddr - units[0].base).toBeLessThan(0x4000);
  });

  it('takes another driver, with its type', () => {
    const intel = new IntelMachine({
      preset: 'linux-6.1',
      makeDriver: (platform, setup) => new OwnIntel(platform, setup),
    });
    expect(intel.driver.isOwn).toBe(true);
    expect(intel.driver.preset.name).toBe('linux-6.1');
    const amd = new AmdMachine({ makeDriver: (platform, setup) => new OwnAmd(platform, setup) });
    expect(amd.driver.nrCompleted).toBe(1);
    amd.probed();
    expect(amd.driver.nrCompleted).toBe(2);
  });
});
