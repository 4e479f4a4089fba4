import { describe, expect, test } from 'vitest';
import { ETIMEDOUT } from '../../../src/base/index.ts';
import { AmdIommu, CommandQueue } from '../../../src/drivers/index.ts';
import { Lab, NP_CACHE, NVME, KiB4, MiB2, RW, UNIT_BASE, devtab, wait, words } from './lab.ts';

/** A lab whose command buffer is driven by the test: a new one, in place of the driver's. */
function queueOf(lab: Lab, waitData: 'one' | 'sequence' = 'sequence'): CommandQueue {
  const queue = new CommandQueue(lab.platform, UNIT_BASE, waitData);
  queue.start();
  lab.take();
  lab.unit.tails.length = 0;
  lab.unit.headReads.length = 0;
  return queue;
}

const put = (queue: CommandQueue, sid: number): number => queue.queue(sid, 0x20000000, 0, 0);

describe('the ring (512 commands of 16 bytes)', () => {
  test('wraps, many times round, and loses nothing', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    for (let nr = 0; nr < 3000; nr++) {
      expect(put(queue, nr & 0xffff)).toBe(0);
      if (nr % 7 === 6) expect(queue.wait()).toBe(0);
    }
    expect(lab.take()).toEqual(Array.from({ length: 3000 }, (_, nr) => devtab(nr & 0xffff)));
    expect(Math.max(...lab.unit.tails)).toBe(8192 - 16);
    expect(lab.unit.tails.filter((tail) => tail === 0).length).toBeGreaterThan(5);
  });

  test('the register is read only when the buffer looks full', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    for (let nr = 0; nr < 509; nr++) put(queue, nr);
    expect(lab.unit.headReads).toEqual([]);
    put(queue, 509);
    expect(lab.unit.headReads).toEqual([509 * 16]);
  });

  test('is full with 0x20 bytes left, and goes on when hardware has taken something', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    lab.unit.perStep = 3;
    for (let nr = 0; nr < 509; nr++) expect(put(queue, nr)).toBe(0);
    expect(lab.unit.tape).toEqual([]);
    const before = lab.clock.nowNs();
    expect(put(queue, 509)).toBe(0);
    // The first look is free, the second after one turn.
    expect(lab.unit.headReads).toEqual([0, 48]);
    expect(lab.clock.nowNs() - before).toBe(100);
    expect(queue.wait()).toBe(0);
    expect(lab.take()).toEqual(Array.from({ length: 510 }, (_, nr) => devtab(nr)));
  });

  test('ETIMEDOUT when it stays full; the command is not in it', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    lab.unit.perStep = 0;
    let nr = 0;
    while (put(queue, nr) === 0) nr += 1;
    expect(nr).toBe(509);
    expect(put(queue, 9)).toBe(ETIMEDOUT);
    expect(queue.wait()).toBe(ETIMEDOUT);
    lab.unit.perStep = Infinity;
    expect(put(queue, nr)).toBe(ETIMEDOUT);
    lab.unit.execute(Infinity);
    expect(queue.wait()).toBe(0);
    expect(lab.take()).toEqual(Array.from({ length: 509 }, (_, index) => devtab(index)));
  });
});

describe('waits', () => {
  test('store a number that counts up; a wait with nothing new queues nothing', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    expect(queue.wait()).toBe(0);
    for (const nr of [1, 2, 3]) {
      put(queue, nr);
      expect(queue.wait()).toBe(0);
      expect(queue.wait()).toBe(0);
    }
    expect(lab.take('waits')).toEqual([1, 2, 3].flatMap((nr) => [devtab(nr), wait(nr)]));
  });

  test('before 5.10 store 1, into a cell that was cleared', () => {
    const lab = new Lab();
    const queue = queueOf(lab, 'one');
    lab.unit.perStep = 1;
    for (const nr of [1, 2]) {
      put(queue, nr);
      const before = lab.clock.nowNs();
      expect(queue.wait()).toBe(0);
      expect(lab.clock.nowNs() - before).toBe(200);
    }
    expect(lab.take('waits')).toEqual([devtab(1), wait(1), devtab(2), wait(1)]);
  });

  test.each(['one', 'sequence'] as const)('data %s: nothing was ever queued, nothing is waited for', (waitData) => {
    const lab = new Lab();
    const queue = queueOf(lab, waitData);
    const before = lab.clock.nowNs();
    expect(queue.wait()).toBe(0);
    expect([lab.clock.nowNs() - before, lab.take('waits')]).toEqual([0, []]);
  });

  test('ETIMEDOUT after 100 ms; the next wait is for the same number, not for nothing (CVE-2026-68329)', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    lab.unit.perStep = 0;
    put(queue, 1);
    const before = lab.clock.nowNs();
    expect(queue.wait()).toBe(ETIMEDOUT);
    expect(lab.clock.nowNs() - before).toBe(100e6);
    expect(queue.wait()).toBe(ETIMEDOUT);
    lab.unit.execute(Infinity);
    expect(queue.wait()).toBe(0);
    expect(lab.take('waits')).toEqual([devtab(1), wait(1)]);
  });

  test('a later number than the one waited for will do', () => {
    const lab = new Lab();
    const queue = queueOf(lab);
    lab.unit.perStep = 0;
    put(queue, 1);
    expect(queue.wait()).toBe(ETIMEDOUT);
    put(queue, 2);
    expect(queue.wait()).toBe(ETIMEDOUT);
    lab.unit.execute(Infinity);
    expect(queue.wait()).toBe(0);
    expect(lab.take('waits')).toEqual([devtab(1), wait(1), devtab(2), wait(2)]);
  });
});

describe('a unit that answers nothing', () => {
  test('fails the bring-up, at the first thing that it does not do', () => {
    const lab = new Lab();
    lab.unit.perStep = 0;
    expect(() => lab.driver.completeInit()).toThrow(/0xfeb80000 does not come up: ETIMEDOUT/);
    const before = lab.clock.nowNs();
    const units = [{ base: UNIT_BASE, capHeader: NP_CACHE }];
    expect(() => new AmdIommu(lab.platform, { preset: 'linux-5.1', units })).toThrow(/does not come up/);
    expect(lab.clock.nowNs() - before).toBeLessThanOrEqual(100e6);
  });

  test('fails map, with nothing left mapped, and attach, with the device off the domain', () => {
    const lab = new Lab();
    const domain = lab.domain(NVME);
    lab.unit.perStep = 0;
    expect(lab.core.map(domain, 0x10000, MiB2, KiB4, RW)).toBe(ETIMEDOUT);
    expect(lab.core.iovaToPhys(domain, 0x10000)).toBe(-1);
    const other = lab.domain();
    expect(lab.attach(other, NVME)).toBe(ETIMEDOUT);
    expect(other.devices).toEqual([]);
    // Neither the old domain could be had back: the door is closed.
    expect(lab.entry(NVME.sid)).toEqual([3n, 0n, 0n, 0n]);
  });
});

test('the words of a recorded wait: store bit, data, no interrupt', () => {
  expect(wait(4)).toBe(words(1, 0x10000000, 4, 0));
});
