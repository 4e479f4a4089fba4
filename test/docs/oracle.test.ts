/** docs/oracle.md lists every deviation of QEMU, and counts the planted faults. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AMDVI_QEMU, VTD_QEMU, VTD_QEMU_10 } from '../../src/hw/index.ts';
import { AMDVI_FAULTS, CASE_GROUPS, VTD_FAULTS } from '../../src/oracle/index.ts';

const text = readFileSync(join(import.meta.dirname, '../../docs/oracle.md'), 'utf8');
/** What a unit reports of itself, and the sizes of its caches: no deviations. */
const CAPABILITIES = new Set('dt coherent iotlb contextCache npCache htTunnel capRev ppr advertised'.split(' '));

/** Names of code in the text between two others. */
function namesBetween(start: string, end: string): ReadonlySet<string> {
  const [, after = ''] = text.split(start);
  const [part = ''] = after.split(end);
  return new Set([...part.matchAll(/`(\w+)`/g)].map(([, name]) => name));
}
const ofVtd = namesBetween('| VT-d switch', '| AMD-Vi switch');
const ofAmdvi = namesBetween('| AMD-Vi switch', '## Planted faults');
const ofQemu10 = namesBetween('## Other versions', '\n## ');

test.each([
  ['VTD_QEMU', VTD_QEMU, ofVtd],
  ['VTD_QEMU_10', VTD_QEMU_10, new Set([...ofVtd, ...ofQemu10])],
  ['AMDVI_QEMU', AMDVI_QEMU, ofAmdvi],
])('every switch of %s is listed', (name, preset, listed) => {
  const switches = Object.keys(preset).filter((key) => !CAPABILITIES.has(key));
  expect(switches.filter((key) => !listed.has(key))).toEqual([]);
  expect(text).toContain(`\`${name}\``);
});

test('planted faults are counted', () => {
  expect(text).toContain(`${VTD_FAULTS.length} in the VT-d unit, ${AMDVI_FAULTS.length} in the AMD-Vi unit`);
});

test('conformance cases are counted', () => {
  const nr = CASE_GROUPS.reduce((sum, { cases }) => sum + cases.length, 0);
  expect(text).toContain(`\n${nr} cases after OpenVMM's tests`);
  expect(text).toContain(`conformance: ${nr} of ${nr} cases pass`);
});
