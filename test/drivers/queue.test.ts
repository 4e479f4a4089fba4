import { describe, expect, test } from 'vitest';
import { EINVAL, ETIMEDOUT } from '../../src/base/index.ts';
import type { IntelDomain } from '../../src/drivers/index.ts';
import { InvalidationQueue } from '../../src/drivers/index.ts';
import type { VtdUnit } from '../../src/hw/index.ts';
import type { MmioDevice } from '../../src/mem/index.ts';
import { E1000, KiB4, Lab, MiB2, NVME, READ, RW, UNIT_BASE } from './lab.ts';

const PAGE = 0x10000;
const QI_ENABLE = 0x8400_0000;
const WIDE_MASK = 0x3f;

/** A lab whose invalidation queue is driven by the test. */
function queueOf(lab: Lab): InvalidationQueue {
  lab.platform.writel(UNIT_BASE + 0x18, 0x8000_0000);
  const queue = new InvalidationQueue(lab.platform, UNIT_BASE);
  lab.platform.writel(UNIT_BASE + 0x18, QI_ENABLE);
  lab.tape.take();
  return queue;
}

/** Registers with one of their answers or actions replaced. */
function wired(unit: VtdUnit, change: Partial<MmioDevice>): MmioDevice {
  return {
    read32: (offset) => (change.read32 ?? ((at): number => unit.read32(at)))(offset),
    write32: (offset, value) => (change.write32 ?? ((at, word): void => unit.write32(at, word)))(offset, value),
    write64: (offset, lo, hi) =>
      (change.write64 ?? ((at, low, high): void => unit.write64(at, low, high)))(offset, lo, hi),
  };
}

/** One map after the device has looked; what it sees then. */
function mapAfterLook(lab: Lab, domain: IntelDomain, iova = PAGE): number {
  lab.unit.translate(NVME.sid, iova, READ);
  const result = lab.core.map(domain, iova, MiB2, KiB4, RW);
  return result === 0 ? lab.unit.translate(NVME.sid, iova, READ) : result;
}

describe('the ring (VT-d 6.5.2)', () => {
  test('wraps at 256 descriptors, three times round', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    const tails = new Set<number>();
    for (let round = 0; round < 400; round++) {
      expect(mapAfterLook(lab, domain), `round ${round}`).toBe(MiB2);
      lab.core.unmap(domain, PAGE, KiB4);
      for (const tail of lab.tape.doorbells) tails.add(tail);
      expect(lab.tape.take()).toEqual(['0x200f2 0x10000', '0x200f2 0x10040']);
    }
    // Two slots per command: every even one was a tail.
    expect([...tails].sort((a, b) => a - b)).toEqual(Array.from({ length: 128 }, (_, index) => index * 2));
  });

  test('a submission of 16 may straddle the end', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    for (let round = 0; round < 40; round++) {
      for (let index = 0; index < InvalidationQueue.MAX_BATCH; index++) queue.add(0x50032, 0, index * KiB4, 0);
      expect(queue.isFull).toBe(true);
      expect(queue.submit()).toBe(0);
      expect(lab.tape.waits).toHaveLength(1);
      expect(lab.tape.take()).toEqual(
        Array.from({ length: 16 }, (_, index) => `0x50032 0x${(index * KiB4).toString(16)}`),
      );
    }
  });

  test('bug 33: nothing to submit is nothing done', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    expect(queue.submit()).toBe(0);
    expect(lab.tape.doorbells).toEqual([]);
  });
});

