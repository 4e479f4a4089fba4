/** docs/oracle.md lists every deviation of QEMU, and counts the planted faults. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AMDVI_QEMU, VTD_QEMU, VTD_QEMU_10 } from '../../src/hw/index.ts';
import { AMDVI_FAULTS, VTD_FAULTS } from '../../src/oracle/index.ts';

const text = readFileSync(join(import.meta.dirname, '../../docs/oracle.md'), 'utf8');
/** What a unit reports of itself, and the sizes of its caches: no deviations. */
const CAPABILITIES = new Set('dt coherent iotlb contextCache npCache htTunnel capRev ppr advertised'.split(' '));

test.each([
  ['VTD_QEMU', VTD_QEMU],
  ['VTD_QEMU_10', VTD_QEMU_10],
  ['AMDVI_QEMU', AMDVI_QEMU],
])('every switch of %s is listed', (name, preset) => {
  const switches = Object.keys(preset).filter((key) => !CAPABILITIES.has(key));
  expect(switches.filter((key) => !text.includes(`\`${key}\``))).toEqual([]);
  expect(text).toContain(`\`${name}\``);
});

test('planted faults are counted', () => {
  expect(text).toContain(`${VTD_FAULTS.length} in the VT-d unit, ${AMDVI_FAULTS.length} in the AMD-Vi unit`);
});
