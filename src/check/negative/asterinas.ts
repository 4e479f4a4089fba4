/**
 * Asterinas issue 3920 (September 2026), two of its findings on VT-d, and pull request 2090 (May 2025). All three are about a
 * capability bit that was not looked at.
 */
import { Invalidator, IntelIommu } from '../../drivers/index.ts';
import type { Platform } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
import { ATTACH_SCENARIOS } from '../scenarios/attach.ts';
import { MAP_SCENARIOS } from '../scenarios/map.ts';
import { named } from '../scenarios/named.ts';
import type { NegativeOracle } from './oracle.ts';
import { LINUX_INTEL, intelDriver } from './oracle.ts';

const omnibus = 'https://github.com/asterinas/asterinas/issues/3920';

/** Passes everything on but cache-line flushes. */
function withoutLineFlush(inner: Platform): Platform {
  return { ...passing(inner), clflush: (): void => {} };
}

/** Says that tables of three levels are supported, whatever the unit says: a driver that builds nothing else. */
function alwaysThreeLevels(inner: Platform, base: number): Platform {
  const sagaw = 0x1f << vtd.CAP_SAGAW_SHIFT;
  return {
    ...passing(inner),
    readl: (paddr) => {
      const value = inner.readl(paddr);
      return paddr === base + vtd.CAP_REG ? (value & ~sagaw) | (2 << vtd.CAP_SAGAW_SHIFT) : value;
    },
  };
}

function passing(inner: Platform): Platform {
  return {
    mem: inner.mem,
    pages: inner.pages,
    readl: (paddr) => inner.readl(paddr),
    writel: (paddr, value) => inner.writel(paddr, value),
    writeq: (paddr, lo, hi) => inner.writeq(paddr, lo, hi),
    loadShared32: (paddr) => inner.loadShared32(paddr),
    clflush: (paddr, nrBytes) => inner.clflush(paddr, nrBytes),
    relax: () => inner.relax(),
    nowNs: () => inner.nowNs(),
  };
}

/** Sets the root pointer and enables translation, with no invalidation between. */
class NoStartFlush extends Invalidator {
  #isUp = false;
  override context(granularity: number, did: number, sid: number): number {
    return this.#isUp ? super.context(granularity, did, sid) : 0;
  }
  override iotlbGlobal(): number {
    return this.#isUp ? super.iotlbGlobal() : 0;
  }
  override enable(bit: number): number {
    const result = super.enable(bit);
    if (bit === vtd.GCMD_TE) this.#isUp = true;
    return result;
  }
}

export const ASTERINAS_ORACLES: readonly NegativeOracle[] = [
  {
    id: 'asterinas#3920-coherency',
    url: omnibus,
    title: 'ECAP.C is decoded and ignored: tables are written without flushing lines',
    hardware: { npCache: false, coherent: false },
    scenario: named(MAP_SCENARIOS, 'map/one-page'),
    broken: intelDriver((platform, setup) => new IntelIommu(withoutLineFlush(platform), setup)),
    fixed: LINUX_INTEL,
    contract: 'C-MAP-VISIBLE',
  },
  {
    id: 'asterinas#3920-root',
    url: omnibus,
    title:
      'a new root is set and enabled without invalidation, with CAP.ESRTPS = 0: the old root lives on in the caches',
    hardware: { npCache: false },
    scenario: named(ATTACH_SCENARIOS, 'attach/new-kernel'),
    broken: intelDriver(
      (platform, setup) => new IntelIommu(platform, { ...setup, parts: { Invalidator: NoStartFlush } }),
    ),
    fixed: LINUX_INTEL,
    contract: 'C-ATTACH',
  },
  {
    id: 'asterinas#2090',
    url: 'https://github.com/asterinas/asterinas/pull/2090',
    title: 'tables of three levels on a unit that walks four only',
    hardware: { npCache: false, vtd: { sagaw: [4] } },
    scenario: named(MAP_SCENARIOS, 'map/one-page'),
    broken: intelDriver((platform, setup) => new IntelIommu(alwaysThreeLevels(platform, setup.units[0].base), setup)),
    fixed: LINUX_INTEL,
    contract: 'C-MAP-VISIBLE',
  },
];
