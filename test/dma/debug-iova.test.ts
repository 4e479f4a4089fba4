/** The checker over links: what a driver does wrong with dma_iova_*, and what is said about it. */
import { describe, expect, test } from 'vitest';
import type { CheckedIovaState, DmaDebugKind } from '../../src/dma/index.ts';
import { DmaDebug } from '../../src/dma/index.ts';
import { DmaBench, K4 } from './dma-bench.ts';

class Checked extends DmaBench {
  readonly debug: DmaDebug = new DmaDebug();
  readonly nic = this.debug.watch(this.dma, 'nic');
  readonly range: CheckedIovaState = this.nic.iovaTryAlloc(0, 4 * K4, 'begin')!;
  readonly start: number = this.range.state.dmaAddress;
}
const TO = 'toDevice';

const WRONG: [name: string, act: (at: Checked) => unknown, kinds: DmaDebugKind[], mappedAt: string | null][] = [
  [
    'lets the device go before the sync',
    (at) => {
      at.range.link(0x10000, 0, K4, TO, 'tx');
      at.nic.deviceAccess(at.start, 64, false, 'doorbell');
    },
    ['device-access'],
    'tx',
  ],
  [
    'syncs less than it linked',
    (at) => {
      at.range.link(0x10000, 0, K4, TO, 'tx');
      at.range.link(0x20000, K4, K4, TO, 'tx 2');
      at.range.sync(0, K4, 'submit');
      at.nic.deviceAccess(at.start, 64, false, 'doorbell');
      at.nic.deviceAccess(at.start + K4, 64, false, 'doorbell');
    },
    ['device-access'],
    'tx 2',
  ],
  ['syncs where nothing is linked', (at) => at.range.sync(0, K4, 'submit'), ['not-mapped'], null],
  ['unlinks what it never linked', (at) => at.range.unlink(0, K4, TO, 'done'), ['not-mapped'], null],
  [
    'unlinks twice',
    (at) => {
      at.range.link(0x10000, 0, K4, TO, 'tx');
      at.range.unlink(0, K4, TO, 'done');
      at.range.unlink(0, K4, TO, 'timeout');
    },
    ['not-mapped'],
    'tx',
  ],
  [
    'cuts a link, in another direction',
    (at) => {
      at.range.link(0x10000, 0, 2 * K4, TO, 'tx');
      at.range.unlink(K4, K4, 'fromDevice', 'done');
    },
    ['wrong-size', 'wrong-direction'],
    'tx',
  ],
  [
    'frees a range with links in it',
    (at) => {
      at.range.link(0x10000, 0, K4, TO, 'tx');
      at.range.free('done');
    },
    ['leak'],
    'tx',
  ],
  [
    'destroys less than it linked',
    (at) => {
      at.range.link(0x10000, 0, K4, TO, 'tx');
      at.range.link(0x20000, K4, K4, TO, 'tx 2');
      at.range.destroy(K4, TO, 'done');
    },
    ['leak'],
    'tx 2',
  ],
  [
    'uses a range that is gone, with every call',
    (at) => {
      at.range.free('done');
      at.range.link(0x10000, 0, K4, TO, 'tx');
      at.range.sync(0, K4, 'submit');
      at.range.unlink(0, K4, TO, 'late');
      at.range.free('again');
      at.range.destroy(K4, TO, 'again');
    },
    ['not-mapped', 'not-mapped', 'not-mapped', 'not-mapped', 'not-mapped'],
    'begin',
  ],
  [
    'unmaps a link as a page',
    (at) => {
      at.range.link(0x10000, 0, K4, TO, 'tx');
      at.nic.unmapPage(at.start, K4, TO, 'done');
    },
    ['wrong-function'],
    'tx',
  ],
  [
    'links a cache line twice for writing',
    (at) => {
      at.range.link(0x10000, 0, K4, 'fromDevice', 'rx');
      at.range.link(0x10000, K4, K4, 'fromDevice', 'rx 2');
    },
    ['double-map'],
    'rx',
  ],
];

describe('is reported: a driver that', () => {
  test.each(WRONG)('%s', (_name, act, kinds, mappedAt) => {
    const at = new Checked();
    act(at);
    expect(at.debug.records.map(({ kind }) => kind)).toEqual(kinds);
    expect(at.debug.records[0].mappedAt).toBe(mappedAt);
  });
});

test('nothing is said about links as they should be, in one piece or several', () => {
  const at = new Checked();
  at.range.link(0x10000, 0, K4, TO, 'tx');
  at.range.link(0x20000, K4, 3 * K4, TO, 'tx');
  at.range.sync(0, 4 * K4, 'submit');
  at.nic.deviceAccess(at.start, K4, false, 'doorbell');
  at.nic.deviceAccess(at.start + 2 * K4, K4, false, 'doorbell');
  expect(at.debug.nrMapped).toBe(2);
  at.range.unlink(K4, 3 * K4, TO, 'half');
  at.range.link(0x30000, K4, K4, TO, 'tx');
  at.range.sync(K4, K4, 'submit');
  at.range.destroy(2 * K4, TO, 'done');
  const two = at.nic.iovaTryAlloc(0, K4, 'begin')!;
  two.free('nothing to send');
  expect([at.debug.records.map(({ text }) => text), at.debug.nrMapped, at.nic.remove('unbind')]).toEqual([[], 0, 0]);
});

test('a late access names who ended the link; a removed device leaks its links and its range', () => {
  const at = new Checked();
  at.range.link(0x10000, 0, K4, TO, 'tx');
  at.range.sync(0, K4, 'submit');
  at.range.unlink(0, K4, TO, 'done');
  at.nic.deviceAccess(at.start, 64, false, 'fetch');
  expect(at.debug.records.pop()).toMatchObject({ kind: 'device-access', mappedAt: 'tx', unmappedAt: 'done' });
  at.range.link(0x10000, 0, K4, TO, 'tx');
  expect(at.nic.remove('unbind')).toBe(2);
  expect(at.debug.records.map(({ kind, mappedAt }) => [kind, mappedAt])).toEqual([
    ['leak', 'tx'],
    ['leak', 'begin'],
  ]);
});

test('what is refused is not entered', () => {
  const at = new Checked();
  expect(at.nic.iovaTryAlloc(0, 0, 'begin')).toBeNull();
  expect(at.range.link(0x10000, 4 * K4, K4, TO, 'tx')).toBe(-22);
  expect([at.debug.nrMapped, at.debug.records]).toEqual([0, []]);
});
