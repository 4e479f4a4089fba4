import { describe, expect, test } from 'vitest';
import type { DmaDebugKind, DmaDeviceOptions } from '../../src/dma/index.ts';
import { DmaDebug, Scatterlist } from '../../src/dma/index.ts';
import { DmaBench, K4 } from './dma-bench.ts';

class Checked extends DmaBench {
  readonly debug: DmaDebug = new DmaDebug();
  readonly nic = this.debug.watch(this.dma, 'nic');

  constructor(options: DmaDeviceOptions = {}) {
    super(options);
  }

  get kinds(): DmaDebugKind[] {
    return this.debug.records.map(({ kind }) => kind);
  }
}

const LIST: [number, number][] = [
  [0x10000, K4],
  [0x20000, K4],
  [0x30000, 100],
];

/** A driver that does something wrong, and what is said about it. */
const WRONG: [name: string, act: (at: Checked) => unknown, kinds: DmaDebugKind[], mappedAt: string | null][] = [
  ['unmaps what it never mapped', (at) => at.nic.unmapPage(0x5000, K4, 'toDevice', 'rx'), ['not-mapped'], null],
  [
    'unmaps twice',
    (at) => {
      const address = at.nic.mapPage(0x10000, K4, 'toDevice', 'tx');
      at.nic.unmapPage(address, K4, 'toDevice', 'tx_done');
      at.nic.unmapPage(address, K4, 'toDevice', 'tx_timeout');
    },
    ['not-mapped'],
    'tx',
  ],
  [
    'unmaps less than it mapped',
    (at) => at.nic.unmapPage(at.nic.mapPage(0x10000, 2 * K4, 'toDevice', 'tx'), K4, 'toDevice', 'tx_done'),
    ['wrong-size'],
    'tx',
  ],
  [
    'unmaps in another direction',
    (at) => at.nic.unmapPage(at.nic.mapPage(0x10000, K4, 'toDevice', 'tx'), K4, 'fromDevice', 'rx_done'),
    ['wrong-direction'],
    'tx',
  ],
  [
    'both',
    (at) => at.nic.unmapPage(at.nic.mapPage(0x10000, K4, 'toDevice', 'tx'), 100, 'bidirectional', 'rx_done'),
    ['wrong-size', 'wrong-direction'],
    'tx',
  ],
  [
    'unmaps registers as a page',
    (at) => at.nic.unmapPage(at.nic.mapResource(0xe0000000, K4, 'toDevice', 'peer'), K4, 'toDevice', 'tx_done'),
    ['wrong-function'],
    'peer',
  ],
  [
    'unmaps a list by the number of segments that mapSg returned',
    (at) => {
      const list = Scatterlist.of(LIST);
      const count = at.nic.mapSg(list, 'toDevice', 'submit');
      expect(count).toBe(1);
      at.nic.unmapSg(list, count, 'toDevice', 'complete');
    },
    ['wrong-nents'],
    'submit',
  ],
  [
    'maps a cache line twice for writing',
    (at) => {
      at.nic.mapPage(0x10000, 32, 'fromDevice', 'rx');
      at.nic.mapPage(0x10020, 32, 'fromDevice', 'rx2');
    },
    ['double-map'],
    'rx',
  ],
  [
    'the second line of the first buffer, which Linux does not look at',
    (at) => {
      at.nic.mapPage(0x10000, 100, 'bidirectional', 'rx');
      at.nic.mapPage(0x10040, 8, 'fromDevice', 'rx2');
    },
    ['double-map'],
    'rx',
  ],
  [
    'goes with mappings',
    (at) => {
      at.nic.mapPage(0x10000, K4, 'toDevice', 'tx');
      at.nic.alloc(K4, 'ring');
      at.nic.remove('remove');
    },
    ['leak', 'leak'],
    'tx',
  ],
  [
    'reads what the device may be writing',
    (at) => {
      at.nic.mapPage(0x10000, K4, 'fromDevice', 'rx');
      at.debug.cpuAccess(0x10100, 4, false, 'peek');
    },
    ['cpu-access'],
    'rx',
  ],
  [
    'writes what the device may be reading',
    (at) => {
      at.nic.mapPage(0x10000, K4, 'toDevice', 'tx');
      at.debug.cpuAccess(0x10ffc, 8, true, 'patch');
    },
    ['cpu-access'],
    'tx',
  ],
  [
    'takes one line back, reads the next',
    (at) => {
      const address = at.nic.mapPage(0x10000, K4, 'fromDevice', 'rx');
      at.nic.syncForCpu(address, 64, 'fromDevice', 'poll');
      at.debug.cpuAccess(0x10000, 64, false, 'header');
      at.debug.cpuAccess(0x10040, 4, false, 'payload');
    },
    ['cpu-access'],
    'rx',
  ],
  [
    'reads after it gave the buffer back',
    (at) => {
      const address = at.nic.mapPage(0x10000, K4, 'fromDevice', 'rx');
      at.nic.syncForCpu(address, K4, 'fromDevice', 'poll');
      at.nic.syncForDevice(address, K4, 'fromDevice', 'poll');
      at.debug.cpuAccess(0x10000, 4, false, 'late');
    },
    ['cpu-access'],
    'rx',
  ],
  ['syncs what is not mapped', (at) => at.nic.syncForCpu(0x5000, 4, 'fromDevice', 'poll'), ['not-mapped'], null],
  [
    'syncs beyond the mapping',
    (at) => {
      const address = at.nic.mapPage(0x10000, 100, 'fromDevice', 'rx');
      at.nic.syncForDevice(address + 50, 51, 'fromDevice', 'poll');
    },
    ['wrong-size'],
    'rx',
  ],
  [
    'syncs in another direction',
    (at) => at.nic.syncForCpu(at.nic.mapPage(0x10000, K4, 'toDevice', 'tx'), K4, 'fromDevice', 'poll'),
    ['wrong-direction'],
    'tx',
  ],
  [
    'syncs a list with another number of elements',
    (at) => {
      const list = Scatterlist.of(LIST);
      at.nic.mapSg(list, 'fromDevice', 'submit');
      at.nic.syncSgForCpu(list, 2, 'fromDevice', 'poll');
    },
    ['wrong-nents'],
    'submit',
  ],
  [
    'lets the device write after the unmap',
    (at) => {
      const address = at.nic.mapPage(0x10000, K4, 'fromDevice', 'rx');
      at.nic.unmapPage(address, K4, 'fromDevice', 'rx_done');
      at.nic.deviceAccess(address + 8, 4, true, 'descriptor 7');
    },
    ['device-access'],
    'rx',
  ],
  [
    'lets the device write what it may read',
    (at) => at.nic.deviceAccess(at.nic.mapPage(0x10000, K4, 'toDevice', 'tx'), 4, true, 'descriptor 7'),
    ['device-access'],
    'tx',
  ],
  [
    'lets the device run over the end',
    (at) => at.nic.deviceAccess(at.nic.mapPage(0x10000, 100, 'toDevice', 'tx') + 90, 11, false, 'descriptor 7'),
    ['device-access'],
    'tx',
  ],
  [
    'maps an element longer than it said it can take',
    (at) => at.nic.mapSg(Scatterlist.of([[0x10000, 65537]]), 'toDevice', 'submit'),
    ['segment'],
    null,
  ],
  [
    'frees twice',
    (at) => {
      const ring = at.nic.alloc(K4, 'ring')!;
      at.nic.free(ring, 'down');
      expect(at.nic.free(ring, 'remove')).toBe(-22);
    },
    ['not-mapped'],
    'ring',
  ],
];

