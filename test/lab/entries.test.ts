/** Entries by the tables of the specifications: VT-d rev. 4.1 9.1, 9.3, 9.8; AMD 48882 2.2.2.1, 2.2.3; faults 7.2.3, 2.5.3. */
import { expect, test } from 'vitest';
import { deviceEntry, hostEntry } from '../../src/lab/amd-entries.ts';
import { amdFault, vtdFault } from '../../src/lab/faults.ts';
import { contextEntry, rootEntry, secondStageEntry } from '../../src/lab/vtd-entries.ts';
import { amdCommandView } from '../../src/lab/index.ts';
import type { Field } from '../../src/lab/index.ts';

/** 32-bit words of 64-bit ones. */
const words = (...quads: bigint[]): number[] =>
  quads.flatMap((quad) => [Number(BigInt.asIntN(32, quad)), Number(BigInt.asIntN(32, quad >> 32n))]);
const values = (fields: readonly Field[]): Record<string, string> =>
  Object.fromEntries(fields.map(({ name, bits, value }) => [`${name} ${bits}`, value]));

test('a root entry', () => {
  expect(rootEntry(words(0x12_3456_7001n, 0n))).toMatchObject({ kind: 'table', target: 0x12_3456_7000 });
  expect(rootEntry(words(0x12_3456_7000n, 0n)).kind).toBe('not-present');
  expect(rootEntry(words(0x12_3456_7003n, 0n)).kind).toBe('malformed');
  expect(rootEntry(words(1n, 1n)).kind).toBe('malformed');
});

test('a context entry', () => {
  // P, TT = 0, tables at 0xabcd000; AW = 2 (48 bits), DID = 0x17.
  const entry = contextEntry(words(0xabcd001n, (0x17n << 8n) | 2n), 0b110);
  expect(entry).toMatchObject({ kind: 'table', target: 0xabcd000, domain: 0x17, levels: 4 });
  expect(values(entry.fields)).toEqual({
    'P 0': '1',
    'FPD 1': '0',
    'TT 3:2': '0x0',
    'SLPTPTR 51:12': '0xabcd000',
    'AW 66:64': '0x2',
    'DID 87:72': '0x17',
  });
  // TT = 10b passes through; AW = 3 (57 bits) is not in SAGAW; bits 11:4 are reserved.
  expect(contextEntry(words(0x9n, 0x1702n), 0b110).kind).toBe('pass');
  expect(contextEntry(words(0xabcd001n, 0x1703n), 0b110).kind).toBe('malformed');
  expect(contextEntry(words(0xabcd011n, 0x1702n), 0b110).kind).toBe('malformed');
  expect(contextEntry(words(0xabcd000n, 0x1702n), 0b110).kind).toBe('not-present');
});

test('second-stage entries: neither R nor W means not present, PS makes a large page', () => {
  expect(secondStageEntry(words(0xabcd004n), 1).kind).toBe('not-present');
  expect(secondStageEntry(words(0xabcd001n), 1)).toMatchObject({ kind: 'page', target: 0xabcd000 });
  expect(secondStageEntry(words(0xabcd003n), 2)).toMatchObject({ kind: 'table', target: 0xabcd000 });
  expect(secondStageEntry(words(0x4020_0083n), 2)).toMatchObject({ kind: 'page', target: 0x4020_0000 });
  expect(values(secondStageEntry(words(0x4020_0083n), 2).fields)).toMatchObject({
    'R 0': '1',
    'W 1': '1',
    'PS 7': '1',
  });
});

test('a device table entry', () => {
  // V, TV, Mode 3, IR (61), IW (62); DomainID 5.
  const entry = deviceEntry(words(0x6000_0000_1234_5603n | (3n << 9n), 5n, 0n, 0n), 6);
  expect(entry).toMatchObject({ kind: 'table', target: 0x1234_5000, domain: 5, levels: 3, rights: 3 });
  expect(values(entry.fields)).toMatchObject({ 'V 0': '1', 'TV 1': '1', 'Mode 11:9': '0x3', 'DomainID 79:64': '0x5' });
  expect(deviceEntry(words(0n, 0n, 0n, 0n), 6)).toMatchObject({ kind: 'pass' });
  expect(deviceEntry(words(1n, 0n, 0n, 0n), 6)).toMatchObject({ kind: 'not-present' });
  expect(deviceEntry(words(7n, 0n, 0n, 0n), 6)).toMatchObject({ kind: 'malformed' });
});