describe('errors (kernel.md 2.5, faults of qi_submit_sync)', () => {
  const GOOD = [0x50032, 0, 0x7000, 0] as const;
  /** An invalidation with a mask that no unit has: refused, IQE. */
  const BAD = [0x50032, 0, WIDE_MASK, 0] as const;

  test.each<[string, (readonly [number, number, number, number])[], number]>([
    ['alone', [BAD], 0],
    ['first', [BAD, GOOD, GOOD], 0],
    ['in the middle', [GOOD, BAD, GOOD], 1],
    ['last', [GOOD, GOOD, BAD], 2],
    ['twice', [GOOD, BAD, BAD], 1],
    ['of an unknown type', [GOOD, [0xe, 0, 0, 0]], 1],
  ])('IQE: a bad descriptor, %s, gives EINVAL; the queue goes on', (_name, descriptors, nrDone) => {
    const lab = new Lab();
    const queue = queueOf(lab);
    // Near the end of the ring, too.
    for (let before = 0; before < 126; before++) {
      queue.add(...GOOD);
      expect(queue.submit()).toBe(0);
    }
    lab.tape.take();
    for (const descriptor of descriptors) queue.add(...descriptor);
    expect(queue.submit()).toBe(EINVAL);
    expect(lab.tape.take()).toEqual(Array.from({ length: nrDone }, () => '0x50032 0x7000'));
    expect(lab.unit.read32(0x34) & 0x70).toBe(0);
    for (let after = 0; after < 300; after++) {
      queue.add(0x50032, 0, 0x8000, 0);
      expect(queue.submit()).toBe(0);
      expect(lab.tape.take()).toEqual(['0x50032 0x8000']);
    }
  });

  test('IQE while commands take time: the wait that replaces the bad one cannot end a later submission', () => {
    const lab = new Lab({ units: [{ cachingMode: true, completionDelayNs: 10_000 }] });
    const queue = queueOf(lab);
    queue.add(...BAD);
    expect(queue.submit()).toBe(EINVAL);
    queue.add(...GOOD);
    expect(queue.submit()).toBe(0);
    expect(lab.tape.take()).toEqual(['0x50032 0x7000']);
  });

  test('ITE: the submission is repeated and then counts', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    lab.unit.injectTimeout(NVME.sid);
    expect(mapAfterLook(lab, domain)).toBe(MiB2);
    expect(lab.tape.take()).toEqual(['0x200f2 0x10000', '0x200f2 0x10000']);
    expect(lab.unit.read32(0x34) & 0x70).toBe(0);
  });

  test('ITE without end (bug 28, a device that was pulled) is ETIMEDOUT', () => {
    let isPulled = false;
    const lab = new Lab({
      between: (unit) =>
        wired(unit, {
          write32: (offset, value) => {
            if (isPulled && offset === 0x88) unit.injectTimeout();
            unit.write32(offset, value);
          },
        }),
    });
    const domain = lab.domain(NVME);
    isPulled = true;
    expect(lab.core.map(domain, PAGE, MiB2, KiB4, RW)).toBe(ETIMEDOUT);
    expect(lab.core.iovaToPhys(domain, PAGE)).toBe(-1);
    isPulled = false;
    expect(mapAfterLook(lab, domain)).toBe(MiB2);
  });

  test('ICE: cleared, nothing is lost, nothing repeated', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    lab.unit.injectCompletionError();
    expect(mapAfterLook(lab, domain)).toBe(MiB2);
    expect(lab.tape.take()).toEqual(['0x200f2 0x10000']);
    expect(lab.unit.read32(0x34) & 0x70).toBe(0);
  });
});

describe('completion takes time', () => {
  test('a map returns when its wait is done, not before; DMA during the wait may still fail', () => {
    const seen: number[] = [];
    let watching = false;
    const lab: Lab = new Lab({
      units: [{ cachingMode: true, completionDelayNs: 20_000 }],
      onRelax: () => {
        if (watching) seen.push(lab.unit.translate(NVME.sid, PAGE, READ));
      },
    });
    const domain = lab.domain(NVME);
    const start = lab.clock.nowNs();
    watching = true;
    const after = mapAfterLook(lab, domain);
    watching = false;
    expect(after).toBe(MiB2);
    expect(lab.clock.nowNs() - start).toBeGreaterThanOrEqual(20_000);
    // The look before the map was cached and served until the invalidation took place.
    expect(seen[0]).toBeLessThan(0);
    expect(lab.tape.words).toEqual(['0x200f2 0x10000']);
  });

  test('an unmap returns when nothing reaches the page any more', () => {
    let reached = 0;
    let watching = false;
    const lab: Lab = new Lab({
      units: [{ completionDelayNs: 20_000 }],
      onRelax: () => {
        if (watching && lab.unit.translate(NVME.sid, PAGE, READ) >= 0) reached += 1;
      },
    });
    const domain = lab.domain(NVME);
    lab.core.map(domain, PAGE, MiB2, KiB4, RW);
    lab.unit.translate(NVME.sid, PAGE, READ);
    watching = true;
    expect(lab.core.unmap(domain, PAGE, KiB4)).toBe(KiB4);
    watching = false;
    // The whole of the wait but its end.
    expect(reached).toBeGreaterThan(100);
    expect(lab.unit.translate(NVME.sid, PAGE, READ)).toBeLessThan(0);
  });
});

describe('dead hardware', () => {
  /** Works until it is told to die: then it takes no command, and its busy bits (bit 31 of CCMD, IOTLB) stay set. */
  function mortal(qi: boolean): { lab: Lab; domain: IntelDomain; die: () => void } {
    let isDead = false;
    const lab = new Lab({
      units: [{ cachingMode: true, qi }],
      between: (unit) =>
        wired(unit, {
          read32: (offset) => (isDead ? 0x8000_0000 : unit.read32(offset)),
          write64: (offset, lo, hi) => {
            if (!isDead) unit.write64(offset, lo, hi);
          },
          write32: (offset, value) => {
            if (!isDead) unit.write32(offset, value);
          },
        }),
    });
    const domain = lab.domain(NVME);
    const die = (): void => {
      isDead = true;
    };
    return { lab, domain, die };
  }

  test.each([true, false])('map: ETIMEDOUT and nothing mapped; queue: %s', (qi) => {
    const { lab, domain, die } = mortal(qi);
    die();
    expect(lab.core.map(domain, PAGE, MiB2, KiB4, RW)).toBe(ETIMEDOUT);
    expect(lab.core.iovaToPhys(domain, PAGE)).toBe(-1);
  });

  test('attach: ETIMEDOUT, and the context entry is cleared', () => {
    const { lab, die } = mortal(true);
    die();
    expect(lab.attach(lab.driver.domainAlloc('paging') as IntelDomain, E1000)).toBe(ETIMEDOUT);
    expect(lab.unit.translate(E1000.sid, PAGE, READ)).toBe(-2);
  });
});