describe('a driver that', () => {
  test.each(WRONG)('%s', (_name, act, kinds, mappedAt) => {
    const at = new Checked();
    act(at);
    expect(at.kinds).toEqual(kinds);
    const [record] = at.debug.records;
    expect(record.device).toBe('nic');
    expect(record.mappedAt).toBe(mappedAt);
    expect(record.text).not.toContain('\n');
    for (const site of [record.at, mappedAt]) if (site !== null) expect(record.text).toContain(site);
  });
});

test('the line says what, where, and who', () => {
  const at = new Checked();
  const address = at.nic.mapPage(0x10000, K4, 'fromDevice', 'rx_refill');
  at.nic.unmapPage(address, 2048, 'fromDevice', 'rx_clean');
  at.nic.deviceAccess(address, 64, true, 'rx descriptor 3');
  expect(at.debug.records.map(({ text }) => text)).toEqual([
    'wrong-size: nic 0xfffff000: rx_clean unmaps 2048 bytes; mapped at rx_refill as page, 4096 bytes, fromDevice',
    'device-access: nic 0xfffff000: rx descriptor 3 writes 64 bytes, not mapped; mapped at rx_refill as page, 4096 bytes, fromDevice; unmapped at rx_clean',
  ]);
});

/** Things that look like it and are right. */
const RIGHT: [string, (at: Checked) => unknown][] = [
  [
    'two readers of a line',
    (at) => {
      at.nic.mapPage(0x10000, 32, 'toDevice', 'a');
      at.nic.mapPage(0x10000, 32, 'toDevice', 'b');
      at.nic.mapPage(0x10000, 32, 'fromDevice', 'c');
    },
  ],
  [
    'two mappings by one who syncs himself',
    (at) => {
      at.nic.mapPage(0x10000, 32, 'fromDevice', 'a');
      at.nic.mapPage(0x10000, 32, 'fromDevice', 'b', 1 << 5);
    },
  ],
  [
    'neighbours that share no line',
    (at) => {
      at.nic.mapPage(0x10000, 64, 'fromDevice', 'a');
      at.nic.mapPage(0x10040, 64, 'fromDevice', 'b');
    },
  ],
  [
    'a buffer of alloc, touched by both',
    (at) => {
      const ring = at.nic.alloc(2 * K4, 'ring')!;
      at.debug.cpuAccess(ring.pfns[1] * K4, 8, true, 'post');
      at.nic.deviceAccess(ring.dmaAddress + K4, 8, true, 'fetch');
      at.nic.free(ring, 'down');
    },
  ],
  [
    'reading what the device reads',
    (at) => {
      at.nic.mapPage(0x10000, K4, 'toDevice', 'tx');
      at.debug.cpuAccess(0x10000, K4, false, 'dump');
    },
  ],
  [
    'a bidirectional buffer synced one way',
    (at) => {
      const address = at.nic.mapPage(0x10000, K4, 'bidirectional', 'rx');
      at.nic.syncForCpu(address, 128, 'fromDevice', 'poll');
      at.debug.cpuAccess(0x10000, 128, true, 'poll');
      at.nic.unmapPage(address, K4, 'bidirectional', 'done');
    },
  ],
  [
    'a list of several segments, with its elements',
    (at) => {
      const list = Scatterlist.of([...LIST, [0x40010, 50], [0x50000, K4]]);
      expect(at.nic.mapSg(list, 'fromDevice', 'submit')).toBeGreaterThan(1);
      at.nic.syncSgForCpu(list, list.nents, 'fromDevice', 'poll');
      at.debug.cpuAccess(0x40010, 50, true, 'poll');
      at.nic.unmapSg(list, list.nents, 'fromDevice', 'complete');
    },
  ],
  [
    'memory after the unmap',
    (at) => {
      at.nic.unmapPage(at.nic.mapPage(0x10000, K4, 'fromDevice', 'rx'), K4, 'fromDevice', 'done');
      at.debug.cpuAccess(0x10000, K4, true, 'reuse');
      at.nic.remove('remove');
    },
  ],
];