test('host entries: next level 0 is a page of the level, 7 one whose size is coded in its address, m a table', () => {
  const rw = 3n << 61n;
  expect(hostEntry(words(rw | 0x5001n), 1)).toMatchObject({ kind: 'page', target: 0x5000, pageBytes: 0x1000 });
  expect(hostEntry(words(rw | 0x40_0001n), 2)).toMatchObject({ kind: 'page', target: 0x40_0000, pageBytes: 0x20_0000 });
  // 32 KiB: two ones from bit 12 up, then a zero.
  expect(hostEntry(words(rw | 0x10_3001n | (7n << 9n)), 1)).toMatchObject({
    kind: 'page',
    target: 0x10_0000,
    pageBytes: 0x8000,
  });
  expect(hostEntry(words(rw | 0x5001n | (1n << 9n)), 2)).toMatchObject({ kind: 'table', target: 0x5000, nextLevel: 1 });
  expect(hostEntry(words(rw | 0x5001n | (2n << 9n)), 2).kind).toBe('malformed');
  expect(hostEntry(words(rw | 0x5000n), 1).kind).toBe('not-present');
  // Bits 58:52 of a page are reserved.
  expect(hostEntry(words(rw | 0x5001n | (1n << 55n)), 1).kind).toBe('malformed');
});

test('AMD commands (2.4.1 to 2.4.3, 2.4.8)', () => {
  // INVALIDATE_IOMMU_PAGES, domain 7, S and PDE, 4 pages at 0x10000.
  const pages = amdCommandView(words((3n << 60n) | (7n << 32n), 0x1_1000n | 3n));
  expect(values(pages.fields)).toEqual({
    'Op 63:60': '0x3',
    'DomainID 47:32': '0x7',
    'S 64': '1',
    'PDE 65': '1',
    'GN 66': '0',
    'Address 127:76': '0x11000',
  });
  expect(pages.text).toBe('INVALIDATE_IOMMU_PAGES domain 7 0x10000+0x4000 with tables (PDE)');
  const wait = amdCommandView(words((1n << 60n) | 0x12_3458n | 1n, 0x99n));
  expect(wait.isWait).toBe(true);
  expect(values(wait.fields)).toMatchObject({ 's 0': '1', 'i 1': '0', 'f 2': '0', 'Store Address 51:3': '0x123458' });
  expect(amdCommandView(words(8n << 60n, 0n)).name).toBe('INVALIDATE_IOMMU_ALL');
});

test('fault reasons', () => {
  const fault = { index: 0, sid: 0x00fb, address: 0x4000_0000, addressType: 0 };
  expect(vtdFault({ ...fault, reason: 5, isRead: false })).toMatchObject({
    device: '00:1f.3',
    access: 'write',
    code: 5,
    text: expect.stringContaining('write') as string,
  });
  expect(vtdFault({ ...fault, reason: 2, isRead: true }).text).toContain('present bit of the context entry is clear');
  const event = { index: 0, sid: 0x10, domain: 3, address: 0x4000_0000, isRead: false, reason: 2 };
  // RW only: not present. PR, RW, PE: a write to a page that is not writable. PR, RZ: a reserved bit.
  expect(amdFault({ ...event, flags: 0x020 })).toMatchObject({ name: 'IO_PAGE_FAULT', access: 'write' });
  expect(amdFault({ ...event, flags: 0x020 }).text).toContain('nothing is mapped');
  expect(amdFault({ ...event, flags: 0x070 }).text).toContain('do not allow');
  expect(amdFault({ ...event, flags: 0x090 }).text).toContain('reserved bit');
});