describe('nothing is said about', () => {
  test.each(RIGHT)('%s', (_name, act) => {
    const at = new Checked();
    act(at);
    expect(at.debug.records.map(({ text }) => text)).toEqual([]);
  });
});

test("two devices meet on a line; a leak is the one device's", () => {
  const at = new Checked();
  const disk = at.debug.watch(at.dma, 'disk');
  at.nic.mapPage(0x10000, K4, 'fromDevice', 'rx');
  disk.mapPage(0x10080, 64, 'fromDevice', 'read');
  expect(at.debug.records[0].text).toBe(
    'double-map: disk 0x10080: read maps a cache line that is mapped; mapped at rx as page, 4096 bytes, fromDevice for nic',
  );
  expect(disk.remove('unbind')).toBe(1);
  expect(at.debug.nrMapped).toBe(1);
  expect(at.debug.records[1]).toMatchObject({ kind: 'leak', device: 'disk', at: 'unbind', mappedAt: 'read' });
});

test('what is refused is not entered; reports are passed on; the past is bounded', () => {
  const heard: string[] = [];
  const bench = new DmaBench();
  const debug = new DmaDebug({ nrRemembered: 2, report: ({ kind }) => heard.push(kind) });
  const nic = debug.watch(bench.dma, 'nic');
  expect(nic.mapPage(0, 0, 'toDevice', 'tx')).toBe(-22);
  expect(nic.mapSg(new Scatterlist(2), 'toDevice', 'tx')).toBe(-22);
  expect(debug.nrMapped).toBe(0);
  const all = [1, 2, 3].map((nr) => nic.mapPage(nr * 0x10000, K4, 'toDevice', `tx ${nr}`));
  for (const address of all) nic.unmapPage(address, K4, 'toDevice', 'done');
  nic.deviceAccess(all[0], 4, false, 'fetch');
  nic.deviceAccess(all[2], 4, false, 'fetch');
  expect(debug.records.map(({ mappedAt }) => mappedAt)).toEqual([null, 'tx 3']);
  expect(heard).toEqual(['device-access', 'device-access']);
});
